//! The public keys and signatures of the tool minisign: Ed25519 over a BLAKE2b digest, in lines of base64. The only user of
//! the crates for both. The format is that of <https://jedisct1.github.io/minisign/>. Pure.

use blake2::{Blake2b512, Digest};

/// A signature has the first mark if it is of the digest of a file. Keys, and signatures of the legacy form, which are of the
/// whole file, have the second.
const OF_DIGEST: &[u8] = b"ED";
const LEGACY: &[u8] = b"Ed";
const TRUSTED_COMMENT: &str = "trusted comment: ";
/// Bytes of the mark and the number of the key.
const HEAD: usize = 10;

pub struct PublicKey {
    /// Mark and number.
    head: [u8; HEAD],
    key: [u8; 32],
}

/// A signature is of a digest; `legacy` says that one is not.
pub struct Signature {
    head: [u8; HEAD],
    of_file: [u8; 64],
    comment: String,
    /// Signs `of_file` and the comment.
    global: [u8; 64],
}

impl PublicKey {
    /// Reads the second line of a file `minisign.pub`.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = base64::<{ HEAD + 32 }>(text)?;
        let (head, key) = split(&bytes)?;
        (&head[..2] == LEGACY).then_some(Self { head, key })
    }

    /// Returns whether the signature was made by the key of this number. That says nothing about whose key it was.
    pub fn has_number_of(&self, signature: &Signature) -> bool {
        self.head[2..] == signature.head[2..]
    }

    fn has_signed(&self, bytes: &[u8], signature: [u8; 64]) -> bool {
        let signature = ed25519_compact::Signature::new(signature);
        let key = ed25519_compact::PublicKey::new(self.key);
        key.verify(bytes, &signature).is_ok()
    }
}

impl Signature {
    /// Reads a `.minisig` file.
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines().skip(1);
        let bytes = base64::<{ HEAD + 64 }>(lines.next()?)?;
        let comment = lines.next()?.strip_prefix(TRUSTED_COMMENT)?.to_owned();
        let global = base64(lines.next()?)?;
        let (head, of_file) = split(&bytes)?;
        let is_known = [OF_DIGEST, LEGACY].contains(&&head[..2]);
        is_known.then_some(Self {
            head,
            of_file,
            comment,
            global,
        })
    }

    pub fn is_legacy(&self) -> bool {
        &self.head[..2] == LEGACY
    }

    /// Returns the comment, which counts only if the signature was verified.
    pub fn trusted_comment(&self) -> &str {
        &self.comment
    }
}

/// The digest of a file that is read piece by piece.
pub struct Stream(Blake2b512);

impl Stream {
    pub fn new() -> Self {
        Self(Blake2b512::new())
    }

    pub fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns whether the key has signed these bytes and the comment.
    pub fn verify(self, key: &PublicKey, signature: &Signature) -> bool {
        let digest = self.0.finalize();
        let comment = [&signature.of_file, signature.comment.as_bytes()].concat();
        !signature.is_legacy()
            && key.has_number_of(signature)
            && key.has_signed(&digest, signature.of_file)
            && key.has_signed(&comment, signature.global)
    }
}

/// Splits the bytes of a line into its head and the rest.
fn split<const N: usize>(bytes: &[u8]) -> Option<([u8; HEAD], [u8; N])> {
    let (head, rest) = bytes.split_at_checked(HEAD)?;
    Some((head.try_into().ok()?, rest.try_into().ok()?))
}

/// Reads base64 of exactly so many bytes (section 4 of RFC 4648).
fn base64<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.trim_end_matches('=');
    let padding = text.len() - digits.len();
    let mut bytes = [0; N];
    // The bits that do not fill a byte yet, and their number.
    let (mut held, mut bits, mut at) = (0_u32, 0, 0);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        held = held << 6 | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            *bytes.get_mut(at)? = u8::try_from(held >> bits).ok()?;
            held &= (1 << bits) - 1;
            at += 1;
        }
    }
    let is_whole = at == N && held == 0 && bits < 6 && padding == (3 - N % 3) % 3;
    is_whole.then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_strictly() {
        // RFC 4648, section 10.
        assert_eq!(base64(""), Some(*b""));
        assert_eq!(base64("Zg=="), Some(*b"f"));
        assert_eq!(base64("Zm8="), Some(*b"fo"));
        assert_eq!(base64("Zm9v"), Some(*b"foo"));
        assert_eq!(base64("Zm9vYmFy"), Some(*b"foobar"));
        assert_eq!(base64("+/+/"), Some([0xfb, 0xff, 0xbf]));
        for text in [
            "Zg", "Zg=", "Zg===", "Zh==", "Z===", "Zm8=", "Z g=", "Zg==\n", "Zg==Zg==",
        ] {
            assert_eq!(base64::<1>(text), None, "{text:?}");
        }
        assert_eq!(base64::<4>("Zm9v"), None);
        assert_eq!(base64::<2>("Zm9v"), None);
    }

    #[test]
    fn what_is_no_key_and_no_signature_is_none() {
        const KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
        assert!(PublicKey::parse(KEY).is_some());
        let unknown_mark = KEY.replacen("RW", "RX", 1);
        for text in ["", &KEY[1..], &KEY[..55], &format!("{KEY}="), &unknown_mark] {
            assert!(PublicKey::parse(text).is_none(), "{text}");
        }
        let signature = "untrusted comment: x\n\
            RUQf6LRCGA9i559r3g7V1qNyJDApGip8MfqcadIgT9CuhV3EMhHoN1mGTkUidF/z7SrlQgXdy8ofjb7bNJJylDOocrCo8KLzZwo=\n\
            trusted comment: timestamp:1556193335\tfile:test\n\
            y/rUw2y8/hOUYjZU71eHp/Wo1KZ40fGy2VJEDl34XMJM+TX48Ss/17u3IvIfbVR1FkZZSNCisQbuQY+bHwhEBg==\n";
        assert!(Signature::parse(signature).is_some());
        for (from, to) in [
            ("trusted comment: t", "comment: t"),
            ("RUQf", "RVQf"),
            ("RUQf", "RUQ"),
            ("Bg==", "Bg="),
            ("\ny/", "\n\ny/"),
        ] {
            let wrong = signature.replacen(from, to, 1);
            assert_ne!(wrong, signature);
            assert!(Signature::parse(&wrong).is_none(), "{wrong}");
        }
    }
}

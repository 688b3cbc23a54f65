//! The signature of minisign beside a file, `<file>.minisig`: who signed the file, and what for.
//! It knows nothing of agents: the caller names the words that the trusted comment must have.

use std::io::Read;

use super::http::{self, CHUNK, Progress};
use crate::error::{At, Error, Kind, Result};
use crate::minisign::{PublicKey, Signature, Stream};
use crate::text::{before, brief};

/// The largest `.minisig` file, in bytes. minisign itself reads comments of 1 and 8 KB.
const SIGNATURE_LIMIT: u64 = 10 << 10;
/// Bytes of a trusted comment's value that are shown.
const SHOWN: usize = 64;
const NEEDED: &str = "public_keys want it signed";
const NO_SIGNATURE: &str = "its .minisig is no signature of minisign";
const LEGACY: &str = "its signature has the legacy form, which is not accepted; sign it without -l";
const BY_NO_KEY: &str = "it is signed by no key of public_keys";

/// The public keys in force. With keys, a file counts only if one of them has signed it. `None`: nothing must be signed.
pub struct Keys(pub Option<Vec<String>>);

/// What a file must still be verified with.
pub struct Seal {
    url: String,
    /// None: no keys are in force.
    signed: Option<Signed>,
}

struct Signed {
    signature: Signature,
    key: PublicKey,
    key_text: String,
}

/// The proof that a file was verified, if keys are in force. Only `Seal::verify` makes one.
pub struct Signer(Option<String>);

impl Signer {
    /// Returns the text of the public key. None: no keys were in force.
    pub fn key(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl Keys {
    /// Fetches the signature of the file at this URL. Fails early, before a large file is fetched in vain: if no key made the
    /// signature, or if its trusted comment is not for these words. The comment is signed too, so `verify` proves it.
    ///
    /// `beside` is the URL of the signature.
    pub fn fetch(
        &self,
        url: &str,
        beside: &str,
        words: &[(&str, &str)],
        progress: Progress,
    ) -> Result<Seal> {
        let text = match self.0 {
            None => Vec::new(),
            Some(_) => fetch(beside, progress)?,
        };
        self.seal(url, text, words)
    }

    /// Does the same with the text of a signature. Pure.
    pub fn seal(&self, url: &str, text: Vec<u8>, words: &[(&str, &str)]) -> Result<Seal> {
        let signed = match &self.0 {
            None => None,
            Some(keys) => Some(check(text, keys, words).at("verify", url)?),
        };
        let url = url.to_owned();
        Ok(Seal { url, signed })
    }
}

impl Seal {
    /// Reads the file and verifies that the key has signed its bytes. Calls `progress` for each chunk, as a sign of life.
    pub fn verify(
        &self,
        file: &mut dyn Read,
        progress: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Signer> {
        let Some(signed) = &self.signed else {
            return Ok(Signer(None));
        };
        let mut stream = Stream::new();
        let mut chunk = vec![0; CHUNK];
        loop {
            let got = file.read(&mut chunk).at("verify", &self.url)?;
            if got == 0 {
                break;
            }
            stream.add(&chunk[..got]);
            progress()?;
        }
        if !stream.verify(&signed.key, &signed.signature) {
            return Err(self.mismatch());
        }
        Ok(Signer(Some(signed.key_text.clone())))
    }

    fn mismatch(&self) -> Error {
        let cause = "its signature does not match";
        Error::new("verify", &self.url, cause).with_kind(Kind::WrongSignature)
    }
}

/// Returns the URL of the signature beside a file. A query stays: a server of configurations may choose by it, and a static one
/// ignores it.
pub fn url_of(url: &str) -> String {
    let file = before(url, b"?#");
    // Without a path, the name of another host would come out.
    let slash = if file.matches('/').count() < 3 {
        "/"
    } else {
        ""
    };
    format!("{file}{slash}.minisig{}", &url[file.len()..])
}

fn fetch(url: &str, progress: Progress) -> Result<Vec<u8>> {
    let body = http::body(url, SIGNATURE_LIMIT, false, progress);
    let body = body.map_err(|error| error.with_hint(NEEDED))?;
    if body.is_html {
        return Err(Error::new("use", url, http::IS_HTML));
    }
    Ok(body.bytes)
}

/// Finds the key that made a signature, and checks what the signature is for.
fn check(
    text: Vec<u8>,
    keys: &[String],
    words: &[(&str, &str)],
) -> std::result::Result<Signed, String> {
    let text = String::from_utf8(text).unwrap_or_default();
    let signature = Signature::parse(&text).ok_or(NO_SIGNATURE)?;
    for text in keys {
        // A key that is not one, from a forged job, has signed nothing.
        let Some(key) = PublicKey::parse(text).filter(|key| key.has_number_of(&signature)) else {
            continue;
        };
        if signature.is_legacy() {
            return Err(LEGACY.to_owned());
        }
        check_words(signature.trusted_comment(), words)?;
        return Ok(Signed {
            signature,
            key,
            key_text: text.clone(),
        });
    }
    Err(BY_NO_KEY.to_owned())
}

/// Checks that a trusted comment has each of these words as `key=value`, and none of the keys with another value. Other words
/// do not count.
fn check_words(comment: &str, words: &[(&str, &str)]) -> std::result::Result<(), String> {
    for (key, wanted) in words {
        let mut is_there = false;
        for word in comment.split_ascii_whitespace() {
            let value = word.strip_prefix(key);
            let Some(value) = value.and_then(|rest| rest.strip_prefix('=')) else {
                continue;
            };
            if value != *wanted {
                let value = brief(value, SHOWN);
                return Err(format!(
                    "its signature is for {key}={value}, wanted {key}={wanted}"
                ));
            }
            is_there = true;
        }
        if !is_there {
            return Err(format!("its trusted comment does not have {key}={wanted}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
    /// As `KEY`, but its last byte, which is not a part of its number.
    const OTHER_OF_THE_NUMBER: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO4";
    const OTHER: &str = "RWQAAAAAAAAAAXmlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
    /// Of the four bytes `test`.
    const SIGNATURE: &str = "untrusted comment: x\n\
        RUQf6LRCGA9i559r3g7V1qNyJDApGip8MfqcadIgT9CuhV3EMhHoN1mGTkUidF/z7SrlQgXdy8ofjb7bNJJylDOocrCo8KLzZwo=\n\
        trusted comment: timestamp:1556193335\tfile:test\n\
        y/rUw2y8/hOUYjZU71eHp/Wo1KZ40fGy2VJEDl34XMJM+TX48Ss/17u3IvIfbVR1FkZZSNCisQbuQY+bHwhEBg==\n";
    const LEGACY_SIGNATURE: &str = "untrusted comment: x\n\
        RWQf6LRCGA9i59SLOFxz6NxvASXDJeRtuZykwQepbDEGt87ig1BNpWaVWuNrm73YiIiJbq71Wi+dP9eKL8OC351vwIasSSbXxwA=\n\
        trusted comment: timestamp:1555779966\tfile:test\n\
        QtKMXWyYcwdpZAlPF7tE2ENJkRd1ujvKjlj1m9RtHTBnZPa5WKU5uWRs5GoP5M/VqE81QFuMKI5k/SfNQUaOAA==\n";

    /// Verifies these bytes with a signature. Returns the signer or the error.
    fn verified(
        signature: &str,
        keys: &[&str],
        bytes: &[u8],
    ) -> std::result::Result<String, String> {
        let keys = Keys(Some(keys.iter().map(|key| (*key).to_owned()).collect()));
        let seal = keys.seal("u", signature.into(), &[]);
        let seal = seal.map_err(|error| error.to_string())?;
        let mut chunks = 0;
        let signer = seal.verify(&mut { bytes }, &mut || {
            chunks += 1;
            Ok(())
        });
        assert_eq!(chunks, bytes.len().div_ceil(CHUNK));
        match signer {
            Ok(signer) => Ok(signer.key().expect("keys were in force").to_owned()),
            Err(error) => {
                assert!(error.kind() == Kind::WrongSignature);
                Err(error.to_string())
            }
        }
    }

    #[test]
    fn a_file_counts_if_one_of_the_keys_has_signed_its_bytes() {
        let error = |cause| format!("cannot verify u: {cause}");
        let mismatch = "its signature does not match";
        let forged = SIGNATURE.replace("file:test", "file:tost");
        let long = vec![b'x'; 3 * CHUNK + 1];
        for (signature, keys, bytes, expected) in [
            (SIGNATURE, &[KEY][..], &b"test"[..], Ok(KEY)),
            (SIGNATURE, &["?", OTHER, KEY], b"test", Ok(KEY)),
            (SIGNATURE, &[KEY], b"tesT", Err(mismatch)),
            (SIGNATURE, &[KEY], b"", Err(mismatch)),
            (SIGNATURE, &[KEY], &long, Err(mismatch)),
            (&forged, &[KEY], b"test", Err(mismatch)),
            (SIGNATURE, &[OTHER_OF_THE_NUMBER], b"test", Err(mismatch)),
            (SIGNATURE, &[OTHER], b"test", Err(BY_NO_KEY)),
            (SIGNATURE, &["?"], b"test", Err(BY_NO_KEY)),
            (SIGNATURE, &[], b"test", Err(BY_NO_KEY)),
            (LEGACY_SIGNATURE, &[KEY], b"test", Err(LEGACY)),
            (LEGACY_SIGNATURE, &[OTHER], b"test", Err(BY_NO_KEY)),
            ("", &[KEY], b"test", Err(NO_SIGNATURE)),
            (&SIGNATURE[..200], &[KEY], b"test", Err(NO_SIGNATURE)),
        ] {
            let found = verified(signature, keys, bytes);
            let expected = expected.map(str::to_owned).map_err(error);
            assert_eq!(found, expected, "{keys:?} {} bytes", bytes.len());
        }
    }

    #[test]
    fn without_keys_nothing_is_fetched_or_read() {
        let mut nothing = |_| -> Result<()> { unreachable!("nothing is fetched") };
        let seal = Keys(None).fetch("http://x", "http://x.minisig", &[("a", "b")], &mut nothing);
        let mut unread: &[u8] = b"x";
        let signer = seal.expect("no keys").verify(&mut unread, &mut || Ok(()));
        assert_eq!(signer.expect("no keys").key(), None);
        assert_eq!(unread, b"x");
    }

    #[test]
    fn the_trusted_comment_says_what_the_file_is_for() {
        let words = [("name", "demo"), ("version", "1.0.1"), ("arch", "linux")];
        for (comment, cause) in [
            ("name=demo version=1.0.1 arch=linux", ""),
            ("arch=linux\tversion=1.0.1  name=demo ", ""),
            (
                "timestamp:1\tfile:x name=demo x=y version=1.0.1 arch=linux hashed",
                "",
            ),
            ("name=demo name=demo version=1.0.1 arch=linux", ""),
            ("namename=x rename=y name=demo version=1.0.1 arch=linux", ""),
            ("", "its trusted comment does not have name=demo"),
            (
                "timestamp:1\tfile:demo-1.0.1.tar.gz",
                "its trusted comment does not have name=demo",
            ),
            (
                "name:demo version=1.0.1 arch=linux",
                "its trusted comment does not have name=demo",
            ),
            (
                "name=demo arch=linux",
                "its trusted comment does not have version=1.0.1",
            ),
            (
                "name=demo,version=1.0.1,arch=linux",
                "its signature is for name=demo,version=1.0.1,arch=linux, wanted name=demo",
            ),
            (
                "name=demo version=1.0.0 arch=linux",
                "its signature is for version=1.0.0, wanted version=1.0.1",
            ),
            (
                "name=demo version=1.0.1 arch=linux version=1.0.0",
                "its signature is for version=1.0.0, wanted version=1.0.1",
            ),
            (
                "name=Demo version=1.0.1 arch=linux",
                "its signature is for name=Demo, wanted name=demo",
            ),
            (
                "name=demo\u{a0}version=1.0.1 arch=linux",
                "its signature is for name=demo version=1.0.1, wanted name=demo",
            ),
            (
                "name=demo version=\u{1b}[31m arch=linux",
                "its signature is for version=?[31m, wanted version=1.0.1",
            ),
            ("name=", "its signature is for name=, wanted name=demo"),
        ] {
            let found = check_words(comment, &words).err().unwrap_or_default();
            assert_eq!(found, cause, "{comment:?}");
        }
        // No word holds a blank, so such a file can be signed for nothing.
        assert!(check_words("config=my cfg.json", &[("config", "my cfg.json")]).is_err());
    }

    #[test]
    fn the_signature_lies_beside_the_file_and_the_query_stays() {
        for (url, signature) in [
            ("http://s/a.tar.gz", "http://s/a.tar.gz.minisig"),
            ("http://s/cfg?host=a/b?c", "http://s/cfg.minisig?host=a/b?c"),
            ("http://s/cfg?", "http://s/cfg.minisig?"),
            ("http://s/cfg#x?y", "http://s/cfg.minisig#x?y"),
            ("http://s:1", "http://s:1/.minisig"),
            ("http://s?host=a/b", "http://s/.minisig?host=a/b"),
        ] {
            assert_eq!(url_of(url), signature);
        }
    }
}

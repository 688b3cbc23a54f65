//! MD5, the digest that release stores publish and that the ledger keeps of desired entries. The only user of the crate.

#[derive(Clone)]
pub struct Digest(md5::Context);

impl Digest {
    pub fn new() -> Self {
        Self(md5::Context::new())
    }

    fn of(bytes: &[u8]) -> Self {
        let mut digest = Self::new();
        digest.add(bytes);
        digest
    }

    pub fn add(&mut self, bytes: &[u8]) {
        self.0.consume(bytes);
    }

    pub fn bytes(self) -> [u8; 16] {
        self.0.finalize().0
    }

    /// Returns 32 hex digits in lower case.
    pub fn hex(self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.bytes()))
    }
}

/// Returns the digest of the bytes.
pub fn of(bytes: &[u8]) -> [u8; 16] {
    Digest::of(bytes).bytes()
}

/// Returns the digest of the bytes as 32 hex digits.
pub fn hex(bytes: &[u8]) -> String {
    Digest::of(bytes).hex()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digests_are_those_of_the_rfc() {
        // RFC 1321, A.5.
        assert_eq!(hex(b""), "d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!(hex(b"message digest"), "f96b697d7cb7938d525a2f31aaf161d0");
        // This digest begins with a zero.
        assert_eq!(hex(b"a"), "0cc175b9c0f1b6a831c399e269772661");
    }
}

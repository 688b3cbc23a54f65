//! A random seed that differs between hosts.
#![expect(
    clippy::disallowed_methods,
    reason = "the clock and the system's randomness"
)]

use std::fs::File;
use std::io::Read;
use std::time::{SystemTime, UNIX_EPOCH};

use super::host;
use crate::md5::Digest;

/// Returns a seed for jitter. The crate's own seed is not used, because it is equal on all hosts early after boot.
pub fn seed() -> u64 {
    let mut digest = Digest::new();
    if let Ok(mut source) = File::open("/dev/urandom") {
        let mut random = [0; 16];
        if source.read_exact(&mut random).is_ok() {
            digest.add(&random);
        }
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or_default();
    digest.add(&now.as_secs().to_le_bytes());
    digest.add(&now.subsec_nanos().to_le_bytes());
    digest.add(&std::process::id().to_le_bytes());
    digest.add(host::hostname().unwrap_or_default().as_bytes());
    digest
        .bytes()
        .iter()
        .fold(0, |seed, byte| seed << 8 | u64::from(*byte))
}

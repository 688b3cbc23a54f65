//! The turn of a host: a fleet that hears of a release within one interval downloads it over a longer time. Pure: the time is an
//! argument, and chance is a digest of names, so that a restart does not move a turn.

use super::schedule;
use crate::md5::Digest;
use crate::model::Desired;

/// When a host hears of what the server desires. Times are in seconds.
pub struct Turns {
    /// The name under which the host reports.
    pub host: String,
    /// The time over which a fleet downloads a release. 0: nothing waits.
    pub spread: u64,
    /// When the answer came, since 1970.
    pub heard: u64,
    /// Between that answer and the one before.
    pub gap: u64,
}

impl Turns {
    /// Returns when the host may begin to download what the answer names first, since 1970. The hosts of a fleet begin
    /// evenly over the spread.
    pub fn of(&self, desired: &Desired) -> u64 {
        let mut digest = Digest::new();
        for part in [&self.host, desired.name.as_str(), desired.version.as_str()] {
            // No name has a blank in it.
            digest.add(part.as_bytes());
            digest.add(b" ");
        }
        let first_half = u128::from_be_bytes(digest.bytes()) >> 64;
        let random = u64::try_from(first_half).unwrap_or_default();
        self.heard + schedule::download_wait(self.spread, self.gap, random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::examples::desired;

    #[test]
    fn hosts_and_versions_have_turns_of_their_own_and_keep_them() {
        let turn = |host: &str, version: &str| {
            let turns = Turns {
                host: host.to_owned(),
                spread: 86_400,
                heard: 1000,
                gap: 1,
            };
            turns.of(&desired(version))
        };
        let first = turn("web-17", "1");
        assert_eq!(first, turn("web-17", "1"));
        assert!((1000..1000 + 86_400).contains(&first));
        assert_ne!(first, turn("web-18", "1"));
        assert_ne!(first, turn("web-17", "2"));
    }
}

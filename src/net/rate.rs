//! The download rate of this host, which the daemon divides among its workers. A worker reads its share behind the job on its
//! stdin, because the share changes while it downloads: others begin and end.
#![expect(
    clippy::disallowed_methods,
    reason = "it waits, and its stdin is the file of the daemon"
)]

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use super::network;
use crate::os::fd;

/// The length of a share in a file: the digits of `u64::MAX`.
const DIGITS: usize = 20;
/// The end of the file of a job. No share was granted yet.
pub const NO_SHARE: &str = "\n00000000000000000000";
/// There is no limit.
pub const UNLIMITED: u64 = u64::MAX;
/// The least number of bytes that is read at once.
const LEAST_READ: u64 = 256;

/// Grants a worker this share, in bytes per second. `job` is the file that is its stdin.
pub fn grant(job: &File, share: u64) -> io::Result<()> {
    let end = job.metadata()?.len().saturating_sub(DIGITS as u64);
    job.write_all_at(format!("{share:020}").as_bytes(), end)
}

/// Returns the share of this process, in bytes per second.
///
/// sudo can put a pipe in the place of the file. Then the share is the one that the job names.
fn share() -> u64 {
    let of_job = network::get().map_or(0, |network| network.download_share);
    match granted(&fd::stdin_file()) {
        Some(share @ 1..) => share,
        _ if of_job > 0 => of_job,
        _ => UNLIMITED,
    }
}

fn granted(job: &File) -> Option<u64> {
    let end = job.metadata().ok()?.len().checked_sub(DIGITS as u64)?;
    let mut digits = [0; DIGITS];
    job.read_exact_at(&mut digits, end).ok()?;
    str::from_utf8(&digits).ok()?.parse().ok()
}

/// Keeps a transfer to the share of this process.
pub(super) struct Throttle {
    /// The share allows no further byte before.
    free_at: Instant,
    /// The share at the last read.
    share: u64,
}

impl Throttle {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            free_at: now,
            share: UNLIMITED,
        }
    }

    /// Asks for the share, and returns the part of a buffer that should be filled at once, so that a pause stays short.
    pub(super) fn part<'a>(&mut self, buffer: &'a mut [u8]) -> &'a mut [u8] {
        self.share = share();
        let most = (self.share / 4).max(LEAST_READ).min(buffer.len() as u64);
        &mut buffer[..usize::try_from(most).unwrap_or(usize::MAX)]
    }

    /// Waits until the share has room for the bytes that have come.
    pub(super) fn count(&mut self, bytes: u64) {
        std::thread::sleep(self.pause(Instant::now(), bytes, self.share));
    }

    /// Pure. Returns how long to wait after these bytes.
    fn pause(&mut self, now: Instant, bytes: u64, share: u64) -> Duration {
        let cost = Duration::from_micros(bytes.saturating_mul(1_000_000) / share);
        self.free_at = self.free_at.max(now) + cost;
        self.free_at.duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::files;
    use std::io::Write as _;

    #[test]
    fn a_share_is_read_behind_the_job_however_often_it_changes() {
        let mut job = files::nameless_file().expect("it is made");
        assert_eq!(granted(&job), None);
        write!(job, "{{}}{NO_SHARE}").expect("it is written");
        assert_eq!(granted(&job), Some(0));
        for share in [UNLIMITED, 1, 625_000] {
            grant(&job, share).expect("it is written");
            assert_eq!(granted(&job), Some(share));
        }
        let text = files::read_text(&job, 0, 100).expect("it is read");
        assert_eq!(text, "{}\n00000000000000625000");
    }

    #[test]
    fn a_transfer_takes_no_less_time_than_its_share_wants() {
        let began = Instant::now();
        let mut throttle = Throttle::new(began);
        let mut now = began;
        for (bytes, share) in [(500, 1000), (1000, 1000), (1000, 4000), (7, UNLIMITED)] {
            now += throttle.pause(now, bytes, share);
        }
        assert_eq!(now - began, Duration::from_millis(1750));
        // Time in which nothing came is not made up for.
        now += Duration::from_secs(60);
        assert_eq!(throttle.pause(now, 1000, 1000), Duration::from_secs(1));
    }
}

//! The least pace of a transfer: one that drips holds a slot of others, and would end by itself only after hours. Pure: times are
//! arguments.

use std::time::{Duration, Instant};

/// A transfer that brings less than this in `WINDOW` is given up: 1 KB/s.
const LEAST: u64 = 300 * 1024;
const WINDOW: Duration = Duration::from_secs(300);

/// Counts the bytes of one window of time after the other.
pub(super) struct Pace {
    began: Instant,
    bytes: u64,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        let bytes = 0;
        Self { began: now, bytes }
    }

    /// Counts bytes that have come from the network. Returns why the transfer is given up, if too few came in this window.
    pub(super) fn count(&mut self, now: Instant, bytes: u64) -> Result<(), String> {
        self.bytes += bytes;
        if now.duration_since(self.began) < WINDOW {
            return Ok(());
        }
        let Self { bytes, .. } = std::mem::replace(self, Self::new(now));
        if bytes >= LEAST {
            return Ok(());
        }
        let minutes = WINDOW.as_secs() / 60;
        Err(format!("only {bytes} bytes came in {minutes} minutes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns after how many seconds a transfer is given up that brings these bytes at the end of each of these pauses of
    /// seconds. None: it is not, in the two hours that a download may take.
    #[expect(clippy::disallowed_methods, reason = "any moment will do")]
    fn given_up_after(pause: u64, bytes: impl Fn(u64) -> u64) -> Option<u64> {
        let began = Instant::now();
        let mut pace = Pace::new(began);
        let mut times = (1..7200 / pause).map(|count| count * pause);
        times.find(|seconds| {
            let now = began + Duration::from_secs(*seconds);
            pace.count(now, bytes(*seconds)).is_err()
        })
    }

    #[test]
    fn a_transfer_that_drips_is_given_up_after_five_minutes() {
        assert_eq!(given_up_after(59, |_| 1), Some(354));
        assert_eq!(given_up_after(1, |_| 1000), Some(300));
        assert_eq!(given_up_after(1, |_| 1024), None);
        assert_eq!(given_up_after(59, |_| 64 << 10), None);
    }

    #[test]
    fn a_transfer_that_begins_well_and_drips_then_is_given_up_after_ten_minutes() {
        let bytes = |seconds| if seconds < 290 { 1 << 20 } else { 1 };
        assert_eq!(given_up_after(1, bytes), Some(600));
    }

    #[test]
    fn a_pause_within_a_fast_transfer_is_no_reason_to_give_it_up() {
        let bytes = |seconds| u64::from(seconds % 250 == 0) << 20;
        assert_eq!(given_up_after(50, bytes), None);
    }
}

//! When to try again: jitter, backoff and retry times as pure functions of the past and of a random number.
//! The clock and the randomness are arguments. Every retry in the program takes its delay from here.

use std::time::Duration;

/// No retry waits longer, save one that a server asked for or whose interval is longer itself.
const LONGEST_BACKOFF: Duration = Duration::from_secs(3600);
/// The longest Retry-After that we obey; a typo in a proxy must not silence a fleet for a year.
pub const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(6 * 3600);

/// A version that failed is tried again after these; then daily.
const VERSION_RETRIES: [u64; 2] = [600, 3600];
const VERSION_RETRY_DAILY: u64 = 86_400;

/// A crashed agent is started at once, then after 10 s, doubling to 5 min.
const RESTART_FIRST: u64 = 10;
const RESTART_LONGEST: u64 = 300;
/// So many deaths within the window are a crash loop; it is tried hourly.
const CRASH_LOOP_DEATHS: usize = 5;
pub const CRASH_WINDOW: u64 = 600;
const CRASH_LOOP_RETRY: u64 = 3600;

/// The first beat: after a random part of the interval, so that a fleet that boots together does not beat together.
pub fn first_beat(interval: Duration, random: u64) -> Duration {
    part_of(interval, random)
}

/// Every later beat: the interval ±10 %, so that hosts that fell into step fall out of it again.
pub fn next_beat(interval: Duration, random: u64) -> Duration {
    interval * 9 / 10 + part_of(interval / 5, random)
}

/// After `failures` failed beats: full jitter up to interval × 2ⁿ and an hour, but never sooner than the next interval.
pub fn beat_backoff(interval: Duration, failures: u32, random: u64) -> Duration {
    let most = doubled(interval, failures).min(LONGEST_BACKOFF);
    part_of(most, random).max(interval)
}

/// After `failures` (1…) faults of host or network, in seconds: one interval, doubling to an hour.
pub fn host_retry(interval: Duration, failures: u32) -> u64 {
    doubled(interval, failures.saturating_sub(1))
        .min(LONGEST_BACKOFF)
        .max(interval)
        .as_secs()
        .max(1)
}

/// After `failures` (1…) failures of a version, in seconds.
pub fn version_retry(failures: u32) -> u64 {
    let index = usize::try_from(failures.saturating_sub(1)).unwrap_or(usize::MAX);
    VERSION_RETRIES
        .get(index)
        .copied()
        .unwrap_or(VERSION_RETRY_DAILY)
}

/// Whether an agent that died at these times (seconds, oldest first) is in a crash loop at `now`.
pub fn is_crash_loop(deaths: &[u64], now: u64) -> bool {
    let recent = deaths
        .iter()
        .filter(|at| now.saturating_sub(**at) <= CRASH_WINDOW);
    recent.count() >= CRASH_LOOP_DEATHS
}

/// The pause before the next start of an agent that was restarted so often (1…) in a row, in seconds.
pub fn restart_delay(restarts: u32, crash_loop: bool) -> u64 {
    if crash_loop {
        CRASH_LOOP_RETRY
    } else {
        let doublings = restarts.saturating_sub(1).min(16);
        (RESTART_FIRST << doublings).min(RESTART_LONGEST)
    }
}

fn doubled(interval: Duration, times: u32) -> Duration {
    interval.saturating_mul(1_u32.checked_shl(times).unwrap_or(u32::MAX))
}

/// A uniform part of the whole, `random` being uniform over u64.
fn part_of(whole: Duration, random: u64) -> Duration {
    let nanos = u64::try_from(whole.as_nanos()).unwrap_or(u64::MAX);
    let part = (u128::from(nanos) * u128::from(random)) >> 64;
    Duration::from_nanos(u64::try_from(part).unwrap_or(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTES_5: Duration = Duration::from_secs(300);
    const SAMPLES: [u64; 5] = [0, 1, u64::MAX / 3, u64::MAX / 2, u64::MAX];

    #[test]
    fn the_first_beat_comes_within_the_interval_and_later_ones_within_a_tenth_of_it() {
        for random in SAMPLES {
            assert!(first_beat(MINUTES_5, random) <= MINUTES_5);
            let next = next_beat(MINUTES_5, random);
            assert!(next >= Duration::from_secs(270) && next <= Duration::from_secs(330));
        }
        assert_eq!(first_beat(MINUTES_5, 0), Duration::ZERO);
        assert_eq!(next_beat(MINUTES_5, u64::MAX / 2).as_secs(), 299);
    }

    #[test]
    fn a_failing_server_is_asked_ever_more_rarely_but_at_least_hourly() {
        for failures in 1..200 {
            for random in SAMPLES {
                let pause = beat_backoff(MINUTES_5, failures, random);
                assert!(pause >= MINUTES_5 && pause <= LONGEST_BACKOFF, "{pause:?}");
            }
        }
        assert_eq!(beat_backoff(MINUTES_5, 1, u64::MAX).as_secs(), 599);
        assert_eq!(beat_backoff(MINUTES_5, 9, u64::MAX).as_secs(), 3599);
        let day = Duration::from_secs(86_400);
        assert_eq!(beat_backoff(day, 3, u64::MAX), day);
    }

    #[test]
    fn host_faults_wait_an_interval_and_double_to_an_hour() {
        let waits: Vec<u64> = (1..8).map(|n| host_retry(MINUTES_5, n)).collect();
        assert_eq!(waits, [300, 600, 1200, 2400, 3600, 3600, 3600]);
        assert_eq!(host_retry(Duration::from_secs(1), 40), 3600);
    }

    #[test]
    fn a_bad_version_is_tried_after_ten_minutes_an_hour_and_then_daily() {
        let waits: Vec<u64> = (1..6).map(version_retry).collect();
        assert_eq!(waits, [600, 3600, 86_400, 86_400, 86_400]);
    }

    #[test]
    fn restarts_double_from_ten_seconds_to_five_minutes() {
        let waits: Vec<u64> = (1..8).map(|n| restart_delay(n, false)).collect();
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(restart_delay(u32::MAX, false), 300);
        assert_eq!(restart_delay(6, true), 3600);
    }

    #[test]
    fn five_deaths_in_ten_minutes_are_a_crash_loop() {
        assert!(is_crash_loop(&[100, 110, 120, 130, 700], 700));
        assert!(!is_crash_loop(&[99, 110, 120, 130, 700], 700));
        assert!(!is_crash_loop(&[1, 2, 3, 4], 5));
    }
}

//! When to try again: jitter, backoff and retry times. Every retry in the program takes its delay from here.
//! Pure: the time and the random number are arguments.

use std::time::Duration;

/// The longest backoff, unless the interval itself is longer or a server asked for more.
const LONGEST_BACKOFF: Duration = Duration::from_secs(3600);
/// The longest Retry-After that is obeyed: a typo in a proxy must not silence a fleet for a year.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(6 * 3600);

/// Seconds until a failed version is tried again, the first and the second time; then daily.
const VERSION_RETRIES: [u64; 2] = [600, 3600];
const VERSION_RETRY_DAILY: u64 = 86_400;

/// A crashed agent is started at once, then after 10 s, doubling to 5 min. In seconds.
const RESTART_FIRST: u64 = 10;
const RESTART_LONGEST: u64 = 300;
/// A run that ends within this time is short. Short runs in a row are a crash loop, which is tried hourly. In seconds.
pub const CRASH_WINDOW: u64 = 600;
const CRASH_LOOP_RETRY: u64 = 3600;

/// Returns the wait before the first heartbeat: a random part of the interval, so that a fleet that boots together does
/// not send together.
pub fn first_heartbeat(interval: Duration, random: u64) -> Duration {
    part_of(interval, random)
}

/// Returns the wait before each later heartbeat: the interval ±10 %, so that hosts that came into step leave it again.
pub fn next_heartbeat(interval: Duration, random: u64) -> Duration {
    interval * 9 / 10 + part_of(interval / 5, random)
}

/// Returns the wait after `failures` failed heartbeats: full jitter up to interval × 2ⁿ, at most an hour, at least the
/// interval. `retry_after` is what the server asked for, in seconds: a host that it sends away leaves out so many heartbeats,
/// and comes back when it would have sent a later one. There it is missed; at any other moment it would come in addition to
/// those that were not sent away.
pub fn heartbeat_backoff(
    interval: Duration,
    failures: u32,
    retry_after: Option<u64>,
    mut random: impl FnMut() -> u64,
) -> Duration {
    let most = doubled(interval, failures).min(LONGEST_BACKOFF);
    let backoff = part_of(most, random()).max(interval);
    let Some(seconds) = retry_after else {
        return backoff;
    };
    let asked = Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER);
    let mut wait = Duration::ZERO;
    while wait < asked {
        wait += next_heartbeat(interval, random());
    }
    backoff.max(wait)
}

/// Returns the time, in seconds, of which the moment of a heartbeat is a random one: the `gap` since the one before, but no
/// more than the longest pause. After an outage the hosts come back sooner than they were away.
pub fn even_gap(interval: Duration, gap: u64) -> u64 {
    gap.min(interval.as_secs() * 11 / 10)
}

/// Returns the wait of a host before it downloads a release, in seconds: its part of `spread`, which `random` chooses.
/// `gap` is the time between the answer that named the release and the one before. The host has heard of it at a random moment of
/// a gap, so a whole number of gaps brings the hosts to even moments of the spread; any part of it would not.
pub fn download_wait(spread: u64, gap: u64, random: u64) -> u64 {
    let gap = gap.max(1);
    let slots = spread.div_ceil(gap);
    let slot = (u128::from(slots) * u128::from(random)) >> 64;
    gap * u64::try_from(slot).unwrap_or(slots)
}

/// Returns the wait after `failures` (1…) faults of host or network, in seconds: one interval, doubling to an hour.
pub fn host_retry(interval: Duration, failures: u32) -> u64 {
    doubled(interval, failures.saturating_sub(1))
        .min(LONGEST_BACKOFF)
        .max(interval)
        .as_secs()
        .max(1)
}

/// Returns the wait after `failures` (1…) failures of a version, in seconds.
pub fn version_retry(failures: u32) -> u64 {
    let index = usize::try_from(failures.saturating_sub(1)).unwrap_or(usize::MAX);
    VERSION_RETRIES
        .get(index)
        .copied()
        .unwrap_or(VERSION_RETRY_DAILY)
}

/// Returns the wait before the next start of an agent after `restarts` (1…) in a row, in seconds.
pub fn restart_delay(restarts: u32, crash_loop: bool) -> u64 {
    if crash_loop {
        CRASH_LOOP_RETRY
    } else {
        let doublings = restarts.saturating_sub(1).min(16);
        (RESTART_FIRST << doublings).min(RESTART_LONGEST)
    }
}

/// Returns a time that was noted before the clock, which then showed `before`, was set by this many seconds. 0 means never.
/// A later time than `before` comes from another clock, as that of before a boot in 1970, and may well be right.
pub fn dated_anew(at: u64, before: u64, set: i64) -> u64 {
    match at {
        1.. if at <= before => at.saturating_add_signed(set).max(1),
        _ => at,
    }
}

fn doubled(interval: Duration, times: u32) -> Duration {
    interval.saturating_mul(1_u32.checked_shl(times).unwrap_or(u32::MAX))
}

/// Returns a uniform part of the whole if `random` is uniform over u64.
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
    fn the_first_heartbeat_comes_within_the_interval_and_later_ones_within_a_tenth_of_it() {
        for random in SAMPLES {
            assert!(first_heartbeat(MINUTES_5, random) <= MINUTES_5);
            let next = next_heartbeat(MINUTES_5, random);
            assert!(next >= Duration::from_secs(270) && next <= Duration::from_secs(330));
        }
        assert_eq!(first_heartbeat(MINUTES_5, 0), Duration::ZERO);
        assert_eq!(next_heartbeat(MINUTES_5, u64::MAX / 2).as_secs(), 299);
    }

    #[test]
    fn a_failing_server_is_asked_less_often_each_time_but_at_least_hourly() {
        for failures in 1..200 {
            for random in SAMPLES {
                let pause = heartbeat_backoff(MINUTES_5, failures, None, || random);
                assert!(pause >= MINUTES_5 && pause <= LONGEST_BACKOFF, "{pause:?}");
            }
        }
        let longest = |failures| heartbeat_backoff(MINUTES_5, failures, None, || u64::MAX);
        assert_eq!(longest(1).as_secs(), 599);
        assert_eq!(longest(9).as_secs(), 3599);
        let day = Duration::from_secs(86_400);
        assert_eq!(heartbeat_backoff(day, 3, None, || u64::MAX), day);
    }

    #[test]
    fn a_server_that_names_a_wait_is_left_in_peace_for_it_and_asked_at_a_later_heartbeat() {
        let wait = |retry_after, random| {
            heartbeat_backoff(MINUTES_5, 1, Some(retry_after), || random).as_secs()
        };
        for (retry_after, random, seconds) in [
            (600, 0, 810),
            (600, u64::MAX / 2, 899),
            (600, u64::MAX, 659),
            (1, 0, 300),
            (1, u64::MAX, 599),
            (86_400, 0, 6 * 3600),
            (u64::MAX, u64::MAX, 6 * 3600 + 179),
        ] {
            assert_eq!(wait(retry_after, random), seconds, "{retry_after} {random}");
        }
    }

    #[test]
    fn downloads_wait_whole_gaps_within_the_spread() {
        for (spread, gap, random, seconds) in [
            (0, 300, u64::MAX, 0),
            (300, 300, u64::MAX, 0),
            (3600, 300, 0, 0),
            (3600, 300, u64::MAX / 2, 5 * 300),
            (3600, 300, u64::MAX, 11 * 300),
            (3600, 290, u64::MAX, 12 * 290),
            (3600, 0, u64::MAX, 3599),
        ] {
            let wait = download_wait(spread, gap, random);
            assert_eq!(wait, seconds, "{spread} {gap} {random}");
        }
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
    fn what_was_dated_by_a_clock_is_dated_anew_when_that_is_set() {
        for (at, set, anew) in [
            (900, 50, 950),
            (1000, -100, 900),
            (0, 50, 0),
            (100, -500, 1),
            (1001, 50, 1001),
        ] {
            assert_eq!(dated_anew(at, 1000, set), anew, "{at} {set}");
        }
    }

    #[test]
    fn restarts_double_from_ten_seconds_to_five_minutes() {
        let waits: Vec<u64> = (1..8).map(|n| restart_delay(n, false)).collect();
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(restart_delay(u32::MAX, false), 300);
        assert_eq!(restart_delay(6, true), 3600);
    }
}

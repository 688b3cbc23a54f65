//! The daemon's clock: seconds since 1970 that do not stop while the host sleeps, and that follow the wall clock only when they
//! are told to.
#![expect(
    clippy::disallowed_methods,
    reason = "it compares the clocks of the host"
)]

use std::time::Instant;

use crate::os::clock;

/// Clocks that differ by at most this, in seconds, agree: each reading is rounded.
const TOLERANCE: u64 = 2;

/// One reading of all clocks of the host.
pub(super) struct Reading {
    /// Seconds since 1970.
    wall: u64,
    /// Seconds since boot, sleep included.
    boot: u64,
    /// Stops while the host sleeps, as the timers of `poll` do.
    awake: Instant,
}

impl Reading {
    pub(super) fn take() -> Self {
        Self {
            wall: clock::unix_now(),
            boot: clock::since_boot(),
            awake: Instant::now(),
        }
    }
}

/// What happened to the clocks between two readings, in seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Change {
    /// By how much the wall clock was set.
    pub(super) set: i64,
    /// How long the host slept.
    pub(super) slept: u64,
}

pub(super) struct Clock {
    /// The first reading. Its wall time is corrected whenever the wall clock is set, and may then be before 1970.
    boot: u64,
    awake: Instant,
    wall: i64,
    slept: u64,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self::from(&Reading::take())
    }

    fn from(first: &Reading) -> Self {
        Self {
            boot: first.boot,
            awake: first.awake,
            wall: first.wall.cast_signed(),
            slept: 0,
        }
    }

    /// Returns seconds since 1970.
    pub(super) fn now(&self) -> u64 {
        self.shown(clock::since_boot())
    }

    /// Returns what it shows at a moment that is to come, if the host does not sleep until then.
    pub(super) fn at(&self, moment: Instant) -> u64 {
        self.now() + moment.saturating_duration_since(Instant::now()).as_secs()
    }

    fn shown(&self, boot: u64) -> u64 {
        let passed = boot.saturating_sub(self.boot);
        0.max(self.wall.saturating_add_unsigned(passed))
            .cast_unsigned()
    }

    /// Follows the clocks of the host. Returns what has happened to them.
    pub(super) fn follow(&mut self, reading: &Reading) -> Change {
        let mut change = Change::default();
        let shown = self.shown(reading.boot);
        if reading.wall.abs_diff(shown) > TOLERANCE {
            change.set = reading.wall.wrapping_sub(shown).cast_signed();
            self.wall = self.wall.saturating_add(change.set);
        }
        let passed = reading.boot.saturating_sub(self.boot);
        let awake = reading.awake.saturating_duration_since(self.awake);
        let slept = passed.saturating_sub(awake.as_secs());
        if slept > self.slept + TOLERANCE {
            change.slept = slept - self.slept;
            self.slept = slept;
        }
        change
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: u64 = 1_795_367_521;
    const YEARS: u64 = 10 * 365 * 86_400;

    /// Follows readings, each with what the wall clock shows, the seconds since boot, and the seconds awake. Returns what has
    /// happened to the clocks, and what the clock then shows.
    fn follow(first: u64, readings: &[(u64, u64, u64)]) -> Vec<(i64, u64, u64)> {
        let began = Instant::now();
        let reading = |wall, boot, awake| Reading {
            wall,
            boot: 100 + boot,
            awake: began + Duration::from_secs(awake),
        };
        let mut clock = Clock::from(&reading(first, 0, 0));
        let follow = |(wall, boot, awake): &(u64, u64, u64)| {
            let change = clock.follow(&reading(*wall, *boot, *awake));
            (change.set, change.slept, clock.shown(100 + boot))
        };
        readings.iter().map(follow).collect()
    }

    #[test]
    fn time_goes_on_while_the_host_sleeps_and_a_clock_that_is_set_is_followed() {
        let ten_years = YEARS.cast_signed();
        for (case, first, readings, expected) in [
            (
                "awake",
                NOW,
                &[(NOW + 60, 60, 60)][..],
                &[(0, 0, NOW + 60)][..],
            ),
            (
                "asleep, and awake again",
                NOW,
                &[(NOW + 7200, 7200, 10), (NOW + 7210, 7210, 20)],
                &[(0, 7190, NOW + 7200), (0, 0, NOW + 7210)],
            ),
            (
                "set forward and back",
                NOW,
                &[(NOW + YEARS + 1, 1, 1), (NOW + 2, 2, 2)],
                &[(ten_years, 0, NOW + YEARS + 1), (-ten_years, 0, NOW + 2)],
            ),
            (
                "booted in 1970, then set",
                30,
                &[(90, 60, 60), (NOW, 61, 61)],
                &[(0, 0, 90), (NOW.cast_signed() - 91, 0, NOW)],
            ),
            (
                "set back to 1970, later than it was since boot",
                NOW,
                &[(5, 9000, 9000), (6, 9001, 9001)],
                &[(5 - NOW.cast_signed() - 9000, 0, 5), (0, 0, 6)],
            ),
            (
                "set while asleep",
                NOW,
                &[(NOW + 100, 3600, 0)],
                &[(-3500, 3600, NOW + 100)],
            ),
            (
                "rounding",
                NOW,
                &[(NOW + 61, 60, 59), (NOW + 118, 120, 121)],
                &[(0, 0, NOW + 60), (0, 0, NOW + 120)],
            ),
        ] {
            assert_eq!(follow(first, readings), expected, "{case}");
        }
    }
}

//! What the daemon does when the clock of its host was set or the host has slept: everything keeps its age, and what should have
//! happened meanwhile comes soon.
#![expect(clippy::disallowed_methods, reason = "heartbeats have timers")]

use std::time::{Duration, Instant};

use nanorand::Rng;

use super::Daemon;
use super::clock::{Change, Reading};
use crate::log;
use crate::plan::schedule;
use crate::text::span;

/// A wall clock that is set by at least this, in seconds, is logged.
const LOGGED: u64 = 60;

impl Daemon {
    /// Follows the clocks of the host, and dates anew what they have dated.
    pub(super) fn follow_clock(&mut self) {
        let before = self.clock.now();
        let Change { set, slept } = self.clock.follow(&Reading::take());
        if set != 0 {
            self.date_anew(before, set);
        }
        if slept != 0 {
            self.catch_up(Duration::from_secs(slept));
        }
    }

    fn date_anew(&mut self, before: u64, set: i64) {
        if set.unsigned_abs() >= LOGGED {
            let way = if set > 0 { "forward" } else { "back" };
            let by = span(set.unsigned_abs());
            log::info(format_args!(
                "the clock of this host was set {way} by {by}; no wait changes"
            ));
        }
        self.state.date_anew(before, set);
        let heartbeat = &mut self.heartbeats.status;
        for at in [
            &mut heartbeat.last,
            &mut heartbeat.answered,
            &mut self.identity.since,
        ] {
            *at = schedule::dated_anew(*at, before, set);
        }
        // The new times are published at once.
        self.published.at = None;
    }

    /// The timers of heartbeats stood still while the host slept. A heartbeat that is overdue comes soon, but not at the same
    /// moment as those of all hosts that were woken together.
    fn catch_up(&mut self, slept: Duration) {
        let now = Instant::now();
        let random = self.random.generate();
        let soon = now + schedule::first_heartbeat(self.config.interval / 10, random);
        let earlier = |at: Instant| at.checked_sub(slept).unwrap_or(now);
        let heartbeats = &mut self.heartbeats;
        let next = heartbeats.next_post;
        heartbeats.next_post = earlier(next).max(soon).min(next);
        heartbeats.next_check = earlier(heartbeats.next_check);
    }
}

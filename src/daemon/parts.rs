//! The parts of the daemon, each with the state of one subject. They know nothing of the daemon that holds them.

use std::time::{Duration, Instant};

use super::child::Child;
use super::lanes::Lane;
use super::progress::Progress;
use super::state::Attempt;
use crate::model::{AgentName, Observation, Updater};
use crate::net::rate;
use crate::os::own_program::OwnProgram;
use crate::protocol::event::{SYNCING, UNPACKING};
use crate::protocol::status::HeartbeatStatus;
use crate::store::config::{Config, Source};

/// So long after its begin a heartbeat keeps agents waiting that would be started from the saved state. Scripts that hang
/// take a part of it.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);

/// What the daemon is started for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Keeps the host in the desired state.
    Serve,
    /// One round in the foreground, for the desired state of the server or for this input of `apply`.
    Once(Option<String>),
    /// Shows what would be done, and changes nothing.
    Plan,
}

impl Mode {
    /// Whether downloads wait for their turn. An operator who starts a round does not.
    pub(super) fn takes_turns(&self, config: &Config) -> bool {
        config.download_spread > 0 && !matches!(self, Self::Once(_))
    }
}

/// The result of a round or a plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    Nothing,
    Changes,
    Failed,
}

/// A check of every agent, and perhaps a heartbeat after it: one child of the daemon.
pub(super) struct Round {
    pub(super) child: Child,
    pub(super) posts: bool,
    /// The number of the last `status --wait` before it began.
    pub(super) asked: u64,
    /// The agents are checked. What is left is to ask the server.
    pub(super) has_checked: bool,
    /// The answer came, or the reason why there is none.
    pub(super) is_settled: bool,
    /// The agents whose step has ended since the round began. Its checks of them may be out of date.
    pub(super) outdated: Vec<AgentName>,
}

/// When agents are checked and heartbeats are sent, and how the last ones ended.
pub(super) struct Heartbeats {
    /// One that checks at most, and one that waits for the server.
    pub(super) running: Vec<Round>,
    /// The agents are checked at this time.
    pub(super) next_check: Instant,
    /// The server is asked at this time.
    pub(super) next_post: Instant,
    /// An operator wants the next heartbeat at `next_post`, however one that is under way ends.
    pub(super) is_wanted: bool,
    /// The server was asked once, with or without success.
    pub(super) has_asked: bool,
    /// A finished step was not reported yet.
    pub(super) is_report_due: bool,
    /// Failures in a row.
    pub(super) failures: u32,
    pub(super) status: HeartbeatStatus,
}

impl Heartbeats {
    /// The agents are checked at once, and the server is asked after `first`.
    pub(super) fn new(now: Instant, first: Duration) -> Self {
        Self {
            running: Vec::new(),
            next_check: now,
            next_post: now + first,
            is_wanted: false,
            has_asked: false,
            is_report_due: false,
            failures: 0,
            status: HeartbeatStatus::default(),
        }
    }

    /// Whether a heartbeat waits for the server.
    pub(super) fn is_posting(&self) -> bool {
        self.running.iter().any(|round| round.posts)
    }

    /// Whether a heartbeat was begun a moment ago, so that the server may well answer now.
    pub(super) fn is_just_posting(&self, now: Instant) -> bool {
        let mut rounds = self.running.iter();
        rounds.any(|round| round.posts && round.child.age(now) < ANSWER_PATIENCE)
    }

    /// Returns when the next round is due. None: one is checking now, and its end is awaited.
    pub(super) fn next_round(&self) -> Option<Instant> {
        if self.running.iter().any(|round| !round.has_checked) {
            None
        } else if self.is_posting() {
            // A server that does not answer keeps no agent from being checked.
            Some(self.next_check)
        } else {
            Some(self.next_check.min(self.next_post))
        }
    }

    /// The agents are checked no later than this.
    pub(super) fn check_by(&mut self, at: Instant) {
        self.next_check = self.next_check.min(at);
    }

    /// The server is asked no later than this, which checks the agents too. If it has failed to answer, it is left in peace,
    /// and they are only checked.
    pub(super) fn report_by(&mut self, at: Instant) {
        if self.failures == 0 {
            self.next_post = self.next_post.min(at);
        } else {
            self.check_by(at);
        }
    }
}

/// A step worker that runs.
pub(super) struct Worker {
    pub(super) child: Child,
    pub(super) lane: Lane,
    /// What it may download, in bytes per second. 0: nothing was granted yet.
    pub(super) share: u64,
    pub(super) attempt: Attempt,
    /// The daemon has ended it for something more important, which is not a failure.
    pub(super) is_withdrawn: bool,
    pub(super) phase: String,
    pub(super) progress: Progress,
    /// The child has reported how the step ended.
    pub(super) is_done: bool,
}

/// The step workers: those that run, and what is known from those that have ended.
#[derive(Default)]
pub(super) struct Workers {
    /// One for each agent at most. They are few: as many as their lanes have slots, and those that hang.
    pub(super) running: Vec<Worker>,
    /// A step waits for a slot that may be free at this time.
    pub(super) next_turn: Option<Instant>,
    /// The agents at which a process hangs that not even KILL ends. A further step there would only hang too.
    pub(super) stuck: Vec<Observation>,
    /// The agents that were stopped as one user and not yet started as another. They must not be left like this.
    pub(super) moving: Vec<AgentName>,
}

impl Workers {
    /// Returns the worker of an agent.
    pub(super) fn get(&self, name: &AgentName) -> Option<&Worker> {
        let mut workers = self.running.iter();
        workers.find(|worker| worker.attempt.name == *name)
    }

    /// Divides a download rate, in bytes per second, evenly among the installs that are not unpacking. 0: there is no limit.
    pub(super) fn divide(&mut self, rate: u64) {
        let fetches = |worker: &Worker| {
            let is_fetching = worker.phase != UNPACKING && worker.phase != SYNCING;
            worker.lane == Lane::Install && is_fetching && !worker.child.is_lost
        };
        let count = self.running.iter().filter(|worker| fetches(worker)).count();
        let share = match rate {
            0 => rate::UNLIMITED,
            rate => rate / count.max(1) as u64,
        };
        for worker in &mut self.running {
            // If it cannot be written, which is tried again, the share before counts.
            if fetches(worker) && worker.share != share && worker.child.grant(share).is_ok() {
                worker.share = share;
            }
        }
    }
}

/// The pause between two writes of the status file.
pub(super) const PUBLISH_PAUSE: Duration = Duration::from_secs(1);

/// The status file as it was last written.
#[derive(Default)]
pub(super) struct Published {
    /// The digest of its text, which can be long.
    pub(super) digest: [u8; 16],
    pub(super) at: Option<Instant>,
    /// Nothing can have changed since.
    pub(super) is_fresh: bool,
}

/// What stays the same as long as the daemon runs.
pub(super) struct Identity {
    pub(super) source: Source,
    /// What identifies this updater in the marks that it leaves at its agents.
    pub(super) updater: Updater,
    pub(super) program: OwnProgram,
    pub(super) run_user: String,
    /// When the daemon was started, in seconds since 1970.
    pub(super) since: u64,
}

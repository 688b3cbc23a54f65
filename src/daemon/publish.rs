//! The status that everybody who asks is told, and the file that it stands in.
#![expect(
    clippy::disallowed_methods,
    reason = "the file is written so often and no oftener"
)]

use std::time::{Duration, Instant};

use super::{Daemon, Errand};
use crate::job::VERSION;
use crate::log;
use crate::model::AgentName;
use crate::report::{self, Status};

/// The status file is written at most so often.
pub(super) const PUBLISH_PAUSE: Duration = Duration::from_secs(1);

/// What the status file says.
#[derive(Default)]
pub(super) struct Published {
    text: String,
    pub(super) at: Option<Instant>,
    /// Nothing can have happened since.
    pub(super) is_fresh: bool,
}

impl Daemon {
    pub fn status(&self) -> Status {
        let mut agents = self.roster.statuses(self.clock.now());
        for agent in &mut agents {
            let act = AgentName::parse(&agent.name).and_then(|name| self.acts.get(&name));
            if let Some(act) = act {
                agent.phase.clone_from(&act.phase);
                agent.bytes = act.progress.bytes;
                agent.total = act.progress.total;
                agent.rate = act.progress.rate();
            }
        }
        let mut heartbeat = self.heartbeat.clone();
        heartbeat.failures = self.failed_posts;
        heartbeat.next = self.clock.at(self.next_beat);
        Status {
            version: VERSION.to_owned(),
            arch: crate::install::ARCH.to_owned(),
            hostname: self.hostname(),
            pid: std::process::id(),
            since: self.since,
            server: self.config.server.clone(),
            interval: self.config.interval.as_secs(),
            hold: self.roster.hold().to_owned(),
            heartbeat,
            agents,
            refused: self.roster.refusals(),
            counts: self.counts.clone(),
        }
    }

    /// Writes the status file, if there is news and the last one is old enough.
    pub(super) fn publish(&mut self) {
        let last = self.published.at;
        let is_early = last.is_some_and(|at| at.elapsed() < PUBLISH_PAUSE);
        if !self.published.is_fresh && !is_early {
            self.publish_last();
        }
    }

    pub(super) fn publish_last(&mut self) {
        if self.errand == Errand::Plan {
            return;
        }
        self.published.is_fresh = true;
        self.published.at = Some(Instant::now());
        let text = crate::fields::write(&mut self.status());
        if text != self.published.text {
            match report::save(&self.source.own_dir, &text) {
                Ok(()) => self.published.text = text,
                Err(error) => log::debug(format_args!("{error}")),
            }
        }
    }
}

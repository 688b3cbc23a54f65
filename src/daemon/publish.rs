//! The status document: made for everybody who asks, and kept in its file.
#![expect(clippy::disallowed_methods, reason = "writes of the file are paced")]

use std::time::Instant;

use super::Daemon;
use super::parts::{Mode, PUBLISH_PAUSE};
use crate::build_info::VERSION;
use crate::log;
use crate::md5;
use crate::model::AgentName;
use crate::protocol::status::{SCHEMA, Status};
use crate::store::status;

impl Daemon {
    pub fn status(&self) -> Status {
        let mut agents = self.state.statuses(self.clock.now());
        for agent in &mut agents {
            let worker = AgentName::parse(&agent.name).and_then(|name| self.workers.get(&name));
            if let Some(worker) = worker {
                agent.phase.clone_from(&worker.phase);
                agent.bytes = worker.progress.bytes;
                agent.total = worker.progress.total;
                agent.rate = worker.progress.rate();
            }
        }
        let mut heartbeat = self.heartbeats.status.clone();
        heartbeat.failures = self.heartbeats.failures;
        heartbeat.next = self.clock.at(self.heartbeats.next_post);
        Status {
            version: VERSION.to_owned(),
            arch: crate::build_info::ARCH.to_owned(),
            hostname: self.config.reported_hostname(),
            pid: std::process::id(),
            since: self.identity.since,
            server: self.config.server.clone(),
            interval: self.config.interval.as_secs(),
            hold: self.state.hold().to_owned(),
            heartbeat,
            agents,
            refused: self.state.refusals(),
            counts: self.counts.clone(),
            schema: Some(SCHEMA),
            running: Some(true),
            refusals: Some(self.state.refused().to_vec()),
        }
    }

    /// Writes the status file if something has changed and the last write is long enough ago.
    pub(super) fn publish(&mut self) {
        let last = self.published.at;
        let is_early = last.is_some_and(|at| at.elapsed() < PUBLISH_PAUSE);
        if !self.published.is_fresh && !is_early {
            self.publish_last();
        }
    }

    pub(super) fn publish_last(&mut self) {
        if self.mode == Mode::Plan {
            return;
        }
        self.published.is_fresh = true;
        self.published.at = Some(Instant::now());
        let text = crate::json::to_string(&self.status());
        let digest = md5::of(text.as_bytes());
        if digest != self.published.digest {
            match status::save(&self.identity.source.own_dir, &text) {
                Ok(()) => self.published.digest = digest,
                Err(error) => log::debug(format_args!("{error}")),
            }
        }
    }
}

//! What a heartbeat brings: an answer of the server, or the reason why there is none, and when the next one is sent.
#![expect(clippy::disallowed_methods, reason = "posts are paced")]

use std::time::Instant;

use nanorand::Rng;

use super::Daemon;
use super::parts::Mode;
use crate::build_info::VERSION;
use crate::error::Result;
use crate::log;
use crate::log::on_change::Subject;
use crate::model::AgentName;
use crate::plan::schedule;
use crate::plan::turn::Turns;
use crate::protocol::event::Event;
use crate::protocol::job::HeartbeatJob;
use crate::store::tokens;

impl Daemon {
    pub(super) fn heartbeat_job(&self, posts: bool, input: Option<String>) -> Result<HeartbeatJob> {
        let phase = |name: &AgentName| {
            let worker = self.workers.get(name)?;
            Some(worker.phase.clone())
        };
        let mut network = self.config.network.clone();
        if input.is_some() {
            network.tokens = tokens::of_stores(&self.config, None)?;
        } else if posts {
            network.tokens = tokens::of_server(&self.config)?;
        }
        Ok(HeartbeatJob {
            made_by: VERSION.to_owned(),
            url: posts
                .then(|| self.config.url.clone())
                .filter(|url| !url.is_empty()),
            input,
            hold: self.state.hold().to_owned(),
            hostname: self.config.reported_hostname(),
            ip: self.config.ip.clone(),
            run_user: self.identity.run_user.clone(),
            sudo: self.sudo().unwrap_or_default().to_owned(),
            updater: self.identity.updater.clone(),
            network,
            log_level: self.config.log_level.name().to_owned(),
            refused: self.state.refused().to_vec(),
            agents: self.state.reports(phase, self.clock.now()),
            stuck: self.workers.stuck.clone(),
        })
    }

    /// Returns the input of `apply`, for the first heartbeat only.
    pub(super) fn input(&self) -> Option<String> {
        match &self.mode {
            Mode::Once(input) if !self.heartbeats.has_asked => input.clone(),
            Mode::Once(_) | Mode::Serve | Mode::Plan => None,
        }
    }

    /// Takes over an answer: the entries that are followed, and those that were refused.
    pub(super) fn take_answer(&mut self, event: &mut Event) {
        let agents = std::mem::take(&mut event.agents);
        let refused = std::mem::take(&mut event.refused);
        let turns = self.turns();
        self.state.accept(agents, refused, &event.kept, &turns);
        self.forget_unnamed();
    }

    fn turns(&self) -> Turns {
        let heard = self.clock.now();
        let gap = heard.saturating_sub(self.heartbeats.status.answered);
        Turns {
            host: self.config.reported_hostname(),
            spread: self.config.download_spread,
            heard,
            gap: schedule::even_gap(self.config.interval, gap),
        }
    }

    pub(super) fn heartbeat_answered(&mut self) {
        self.heartbeats.failures = 0;
        // The input of `apply` is no answer of a server.
        if !self.config.url.is_empty() {
            self.counts.heartbeats += 1;
            self.heartbeats.status.answered = self.clock.now();
        }
        self.heartbeats.status.error.clear();
        if self.on_change.clear(&Subject::Heartbeat) {
            log::info(format_args!("the server answers again"));
        }
    }

    pub(super) fn heartbeat_failed(&mut self, error: &str, retry_after: Option<u64>) {
        self.heartbeats.has_asked = true;
        self.heartbeats.failures = self.heartbeats.failures.saturating_add(1);
        self.counts.heartbeat_failures += 1;
        error.clone_into(&mut self.heartbeats.status.error);
        let (interval, failures) = (self.config.interval, self.heartbeats.failures);
        let random = || self.random.generate();
        let pause = schedule::heartbeat_backoff(interval, failures, retry_after, random);
        if !self.heartbeats.is_wanted {
            self.heartbeats.next_post = Instant::now() + pause;
        }
        if self.on_change.record(Subject::Heartbeat, error) {
            log::warn(format_args!(
                "{error}; the last desired state stays in force, asking again in {} s or more",
                pause.as_secs()
            ));
        }
    }

    fn forget_unnamed(&mut self) {
        let is_named = |name: &AgentName| self.state.desired(name).is_some();
        self.workers
            .stuck
            .retain(|observation| is_named(&observation.name));
        self.on_change.retain_agents(is_named);
    }
}

//! The orderly end of the daemon. The agents run on.
#![expect(clippy::disallowed_methods, reason = "the end has a deadline")]

use std::time::{Duration, Instant};

use super::Daemon;
use super::parts::Worker;
use crate::http::server::Endpoint;
use crate::log;
use crate::model::Step;
use crate::os::fd;

/// The daemon must end within 2 s of TERM. Children that have not ended after this time are killed.
const STOP_PATIENCE: Duration = Duration::from_millis(1700);

impl Daemon {
    /// Ends the children. A child that is between two versions of its agent is left to finish.
    pub(super) fn stop(&mut self) {
        self.endpoint = Endpoint::default();
        self.finish_moves();
        let give_up = Instant::now() + STOP_PATIENCE;
        self.end_children();
        loop {
            self.tend_rounds();
            self.tend_workers();
            self.finish_moves();
            // An agent that is stopped to be started as another user is started there, if there is time for it.
            let is_awaited = |worker: &Worker| {
                !worker.child.critical || matches!(worker.attempt.task.step, Step::Stop(_))
            };
            let waits =
                !self.heartbeats.running.is_empty() || self.workers.running.iter().any(is_awaited);
            let left = give_up.saturating_duration_since(Instant::now());
            if !waits || left.is_zero() {
                break;
            }
            fd::wait_readable(self.signals.fd(), left);
            self.signals.take();
        }
        self.kill_children();
        self.save();
        self.publish_last();
        log::info(format_args!("stopped; the agents run on"));
    }

    fn end_children(&mut self) {
        for round in &mut self.heartbeats.running {
            round.is_settled = true;
            round.child.end("the updater stops".to_owned());
        }
        for worker in &mut self.workers.running {
            if !worker.child.critical {
                worker.is_withdrawn = true;
                worker.child.end("the updater stops".to_owned());
            }
        }
    }

    fn kill_children(&mut self) {
        for round in &mut self.heartbeats.running {
            round.child.kill();
        }
        for worker in &mut self.workers.running {
            if !worker.child.critical {
                worker.child.kill();
            }
        }
    }
}

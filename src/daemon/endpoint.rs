//! The HTTP endpoint of the daemon: where it listens, and the facts that its answers are made of.
#![expect(clippy::disallowed_methods, reason = "connections have deadlines")]

use std::time::Instant;

use super::Daemon;
use super::parts::Mode;
use crate::error::At;
use crate::http::routes::{self, Facts};
use crate::log;
use crate::log::on_change::Subject;
use crate::os::usage::Usage;

impl Daemon {
    /// Listens where the settings say. An address that cannot be used does not stop the daemon; each heartbeat tries again.
    pub(super) fn listen(&mut self) {
        if self.mode != Mode::Serve {
            return;
        }
        let at = &self.config.http.listen;
        match self.endpoint.listen(self.config.listen).at("listen on", at) {
            Ok(false) => {}
            Ok(true) => {
                self.on_change.clear(&Subject::Endpoint);
                log::info(format_args!("answers HTTP on {at}"));
            }
            Err(error) => {
                let error = error.to_string();
                if self.on_change.record(Subject::Endpoint, &error) {
                    log::error(format_args!("{error}; tried again with each heartbeat"));
                }
            }
        }
    }

    pub(super) fn tend_endpoint(&mut self) {
        // A request may reload the settings, which needs the whole daemon.
        let mut endpoint = std::mem::take(&mut self.endpoint);
        let mut status = None;
        endpoint.tend(Instant::now(), &mut |request, body| {
            let refusal = if routes::asks_to_reload(request) {
                self.reload().err()
            } else {
                None
            };
            let facts = Facts {
                // Made once for all requests of this turn, because it costs as much as there are agents.
                status: status.get_or_insert_with(|| self.status()),
                config: &self.config,
                own_dir: &self.identity.source.own_dir,
                now: self.clock.now(),
                failures: &self.failures,
                usage: Usage::of_this_process,
            };
            routes::answer(request, refusal.as_ref(), &facts, body)
        });
        self.endpoint = endpoint;
        if !self.endpoint.is_meant_for(self.config.listen) {
            self.listen();
        }
    }
}

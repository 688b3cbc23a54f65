//! The modes of the daemon: when a round or a plan is done, and its result.

use std::fmt::Write;

use super::Daemon;
use super::parts::{Mode, Outcome};
use crate::model::AgentName;
use crate::text::{self, span};
use crate::{json, log};

impl Daemon {
    /// Shows the progress on the terminal, for a round in the foreground.
    pub(super) fn show_progress(&self) {
        let mut words = String::new();
        for agent in &self.status().agents {
            if !agent.phase.is_empty() {
                let _ = write!(words, "{}: {} ", agent.name, agent.progress());
            }
        }
        log::show_progress(&text::brief(&words, 79));
    }

    /// A plan is done when every agent was checked that can be. A round is done when there is nothing more to do and
    /// everything is reported.
    pub(super) fn is_done(&self) -> bool {
        if self.mode == Mode::Serve
            || !self.heartbeats.has_asked
            || !self.heartbeats.running.is_empty()
        {
            return false;
        }
        if matches!(self.mode, Mode::Once(Some(_))) && self.heartbeats.failures > 0 {
            return true;
        }
        let now = self.clock.now();
        let is_open = |name: &AgentName| {
            let is_unchecked = self.state.must_be_checked(name) && !self.is_stuck(name);
            is_unchecked || self.mode != Mode::Plan && self.state.next_task(name, now).is_some()
        };
        let is_idle = self.workers.running.is_empty() && !self.heartbeats.is_report_due;
        is_idle && !self.state.names().iter().any(is_open)
    }

    /// Returns the result, for the exit code.
    pub fn outcome(&self) -> Outcome {
        let counts = &self.counts;
        let done = [
            counts.installs,
            counts.switches,
            counts.starts,
            counts.stops,
        ];
        if counts.host_failures + counts.version_failures + counts.heartbeat_failures > 0 {
            Outcome::Failed
        } else if done.iter().any(|count| *count > 0) {
            Outcome::Changes
        } else {
            Outcome::Nothing
        }
    }

    /// Returns all pending steps, one on each line. An agent that has none and is not in its desired state has a line with
    /// the reason.
    pub fn pending(&self, is_json: bool) -> String {
        let now = self.clock.now();
        let mut lines = Vec::new();
        for agent in &self.state.statuses(now) {
            let name = AgentName::parse(&agent.name);
            let tasks = name.and_then(|name| self.state.tasks(&name, now));
            let tasks = tasks.unwrap_or_default();
            for task in &tasks {
                let step = task.to_string();
                lines.push(pending_line(&agent.name, true, &step, is_json));
            }
            if tasks.is_empty() && !agent.converged {
                let mut reason = String::new();
                let _ = if !self.state.hold().is_empty() {
                    write!(reason, "this host is held")
                } else if !agent.next.is_empty() && agent.retry_at > now {
                    write!(reason, "{}, in {}", agent.next, span(agent.retry_at - now))
                } else if agent.retry_at > now {
                    write!(reason, "next try in {}", span(agent.retry_at - now))
                } else {
                    write!(reason, "it is {}", agent.state)
                };
                if !agent.error.is_empty() {
                    reason.push_str(", after: ");
                    reason.push_str(&agent.error);
                }
                lines.push(pending_line(&agent.name, false, &reason, is_json));
            }
        }
        lines.join("\n")
    }
}

/// Returns a step of an agent, or the reason why it has none.
fn pending_line(name: &str, is_step: bool, text: &str, is_json: bool) -> String {
    if is_json {
        let field = if is_step { "step" } else { "reason" };
        return json::object(&[("name", name), (field, text)]);
    }
    let before = if is_step { "" } else { "nothing now, " };
    format!("{name}: {before}{text}")
}

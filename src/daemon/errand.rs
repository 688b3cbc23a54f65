//! What a daemon is started for other than to serve: when that is done, and what came of it.

use std::fmt::Write;

use super::Daemon;
use crate::model::AgentName;
use crate::show;

/// What a daemon is started for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Errand {
    /// To keep the host as it is desired.
    Serve,
    /// One round, in the foreground, after the wish of the server or after this one.
    Once(Option<String>),
    /// To see what would be done; it changes nothing.
    Plan,
}

/// What came of an errand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    Nothing,
    Changes,
    Failed,
}

impl Daemon {
    /// A plan is done when everybody who may be acted on was looked at, a round when there is nothing more to do and
    /// what was done is reported.
    pub(super) fn is_done(&self) -> bool {
        if self.errand == Errand::Serve || !self.has_asked || self.beat.is_some() {
            return false;
        }
        if matches!(self.errand, Errand::Once(Some(_))) && self.failed_posts > 0 {
            return true;
        }
        let now = self.clock.now();
        let is_open = |name: &AgentName| {
            let is_blind = self.roster.lacks_a_look(name) && !self.is_stuck(name);
            is_blind || self.errand != Errand::Plan && self.roster.next_task(name, now).is_some()
        };
        let is_idle = self.acts.values().next().is_none() && !self.is_report_due;
        is_idle && !self.roster.names().iter().any(is_open)
    }

    /// What came of it, for the exit code of a round.
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

    /// All steps that are pending, a line each, and why there are none for an agent that is not as it should be.
    pub fn pending(&self) -> String {
        let now = self.clock.now();
        let mut lines = String::new();
        for agent in self.roster.statuses(now) {
            let name = AgentName::parse(&agent.name);
            let tasks = name.and_then(|name| self.roster.tasks(&name, now));
            let tasks = tasks.unwrap_or_default();
            for task in &tasks {
                let _ = writeln!(lines, "{}: {task}", agent.name);
            }
            if tasks.is_empty() && !agent.converged {
                let _ = write!(lines, "{}: nothing now, ", agent.name);
                let _ = if !self.roster.hold().is_empty() {
                    write!(lines, "this host is held")
                } else if agent.retry_at > now {
                    write!(lines, "next try in {}", show::span(agent.retry_at - now))
                } else {
                    write!(lines, "it is {}", agent.state)
                };
                if !agent.error.is_empty() {
                    lines.push_str(", after: ");
                    lines.push_str(&agent.error);
                }
                lines.push('\n');
            }
        }
        lines.truncate(lines.trim_end().len());
        lines
    }
}

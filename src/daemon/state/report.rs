//! What is reported of each agent: to the heartbeat worker, which checks it, and in the status document.

use super::State;
use super::desired::Agent;
use super::observed::{UNKNOWN, version_at, word_of};
use crate::model::{AgentName, Desired, Observation, Refusal, STATUS_LIMIT, Task};
use crate::plan;
use crate::protocol::event::WAITING;
use crate::protocol::heartbeat;
use crate::protocol::job::Reported;
use crate::protocol::status::AgentStatus;
use crate::text::brief;

impl State {
    /// Returns what a heartbeat is to check and to report. `phase` returns what is being done to an agent.
    pub fn reports(&self, phase: impl Fn(&AgentName) -> Option<String>, now: u64) -> Vec<Reported> {
        let mut reports = Vec::new();
        for agent in self.desired.agents() {
            let desired = &agent.desired;
            let waits = || {
                self.step_in_turn(agent.followed(), now)
                    .map(|_| WAITING.to_owned())
            };
            reports.push(Reported {
                desired: desired.clone(),
                elsewhere: self.elsewhere(&desired.name, &desired.location),
                pinned: self.desired.pin(&desired.name),
                phase: phase(&desired.name).or_else(waits).unwrap_or_default(),
                error: self.error(&desired.name),
            });
        }
        reports
    }

    /// Returns why an agent is not in its desired state. That another updater manages it counts more than old failures.
    pub fn error(&self, name: &AgentName) -> String {
        let observation = self.observations.get(name);
        if let Some(managed_by) = observation.and_then(Observation::managed_by) {
            // It may come from a check that ran as a hostile user.
            return brief(managed_by, STATUS_LIMIT);
        }
        let desired = self.desired.get(name);
        if let Some(cause) = desired.and_then(|desired| self.downgrade(desired)) {
            return cause;
        }
        match self.history.get(name) {
            None => String::new(),
            Some(history) if history.error.is_empty() => history.deaths_in_words(),
            Some(history) => history.error.clone(),
        }
    }

    /// Returns the status of each agent, without what is being done to it.
    pub fn statuses(&self, now: u64) -> Vec<AgentStatus> {
        let mut statuses = Vec::new();
        for agent in self.desired.agents() {
            statuses.push(self.status(agent, now));
        }
        statuses
    }

    fn status(&self, agent: &Agent, now: u64) -> AgentStatus {
        let (wire, followed) = (&agent.desired.wire, agent.followed());
        let name = &followed.name;
        let mut status = AgentStatus {
            name: wire.name.clone(),
            desired: wire.version.clone(),
            cmd: wire.cmd.clone(),
            pinned: self.desired.pin(name),
            state: UNKNOWN.to_owned(),
            run_user: followed.location.run_user.clone(),
            work_dir: followed.location.work_dir.clone(),
            ..Default::default()
        };
        status.error = self.error(name);
        status.restarts = Some(self.observations.restarts(name));
        if let Some(history) = self.history.get(name) {
            status.crash_loop = Some(history.crash_loop);
            let last_death = history.deaths.last().copied().unwrap_or_default();
            status.error_at = history.error_at.max(last_death);
            // Only what is down waits to be started again.
            let next_try = if self.is_down(name) {
                history.next_try(now)
            } else {
                history.is_waiting(now).then_some(history.retry_at)
            };
            status.retry_at = next_try.unwrap_or_default();
        }
        if let Some(observation) = self.observations.get(name) {
            let current = observation.current();
            status.version = version_at(current);
            word_of(current.state).clone_into(&mut status.state);
            status.since = self.observations.since(name);
            let refused = heartbeat::reason(self.refused(), name);
            status.status = heartbeat::status(current, "", &status.error, refused);
            status.converged = plan::is_reached(followed, observation);
            let next = self.next_task(name, now);
            status.next = next.map(|task| task.to_string()).unwrap_or_default();
            if let Some((task, at)) = self.step_in_turn(followed, now) {
                status.next = format!("{task} in its turn");
                status.retry_at = at;
            }
        }
        status
    }

    /// Returns what waits for its turn, and when that comes. None: nothing does, or there is something to do before.
    fn step_in_turn(&self, followed: &Desired, now: u64) -> Option<(Task, u64)> {
        let at = self.turn(followed, now)?;
        if self.next_task(&followed.name, now).is_some() {
            return None;
        }
        let tasks = self.tasks_in_turn(&followed.name, now, at)?;
        Some((tasks.into_iter().next()?, at))
    }

    /// Returns the refused entries of the last answer, with their reasons.
    pub fn refused(&self) -> &[Refusal] {
        self.desired.refused()
    }

    /// Returns the same as texts.
    pub fn refusals(&self) -> Vec<String> {
        self.refused().iter().map(ToString::to_string).collect()
    }
}

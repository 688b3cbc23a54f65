//! The agents of this host: the desired state, the observations and the history of each, and from these its next task.
//! Records what the children of the daemon report, and keeps it on disk. Starts nothing itself.

/// A task and its end.
mod attempt;
/// A death of an agent, in words.
mod deaths;
/// What the server and the operator desire.
mod desired;
/// Versions that are not followed, because a higher one ran here.
mod downgrades;
/// The ledger with its file.
mod history;
/// The last observation of each agent.
mod observed;
/// What is reported of each agent.
mod report;
/// Whose download waits for its turn.
mod turns;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use self::attempt::Attempt;
use self::deaths::Death;
pub use self::deaths::Verdict;
use self::desired::DesiredState;
use self::history::SavedLedger;
use self::observed::Observations;
use crate::error::Result;
use crate::log;
use crate::model::{
    AgentName, AgentState, Cmd, Desired, Location, Observation, Refusal, Release, Step, Task,
};
use crate::os::disk;
use crate::plan;
use crate::plan::turn::Turns;
use crate::protocol::status::Status;
use crate::store;
use crate::store::overrides::Overrides;

pub struct State {
    desired: DesiredState,
    observations: Observations,
    history: SavedLedger,
    status_file: PathBuf,
    /// A server, or the input of `apply`, has given the desired state since the start. Until then it is the saved one, which
    /// may be out of date: what was in force is kept running, and nothing else is done.
    is_confirmed: bool,
    /// A version below one that ran here is followed only if an operator has pinned it.
    pub refuses_downgrades: bool,
    /// A download waits for its turn.
    pub takes_turns: bool,
}

impl State {
    /// Loads what the last run, or the original updater, left in the directory.
    pub fn load(own_dir: &Path, user: &str, now: u64) -> Self {
        let mut state = Self {
            history: SavedLedger::load(own_dir, now),
            desired: DesiredState::load(own_dir, user),
            observations: Observations::default(),
            status_file: store::status::file(own_dir),
            is_confirmed: false,
            refuses_downgrades: false,
            takes_turns: false,
        };
        state.fold_desired();
        state
    }

    /// Removes the temporary files of a killed daemon. Only its successor may call this.
    pub fn tidy(&self) {
        self.desired.tidy();
        self.history.tidy();
        disk::remove_temporary(&self.status_file);
    }

    fn fold_desired(&mut self) {
        for agent in self.desired.agents() {
            self.history.fold_desired(agent.followed(), &agent.desired);
        }
    }

    /// Follows the overrides of the operator from now on.
    pub fn set_overrides(&mut self, overrides: Overrides) {
        if self.desired.set_overrides(overrides) {
            self.fold_desired();
        }
    }

    /// Returns why the host is held. Empty: it is not.
    pub fn hold(&self) -> &str {
        self.desired.hold()
    }

    /// Returns the number of the last `status --wait` that was read.
    pub fn asked(&self) -> u64 {
        self.desired.asked()
    }

    /// Forgets the failures of an agent, if there is one of that name.
    pub fn retry(&mut self, name: &AgentName) {
        if let Some(history) = self.history.get_mut(name) {
            history.fold_retry();
            log::info(format_args!("{name}: tried again, an operator wants it"));
        }
    }

    /// Takes over the entries of an answer. See `DesiredState::accept`.
    pub fn accept(
        &mut self,
        mut agents: Vec<Desired>,
        refused: Vec<Refusal>,
        kept: &[AgentName],
        turns: &Turns,
    ) {
        self.is_confirmed = true;
        let refused = self.refuse_downgrades(&mut agents, refused);
        self.note_turns(&agents, turns);
        if !self.desired.accept(agents, refused, kept) {
            return;
        }
        self.fold_desired();
        let desired = &self.desired;
        let is_named = |name: &AgentName| desired.get(name).is_some();
        self.observations.forget_unnamed(is_named);
        self.history.forget_unnamed(is_named);
    }

    /// Returns whether the desired state is not only the saved one.
    pub fn is_confirmed(&self) -> bool {
        self.is_confirmed
    }

    /// Returns the names of the desired agents, in the order of the server.
    pub fn names(&self) -> Vec<AgentName> {
        let agents = self.desired.agents().iter();
        agents.map(|agent| agent.desired.name.clone()).collect()
    }

    /// Returns the agent as this host follows it.
    pub fn desired(&self, name: &AgentName) -> Option<&Desired> {
        self.desired.get(name)
    }

    /// Returns whether this release is still to be installed at this location.
    pub fn wants(&self, name: &AgentName, release: &Release, location: &Location) -> bool {
        self.desired.wants(name, release, location)
    }

    /// Records a check of an agent that no step was changing. Returns its death, if this check is the first to find it.
    pub fn observe(&mut self, observation: Observation, now: u64) -> Option<Death> {
        let desired = self.desired.get(&observation.name)?;
        let current = observation.current();
        let ran = self.observations.death(&observation.name, current);
        let history = self.history.entry(&observation.name);
        let mut death = None;
        if let (Cmd::Start, Some(ran), Some(build)) = (desired.cmd, ran, &current.current) {
            let name = &observation.name;
            death = Some(Death::record(name, (build, current), ran, history, now));
        }
        history.fold_observed(desired, current, now);
        if !matches!(
            current.state,
            AgentState::NotInstalled | AgentState::Stopped
        ) {
            // It may run here. If it is moved before it has said started, it must be found again.
            history.may_run_at(&current.location);
        }
        self.observations.record(observation, now);
        death
    }

    /// The clock was set by this many seconds. What it has dated keeps its age.
    pub fn date_anew(&mut self, before: u64, set: i64) {
        self.observations.date_anew(before, set);
        self.history.date_anew(before, set);
    }

    /// Takes over from the last daemon since when the agents are in their states.
    pub fn recall(&mut self, status: &Status) {
        self.observations.recall(status);
    }

    /// Records the end of a task, and the check of the agent right after it. Returns what changes for the agent if the start
    /// was one too many that failed.
    pub fn finish(&mut self, done: Attempt, now: u64, interval: Duration) -> Option<Verdict> {
        let name = &done.name;
        let verdict = self.fold_end(&done, now, interval);
        let desired = self.desired.get(name).map(|desired| &desired.location);
        let Some(observation) = done.observation else {
            // The last observation is out of date, and nothing replaces it: the agent is checked before anything else.
            self.observations.forget(name);
            return verdict;
        };
        let is_settled = desired.is_some_and(|desired| self.history.is_settled_at(name, desired));
        self.observations
            .merge(observation, desired, is_settled, now);
        if done.has_started {
            self.observations.begin_run(name, now);
        }
        verdict
    }

    fn fold_end(&mut self, done: &Attempt, now: u64, interval: Duration) -> Option<Verdict> {
        let Attempt { name, task, .. } = done;
        let is_wanted = self.desired_digest(name) == done.desired_digest;
        let observation = self.observations.get(name);
        let moves = matches!(task.step, Step::Start(_))
            && observation
                .is_some_and(|observation| observation.current().location != task.location);
        let at_desired = done
            .observation
            .as_ref()
            .map(|observation| &observation.at_desired);
        let history = self.history.entry(name);
        let restarts = history.restarts;
        let mut verdict = None;
        if let Step::Start(build) | Step::Switch { to: build, .. } = &task.step {
            // However the start ended, the host has lived through it.
            let unfinished = history.unfinished_start.take();
            history.unfinished_start = unfinished.filter(|start| !start.build.satisfies(build));
        }
        match &done.failure {
            // An older desired state has failed, which says nothing about the present one.
            Some(_) if !is_wanted => {}
            Some(failure) => {
                let after = history.fold_failure(task, failure, moves, now, interval);
                verdict = deaths::verdict(name, after, history);
                if let Some(at_desired) = at_desired
                    && at_desired.state == AgentState::NotInstalled
                {
                    // The step has found that the move is undone, and that nothing runs there.
                    let gone = &at_desired.location;
                    history.moving_to.retain(|location| location != gone);
                }
            }
            None => history.fold_success(task, at_desired, now, interval),
        }
        if history.restarts > restarts {
            self.observations.count_restart(name);
        }
        verdict
    }

    /// Returns the next task of an agent. None: all is well, or a retry is not due, or the agent must be checked first.
    pub fn next_task(&self, name: &AgentName, now: u64) -> Option<Task> {
        self.tasks(name, now)?.into_iter().next()
    }

    /// Returns all tasks of an agent, as far as they can be foreseen. None: the agent must be checked first.
    pub fn tasks(&self, name: &AgentName, now: u64) -> Option<Vec<Task>> {
        self.tasks_in_turn(name, now, now)
    }

    /// Returns the same if it is the turn of those whose turn comes by `turn`. Others are only kept running until then.
    fn tasks_in_turn(&self, name: &AgentName, now: u64, turn: u64) -> Option<Vec<Task>> {
        let desired = self.desired.get(name)?;
        let observation = self.observations.get(name)?;
        let is_outdated = observation.at_desired.location != desired.location;
        if is_outdated || self.must_be_checked(name) {
            return None;
        }
        let history = self.history.get(name)?;
        let is_free = self.hold().is_empty() && self.is_confirmed;
        let steps_while_held = || plan::steps_while_held(desired, observation, history, now);
        if !is_free || self.higher(desired).is_some() {
            return Some(steps_while_held());
        }
        let tasks = plan::steps(desired, observation, history, now);
        let mut steps = tasks.iter().map(|task| &task.step);
        let installs = steps.any(|step| matches!(step, Step::Install(_)));
        if !installs || self.turn(desired, turn).is_none() {
            return Some(tasks);
        }
        let meanwhile = steps_while_held();
        let can_wait = Self::can_wait(observation.current(), history, &meanwhile);
        Some(if can_wait { meanwhile } else { tasks })
    }

    /// Returns whether the agent was checked at its desired location, but not at the other location where it may run. It
    /// must not be started before, because it could then run twice.
    pub fn must_be_checked(&self, name: &AgentName) -> bool {
        let (Some(observation), Some(desired)) =
            (self.observations.get(name), self.desired.get(name))
        else {
            return false;
        };
        let elsewhere = self.elsewhere(name, &desired.location);
        elsewhere.is_some()
            && observation
                .elsewhere
                .as_ref()
                .map(|observed| &observed.location)
                != elsewhere.as_ref()
    }

    /// Records, before a task is begun, where it starts the agent. After a crash on the way the agent is found there.
    pub fn begin(&mut self, name: &AgentName, task: &Task) {
        if let Step::Start(build) | Step::Switch { to: build, .. } = &task.step {
            self.history.begin_start(name, build, &task.location);
        }
    }

    /// Returns the digest of the desired entry to which the failures of an agent belong.
    pub fn desired_digest(&self, name: &AgentName) -> String {
        let history = self.history.get(name);
        history.map_or_else(String::new, |history| history.desired_digest.clone())
    }

    /// Returns whether the agent should run.
    pub fn is_to_run(&self, name: &AgentName) -> bool {
        self.desired.is_to_run(name)
    }

    /// Returns whether the agent should run and was found dead.
    pub fn is_down(&self, name: &AgentName) -> bool {
        let observation = self.observations.get(name);
        self.is_to_run(name)
            && observation.is_some_and(|observation| observation.current().is_down())
    }

    /// Returns whether the build that a task starts has run well at its location, or replaces one that was stopped for it.
    pub fn is_proven(&self, name: &AgentName, task: &Task) -> bool {
        let (Step::Start(build) | Step::Switch { to: build, .. }) = &task.step else {
            return false;
        };
        self.history.get(name).is_some_and(|history| {
            let last_good = history
                .last_good
                .as_ref()
                .filter(|good| good.location == task.location);
            history.vacated.is_some() || last_good.is_some_and(|good| good.build.satisfies(build))
        })
    }

    /// Returns the other location where the agent lives or is to live. It must be checked and stopped there too.
    pub fn elsewhere(&self, name: &AgentName, location: &Location) -> Option<Location> {
        let desired = &self.desired.get(name)?.location;
        self.history.get(name)?;
        let mut locations = self.history.locations(name);
        locations.push(desired);
        let other = locations.into_iter().find(|other| *other != location);
        other.cloned()
    }

    /// Returns every other location where the agent may run as the same user. A start stops it there first.
    pub fn other_locations(&self, name: &AgentName, location: &Location) -> Vec<Location> {
        let mut others = Vec::new();
        for other in self.history.locations(name) {
            if other != location && other.run_user == location.run_user {
                others.push(other.clone());
            }
        }
        others
    }

    /// Returns when the next retry is due that no event will bring, in seconds since 1970.
    pub fn next_try(&self, now: u64) -> Option<u64> {
        let agents = self.desired.agents().iter();
        let tries = agents.filter_map(|agent| {
            let history = self.history.get(&agent.desired.name)?;
            let turn = self.turn(agent.followed(), now);
            history.next_try(now).into_iter().chain(turn).min()
        });
        tries.min()
    }

    /// Writes what has changed. A failed write is repeated at the next call: after a restart an older desired state would
    /// bring an older version back.
    pub fn save(&mut self) -> Result<()> {
        let desired = self.desired.save();
        // The error of one file does not keep the other from being written.
        self.history.save().and(desired)
    }
}

#[cfg(test)]
mod properties;

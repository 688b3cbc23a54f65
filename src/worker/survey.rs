//! Checks every agent of this host, side by side and in one child process each: only the child suffers from what a
//! script does to its parent, and directories of other users may be closed to us. Changes nothing.
#![expect(clippy::disallowed_methods, reason = "the checks have a time limit")]

use std::time::{Duration, Instant};

use crate::agent::observe::{self, Depth};
use crate::agent::paths::Target;
use crate::agent::script::{self, ScriptRun};
use crate::error::{At, Result};
use crate::model::{AgentState, Desired, Location, Observation, Observed};
use crate::os::own_program::OwnProgram;
use crate::os::signals::Signals;
use crate::protocol::job::{self, HeartbeatJob, Role, StepJob};

/// A check as another user: sudo and the search for the user take some time before the check itself.
const CHECK_PATIENCE: Duration = Duration::from_secs(25);
/// A host with hundreds of agents checks them in batches. The next batch does not wait for agents that hang…
const CHECKS_AT_ONCE: usize = 128;
const BATCH_PATIENCE: Duration = Duration::from_secs(1);
/// …and all checks are started within this, so that the heartbeat leaves in time even if every agent hangs.
const START_PATIENCE: Duration = Duration::from_secs(15);
/// Agents whose checks end within this do not wait for those that hang.
const HONEST_PATIENCE: Duration = Duration::from_secs(3);

/// An agent, and the other location where it is checked.
pub(super) type Checked<'a> = (&'a Desired, Option<&'a Location>);

/// Checks every agent where the desired state wants it, and where it lived before if there is such a location. If some hang,
/// the others are given to `report` before their end.
pub(super) fn check(
    job: &HeartbeatJob,
    agents: &[Checked],
    signals: &Signals,
    report: &mut dyn FnMut(Vec<Observation>) -> Result<()>,
) -> Result<Vec<Observation>> {
    let mut targets: Vec<(Target, Role)> = Vec::new();
    let mut add = |desired: &Desired, location: &Location, other: Option<&Location>| {
        let role = Role::new(&job.run_user, location, other, !job.sudo.is_empty());
        targets.push((Target::new(&desired.name, location, &job.updater), role));
    };
    for (desired, elsewhere) in agents {
        add(desired, &desired.location, *elsewhere);
        if let Some(elsewhere) = elsewhere {
            add(desired, elsewhere, Some(&desired.location));
        }
    }
    let _term = signals.catch_term();
    let mut checks = start_all(job, &targets, signals);
    let soon = Instant::now() + HONEST_PATIENCE;
    script::attend(&mut checks.runs, signals, Some(soon));
    if checks.collect(&targets) > 0 {
        report(observations(agents, &checks.results))?;
        script::attend(&mut checks.runs, signals, None);
        checks.collect(&targets);
    }
    Ok(observations(agents, &checks.results))
}

/// Returns the observations of the agents whose checks have ended. The results are in the order of their locations.
fn observations(agents: &[Checked], results: &[Option<Observed>]) -> Vec<Observation> {
    let mut results = results.iter().cloned();
    let mut observations = Vec::new();
    for (desired, elsewhere) in agents {
        let at_desired = results.next().flatten();
        let other = elsewhere.map(|_| results.next().flatten());
        let is_complete = !matches!(other, Some(None));
        if let Some(at_desired) = at_desired.filter(|_| is_complete) {
            observations.push(Observation {
                name: desired.name.clone(),
                at_desired,
                elsewhere: other.flatten().map(Box::new),
            });
        }
    }
    observations
}

/// The checks that were started, and the results so far, in the order of the targets.
struct Checks {
    runs: Vec<ScriptRun>,
    /// The index of the target of each run.
    indices: Vec<usize>,
    results: Vec<Option<Observed>>,
}

impl Checks {
    /// Takes over the results of the runs that have ended. Returns the number of the others.
    fn collect(&mut self, targets: &[(Target, Role)]) -> usize {
        let mut hanging = 0;
        for (index, run) in self.indices.iter().zip(&self.runs) {
            let result = &mut self.results[*index];
            match run.output() {
                Some(_) if result.is_some() => {}
                Some(output) => {
                    *result = Some(observe::result(&targets[*index].0.location, output));
                }
                None => hanging += 1,
            }
        }
        hanging
    }
}

fn start_all(job: &HeartbeatJob, targets: &[(Target, Role)], signals: &Signals) -> Checks {
    let start_until = Instant::now() + START_PATIENCE;
    let mut checks = Checks {
        runs: Vec::new(),
        indices: Vec::new(),
        results: Vec::new(),
    };
    for (index, (target, role)) in targets.iter().enumerate() {
        if index % CHECKS_AT_ONCE == 0 {
            let until = (Instant::now() + BATCH_PATIENCE).min(start_until);
            script::attend(&mut checks.runs, signals, Some(until));
        }
        if let Some(observed) = still_stuck(job, target) {
            checks.results.push(Some(observed));
            continue;
        }
        let started = match role.run_as {
            Some(_) => start_as_user(job, target, role),
            None => observe::start(target, Depth::Processes),
        };
        checks.results.push(match started {
            Ok(run) => {
                checks.runs.push(run);
                checks.indices.push(index);
                None
            }
            Err(error) => Some(observe::not_checked(target, &error)),
        });
    }
    checks
}

/// Returns the result of an earlier check that still hangs. Another one would hang as well.
fn still_stuck(job: &HeartbeatJob, target: &Target) -> Option<Observed> {
    let observation = job.stuck.iter().find(|stuck| stuck.name == target.name)?;
    let hangs =
        |observed: &&Observed| observed.state == AgentState::NoAnswer && !observed.stuck.is_empty();
    let observed = observation
        .locations()
        .find(|observed| observed.location == target.location);
    observed.filter(hangs).cloned()
}

/// Starts a check that runs as the agent's user: a step worker without a step.
fn start_as_user(job: &HeartbeatJob, target: &Target, role: &Role) -> Result<ScriptRun> {
    let (name, location) = (&target.name, &target.location);
    let check = StepJob::check(name, location, role.clone(), &job.updater, &job.log_level);
    let sudo = role.by_sudo.then_some(job.sudo.as_str());
    let program = OwnProgram::find()?;
    let command = program.command("act", sudo)?;
    let stdin = job::to_stdin(&check).at("hand over", "a job")?;
    script::spawn_check(command, stdin, CHECK_PATIENCE)
}

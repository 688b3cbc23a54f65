//! Every location of one agent that a step works on: where the desired state wants it, where it lived before, and where
//! else it may run. Locks them all.

use std::time::Duration;

use crate::agent::ScriptLock;
use crate::agent::directory;
use crate::agent::foreign;
use crate::agent::lifecycle::Agent;
use crate::agent::owner;
use crate::agent::paths::{Paths, Target};
use crate::error::{Error, Result};
use crate::model::{Location, Outcome};
use crate::os::disk;
use crate::os::holder;
use crate::os::lock::{self, Lock};
use crate::os::signals::Signals;
use crate::protocol::job::StepJob;

/// Another step on the same agent was left by a killed daemon, and ends soon. If it does not, this step fails and is
/// tried again later.
const LOCK_PATIENCE: Duration = Duration::from_secs(20);

/// One agent at each of its locations. No two of them are the same directory.
pub(super) struct Locations<'a> {
    /// The agent at the location that the desired state names.
    pub desired: Agent<'a>,
    /// The agent where it has lived until now, for a step that moves it.
    pub previous: Option<Agent<'a>>,
    /// The agent where else it may run. It is stopped there before it is started.
    others: Vec<Agent<'a>>,
}

impl<'a> Locations<'a> {
    /// `paths` are those of the desired location, which may be in a directory of another name.
    pub fn new(job: &StepJob, paths: Paths, signals: &'a Signals) -> Self {
        let trusted = paths.trusted;
        let mut locations = Self {
            desired: Agent::new(
                Target {
                    name: job.name.clone(),
                    location: job.location.clone(),
                    paths,
                    updater: job.updater.clone(),
                },
                signals,
            ),
            previous: None,
            others: Vec::new(),
        };
        let agent_at = |location: &Location| {
            let mut target = Target::new(&job.name, location, &job.updater);
            target.paths.trusted = trusted;
            Agent::new(target, signals)
        };
        let previous = job.elsewhere.as_ref().map(agent_at);
        // If a link makes two locations one directory, nothing moves.
        locations.previous = previous.filter(|previous| !locations.includes(previous));
        for other in job.other_locations.iter().map(agent_at) {
            let dir = &other.paths().agent;
            let is_usable = disk::is_dir(dir)
                && directory::check(other.paths()).is_ok()
                && foreign::check_is_agent(other.paths()).is_ok();
            // Each directory is locked only once.
            if is_usable && !locations.includes(&other) {
                locations.others.push(other);
            }
        }
        locations
    }

    /// Returns the agent where it has lived until now.
    pub fn current(&self) -> &Agent<'a> {
        self.previous.as_ref().unwrap_or(&self.desired)
    }

    /// Stops the agent at the other locations: a start there that was never seen to end must not run beside a new one.
    pub fn stop_others(&self) -> Outcome {
        for other in &self.others {
            other.stop()?;
        }
        Ok(())
    }

    /// Locks every location, in the order of their paths, so that two steps never wait for each other.
    pub fn lock(&self) -> Result<Vec<Lock>> {
        let mut agents: Vec<&Agent> = Vec::new();
        for agent in self.all() {
            let at = agents.partition_point(|other| other.path() < agent.path());
            agents.insert(at, agent);
        }
        let mut locks = Vec::new();
        for agent in agents {
            locks.push(lock(agent)?);
        }
        Ok(locks)
    }

    fn all(&self) -> impl Iterator<Item = &Agent<'a>> {
        let desired = std::iter::once(&self.desired);
        desired.chain(&self.previous).chain(&self.others)
    }

    fn includes(&self, agent: &Agent) -> bool {
        self.all()
            .any(|known| disk::is_same(&known.paths().agent, &agent.paths().agent))
    }
}

/// Waits until nobody else works on the agent: no other step, and no script that a killed updater left running.
fn lock(agent: &Agent) -> Result<Lock> {
    foreign::check_is_agent(agent.paths())?;
    directory::create_ours(agent.paths())?;
    let path = agent.paths().lock();
    let lock = lock::take_anyway(&path, LOCK_PATIENCE)?;
    // It is not replaced by a free one: another updater may work on the agent, and two would.
    let lock = lock.ok_or_else(|| Error::new("lock", &path, holder::words(&path)))?;
    owner::claim(agent.name(), agent.paths(), agent.updater())?;
    ScriptLock::wait_for_earlier(&agent.paths().control_pid());
    Ok(lock)
}

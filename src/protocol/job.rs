//! What the daemon gives to a child: one job as JSON on its stdin. Both ends are this binary; a job that another version
//! of it made is refused.
#![expect(clippy::disallowed_methods, reason = "jobs travel over stdin")]

use std::io::{Seek as _, Write as _};

use miniserde::{Deserialize, Serialize};

use crate::build_info::VERSION;
use crate::error::{At, Error, Result};
use crate::json;
use crate::model::{
    AgentName, Desired, Location, Network, Observation, Refusal, Step, Task, Updater,
};
use crate::net::rate;
use crate::os::{disk, fd, files};

/// A child that was started without a job names this in its error. `doctor` learns by it that sudo has started the child.
pub const ON_STDIN: &str = "the job on stdin";
/// The largest job in bytes: more than 10,000 agents.
const JOB_LIMIT: u64 = 32 << 20;

/// The job of a heartbeat.
#[derive(Debug, Serialize, Deserialize)]
pub struct HeartbeatJob {
    pub made_by: String,
    /// Where to POST. None: the agents are only checked, because the server is not due.
    pub url: Option<String>,
    pub hostname: String,
    /// Empty: the address that this host uses toward the server.
    pub ip: String,
    pub run_user: String,
    /// The program through which agents of other users are checked. Empty: the daemon is root.
    pub sudo: String,
    pub updater: Updater,
    pub network: Network,
    pub log_level: String,
    /// The input of `apply`: a desired state, or the URL of one. No server is asked then.
    pub input: Option<String>,
    /// Why the host is held. Empty: it is not.
    pub hold: String,
    /// The refused entries of the last answer.
    pub refused: Vec<Refusal>,
    pub agents: Vec<Reported>,
    /// The agents at which something hung when they were last checked.
    pub stuck: Vec<Observation>,
}

/// One agent of the accepted desired state, with everything that only the daemon knows about it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Reported {
    /// As the server desires it, without a pin.
    pub desired: Desired,
    /// Where the agent last ran well, if that is not the desired location.
    pub elsewhere: Option<Location>,
    /// The pinned version. Empty: there is no pin.
    pub pinned: String,
    pub phase: String,
    pub error: String,
}

/// The job of one step of one agent.
#[derive(Debug, Serialize, Deserialize)]
pub struct StepJob {
    made_by: String,
    pub log_level: String,
    pub name: AgentName,
    pub location: Location,
    /// None: the agent is only checked.
    pub step: Option<Step>,
    /// Where else the agent lives, for a step that moves it.
    pub elsewhere: Option<Location>,
    /// Where else it may run as the same user. It is stopped there before it is started here.
    pub other_locations: Vec<Location>,
    pub role: Role,
    /// The public keys of cfg.json. Without any, nothing must be signed, unless the policy has keys.
    pub public_keys: Vec<String>,
    /// The stop is the first half of a move, so the step is not complete without the second half.
    pub is_move: bool,
    /// The other half of a move is in the same workDir, where the agent's directory must be put aside.
    pub keeps_work_dir: bool,
    /// Not believed under sudo.
    pub updater: Updater,
    /// Believed under sudo only as far as it opens no way around the policy.
    pub network: Network,
}

/// The user that carries out a step.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Role {
    /// The user that the child becomes. None: the user of the daemon.
    pub run_as: Option<String>,
    /// The agent lives with another user until now.
    pub moving: bool,
    /// The daemon is not root, so the child is started through sudo.
    pub by_sudo: bool,
}

impl Role {
    /// `own` is the user of the daemon, `elsewhere` the other location of the agent.
    pub fn new(
        own: &str,
        location: &Location,
        elsewhere: Option<&Location>,
        by_sudo: bool,
    ) -> Self {
        let user_of = |location: &Location| match location.run_user.as_str() {
            "" => own.to_owned(),
            user => user.to_owned(),
        };
        let user = user_of(location);
        let moving = elsewhere.is_some_and(|elsewhere| user_of(elsewhere) != user);
        let run_as = (moving || user != own).then_some(user);
        Self {
            by_sudo: by_sudo && run_as.is_some(),
            run_as,
            moving,
        }
    }
}

impl StepJob {
    /// Returns a check without a step.
    pub fn check(
        name: &AgentName,
        location: &Location,
        role: Role,
        updater: &Updater,
        log_level: &str,
    ) -> Self {
        Self {
            made_by: VERSION.to_owned(),
            log_level: log_level.to_owned(),
            name: name.clone(),
            location: location.clone(),
            step: None,
            elsewhere: None,
            other_locations: Vec::new(),
            role,
            public_keys: Vec::new(),
            is_move: false,
            keeps_work_dir: false,
            updater: updater.clone(),
            network: <Network as Default>::default(),
        }
    }

    pub fn new(
        name: &AgentName,
        task: &Task,
        other_locations: Vec<Location>,
        role: Role,
        updater: &Updater,
        log_level: &str,
    ) -> Self {
        let mut job = Self::check(name, &task.location, role, updater, log_level);
        job.other_locations = other_locations;
        job.elsewhere = task.elsewhere().cloned();
        job.step = Some(task.step.clone());
        job
    }
}

/// Returns a job as a file that can be the stdin of a child. Unlike a pipe, a file never makes the daemon wait. Behind the job
/// is room for the child's share of the download rate.
pub fn to_stdin(job: &dyn Serialize) -> std::io::Result<std::fs::File> {
    let mut file = files::nameless_file()?;
    file.write_all((json::to_string(job) + rate::NO_SHARE).as_bytes())?;
    file.rewind()?;
    Ok(file)
}

/// Reads the job of the hidden subcommand `beat`.
pub fn heartbeat_from_stdin() -> Result<HeartbeatJob> {
    let job: HeartbeatJob = from_stdin()?;
    same_version(&job.made_by)?;
    Ok(job)
}

/// Reads the job of the hidden subcommand `act`.
pub fn step_from_stdin() -> Result<StepJob> {
    let job: StepJob = from_stdin()?;
    same_version(&job.made_by)?;
    Ok(job)
}

fn from_stdin<T: Deserialize>() -> Result<T> {
    let text = disk::read_text(&*fd::stdin_file(), JOB_LIMIT).at("read", ON_STDIN)?;
    let job = text.lines().next().unwrap_or_default();
    json::read(job).ok_or_else(|| {
        let cause = "it is none of ours; this command is for the daemon's own use";
        Error::new("read", ON_STDIN, cause)
    })
}

fn same_version(made_by: &str) -> Result<()> {
    if made_by == VERSION {
        return Ok(());
    }
    let cause = format!("it is from version {made_by} and this is {VERSION}; restart the updater");
    Err(Error::new("take", ON_STDIN, cause))
}

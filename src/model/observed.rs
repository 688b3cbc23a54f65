//! The state of an agent on this host, as a check finds it.

use miniserde::{Deserialize, Serialize};

use super::location::Location;
use super::names::AgentName;
use super::release::Build;
use crate::text::brief;

/// The longest status text that is kept and reported, in characters.
pub const STATUS_LIMIT: usize = 200;

/// The state of an agent according to `control status`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum AgentState {
    /// No version is in force, so there is no script to run.
    NotInstalled,
    Started,
    Stopped,
    /// The script printed neither word: the agent is not started.
    Unrecognized,
    /// The script hangs or cannot be run: the state is unknown.
    NoAnswer,
    /// The host lacked a process or a descriptor to run the script: the state is unknown, and not because of the agent.
    NotAsked,
}

/// One location of an agent, as one check found it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Observed {
    pub location: Location,
    /// The version in force, from `.version`, with the digest in its receipt.
    pub current: Option<Build>,
    /// The version in force has a `control` that can be run.
    pub whole: bool,
    pub state: AgentState,
    /// The output of the status script, or the reason why there is none.
    pub status: String,
    /// Whole versions with a receipt, newest first. The one in force is among them if it has a receipt.
    pub builds: Vec<Build>,
    /// The other build of a version, while the two are exchanged.
    pub spare: Option<Build>,
    /// There are leftovers of an install that was cut short.
    pub litter: bool,
    /// The trace of a process that not even KILL ends, as on a dead disk. Empty: there is none.
    pub stuck: String,
    /// The other updater that manages the agent, in words. Empty: there is none.
    pub managed_by: String,
}

impl Observed {
    /// Returns a location with nothing in it.
    pub fn empty(location: Location) -> Self {
        Self {
            location,
            current: None,
            whole: false,
            state: AgentState::NotInstalled,
            status: String::new(),
            builds: Vec::new(),
            spare: None,
            litter: false,
            stuck: String::new(),
            managed_by: String::new(),
        }
    }

    /// Records that the check got no answer, and why.
    pub fn set_no_answer(&mut self, why: &str) {
        self.state = AgentState::NoAnswer;
        self.status = brief(why, STATUS_LIMIT);
    }

    /// Returns whether the whole build is on disk here, in force or not.
    pub fn has(&self, wanted: &Build) -> bool {
        let is_wanted = |build: &Build| build.satisfies(wanted);
        self.is_in_force(wanted)
            || self.builds.iter().any(is_wanted)
            || self.spare.as_ref().is_some_and(is_wanted)
    }

    pub fn is_in_force(&self, wanted: &Build) -> bool {
        self.whole && self.current.as_ref().is_some_and(|b| b.satisfies(wanted))
    }

    /// Returns whether the location itself could not be checked, not only its script.
    pub fn is_unknown(&self) -> bool {
        matches!(self.state, AgentState::NoAnswer | AgentState::NotAsked) && self.current.is_none()
    }

    pub fn is_down(&self) -> bool {
        match self.state {
            AgentState::Stopped | AgentState::Unrecognized => true,
            AgentState::NotInstalled
            | AgentState::Started
            | AgentState::NoAnswer
            | AgentState::NotAsked => false,
        }
    }
}

/// One agent, as it was last checked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Observation {
    pub name: AgentName,
    /// At the desired location.
    pub at_desired: Observed,
    /// Where the agent last ran well, if that is another location. Boxed, because few are.
    pub elsewhere: Option<Box<Observed>>,
}

impl Observation {
    /// Returns what was found at each location, at the desired one last.
    pub fn locations(&self) -> impl Iterator<Item = &Observed> {
        self.elsewhere
            .as_deref()
            .into_iter()
            .chain([&self.at_desired])
    }

    /// Returns the location where the agent lives now.
    pub fn current(&self) -> &Observed {
        match &self.elsewhere {
            Some(elsewhere) if elsewhere.current.is_some() => elsewhere,
            _ => &self.at_desired,
        }
    }

    /// Returns whether a location could not be checked. If it is the other one, an agent that is started at the desired location
    /// could be a second instance. If the host could not read the desired one, what is there must not be replaced.
    pub fn is_out_of_sight(&self) -> bool {
        let elsewhere = self.elsewhere.as_ref();
        let at_desired = &self.at_desired;
        let is_unread = at_desired.state == AgentState::NotAsked && at_desired.is_unknown();
        is_unread || elsewhere.is_some_and(|observed| observed.is_unknown())
    }

    /// Returns which other updater manages the agent at one of its locations, in words. Nothing is done then.
    pub fn managed_by(&self) -> Option<&str> {
        self.locations()
            .map(|observed| observed.managed_by.as_str())
            .find(|text| !text.is_empty())
    }

    /// Returns the trace of a process that not even KILL ends.
    pub fn stuck(&self) -> Option<&str> {
        self.locations()
            .map(|observed| observed.stuck.as_str())
            .find(|trace| !trace.is_empty())
    }
}

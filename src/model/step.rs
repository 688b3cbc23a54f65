//! The steps that bring an agent to its desired state, and how one of them fails.

use std::fmt;

use miniserde::{Deserialize, Serialize};

use super::location::Location;
use super::names::Version;
use super::release::{Build, Deployment, Release};
use crate::error::Error;

/// One coarse, idempotent step of one agent. Its text is the log line, the dry run and the test oracle.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Fetches, verifies, unpacks, configures, and publishes by rename. Touches nothing that runs.
    Install(Release),
    /// Stops the version in force, puts `to` in force, starts it and watches it. On failure it goes back to `back`.
    Switch {
        back: Option<Deployment>,
        to: Build,
    },
    /// Puts the build in force if it is not, starts it and watches it.
    Start(Build),
    Stop(Version),
    /// Removes leftovers, and every version with our receipt except these.
    Prune(Vec<Version>),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Install(release) => write!(f, "install {}", release.version),
            Self::Switch { back: None, to } => write!(f, "switch to {to}"),
            Self::Switch {
                back: Some(back),
                to,
            } => write!(f, "switch from {} to {to}", back.build),
            Self::Start(build) => write!(f, "start {build}"),
            Self::Stop(version) => write!(f, "stop {version}"),
            Self::Prune(keep) => {
                let mut before = "prune all but ";
                for version in keep {
                    write!(f, "{before}{version}")?;
                    before = " and ";
                }
                Ok(())
            }
        }
    }
}

/// A step and the location where it is carried out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Task {
    pub location: Location,
    pub step: Step,
}

impl Task {
    /// Returns the other location that a switch touches when it moves the agent. A location of another user is never
    /// touched, whatever was planned.
    pub fn elsewhere(&self) -> Option<&Location> {
        let Step::Switch { back, .. } = &self.step else {
            return None;
        };
        let location = &back.as_ref()?.location;
        let is_ours = *location != self.location && location.run_user == self.location.run_user;
        is_ours.then_some(location)
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.location.run_user.as_str() {
            "" => self.step.fmt(f),
            user => write!(f, "{} as {user}", self.step),
        }
    }
}

/// The cause of a failed step. It decides when the step is tried again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Fault {
    /// Network, store, disk or host. It never counts against the version.
    Host,
    /// The version itself did not start, or did not stay started.
    Version,
}

/// The outcome of a step. The failure is boxed, so that a `Result` holds only a pointer.
pub type Outcome = Result<(), Box<Failure>>;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    pub fault: Fault,
    pub error: String,
}

/// An error of the updater's own work is the host's fault. What blames a version makes its `Failure` itself.
impl From<Error> for Box<Failure> {
    fn from(error: Error) -> Self {
        Self::new(Failure {
            fault: Fault::Host,
            error: error.to_string(),
        })
    }
}

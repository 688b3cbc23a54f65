//! Every path in the directory of one agent, and which version its `.version` names.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::error::{At, Result};
use crate::model::{AgentName, Location, Updater, Version};
use crate::os::disk;
use crate::os::walk::Trusted;

/// A version has 64 bytes at most. A longer file is no `.version`.
const VERSION_FILE_LIMIT: u64 = 256;

/// The paths of one agent at one location.
#[derive(Clone)]
pub struct Paths {
    pub agent: PathBuf,
    /// Who may be able to change what is there, because nobody else may.
    pub trusted: Trusted,
}

impl Paths {
    /// Returns the paths of an agent that runs as the user of this process.
    pub fn new(name: &AgentName, location: &Location) -> Self {
        Self {
            agent: Path::new(&location.work_dir).join(name.as_str()),
            trusted: Trusted::own(),
        }
    }

    /// Returns the paths in the directory of a run user. During a move it does not have the agent's name.
    pub fn in_dir(agent: PathBuf, trusted: Trusted) -> Self {
        Self { agent, trusted }
    }

    pub fn version(&self, version: &Version) -> PathBuf {
        self.agent.join(version.as_str())
    }

    pub fn version_file(&self) -> PathBuf {
        self.agent.join(".version")
    }

    /// Returns the updater's own directory, `.updater`, which lies beside the versions.
    pub fn ours(&self) -> PathBuf {
        self.agent.join(".updater")
    }

    /// Returns `.updater/<version><suffix>`. The suffixes are `.part`, `.new`, `.other` and `.gone`.
    pub fn staging(&self, version: &Version, suffix: &str) -> PathBuf {
        self.ours().join(format!("{version}{suffix}"))
    }

    pub fn lock(&self) -> PathBuf {
        self.ours().join("lock")
    }

    /// The mark of the updater that manages the agent.
    pub fn owner(&self) -> PathBuf {
        self.ours().join("owner")
    }

    pub fn control_output(&self) -> PathBuf {
        self.ours().join("control.out")
    }

    /// The output of the last start that failed.
    pub fn failed_output(&self) -> PathBuf {
        self.ours().join("control.failed.out")
    }

    pub fn control_pid(&self) -> PathBuf {
        self.ours().join("control.pid")
    }

    /// Returns the version in force, or `None` if `.version` names none. Fails if the host cannot read the file now.
    pub fn in_force(&self) -> Result<Option<Version>> {
        let path = self.version_file();
        match disk::read_small(&path, VERSION_FILE_LIMIT).at("read", &path) {
            Ok(text) => Ok(Version::parse(text.trim())),
            Err(error) if error.is_host_fault() => Err(error),
            Err(_) => Ok(None),
        }
    }
}

/// Returns whether a file of this name stays in `.updater`. Everything else there is staging.
pub fn is_kept_by_us(file_name: &OsStr) -> bool {
    let kept = [
        "lock",
        "owner",
        "control.out",
        "control.failed.out",
        "control.pid",
    ];
    kept.iter().any(|name| file_name == *name)
}

/// An agent, and where it is.
#[derive(Clone)]
pub struct Target {
    pub name: AgentName,
    pub location: Location,
    pub paths: Paths,
    /// The updater that wants to know of it or acts on it.
    pub updater: Updater,
}

impl Target {
    pub fn new(name: &AgentName, location: &Location, updater: &Updater) -> Self {
        Self {
            name: name.clone(),
            location: location.clone(),
            paths: Paths::new(name, location),
            updater: updater.clone(),
        }
    }
}

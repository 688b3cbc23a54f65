//! The file of this program, which workers execute.
#![expect(clippy::disallowed_methods, reason = "it looks up its own file")]

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::walk::{self, Trusted};
use super::{disk, spawn};
use crate::error::{At, Result};

/// The program that workers execute: this file, even after another file was renamed to its path.
pub struct OwnProgram {
    path: PathBuf,
    identity: Option<(u64, u64)>,
}

impl OwnProgram {
    pub fn find() -> Result<Self> {
        let path = std::env::current_exe().at("find", "the program's own file")?;
        let identity = identity(&path);
        Ok(Self { path, identity })
    }

    /// Returns the path under which the program was started.
    pub fn started_as(&self) -> &Path {
        &self.path
    }

    fn path(&self) -> &Path {
        let now = identity(&self.path);
        if cfg!(target_os = "linux") && (now.is_none() || now != self.identity) {
            return Path::new("/proc/self/exe");
        }
        &self.path
    }

    /// Returns the command for a worker, through `sudo` if given. Fails if somebody else could replace the program, which sudo
    /// would then execute as root.
    pub fn command(&self, role: &str, sudo: Option<&str>) -> Result<Command> {
        let mut command = if let Some(sudo) = sudo {
            walk::check(&self.path, Trusted::strict())?;
            let mut command = spawn::command(sudo);
            command.args(["-n", "--"]).arg(&self.path);
            command
        } else {
            let mut command = spawn::command(self.path());
            command.arg0("ops-updater");
            command
        };
        command.arg(role);
        Ok(command)
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    Some(disk::identity(&std::fs::metadata(path).ok()?))
}

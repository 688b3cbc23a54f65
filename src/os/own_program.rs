//! The file of this program, which workers execute.
#![allow(unsafe_code)]
#![expect(clippy::disallowed_methods, reason = "it looks up its own file")]

#[cfg(target_os = "linux")]
use std::ffi::{CStr, OsStr, OsString};
use std::io;
#[cfg(target_os = "linux")]
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::command::Command;
use super::disk;
use super::walk::{self, Trusted};
use crate::error::{At, Result};
#[cfg(target_os = "linux")]
use crate::model::one_spelling;

/// The program that workers execute: this file, even after another file was renamed to its path. Without /proc it is then the
/// other file, which refuses the jobs of another version by name.
pub struct OwnProgram {
    path: PathBuf,
    identity: Option<(u64, u64)>,
}

impl OwnProgram {
    pub fn find() -> Result<Self> {
        let path = std::env::current_exe().or_else(|_| executed_as());
        let path = path.at("find", "the program's own file")?;
        let identity = identity(&path);
        Ok(Self { path, identity })
    }

    /// Returns the path under which the program was started.
    pub fn started_as(&self) -> &Path {
        &self.path
    }

    fn path(&self) -> &Path {
        let now = identity(&self.path);
        let own = Path::new("/proc/self/exe");
        if (now.is_none() || now != self.identity) && own.exists() {
            return own;
        }
        &self.path
    }

    /// Returns the command for a worker, through `sudo` if given. Fails if somebody else could replace the program, which sudo
    /// would then execute as root.
    pub fn command(&self, role: &str, sudo: Option<&str>) -> Result<Command> {
        let mut command = if let Some(sudo) = sudo {
            walk::check(&self.path, Trusted::strict())?;
            let mut command = Command::new(sudo);
            command.args(&["-n", "--"]).arg(&self.path);
            command
        } else {
            let mut command = Command::new(self.path());
            command.name("ops-updater");
            command
        };
        command.arg(role);
        Ok(command)
    }
}

/// Returns the path that the kernel was given to execute, for a host without /proc.
#[cfg(target_os = "linux")]
fn executed_as() -> io::Result<PathBuf> {
    // SAFETY: the kernel puts this text, with its NUL, on the stack of a process before it runs, and nothing here writes there.
    let given = unsafe {
        let given = libc::getauxval(libc::AT_EXECFN) as *const libc::c_char;
        (!given.is_null()).then(|| CStr::from_ptr(given))
    };
    let given = given.ok_or(io::ErrorKind::NotFound)?;
    let given = OsStr::from_bytes(given.to_bytes());
    // The directory that it was started in may be gone.
    let start = match given.as_bytes() {
        [b'/', ..] => PathBuf::new(),
        _ => std::env::current_dir()?,
    };
    let whole = start.join(given);
    let plain = one_spelling(whole.as_os_str().as_bytes());
    Ok(PathBuf::from(OsString::from_vec(plain)))
}

#[cfg(not(target_os = "linux"))]
fn executed_as() -> io::Result<PathBuf> {
    Err(io::ErrorKind::NotFound.into())
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    Some(disk::identity(&std::fs::metadata(path).ok()?))
}

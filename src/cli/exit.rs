//! How a command ends: its exit code, and what it prints to stdout and stderr.

use std::fmt::Display;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use crate::error::Error;
use crate::os::fd;
use crate::store::config::{Config, Source};
use crate::{log, text};

/// The exit codes. They are an interface: scripts branch on them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Exit {
    Success = 0,
    Failure = 1,
    BadUsage = 2,
    AlreadyRunning = 3,
    /// `status`: an agent is not in the desired state, or none is known. `plan`: changes are pending. `once` and `apply`, if
    /// asked for detail: changes were made.
    Changes = 4,
    /// Only `status` uses it, and not while it waits.
    NotRunning = 5,
    /// Only `pid` uses it: it cannot be found out whether an updater runs.
    Unknown = 6,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error means that the command has already printed why it failed.
pub(super) type ExitResult = Result<Exit, Exit>;

/// Prints why the command fails, and returns its exit code.
pub(super) fn fail(exit: Exit, message: &dyn Display) -> Exit {
    complain(message);
    exit
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
pub(super) fn failed(error: Error) -> Exit {
    fail(Exit::Failure, &error)
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
pub(super) fn misused(error: Error) -> Exit {
    fail(Exit::BadUsage, &error)
}

/// Prints a line to stderr.
pub(super) fn complain(message: &dyn Display) {
    let message = text::printable(&message.to_string());
    log::complain(&message);
}

/// Prints a line to stdout. Fails if nothing can read it.
#[expect(clippy::disallowed_methods, reason = "commands print here")]
pub(super) fn print(text: &str) -> Exit {
    let line = format!("{text}\n");
    match fd::stdout_file().write_all(line.as_bytes()) {
        Ok(()) => Exit::Success,
        Err(_) => Exit::Failure,
    }
}

/// Reads cfg.json. Prints what is wrong with it.
pub(super) fn load(file: &Path) -> Result<(Source, Box<Config>), Exit> {
    let source = Source::new(file).map_err(misused)?;
    let config = source.load().map_err(misused)?;
    Ok((source, config))
}

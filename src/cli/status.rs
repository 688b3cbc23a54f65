//! `status` and `pid`: print what is known of the updater, from its status document and its lock.
#![expect(
    clippy::disallowed_methods,
    reason = "commands ask the environment and the terminal"
)]

use std::io::IsTerminal;
use std::path::Path;

use super::args::Arguments;
use super::current::{self, is_converged, is_known};
use super::exit::{Exit, ExitResult, fail, failed, print};
use super::table::{self, Style};
use super::wait;
use crate::error::{Error, Result};
use crate::json;
use crate::os::{clock, fd};
use crate::store::config::Source;
use crate::store::{instance, status};

pub(super) fn status(arguments: &Arguments) -> ExitResult {
    let source = Source::new(&arguments.config).map_err(failed)?;
    let waited = match arguments.wait {
        Some(seconds) => Some(wait::wait(&source.own_dir, seconds).map_err(failed)?),
        None => None,
    };
    let pid = instance::holder(&source.own_dir).map_err(failed)?;
    let Some(mut status) = current::load(&source.own_dir) else {
        let file = status::file(&source.own_dir);
        let (exit, cause) = match pid {
            Some(_) => (Exit::Failure, "the updater runs, but has not written it"),
            None => (
                waited.map_or(Exit::NotRunning, |_| Exit::Failure),
                "the updater does not run, and never ran here",
            ),
        };
        return Err(fail(exit, &Error::new("read", file, cause)));
    };
    status.running = Some(pid.is_some());
    let text = if arguments.json {
        json::to_string(&status)
    } else {
        table::page(&status, pid, style())
    };
    let exit = match waited {
        Some(waited) => waited.exit(),
        None if pid.is_none() => Exit::NotRunning,
        None if !is_converged(&status) || !is_known(&status) => Exit::Changes,
        None => Exit::Success,
    };
    match print(text.trim_end()) {
        Exit::Success => Ok(exit),
        failed => Ok(failed),
    }
}

/// Prints the pid of the running updater. Prints nothing if none runs, because scripts call it.
pub(super) fn pid(file: &Path) -> ExitResult {
    answer(file, instance::holder)
}

/// Sends a signal to that process, for `control`: a shell would send it to a number, which another process may have by then.
pub(super) fn signal(arguments: &Arguments) -> ExitResult {
    let signal = match arguments.operands[0].as_str() {
        "TERM" => libc::SIGTERM,
        "HUP" => libc::SIGHUP,
        "USR1" => libc::SIGUSR1,
        _ => return Err(Exit::BadUsage),
    };
    answer(&arguments.config, |own_dir| {
        instance::signal(own_dir, signal)
    })
}

fn answer(file: &Path, ask: impl FnOnce(&Path) -> Result<Option<u32>>) -> ExitResult {
    let Ok(source) = Source::new(file) else {
        return Err(Exit::Failure);
    };
    match ask(&source.own_dir) {
        Ok(Some(pid)) => Ok(print(&pid.to_string())),
        Ok(None) => Err(Exit::Failure),
        Err(error) => Err(fail(Exit::Unknown, &error)),
    }
}

/// Wraps lines on a terminal, and uses colours there unless its user does not want any (no-color.org).
pub(super) fn style() -> Style {
    let variable = |name| std::env::var_os(name).unwrap_or_default();
    let term = variable("TERM");
    let is_terminal = fd::stdout_file().is_terminal();
    Style {
        now: clock::unix_now(),
        width: if is_terminal {
            table::TERMINAL
        } else {
            usize::MAX
        },
        colours: is_terminal
            && variable("NO_COLOR").is_empty()
            && !(term.is_empty() || term == "dumb"),
    }
}

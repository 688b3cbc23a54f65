//! The command line: reads the arguments, runs one command, prints its result and returns its exit code.
//! It decides nothing about agents: that is the daemon's work.

/// The arguments of the command line.
mod args;
/// `check`: the settings in force and their source.
mod check;
/// The status document with the overrides on disk.
mod current;
/// `doctor`: problems that would keep the updater from working.
mod doctor;
/// The server's entry of one agent.
mod entry;
/// Exit codes, and what is printed to stdout and stderr.
mod exit;
/// The help texts.
mod help;
/// `pin`, `unpin`, `rollback`, `retry`, `hold`, `release`: overrides of the server's desired state.
mod overrides;
/// Whether the release store has a version, for `pin`.
mod release_store;
/// The daemon, `once`, `apply` and `plan`.
mod run;
/// Whether releases are verified by their signatures.
mod signatures;
/// `status` and `pid`.
mod status;
/// The status document as a table.
mod table;
/// `status --wait`: waits until all is as desired.
mod wait;

use std::process::ExitCode;

use self::args::Command;
use self::exit::{Exit, ExitResult, fail, failed, print};
use crate::build_info::{ARCH, VERSION};
use crate::error::Result;
use crate::log;
use crate::os::{environment, fd, files, signals, user};
use crate::protocol::job;
use crate::worker::{heartbeat, step};

/// Runs the command of this process's arguments. Returns its exit code.
#[must_use]
pub fn run() -> ExitCode {
    fd::close_inherited_on_exec();
    signals::unblock_signals();
    files::set_umask();
    // If it is set, minreq starts a thread for each request and ends slow downloads that make progress.
    environment::remove_variable("MINREQ_TIMEOUT");
    let (Ok(exit) | Err(exit)) = run_command();
    exit.into()
}

fn run_command() -> ExitResult {
    let arguments = match args::parse(lexopt::Parser::from_env()) {
        Ok(arguments) => arguments,
        Err(error) => return Err(bad_usage(&error)),
    };
    if arguments.command != Command::Act {
        environment::remove_variable(user::SUDO_CALLER);
    }
    match arguments.command {
        Command::Version => Ok(print(VERSION)),
        Command::LongVersion => Ok(print(&format!("ops-updater {VERSION} {ARCH}"))),
        Command::Help => help(arguments.operands.first().map(String::as_str)),
        Command::Run => run::serve(&arguments.config),
        Command::Status => status::status(&arguments),
        Command::Plan => run::plan(&arguments),
        Command::Once => run::once(&arguments),
        Command::Apply => run::apply(&arguments),
        Command::Doctor => doctor::run(&arguments),
        Command::Pin => overrides::pin(&arguments),
        Command::Unpin => overrides::unpin(&arguments),
        Command::Rollback => overrides::rollback(&arguments),
        Command::Retry => overrides::retry(&arguments),
        Command::Hold => overrides::hold(&arguments),
        Command::Release => overrides::release(&arguments),
        Command::Check => check::run(&arguments),
        Command::Pid => status::pid(&arguments.config),
        Command::Signal => status::signal(&arguments),
        Command::Beat => worker(job::heartbeat_from_stdin().and_then(|job| {
            set_level(&job.log_level);
            heartbeat::run(&job)
        })),
        Command::Act => worker(job::step_from_stdin().and_then(|job| {
            set_level(&job.log_level);
            step::run(&job)
        })),
    }
}

fn help(command: Option<&str>) -> ExitResult {
    let Some(word) = command else {
        return Ok(print(help::OVERVIEW.trim_end()));
    };
    match Command::parse(word.as_ref()).and_then(help::text) {
        Some(text) => Ok(print(text.trim_end())),
        None => Err(bad_usage(&args::unknown(word))),
    }
}

fn bad_usage(error: &str) -> Exit {
    fail(Exit::BadUsage, &format!("{error}; see ops-updater -h"))
}

fn set_level(name: &str) {
    if let Some(level) = log::Level::parse(name) {
        log::set_level(level);
    }
}

fn worker(outcome: Result<()>) -> ExitResult {
    outcome.map_err(failed)?;
    Ok(Exit::Success)
}

#[cfg(test)]
mod tests {
    /// The stubs of stubs.rs are only for releases: a failed test must show where it failed.
    #[test]
    fn tests_keep_their_backtraces() {
        let trace = std::backtrace::Backtrace::force_capture().to_string();
        assert!(trace.contains("tests_keep_their_backtraces"), "{trace}");
    }
}

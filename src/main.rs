//! Arguments, the order of things, exit codes. The C library enters at `start::main`, which calls `run`.
#![cfg_attr(not(test), no_main)]

// The program: its entry, its words, what it does without.
#[cfg(all(panic = "abort", not(test)))]
mod absent;
mod arguments;
mod commands;
mod help;
mod show;
mod start;
mod steer;

// The daemon: what it knows, what follows from it, whom it starts.
mod children;
mod daemon;
mod endpoint;
mod instance;
mod metrics;
mod overrides;
mod pages;
mod plan;
mod record;
mod report;
mod roster;
mod said;
mod schedule;

// Its children: one beats, one takes a step of one agent.
mod act;
mod agent;
mod beat;
mod ground;
mod install;
mod job;
mod observe;

// The nouns, and how they stand in JSON.
mod config;
mod fields;
mod heartbeat;
mod json;
mod model;
mod named;
mod syntax;

// What an operator asks before and beside it.
mod check;
mod checkup;
mod doctor;
mod reach;

// Tools, which know of no agent.
mod control;
mod dial;
mod digest;
mod disk;
mod error;
mod fetch;
mod gzip;
mod log;
mod log_file;
mod repeats;
mod spawn;
mod sys;
mod texts;
mod unpack;
mod user;

use std::ffi::OsString;
use std::fmt::Display;
use std::path::Path;

use arguments::Command;
use config::{Config, Source};
use error::{Error, Result};

const FINE: u8 = 0;
const FAILED: u8 = 1;
const BAD_USAGE: u8 = 2;
const ALREADY_RUNNING: u8 = 3;
/// Of `status`: not all is as desired; of `plan`: there is something to do; of `once` and `apply`: it was done.
const CHANGES: u8 = 4;
/// Of `status`.
const NOT_RUNNING: u8 = 5;

/// With which code a command ends; as an error when it has told why it failed.
type Exit = std::result::Result<u8, u8>;

/// Carries out what the arguments, without the program's name, ask for; tells the exit code.
fn run(arguments: &[OsString]) -> u8 {
    sys::close_inherited_on_exec();
    sys::unblock_signals();
    sys::set_umask();
    let (Ok(code) | Err(code)) = carry_out(arguments);
    code
}

fn carry_out(arguments: &[OsString]) -> Exit {
    let arguments = match arguments::parse(arguments) {
        Ok(arguments) => arguments,
        Err(error) => return Err(fail(BAD_USAGE, &format!("{error}; see ops-updater -h"))),
    };
    match arguments.command {
        Command::Version => Ok(print(job::VERSION)),
        Command::LongVersion => Ok(print(&format!(
            "ops-updater {} {}",
            job::VERSION,
            install::ARCH
        ))),
        Command::Help => help(arguments.operands.first().map(String::as_str)),
        Command::Run => commands::serve(&arguments.config),
        Command::Status => commands::status(&arguments),
        Command::Plan => commands::plan(&arguments.config),
        Command::Once => commands::once(&arguments.config),
        Command::Apply => commands::apply(&arguments),
        Command::Doctor if doctor::is_well(&arguments.config) => Ok(FINE),
        Command::Doctor => Err(FAILED),
        Command::Pin
        | Command::Unpin
        | Command::Rollback
        | Command::Retry
        | Command::Hold
        | Command::Release => commands::steer(&arguments),
        Command::Check => check::run(&arguments.config),
        Command::Pid => commands::pid(&arguments.config),
        Command::Beat => child(job::beat_from_stdin().and_then(|job| {
            set_level(&job.log_level);
            beat::run(&job)
        })),
        Command::Act => child(job::act_from_stdin().and_then(|job| {
            set_level(&job.log_level);
            act::run(&job)
        })),
    }
}

fn help(about: Option<&str>) -> Exit {
    if let Some(text) = help::text(about) {
        return Ok(print(&text));
    }
    let about = about.unwrap_or_default();
    let message = format!("there is no command {about}; see ops-updater -h");
    Err(fail(BAD_USAGE, &message))
}

/// Tells why the command fails; the code is handed back.
fn fail(code: u8, message: &dyn Display) -> u8 {
    let message = log::printable(&message.to_string());
    log::put(&format!("ops-updater: {message}\n"));
    code
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: Error) -> u8 {
    fail(FAILED, &error)
}

#[expect(clippy::disallowed_methods, reason = "what a command is asked for")]
fn print(text: &str) -> u8 {
    match start::write_stdout(&format!("{text}\n")) {
        Ok(()) => FINE,
        Err(_) => FAILED,
    }
}

fn set_level(name: &str) {
    if let Some(level) = log::Level::parse(name) {
        log::set_level(level);
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn misused(error: Error) -> u8 {
    fail(BAD_USAGE, &error)
}

/// Where the settings are, and the settings.
fn load(file: &Path) -> std::result::Result<(Source, Config), u8> {
    let source = Source::new(file).map_err(misused)?;
    let config = source.load().map_err(misused)?;
    Ok((source, config))
}

fn child(done: Result<()>) -> Exit {
    done.map_or_else(|error| Err(failed(error)), |()| Ok(FINE))
}

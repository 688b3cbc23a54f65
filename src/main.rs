//! Arguments, the order of things, exit codes. The C library enters at `start::main`, which calls `run`.
#![cfg_attr(not(test), no_main)]

// The program: its entry, its words, what it does without.
#[cfg(all(panic = "abort", not(test)))]
mod absent;
mod arguments;
mod start;

// The daemon: what it knows, what follows from it, whom it starts.
mod children;
mod daemon;
mod instance;
mod plan;
mod record;
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
mod unpack;
mod user;

use std::ffi::OsString;
use std::path::Path;

use arguments::Command;
use config::{Config, Source};
use daemon::Daemon;
use error::Result;

const HELP: &str = include_str!("help.txt");

const FINE: u8 = 0;
const FAILED: u8 = 1;
const BAD_USAGE: u8 = 2;
const ALREADY_RUNNING: u8 = 3;

/// Carries out what the arguments, without the program's name, ask for; tells the exit code.
fn run(arguments: Vec<OsString>) -> u8 {
    sys::close_inherited_on_exec();
    sys::unblock_signals();
    sys::set_umask();
    let arguments = match arguments::parse(arguments) {
        Ok(arguments) => arguments,
        Err(error) => return fail(BAD_USAGE, &format!("{error}; see ops-updater -h")),
    };
    match arguments.command {
        Command::Version => print(job::VERSION),
        Command::LongVersion => print(&format!("ops-updater {} {}", job::VERSION, install::ARCH)),
        Command::Help => print(HELP.trim_end()),
        Command::Run => serve(&arguments.config),
        Command::Check => check(&arguments.config),
        Command::Pid => pid(&arguments.config),
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

fn fail(code: u8, message: &str) -> u8 {
    log::put(&format!("ops-updater: {}\n", log::printable(message)));
    code
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

fn child(done: Result<()>) -> u8 {
    match done {
        Ok(()) => FINE,
        Err(error) => fail(FAILED, &error.to_string()),
    }
}

fn load(file: &Path) -> Result<(Source, Config)> {
    let source = Source::new(file)?;
    let config = source.load()?;
    Ok((source, config))
}

fn serve(file: &Path) -> u8 {
    let (source, config) = match load(file) {
        Ok(loaded) => loaded,
        Err(error) => return fail(BAD_USAGE, &error.to_string()),
    };
    log::set_level(config.log_level);
    log::keep(&source.own_dir, config.log_limit);
    let signals = match Daemon::catch_signals() {
        Ok(signals) => signals,
        Err(error) => return fail(FAILED, &error.to_string()),
    };
    let lock = match instance::prepare(&source.own_dir) {
        Ok(Ok(lock)) => lock,
        Ok(Err(holder)) => {
            let message = format!(
                "already running in {}, pid {holder}",
                source.own_dir.display()
            );
            return fail(ALREADY_RUNNING, &message);
        }
        Err(error) => return fail(FAILED, &error.to_string()),
    };
    match Daemon::new(source, config, signals) {
        Ok(mut daemon) => {
            daemon.run();
            log::end();
            // The lock is held until the process is gone: whoever sees it free may replace the binary.
            std::mem::forget((lock, daemon));
            FINE
        }
        Err(error) => fail(FAILED, &error.to_string()),
    }
}

fn check(file: &Path) -> u8 {
    let (source, config) = match load(file) {
        Ok(loaded) => loaded,
        Err(error) => return fail(BAD_USAGE, &error.to_string()),
    };
    for warning in &config.warnings {
        fail(
            FAILED,
            &format!("warning: {}: {warning}", source.file.display()),
        );
    }
    let hostname = sys::hostname().unwrap_or_default();
    print(&format!(
        "{} is fine\nheartbeats to  {}\nevery          {} s\nhostname       {}\nip             {}\nlog_level      {}\nlog_max_size   {} MB",
        source.file.display(),
        config.url,
        config.interval.as_secs(),
        or_own(&config.hostname, &hostname),
        or_own(&config.ip, "the address toward the server"),
        config.log_level.name().to_ascii_lowercase(),
        config.log_limit / config::MEGABYTE,
    ))
}

fn or_own<'a>(text: &'a str, own: &'a str) -> &'a str {
    if text.is_empty() { own } else { text }
}

/// Prints the pid of who holds the lock; with nobody holding it fails in silence, for scripts.
fn pid(file: &Path) -> u8 {
    let source = Source::new(file).ok();
    match source.and_then(|source| instance::holder(&source.own_dir)) {
        Some(pid) => print(&pid.to_string()),
        None => FAILED,
    }
}

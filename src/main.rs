//! Arguments, the order of things, exit codes.

mod act;
mod agent;
mod beat;
mod children;
mod config;
mod control;
mod daemon;
mod disk;
mod error;
mod fetch;
mod ground;
mod heartbeat;
mod install;
mod job;
mod json;
mod log;
mod model;
mod observe;
mod plan;
mod record;
mod roster;
mod schedule;
mod sys;
mod unpack;
#[cfg(all(panic = "abort", not(test)))]
mod unwind;
mod user;

use std::fs;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use config::{Config, Source};
use daemon::Daemon;
use disk::Lock;
use error::{At, Error, Result};
use lexopt::prelude::{Long, Short, Value};

const HELP: &str = include_str!("help.txt");

const FAILED: u8 = 1;
const BAD_USAGE: u8 = 2;
const ALREADY_RUNNING: u8 = 3;

/// `pid` takes the lock for a moment to see whether it is free; a start must not take that for a running updater.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
/// Who took the lock writes its pid right after.
const PID_PATIENCE: Duration = Duration::from_secs(1);

enum Command {
    Run,
    Check,
    Pid,
    Beat,
    Act,
    Version,
    Help,
}

struct Arguments {
    config: PathBuf,
    command: Command,
}

fn main() -> ExitCode {
    sys::close_inherited_on_exec();
    sys::unblock_signals();
    sys::set_umask();
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(error) => return fail(BAD_USAGE, &format!("{error}; see ops-updater -h")),
    };
    match arguments.command {
        Command::Version => print(job::VERSION),
        Command::Help => print(HELP.trim_end()),
        Command::Run => run(&arguments.config),
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

fn arguments() -> std::result::Result<Arguments, lexopt::Error> {
    let mut parser = lexopt::Parser::from_env();
    let mut config = PathBuf::from("cfg.json");
    let mut command = None;
    while let Some(argument) = parser.next()? {
        match argument {
            Short('c') | Long("config") => config = parser.value()?.into(),
            Short('v') | Long("version") => command = Some(Command::Version),
            Short('h') | Long("help") => command = Some(Command::Help),
            Value(word) if command.is_none() => {
                command = Some(match word.to_str() {
                    Some("check") => Command::Check,
                    Some("pid") => Command::Pid,
                    Some("help") => Command::Help,
                    Some("beat") => Command::Beat,
                    Some("act") => Command::Act,
                    _ => return Err(Value(word).unexpected()),
                });
            }
            other => return Err(other.unexpected()),
        }
    }
    Ok(Arguments {
        config,
        command: command.unwrap_or(Command::Run),
    })
}

fn fail(code: u8, message: &str) -> ExitCode {
    // Nobody is left to tell when stderr is gone.
    let _ = writeln!(
        std::io::stderr(),
        "ops-updater: {}",
        log::printable(message)
    );
    ExitCode::from(code)
}

fn print(text: &str) -> ExitCode {
    match writeln!(std::io::stdout(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(FAILED),
    }
}

fn set_level(name: &str) {
    if let Some(level) = log::Level::parse(name) {
        log::set_level(level);
    }
}

fn child(done: Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(FAILED, &error.to_string()),
    }
}

fn load(file: &Path) -> Result<(Source, Config)> {
    let source = Source::new(file)?;
    let config = source.load()?;
    Ok((source, config))
}

fn run(file: &Path) -> ExitCode {
    let (source, config) = match load(file) {
        Ok(loaded) => loaded,
        Err(error) => return fail(BAD_USAGE, &error.to_string()),
    };
    log::set_level(config.log_level);
    let signals = match Daemon::catch_signals() {
        Ok(signals) => signals,
        Err(error) => return fail(FAILED, &error.to_string()),
    };
    let lock = match prepare(&source) {
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
        Ok(daemon) => {
            daemon.run();
            // Held until the process is gone: whoever sees it free may replace the binary.
            std::mem::forget(lock);
            ExitCode::SUCCESS
        }
        Err(error) => fail(FAILED, &error.to_string()),
    }
}

/// Checks what every run needs, and takes the lock; the error within is the pid of who holds it.
fn prepare(source: &Source) -> Result<std::result::Result<Lock, String>> {
    if !Path::new("/bin/sh").exists() {
        return Err(Error::new("run", "control scripts", "there is no /bin/sh"));
    }
    let var = source.own_dir.join("var");
    disk::make_dir(&var)?;
    let path = var.join("lock");
    let Some(mut lock) = disk::lock(&path, LOCK_PATIENCE)? else {
        return Ok(Err(disk::read_small(&path, 32)
            .unwrap_or_default()
            .trim()
            .to_owned()));
    };
    let pid = format!("{}\n", std::process::id());
    // What the last holder left is emptied first: a pid in the file is that of who holds the lock.
    lock.file
        .set_len(0)
        .and_then(|()| lock.file.rewind())
        .and_then(|()| lock.file.write_all(pid.as_bytes()))
        .at("write", path.display())?;
    // For tools of the original; nothing of ours reads it.
    disk::write_atomic(&var.join("app.pid"), pid.as_bytes())?;
    let probe = source.own_dir.join(".probe.tmp");
    fs::write(&probe, "").at("write into", source.own_dir.display())?;
    fs::remove_file(&probe).at("remove", probe.display())?;
    Ok(Ok(lock))
}

fn check(file: &Path) -> ExitCode {
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
    let or_own = |text: &str, own: &str| {
        if text.is_empty() {
            own.to_owned()
        } else {
            text.to_owned()
        }
    };
    let hostname = sys::hostname().unwrap_or_default();
    print(&format!(
        "{} is fine\nheartbeats to  {}\nevery          {} s\nhostname       {}\nip             {}\nlog_level      {}",
        source.file.display(),
        config.url,
        config.interval.as_secs(),
        or_own(&config.hostname, &hostname),
        or_own(&config.ip, "the address toward the server"),
        config.log_level.name().to_ascii_lowercase(),
    ))
}

/// Prints the pid of who holds the lock; with nobody holding it fails in silence, for scripts.
fn pid(file: &Path) -> ExitCode {
    let lock = Source::new(file).map(|source| source.own_dir.join("var/lock"));
    match lock.ok().and_then(|lock| holder(&lock)) {
        Some(pid) => print(&pid.to_string()),
        None => ExitCode::from(FAILED),
    }
}

fn holder(path: &Path) -> Option<u32> {
    let lock = fs::File::open(path).ok()?;
    let begun = Instant::now();
    loop {
        match lock.try_lock_shared() {
            Err(fs::TryLockError::WouldBlock) => {}
            Ok(()) | Err(fs::TryLockError::Error(_)) => return None,
        }
        let text = disk::read_small(path, 32).ok()?;
        // Emptied before it is written anew, so a pid that is there is that of the holder.
        match text.strip_suffix('\n').and_then(|pid| pid.parse().ok()) {
            Some(pid) => return Some(pid),
            None if begun.elapsed() >= PID_PATIENCE => return None,
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

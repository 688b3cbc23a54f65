//! The commands that run the daemon: without a command until a signal ends it, `once` and `apply` for one round, `plan`
//! for its list of steps.
#![expect(
    clippy::disallowed_methods,
    reason = "apply reads the desired state from a file or stdin"
)]

use std::fs::File;
use std::path::Path;

use super::args::Arguments;
use super::current::is_converged;
use super::exit::{Exit, ExitResult, fail, failed, load, misused, print};
use super::status::style;
use super::table;
use crate::daemon::{Daemon, Mode, Outcome};
use crate::error::{At, Result};
use crate::model::is_fetched;
use crate::os::{credentials, disk, fd};
use crate::protocol::DOCUMENT_LIMIT;
use crate::store::config::{Config, Source};
use crate::store::{instance, layout, places, policy};
use crate::{json, log};

pub(super) fn serve(file: &Path) -> ExitResult {
    let (source, config) = load(file)?;
    run_daemon(source, config, Mode::Serve)?;
    log::finish();
    Ok(Exit::Success)
}

pub(super) fn plan(arguments: &Arguments) -> ExitResult {
    let (source, config) = load(&arguments.config)?;
    let daemon = run_daemon(source, config, Mode::Plan)?;
    let pending = daemon.pending(arguments.json);
    let is_answered = daemon.outcome() != Outcome::Failed;
    let printed = match pending.as_str() {
        "" if is_answered && !arguments.json => print("nothing to do"),
        "" => Exit::Success,
        lines => print(lines),
    };
    if !is_answered {
        let what = match pending.as_str() {
            "" => "so it is not known what is to be done",
            _ => "so these steps lead to the last accepted desired state",
        };
        let message = format!("the server gave no usable answer, {what}");
        return Err(fail(Exit::Failure, &message));
    }
    match printed {
        Exit::Success if !pending.is_empty() => Ok(Exit::Changes),
        printed => Ok(printed),
    }
}

pub(super) fn once(arguments: &Arguments) -> ExitResult {
    let (source, config) = load(&arguments.config)?;
    run_round(source, config, None, arguments.detailed_exitcode)
}

pub(super) fn apply(arguments: &Arguments) -> ExitResult {
    let source = Source::new(&arguments.config).map_err(misused)?;
    let mut config = source.load_without_server().map_err(misused)?;
    // No server hears of a round that follows the operator's desired state.
    config.url.clear();
    let desired = read_desired(&arguments.operands[0]).map_err(failed)?;
    run_round(source, config, Some(desired), arguments.detailed_exitcode)
}

/// Returns the desired state from a file or stdin. Returns a URL as it is: a worker with a deadline fetches it later.
fn read_desired(from: &str) -> Result<String> {
    if is_fetched(from) {
        return Ok(from.to_owned());
    }
    let text = if from == "-" {
        disk::read_text(&*fd::stdin_file(), DOCUMENT_LIMIT)
    } else {
        File::open(from).and_then(|file| disk::read_text(&file, DOCUMENT_LIMIT))
    };
    let text = text.at("read", from)?;
    json::parse(&text).at("use", from)?;
    Ok(text)
}

/// `is_detailed`: the exit code says whether something was changed.
fn run_round(
    source: Source,
    config: Box<Config>,
    desired: Option<String>,
    is_detailed: bool,
) -> ExitResult {
    let daemon = run_daemon(source, config, Mode::Once(desired))?;
    let status = daemon.status();
    let is_known = status.heartbeat.failures == 0;
    let printed = print(table::table(&status, is_known, style()).trim_end());
    let is_unfinished = !is_converged(&status) && status.hold.is_empty();
    if is_unfinished || !status.refused.is_empty() {
        return Ok(Exit::Failure);
    }
    Ok(match daemon.outcome() {
        Outcome::Failed => Exit::Failure,
        Outcome::Changes if is_detailed => Exit::Changes,
        Outcome::Changes | Outcome::Nothing => printed,
    })
}

/// Runs a daemon until its mode is done. A daemon that may change something first takes the lock of this directory.
fn run_daemon(
    source: Source,
    config: Box<Config>,
    mode: Mode,
) -> std::result::Result<&'static mut Daemon, Exit> {
    policy::load(Some(&source.own_dir)).map_err(misused)?;
    log::set_level(match mode {
        Mode::Plan => config.log_level.max(log::Level::Warn),
        Mode::Serve | Mode::Once(_) => config.log_level,
    });
    log::form::set_json(config.log_json);
    if mode == Mode::Serve {
        log::open(layout::log(&source.own_dir), config.log_limit);
    }
    let signals = Daemon::catch_signals().map_err(failed)?;
    if mode != Mode::Plan {
        check_places(&source)?;
        lock(&source)?;
        // What was missing may have been created by somebody else before this updater did it.
        refuse_open_places(&source)?;
    }
    let daemon = Box::leak(Daemon::new(source, config, signals, mode).map_err(failed)?);
    daemon.run();
    Ok(daemon)
}

/// Refuses to let root run what another user could replace. Any other user is only warned: nobody can become root by it.
fn check_places(source: &Source) -> std::result::Result<(), Exit> {
    match places::check(source) {
        Err(error) if credentials::effective_uid() != 0 => log::warn(format_args!("{error}")),
        checked => checked.map_err(misused)?,
    }
    Ok(())
}

/// Fails for root if another user could replace a place of the updater.
pub(super) fn refuse_open_places(source: &Source) -> std::result::Result<(), Exit> {
    if credentials::effective_uid() == 0 {
        places::check(source).map_err(misused)?;
    }
    Ok(())
}

fn lock(source: &Source) -> std::result::Result<(), Exit> {
    match instance::prepare(&source.own_dir).map_err(failed)? {
        Ok(lock) => {
            // Held until the process is gone: a script that finds it free may replace the binary.
            std::mem::forget(lock);
            Ok(())
        }
        Err(holder) => {
            let own_dir = source.own_dir.display();
            let message = format!("already running in {own_dir}, pid {holder}");
            Err(fail(Exit::AlreadyRunning, &message))
        }
    }
}

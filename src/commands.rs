//! The commands of an operator, but for the daemon itself: what each reads, what it prints, and its exit code.
#![expect(clippy::disallowed_methods, reason = "commands ask the system")]

use std::path::Path;

use crate::arguments::Arguments;
use crate::config::{Config, Source};
use crate::daemon::{Daemon, Errand, Outcome};
use crate::error::{At, Error, Result};
use crate::instance;
use crate::log;
use crate::report;
use crate::roster::SAVED_LIMIT;
use crate::show::{self, Style};
use crate::start;
use crate::steer;
use crate::sys;
use crate::{ALREADY_RUNNING, CHANGES, Exit, FAILED, FINE, NOT_RUNNING};
use crate::{fail, failed, load, misused, print};

pub fn serve(file: &Path) -> Exit {
    let (source, config) = load(file)?;
    run(source, config, Errand::Serve)?;
    log::end();
    Ok(FINE)
}

pub fn status(arguments: &Arguments) -> Exit {
    let source = Source::new(&arguments.config).map_err(failed)?;
    let pid = instance::holder(&source.own_dir);
    let Some(mut status) = report::load(&source.own_dir) else {
        let file = report::file(&source.own_dir);
        let (code, cause) = match pid {
            Some(_) => (FAILED, "the updater runs, but has told nothing yet"),
            None => (NOT_RUNNING, "the updater does not run, and never did here"),
        };
        return Err(fail(code, &Error::new("read", file, cause)));
    };
    let shown = if arguments.json {
        crate::fields::write(&mut status)
    } else {
        show::page(&status, pid, style())
    };
    match print(shown.trim_end()) {
        FINE if pid.is_none() => Ok(NOT_RUNNING),
        FINE if is_open(&status) => Ok(CHANGES),
        code => Ok(code),
    }
}

fn is_open(status: &report::Status) -> bool {
    status.agents.iter().any(|agent| !agent.converged)
}

/// Colours are for a terminal whose user has not asked for none (no-color.org).
fn style() -> Style {
    let variable = |name| std::env::var_os(name).unwrap_or_default();
    let term = variable("TERM");
    Style {
        now: sys::unix_now(),
        colours: sys::is_terminal(libc::STDOUT_FILENO)
            && variable("NO_COLOR").is_empty()
            && !(term.is_empty() || term == "dumb"),
    }
}

/// What would be done.
pub fn plan(file: &Path) -> Exit {
    let (source, config) = load(file)?;
    let daemon = run(source, config, Errand::Plan)?;
    let pending = daemon.pending();
    let printed = match pending.as_str() {
        "" => print("nothing to do"),
        lines => print(lines),
    };
    match daemon.outcome() {
        Outcome::Failed => Ok(FAILED),
        _ if printed == FINE && !pending.is_empty() => Ok(CHANGES),
        _ => Ok(printed),
    }
}

pub fn once(file: &Path) -> Exit {
    let (source, config) = load(file)?;
    round(source, config, None)
}

pub fn apply(arguments: &Arguments) -> Exit {
    let source = Source::new(&arguments.config).map_err(misused)?;
    let mut config = source.load_without_server().map_err(misused)?;
    // Whose wish is followed is nobody's business but the operator's.
    config.url.clear();
    let wish = wish(&arguments.operands[0]).map_err(failed)?;
    round(source, config, Some(wish))
}

/// The desired state in a file or on stdin; a URL is left to who may be ended when it hangs.
fn wish(from: &str) -> Result<String> {
    if from.starts_with("http://") {
        return Ok(from.to_owned());
    }
    let text = if from == "-" {
        sys::read_rest(&start::stdin(), SAVED_LIMIT)
    } else {
        std::fs::File::open(from).and_then(|file| sys::read_rest(&file, SAVED_LIMIT))
    };
    let text = text.at("read", from)?;
    crate::json::parse(&text).at("use", from)?;
    Ok(text)
}

fn round(source: Source, config: Config, wish: Option<String>) -> Exit {
    let daemon = run(source, config, Errand::Once(wish))?;
    let status = daemon.status();
    let printed = print(show::table(&status, style()).trim_end());
    Ok(match daemon.outcome() {
        _ if is_open(&status) && status.hold.is_empty() => FAILED,
        _ if !status.refused.is_empty() => FAILED,
        Outcome::Failed => FAILED,
        Outcome::Changes => CHANGES,
        Outcome::Nothing => printed,
    })
}

pub fn steer(arguments: &Arguments) -> Exit {
    let source = Source::new(&arguments.config).map_err(failed)?;
    let said = steer::run(arguments.command, &arguments.operands, &source.own_dir);
    Ok(print(&said.map_err(failed)?))
}

/// Prints the pid of who holds the lock; with nobody holding it fails in silence, for scripts.
pub fn pid(file: &Path) -> Exit {
    let source = Source::new(file).ok();
    match source.and_then(|source| instance::holder(&source.own_dir)) {
        Some(pid) => Ok(print(&pid.to_string())),
        None => Err(FAILED),
    }
}

/// Runs a daemon until its errand is done; if it may change anything, then as the only one here.
fn run(
    source: Source,
    config: Config,
    errand: Errand,
) -> std::result::Result<&'static mut Daemon, u8> {
    log::set_level(match errand {
        Errand::Plan => config.log_level.max(log::Level::Warn),
        _ => config.log_level,
    });
    if errand == Errand::Serve {
        log::keep(&source.own_dir, config.log_limit);
    }
    let signals = Daemon::catch_signals().map_err(failed)?;
    if errand != Errand::Plan {
        match instance::prepare(&source.own_dir).map_err(failed)? {
            // It is held until the process is gone: whoever sees it free may replace the binary.
            Ok(lock) => std::mem::forget(lock),
            Err(holder) => {
                let own_dir = source.own_dir.display();
                let message = format!("already running in {own_dir}, pid {holder}");
                return Err(fail(ALREADY_RUNNING, &message));
            }
        }
    }
    let daemon = Daemon::new(source, config, signals, errand).map_err(failed)?;
    let daemon = Box::leak(Box::new(daemon));
    daemon.run();
    Ok(daemon)
}

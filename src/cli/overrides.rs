//! `pin`, `unpin`, `rollback`, `retry`, `hold` and `release`: each writes or removes a file and notifies the running
//! daemon. The text that it prints says what was done, what follows from it, and whether a daemon knows of it.

use std::mem;
use std::path::Path;

use super::args::Arguments;
use super::exit::{Exit, ExitResult, failed, print};
use super::{entry, release_store};
use crate::error::{Error, Result};
use crate::model::{AgentName, Version};
use crate::os::{clock, user};
use crate::plan::history::{self, AgentHistory, Failures, entry_digest};
use crate::protocol::status::AgentStatus;
use crate::store::config::Source;
use crate::store::overrides::{self, Overrides};
use crate::store::{instance, layout, ledger, status};
use crate::text::span;

pub(super) fn pin(arguments: &Arguments) -> ExitResult {
    let (Source { own_dir, .. }, name) = subject(arguments)?;
    let version = version_to_pin(&own_dir, &name, arguments.operands.get(1)).map_err(failed)?;
    overrides::pin(&own_dir, &name, &version).map_err(failed)?;
    let text = format!("{name} is pinned to {version} until ops-updater unpin {name}");
    let printed = print(&notify(&own_dir, &text));
    // The updater asks the store for the server's own version anyway.
    let entry = entry::load(&own_dir, &name);
    if let Some(desired) = entry.filter(|desired| desired.version != version) {
        release_store::warn_of_missing(&arguments.config, &desired, &version);
    }
    Ok(printed)
}

pub(super) fn rollback(arguments: &Arguments) -> ExitResult {
    override_agent(arguments, &|Source { own_dir, .. }, name| {
        let agent = known_agent("roll back", own_dir, name)?;
        let (version, reason) = version_to_roll_back_to(own_dir, name, &agent)?;
        overrides::pin(own_dir, name, &version)?;
        let text = format!("{reason}; it is pinned to {version} until ops-updater unpin {name}");
        Ok(notify(own_dir, &text))
    })
}

pub(super) fn unpin(arguments: &Arguments) -> ExitResult {
    override_agent(arguments, &|source, name| {
        let own_dir = &source.own_dir;
        // An agent that the server no longer sends may still be pinned, so the name need not be known.
        if !overrides::unpin(own_dir, name)? {
            return Ok(format!("{name} was not pinned"));
        }
        let next = match known_agent("unpin", own_dir, name) {
            Ok(agent) => without_pin(source, name, &agent),
            Err(_) => "it is not known what the server wants".to_owned(),
        };
        let text = format!("{name} follows the server again: {next}");
        Ok(notify(own_dir, &text))
    })
}

pub(super) fn retry(arguments: &Arguments) -> ExitResult {
    override_agent(arguments, &|Source { own_dir, .. }, name| {
        known_agent("retry", own_dir, name)?;
        overrides::retry(own_dir, name)?;
        Ok(notify(own_dir, &format!("{name} will be tried again")))
    })
}

pub(super) fn hold(arguments: &Arguments) -> ExitResult {
    override_host(arguments, &|own_dir| {
        let reason = &arguments.operands[0];
        let replaced = overrides::hold(own_dir, reason, &operator(), clock::unix_now())?;
        let mut text =
            "this host is held: nothing changes on it until ops-updater release".to_owned();
        if !replaced.is_empty() {
            text += "; it replaces the hold: ";
            text += &replaced;
        }
        Ok(notify(own_dir, &text))
    })
}

pub(super) fn release(arguments: &Arguments) -> ExitResult {
    override_host(arguments, &|own_dir| {
        if overrides::release(own_dir)? {
            Ok(notify(own_dir, "this host is released"))
        } else {
            Ok("this host was not held".to_owned())
        }
    })
}

/// Runs the command for the updater's directory, and prints the text that it returns.
fn override_host(arguments: &Arguments, command: &dyn Fn(&Path) -> Result<String>) -> ExitResult {
    let source = Source::new(&arguments.config).map_err(failed)?;
    let text = command(&source.own_dir).map_err(failed)?;
    Ok(print(&text))
}

fn override_agent(
    arguments: &Arguments,
    command: &dyn Fn(&Source, &AgentName) -> Result<String>,
) -> ExitResult {
    let (source, name) = subject(arguments)?;
    let text = command(&source, &name).map_err(failed)?;
    Ok(print(&text))
}

/// Returns the place of the updater and the agent that the command is about.
fn subject(arguments: &Arguments) -> std::result::Result<(Source, AgentName), Exit> {
    let source = Source::new(&arguments.config).map_err(failed)?;
    let name = arguments.operands[0].as_str();
    let cause = "this is not a valid name of an agent";
    let name = AgentName::parse(name).ok_or_else(|| failed(Error::new("find", name, cause)))?;
    Ok((source, name))
}

/// Returns the name of the person who runs this command, as far as it is known: under sudo it is not the process's own.
fn operator() -> String {
    let caller = std::env::var_os("SUDO_USER").unwrap_or_default();
    match caller.to_string_lossy().trim() {
        "" => user::own_name(),
        caller => caller.to_owned(),
    }
}

/// Notifies the running daemon. Returns the text with the result of that.
fn notify(own_dir: &Path, done: &str) -> String {
    match instance::signal(own_dir, libc::SIGUSR1) {
        Ok(None) => format!("{done}; the updater does not run and will read this when it starts"),
        Ok(Some(_)) => format!("{done}; the updater was notified"),
        Err(error) => format!("{done}; {error}; an updater reads this at its next heartbeat"),
    }
}

/// Returns the version that the operator typed, else the version in force.
fn version_to_pin(own_dir: &Path, name: &AgentName, typed: Option<&String>) -> Result<Version> {
    let agent = known_agent("pin", own_dir, name)?;
    let version = typed.unwrap_or(&agent.version);
    let cause = match version.as_str() {
        "" => "no version is in force; give one: pin NAME VERSION",
        _ => {
            "the version must be 1 to 64 characters of A-Z a-z 0-9 . _ + - and begin with a letter or digit"
        }
    };
    Version::parse(version).ok_or_else(|| Error::new("pin", name.as_str(), cause))
}

/// Returns the version that ran before the one that the server desires, and why it is that one. If the desired version is
/// not in force, because it has failed or is still to come, that is the version in force: going one further back would
/// surprise an operator who does not know of it.
fn version_to_roll_back_to(
    own_dir: &Path,
    name: &AgentName,
    agent: &AgentStatus,
) -> Result<(Version, String)> {
    let AgentStatus {
        version, desired, ..
    } = agent;
    let overrides = Overrides::load(own_dir);
    let pin = overrides.pin(name);
    if let Some(in_force) = Version::parse(version)
        && pin.is_none()
        && version != desired
    {
        let mut reason = format!("{name} stays at {version}, because {desired} is not in force");
        if !agent.error.is_empty() {
            reason += ": ";
            reason += &agent.error;
        }
        return Ok((in_force, reason));
    }
    let refused = |cause: &str| Error::new("roll back", name.as_str(), cause);
    let previous = history(own_dir, name).and_then(|history| history.previous);
    let previous = previous.filter(|previous| previous.as_str() != version);
    let previous = previous.ok_or_else(|| refused("the version that ran before is not known"))?;
    if let Some(pin) = pin
        && previous.as_str() == desired
    {
        let cause = format!(
            "it is pinned to {pin}, and {previous}, which ran before, is what the server desires; ops-updater unpin {name} follows the server"
        );
        return Err(refused(&cause));
    }
    let from = match version.as_str() {
        "" => "no version",
        version => version,
    };
    let reason = format!("{name} goes from {from} to {previous}");
    Ok((previous, reason))
}

/// Returns what will happen to an agent that is not pinned any more.
fn without_pin(source: &Source, name: &AgentName, agent: &AgentStatus) -> String {
    let own_dir = &source.own_dir;
    let AgentStatus {
        version, desired, ..
    } = agent;
    if agent.cmd == "stop" {
        return "it is to be stopped".to_owned();
    }
    if version == desired {
        return format!("nothing changes, {desired} is in force");
    }
    if let Some(cause) = downgrade(source, name, desired) {
        return format!("nothing changes, {cause}");
    }
    let now = clock::unix_now();
    if let Some(failures) = failures_of_server(own_dir, name)
        && failures.retry_at > now
    {
        let ago = span(now.saturating_sub(failures.error_at));
        let wait = span(failures.retry_at - now);
        let error = failures.error;
        return format!("{desired} failed {ago} ago, next try in {wait}: {error}");
    }
    let then = match Overrides::load(own_dir).hold.as_str() {
        "" => "",
        _ => " when the hold has ended",
    };
    match version.as_str() {
        "" => format!("{desired} will be installed{then}"),
        version => format!("{desired} will replace {version}{then}"),
    }
}

/// Returns why the updater refuses a version. None: it is no downgrade, or downgrades are allowed.
fn downgrade(source: &Source, name: &AgentName, desired: &str) -> Option<String> {
    if source.load_without_server().ok()?.allow_downgrade {
        return None;
    }
    let desired = Version::parse(desired)?;
    let history = history(&source.own_dir, name)?;
    Some(history::downgrade(&desired, history.higher_than(&desired)?))
}

fn history(own_dir: &Path, name: &AgentName) -> Option<Box<AgentHistory>> {
    let mut ledger = ledger::peek(&layout::ledger(own_dir))?;
    ledger.agents.get_mut(name.as_str()).map(mem::take)
}

/// Returns how the server's entry has failed, whether the updater still follows a pin or not any more.
fn failures_of_server(own_dir: &Path, name: &AgentName) -> Option<Failures> {
    let entry = entry::load(own_dir, name)?;
    history(own_dir, name)?.failures_of(&entry_digest(&entry.wire))
}

/// Returns the last status of an agent. One that is not known is an error, because the name may be mistyped.
fn known_agent(what: &'static str, own_dir: &Path, name: &AgentName) -> Result<AgentStatus> {
    let mut status = status::load(own_dir).unwrap_or_default();
    let mut known = String::new();
    for (at, agent) in status.agents.iter().enumerate() {
        if agent.name == name.as_str() {
            return Ok(status.agents.swap_remove(at));
        }
        known += if at == 0 { ", only " } else { ", " };
        known += &agent.name;
    }
    let cause = match known.as_str() {
        "" => "no agents are known on this host yet".to_owned(),
        known => format!("there is no such agent on this host{known}"),
    };
    Err(Error::new(what, name.as_str(), cause))
}

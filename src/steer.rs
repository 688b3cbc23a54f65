//! The operator's commands that steer one host: each leaves a file for the daemon and tells it. What it says is what
//! was done, and whether anybody has heard of it.

use std::path::Path;

use crate::arguments::Command;
use crate::error::{Error, Result};
use crate::instance;
use crate::model::{AgentName, Version};
use crate::overrides;
use crate::record;
use crate::report;
use crate::sys;

/// Carries the command out; the answer is what to print.
pub fn run(command: Command, operands: &[String], own_dir: &Path) -> Result<String> {
    let first = operands.first().map_or("", String::as_str);
    let done = match command {
        Command::Hold => {
            overrides::hold(own_dir, first)?;
            "this host is held: nothing is changed on it until ops-updater release".to_owned()
        }
        Command::Release if overrides::release(own_dir)? => "this host is released".to_owned(),
        Command::Release => return Ok("this host was not held".to_owned()),
        _ => {
            let cause = "no agent can have that name";
            let name = AgentName::parse(first).ok_or_else(|| Error::new("find", first, cause))?;
            match command {
                // One that the server names no more may still be pinned.
                Command::Unpin if overrides::unpin(own_dir, &name)? => {
                    format!("{name} is not pinned any more")
                }
                Command::Unpin => return Ok(format!("{name} was not pinned")),
                Command::Retry => {
                    version_of("retry", &name, own_dir)?;
                    overrides::retry(own_dir, &name)?;
                    format!("{name} is tried again")
                }
                _ => {
                    let version = match (command, operands.get(1)) {
                        (Command::Rollback, _) => before(&name, own_dir)?,
                        (_, wanted) => wanted_of(&name, wanted, own_dir)?,
                    };
                    overrides::pin(own_dir, &name, &version)?;
                    format!("{name} is pinned to {version} until ops-updater unpin {name}")
                }
            }
        }
    };
    Ok(match instance::holder(own_dir) {
        None => done + "; the updater does not run and will see it when it is started",
        Some(pid) if sys::tell_to_beat(pid) => done + "; the updater was told",
        Some(pid) => {
            format!("{done}; pid {pid} cannot be signalled and will see it at its next heartbeat")
        }
    })
}

/// The version to which a pin is meant, else the one in force.
fn wanted_of(name: &AgentName, wanted: Option<&String>, own_dir: &Path) -> Result<Version> {
    let in_force = version_of("pin", name, own_dir)?;
    let version = wanted.unwrap_or(&in_force);
    let cause = match version.as_str() {
        "" => "it has no version in force; name one: pin NAME VERSION",
        _ => "the version is not 1 to 64 of A-Z a-z 0-9 . _ + - that begin with a letter or digit",
    };
    Version::parse(version).ok_or_else(|| Error::new("pin", name.as_str(), cause))
}

/// The version that ran before.
fn before(name: &AgentName, own_dir: &Path) -> Result<Version> {
    version_of("roll back", name, own_dir)?;
    let ledger = record::peek(&own_dir.join("var/ledger.json"));
    let memory = ledger.and_then(|mut ledger| ledger.agents.remove(name));
    let cause = "no version that ran before is known";
    let previous = memory.and_then(|memory| memory.previous);
    previous.ok_or_else(|| Error::new("roll back", name.as_str(), cause))
}

/// The version in force. A mistyped name must not look like success.
fn version_of(what: &'static str, name: &AgentName, own_dir: &Path) -> Result<String> {
    let mut known = String::new();
    for agent in report::load(own_dir).unwrap_or_default().agents {
        if agent.name == name.as_str() {
            return Ok(agent.version);
        }
        known += if known.is_empty() {
            "no such agent here, wanted one of "
        } else {
            ", "
        };
        known += &agent.name;
    }
    if known.is_empty() {
        known += "no agents are known here yet";
    }
    Err(Error::new(what, name.as_str(), known))
}

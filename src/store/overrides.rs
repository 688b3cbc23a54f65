//! What an operator asks for on this host against the server's desired state, as files below `var/`: `hold` with the
//! reason, `pins/<name>` with a version, `retry/<name>` until the daemon has taken it, `asked` with a number. Commands
//! write them, the daemon reads them.
#![expect(clippy::disallowed_methods, reason = "the overrides are files")]

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::layout;
use crate::error::{At, Error, Result};
use crate::model::{AgentName, Desired, Version};
use crate::os::disk::{self, Staged};
use crate::text::{printable, timestamp};

/// Characters of a hold that are kept: of its reason, and of who holds the host and since when.
const HOLD_KEPT: usize = 200;
/// Characters of a user's name in it.
const USER_KEPT: usize = 32;
/// The largest files that are read, in bytes.
const HOLD_LIMIT: u64 = 4096;
const PIN_LIMIT: u64 = 256;
const ASKED_LIMIT: u64 = 32;

#[derive(Default, Debug)]
pub struct Overrides {
    /// Why this host is held. Empty: it is not.
    pub hold: String,
    /// A handful: an operator writes each of them.
    pins: Vec<(AgentName, Version)>,
    /// The number of the last `status --wait`.
    pub asked: u64,
}

impl Overrides {
    /// Reads the overrides. A hold or a pin that cannot be read holds the host all the same: it is not absent. A pin that is no
    /// version is ignored.
    pub fn load(own_dir: &Path) -> Self {
        let mut hold = read_hold(own_dir);
        let pins = read_pins(own_dir).unwrap_or_else(|error| {
            hold = cleaned(&error.to_string(), HOLD_KEPT);
            Vec::new()
        });
        Self {
            hold,
            pins,
            asked: read_asked(own_dir),
        }
    }

    /// Returns the version that an agent is pinned to.
    pub fn pin(&self, name: &AgentName) -> Option<&Version> {
        let (_, version) = self.pins.iter().find(|(pinned, _)| pinned == name)?;
        Some(version)
    }

    /// Returns the agent at its pinned version. None: the version that the server desires is the one to follow.
    pub fn pinned(&self, desired: &Desired) -> Option<Desired> {
        let pin = self.pin(&desired.name)?;
        (*pin != desired.version).then(|| desired.at_version(pin))
    }
}

fn read_hold(own_dir: &Path) -> String {
    match disk::read_small(&layout::hold(own_dir), HOLD_LIMIT) {
        Ok(hold) if hold.trim().is_empty() => "no reason given".to_owned(),
        Ok(hold) => cleaned(&hold, HOLD_KEPT),
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => cleaned(&error.to_string(), HOLD_KEPT),
    }
}

fn read_asked(own_dir: &Path) -> u64 {
    let text = disk::read_small(&layout::asked(own_dir), ASKED_LIMIT);
    text.map_or(0, |text| text.parse().unwrap_or_default())
}

fn read_pins(own_dir: &Path) -> Result<Vec<(AgentName, Version)>> {
    let mut pins = Vec::new();
    for name in names(&layout::pins(own_dir))? {
        let path = pin_file(own_dir, &name);
        match disk::read_small(&path, PIN_LIMIT).at("read", &path) {
            Ok(text) => {
                if let Some(version) = Version::parse(text.trim()) {
                    pins.push((name, version));
                }
            }
            Err(error) if error.is_host_fault() => return Err(error),
            Err(_) => {}
        }
    }
    Ok(pins)
}

/// Returns the agents that an operator wants to be tried again, and removes the requests.
pub fn take_retries(own_dir: &Path) -> Vec<AgentName> {
    // What cannot be read now is taken at the next heartbeat.
    let mut taken = names(&layout::retries(own_dir)).unwrap_or_default();
    // A request that cannot be removed is ignored: it would come back without end.
    taken.retain(|name| disk::remove_tree(&retry_file(own_dir, name)).is_ok());
    taken
}

/// Holds the host for this reason. Returns the hold that it replaces, or "". Fails if the reason is empty.
///
/// Who holds the host and since when is a part of the text, so that it is read and shown like the reason, also by older
/// updaters and by tools that write the file themselves.
pub fn hold(own_dir: &Path, reason: &str, user: &str, now: u64) -> Result<String> {
    let source = format!(" ({}, {})", cleaned(user, USER_KEPT), timestamp(now));
    let mut hold = cleaned(reason, HOLD_KEPT.saturating_sub(source.chars().count()));
    if hold.is_empty() {
        return Err(Error::new("hold", "this host", "the reason is empty"));
    }
    hold += &source;
    let replaced = read_hold(own_dir);
    write(&layout::hold(own_dir), &hold)?;
    Ok(replaced)
}

/// Leaves a number that the next heartbeat reports when it is answered. Returns it: it is higher than all before.
pub fn ask(own_dir: &Path, now: u64) -> Result<u64> {
    let number = read_asked(own_dir).saturating_add(1).max(now);
    write(&layout::asked(own_dir), &number.to_string())?;
    Ok(number)
}

/// Returns whether the host was held.
pub fn release(own_dir: &Path) -> Result<bool> {
    remove(&layout::hold(own_dir))
}

pub fn pin(own_dir: &Path, name: &AgentName, version: &Version) -> Result<()> {
    write(&pin_file(own_dir, name), version.as_str())
}

/// Returns whether the agent was pinned.
pub fn unpin(own_dir: &Path, name: &AgentName) -> Result<bool> {
    remove(&pin_file(own_dir, name))
}

pub fn retry(own_dir: &Path, name: &AgentName) -> Result<()> {
    write(&retry_file(own_dir, name), "")
}

fn pin_file(own_dir: &Path, name: &AgentName) -> PathBuf {
    layout::pins(own_dir).join(name.as_str())
}

fn retry_file(own_dir: &Path, name: &AgentName) -> PathBuf {
    layout::retries(own_dir).join(name.as_str())
}

/// Returns the names of agents among the files of a directory, which may be missing.
fn names(dir: &Path) -> Result<Vec<AgentName>> {
    let mut names = Vec::new();
    let listed = match disk::names(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(names),
        listed => listed.at("read", dir)?,
    };
    for name in listed {
        let name = name.at("read", dir)?;
        if let Some(name) = name.to_str().and_then(AgentName::parse) {
            names.push(name);
        }
    }
    Ok(names)
}

fn cleaned(text: &str, limit: usize) -> String {
    format!("{:.limit$}", printable(text.trim()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    let dir = disk::parent(path);
    disk::make_dir(dir)?;
    // The dot makes it no name of an agent: the daemon would take it for the request of one.
    let name = path.file_name().unwrap_or_default().display();
    let aside = dir.join(format!(".{name}.tmp"));
    Staged::write(aside, path, text.as_bytes(), layout::STATE_MODE)?.publish()
}

/// Removes a file for good. Returns whether there was one.
fn remove(path: &Path) -> Result<bool> {
    if let Err(error) = std::fs::symlink_metadata(path)
        && error.kind() == ErrorKind::NotFound
    {
        return Ok(false);
    }
    disk::remove_tree(path)?;
    disk::sync_parent(path).map(|()| true)
}

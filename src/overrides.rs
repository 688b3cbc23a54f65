//! What an operator asks for on this host against the server's wish, as files below `var/`: `hold` with the reason,
//! `pins/<name>` with a version, `retry/<name>` until it was heard. The commands write them, the daemon reads them.
#![expect(clippy::disallowed_methods, reason = "what is asked for is on disk")]

use std::path::{Path, PathBuf};

use crate::disk;
use crate::error::{Error, Result};
use crate::log::printable;
use crate::model::{AgentName, Version, WireAgent, is_md5};
use crate::named::Named;

/// Characters of a reason; nobody reads more.
const REASON_LIMIT: usize = 200;

#[derive(Default, Debug)]
pub struct Overrides {
    /// Empty: nothing is held.
    pub hold: String,
    pub pins: Named<Version>,
}

const HOLD: &str = "var/hold";
/// Names of agents follow.
const PINS: &str = "var/pins/";
const RETRIES: &str = "var/retry/";

fn file(own_dir: &Path, kind: &str, name: &str) -> PathBuf {
    own_dir.join(kind.to_owned() + name)
}

impl Overrides {
    pub fn load(own_dir: &Path) -> Self {
        let mut overrides = Self::default();
        let hold = disk::read_small(&file(own_dir, HOLD, ""), 4096);
        overrides.hold = match hold {
            Ok(reason) if reason.trim().is_empty() => "no reason given".to_owned(),
            Ok(reason) => shown(&reason),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            // Whoever put it there meant something.
            Err(error) => shown(&error.to_string()),
        };
        for name in names(own_dir, PINS) {
            let text = disk::read_small(&file(own_dir, PINS, name.as_str()), 256);
            let version = text.ok().and_then(|text| Version::parse(text.trim()));
            if let Some(version) = version {
                overrides.pins.insert(name, version);
            }
        }
        overrides
    }

    /// The wish of the server as it is followed here. A digest that it names is another version's.
    pub fn apply(&self, wire: &WireAgent) -> WireAgent {
        let mut wire = wire.clone();
        let name = AgentName::parse(&wire.name);
        if let Some(pin) = name.and_then(|name| self.pins.get(&name))
            && pin.as_str() != wire.version
        {
            wire.version = pin.to_string();
            if is_md5(wire.md5.trim()) {
                wire.md5.clear();
            }
        }
        wire
    }
}

fn shown(reason: &str) -> String {
    let reason = printable(reason.trim());
    reason.chars().take(REASON_LIMIT).collect()
}

fn names(own_dir: &Path, kind: &str) -> Vec<AgentName> {
    let mut names = Vec::new();
    if let Ok(found) = disk::names(&file(own_dir, kind, "")) {
        for name in found {
            names.extend(name.to_str().and_then(AgentName::parse));
        }
    }
    names
}

/// The agents that are to be tried again now; each is told once.
pub fn take_retries(own_dir: &Path) -> Vec<AgentName> {
    let mut wanted = Vec::new();
    for name in names(own_dir, RETRIES) {
        // One that cannot be removed would be asked for without end.
        if disk::remove_tree(&file(own_dir, RETRIES, name.as_str())).is_ok() {
            wanted.push(name);
        }
    }
    wanted
}

pub fn hold(own_dir: &Path, reason: &str) -> Result<()> {
    let reason = shown(reason);
    if reason.is_empty() {
        return Err(Error::new("hold", "this host", "the reason is empty"));
    }
    put(own_dir, HOLD, "", &reason)
}

/// Tells whether it was held.
pub fn release(own_dir: &Path) -> Result<bool> {
    take(own_dir, HOLD, "")
}

pub fn pin(own_dir: &Path, name: &AgentName, version: &Version) -> Result<()> {
    put(own_dir, PINS, name.as_str(), version.as_str())
}

/// Tells whether it was pinned.
pub fn unpin(own_dir: &Path, name: &AgentName) -> Result<bool> {
    take(own_dir, PINS, name.as_str())
}

pub fn retry(own_dir: &Path, name: &AgentName) -> Result<()> {
    put(own_dir, RETRIES, name.as_str(), "")
}

fn put(own_dir: &Path, kind: &str, name: &str, text: &str) -> Result<()> {
    let path = file(own_dir, kind, name);
    disk::make_dir(disk::parent(&path))?;
    disk::write_atomic(&path, text.as_bytes())
}

fn take(own_dir: &Path, kind: &str, name: &str) -> Result<bool> {
    let path = file(own_dir, kind, name);
    let was_there = std::fs::symlink_metadata(&path).is_ok();
    disk::remove_tree(&path)?;
    disk::sync_parent(&path).map(|()| was_there)
}

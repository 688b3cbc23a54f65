//! What is desired on this host: the accepted entries of the server, the operator's overrides, and the entries that were
//! refused. Keeps `desired_agent.json`, in wire format.

use std::collections::BTreeMap;
use std::io::ErrorKind::NotFound;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::json;
use crate::log;
use crate::model::{AgentName, Cmd, Desired, Location, Own, Refusal, Release, Version, WireAgent};
use crate::os::disk;
use crate::protocol::{DOCUMENT_LIMIT, desired};
use crate::store::layout;
use crate::store::overrides::Overrides;

/// One agent of the desired state.
pub(super) struct Agent {
    /// As the server desires it.
    pub(super) desired: Desired,
    /// The same at the version that an operator pinned. Boxed, because few are.
    pinned: Option<Box<Desired>>,
}

impl Agent {
    /// Returns the agent as this host follows it.
    pub(super) fn followed(&self) -> &Desired {
        self.pinned.as_deref().unwrap_or(&self.desired)
    }
}

pub(super) struct DesiredState {
    file: PathBuf,
    /// In the order of the server.
    agents: Vec<Agent>,
    /// The index of each agent in `agents`.
    index: BTreeMap<AgentName, usize>,
    overrides: Overrides,
    refused: Vec<Refusal>,
    /// The file holds an older desired state.
    is_unsaved: bool,
}

impl DesiredState {
    /// Loads what the last run, or the original updater, saved.
    pub(super) fn load(own_dir: &Path, user: &str) -> Self {
        let own = Own {
            dir: own_dir.to_string_lossy().into_owned(),
            user: user.to_owned(),
        };
        let file = layout::desired_state(own_dir);
        let mut state = Self {
            agents: Vec::new(),
            index: BTreeMap::new(),
            overrides: Overrides::load(own_dir),
            refused: Vec::new(),
            is_unsaved: false,
            file,
        };
        let saved = load_agents(&state.file, &own);
        state.replace(saved);
        state
    }

    /// Removes the temporary file of a killed daemon.
    pub(super) fn tidy(&self) {
        disk::remove_temporary(&self.file);
    }

    fn replace(&mut self, agents: Vec<Desired>) {
        self.agents = Vec::with_capacity(agents.len());
        self.index.clear();
        for desired in agents {
            let pinned = self.overrides.pinned(&desired).map(Box::new);
            self.index.insert(desired.name.clone(), self.agents.len());
            self.agents.push(Agent { desired, pinned });
        }
    }

    /// Follows the overrides of the operator from now on. Returns whether a pin has changed.
    pub(super) fn set_overrides(&mut self, overrides: Overrides) -> bool {
        let old = std::mem::replace(&mut self.overrides, overrides);
        if old.hold != self.overrides.hold {
            log::info(format_args!(
                "{}",
                match self.overrides.hold.as_str() {
                    "" => "this host is released".to_owned(),
                    why => format!("this host is held, nothing is changed: {why}"),
                }
            ));
        }
        let mut is_changed = false;
        for agent in &mut self.agents {
            let name = &agent.desired.name;
            let pin = self.overrides.pin(name);
            if pin != old.pin(name) {
                is_changed = true;
                let pin = pin.map_or("nothing any more", Version::as_str);
                log::info(format_args!("{name}: pinned to {pin}"));
                agent.pinned = self.overrides.pinned(&agent.desired).map(Box::new);
            }
        }
        is_changed
    }

    /// Takes over the entries of an answer, and returns whether they differ from the present ones. An answer without
    /// agents changes nothing. A refused entry leaves the last good entry of its name in force if it is `kept`.
    pub(super) fn accept(
        &mut self,
        mut agents: Vec<Desired>,
        refused: Vec<Refusal>,
        kept: &[AgentName],
    ) -> bool {
        for refusal in &refused {
            if !self.refused.contains(refusal) {
                log::warn(format_args!("{refusal}"));
            }
        }
        for Agent { desired, .. } in &self.agents {
            if kept.contains(&desired.name) {
                agents.push(desired.clone());
            }
        }
        self.refused = refused;
        let present = self.agents.iter().map(|agent| &agent.desired);
        if agents.is_empty() || agents.iter().eq(present) {
            return false;
        }
        self.replace(agents);
        self.is_unsaved = true;
        true
    }

    pub(super) fn agents(&self) -> &[Agent] {
        &self.agents
    }

    /// Returns the agent as the server desires it.
    pub(super) fn of_server(&self, name: &AgentName) -> Option<&Desired> {
        let index = self.index.get(name)?;
        self.agents.get(*index).map(|agent| &agent.desired)
    }

    /// Returns the agent as this host follows it.
    pub(super) fn get(&self, name: &AgentName) -> Option<&Desired> {
        let index = self.index.get(name)?;
        self.agents.get(*index).map(Agent::followed)
    }

    /// Returns why the host is held. Empty: it is not.
    pub(super) fn hold(&self) -> &str {
        &self.overrides.hold
    }

    /// Returns the number of the last `status --wait` that was read.
    pub(super) fn asked(&self) -> u64 {
        self.overrides.asked
    }

    /// Returns the pinned version of an agent. Empty: there is no pin.
    pub(super) fn pin(&self, name: &AgentName) -> String {
        let pin = self.overrides.pin(name);
        pin.map(ToString::to_string).unwrap_or_default()
    }

    /// Returns whether this release is still to be installed at this location.
    pub(super) fn wants(&self, name: &AgentName, release: &Release, location: &Location) -> bool {
        let is_held = !self.hold().is_empty();
        self.get(name).is_some_and(|d| {
            !is_held && d.cmd == Cmd::Start && d.release() == *release && d.location == *location
        })
    }

    pub(super) fn is_to_run(&self, name: &AgentName) -> bool {
        self.get(name).is_some_and(|d| d.cmd == Cmd::Start)
    }

    pub(super) fn refused(&self) -> &[Refusal] {
        &self.refused
    }

    /// Writes the entries as the server wrote them, if they are not on disk yet.
    pub(super) fn save(&mut self) -> Result<()> {
        if self.is_unsaved {
            let agents = self.agents.iter();
            let wires: Vec<&WireAgent> = agents.map(|agent| &agent.desired.wire).collect();
            let text = json::to_string(&wires);
            disk::write_atomic(&self.file, text.as_bytes(), layout::STATE_MODE)?;
            self.is_unsaved = false;
        }
        Ok(())
    }
}

/// Reads and checks the saved entries. Whatever cannot be used is logged, and the next answer replaces it.
fn load_agents(file: &Path, own: &Own) -> Vec<Desired> {
    let shown = file.display();
    let text = match disk::read_patiently(file, DOCUMENT_LIMIT) {
        Ok(text) => text,
        Err(error) if error.kind() == NotFound => return Vec::new(),
        Err(error) => {
            log::warn(format_args!(
                "cannot read {shown}: {error}; the server's next answer replaces it"
            ));
            return Vec::new();
        }
    };
    let Some(entries) = desired::saved(&text) else {
        log::warn(format_args!(
            "cannot use {shown}: it is no list of agents; the server's next answer replaces it"
        ));
        return Vec::new();
    };
    // They stay in force even if the policy refuses them now, like those that an answer refuses.
    let sorted = desired::sort_saved(entries, own);
    for refusal in sorted.refused {
        log::warn(format_args!("{shown}: {refusal}"));
    }
    sorted.accepted
}

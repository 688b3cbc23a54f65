//! The agents of this host: what is desired, what was seen, what is remembered, and from these the next task of each.
//! Folds what the daemon's children report and keeps it on disk; starts nothing itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use miniserde::json;

use crate::disk;
use crate::error::Result;
use crate::heartbeat;
use crate::job::{Reported, SeenAgent};
use crate::log;
use crate::model::{AgentName, Cmd, Desired, Failure, Place, Refusal, Release, Task, WireAgent};
use crate::plan::{self, Seen};
use crate::record::{self, Ledger};

/// More than 10,000 agents; what is larger is no desired state.
const SAVED_LIMIT: u64 = 16 << 20;

pub struct Roster {
    own_dir: String,
    desired_file: PathBuf,
    ledger_file: PathBuf,
    agents: Vec<(WireAgent, Desired)>,
    refused: Vec<Refusal>,
    seen: BTreeMap<AgentName, Seen>,
    ledger: Ledger,
    saved: Ledger,
}

impl Roster {
    /// What the last run, or the original updater, left in the directory.
    pub fn load(own_dir: &Path, now: u64) -> Self {
        let ledger_file = own_dir.join("var/ledger.json");
        let ledger = record::load(&ledger_file, now);
        let mut roster = Self {
            own_dir: own_dir.to_string_lossy().into_owned(),
            desired_file: own_dir.join("desired_agent.json"),
            ledger_file,
            agents: Vec::new(),
            refused: Vec::new(),
            seen: BTreeMap::new(),
            saved: ledger.clone(),
            ledger,
        };
        let saved = roster.load_desired();
        roster.replace_agents(saved);
        roster
    }

    fn load_desired(&self) -> Vec<WireAgent> {
        let file = self.desired_file.display();
        let text = match disk::read_small(&self.desired_file, SAVED_LIMIT) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => {
                log::warn(format_args!(
                    "cannot read {file}: {error}; the server's next answer replaces it"
                ));
                return Vec::new();
            }
        };
        let Some(entries) = heartbeat::saved(&text) else {
            log::warn(format_args!(
                "cannot use {file}: it is no list of agents; the server's next answer replaces it"
            ));
            return Vec::new();
        };
        let (accepted, refused) = heartbeat::sort(entries, &self.own_dir);
        for refusal in refused {
            log::warn(format_args!("{file}: {refusal}"));
        }
        accepted
    }

    fn replace_agents(&mut self, wires: Vec<WireAgent>) {
        self.agents = wires
            .into_iter()
            .filter_map(|wire| {
                let desired = Desired::check(&wire, &self.own_dir).ok()?;
                Some((wire, desired))
            })
            .collect();
        for (wire, desired) in &self.agents {
            let entry = format!("{:x}", md5::compute(json::to_string(wire)));
            let agents = &mut self.ledger.agents;
            agents
                .entry(desired.name.to_string())
                .or_default()
                .fold_desired(&entry);
        }
    }

    /// Takes over a new desired state. An answer that names nobody changes nothing; an entry that is refused leaves the
    /// last good one of that name in force.
    pub fn accept(&mut self, mut agents: Vec<WireAgent>, refused: Vec<Refusal>) -> Result<()> {
        for refusal in refused
            .iter()
            .filter(|refusal| !self.refused.contains(refusal))
        {
            log::warn(format_args!("{refusal}"));
        }
        for (wire, _) in &self.agents {
            let is_refused = refused.iter().any(|refusal| refusal.name == wire.name);
            if is_refused && agents.iter().all(|agent| agent.name != wire.name) {
                agents.push(wire.clone());
            }
        }
        self.refused = refused;
        if agents.is_empty() || agents.iter().eq(self.agents.iter().map(|(wire, _)| wire)) {
            return Ok(());
        }
        self.replace_agents(agents);
        let wires: Vec<&WireAgent> = self.agents.iter().map(|(wire, _)| wire).collect();
        disk::write_atomic(&self.desired_file, json::to_string(&wires).as_bytes())
    }

    pub fn names(&self) -> Vec<AgentName> {
        self.agents
            .iter()
            .map(|(_, desired)| desired.name.clone())
            .collect()
    }

    pub fn desired(&self, name: &AgentName) -> Option<&Desired> {
        let mut agents = self.agents.iter().map(|(_, desired)| desired);
        agents.find(|desired| desired.name == *name)
    }

    pub fn wants(&self, name: &AgentName, release: &Release, place: &Place) -> bool {
        let desired = self.desired(name);
        desired.is_some_and(|d| d.cmd == Cmd::Start && d.release == *release && d.place == *place)
    }

    /// Folds one look at an agent to which nothing is being done.
    pub fn observe(&mut self, seen: SeenAgent, now: u64) {
        let Some(desired) = self.desired(&seen.name).cloned() else {
            return;
        };
        let memory = self.ledger.agents.entry(seen.name.to_string()).or_default();
        let name = seen.name;
        let seen = Seen {
            here: seen.here,
            there: seen.there,
        };
        memory.fold_observed(&desired, seen.home(), now);
        self.seen.insert(name, seen);
    }

    /// Folds the end of a task, and what the agent looked like right after it.
    pub fn finish(&mut self, done: Done, now: u64, interval: Duration) {
        let memory = self.ledger.agents.entry(done.name.to_string()).or_default();
        let task = &done.task;
        match &done.failure {
            Some(failure) => memory.fold_failure(task, failure, now, interval),
            None => memory.fold_success(task, done.seen.as_ref().map(|seen| &seen.here), now),
        }
        let desired_place = self
            .desired(&done.name)
            .map(|desired| desired.place.clone());
        if let Some(seen) = done.seen {
            self.place_seen(seen, desired_place.as_ref());
        }
    }

    /// A task at the place where the agent lived before was a look at "there".
    fn place_seen(&mut self, seen: SeenAgent, desired: Option<&Place>) {
        match self.seen.get_mut(&seen.name) {
            Some(known) if desired != Some(&seen.here.place) => known.there = Some(seen.here),
            Some(known) => {
                known.here = seen.here;
                known.there = seen.there.or(known.there.take());
                // Once the agent runs well here, nothing is elsewhere any more.
                let proven = self.ledger.agents.get(seen.name.as_str());
                let lives_here = proven
                    .and_then(|memory| memory.proven.as_ref())
                    .is_some_and(|spot| Some(&spot.place) == desired);
                if lives_here {
                    known.there = None;
                }
            }
            None => {}
        }
    }

    /// The next task of an agent, or none: all is well, it is time to wait, or it was not looked at yet.
    pub fn next_task(&self, name: &AgentName, now: u64) -> Option<Task> {
        let desired = self.desired(name)?;
        let seen = self.seen.get(name)?;
        if seen.here.place != desired.place {
            // The look is older than the wish.
            return None;
        }
        let memory = self.ledger.agents.get(name.as_str())?;
        plan::steps(desired, seen, memory, now).into_iter().next()
    }

    /// Where else the agent lives, or is to live, than at this place: there it must be looked at and stopped too.
    pub fn elsewhere(&self, name: &AgentName, place: &Place) -> Option<Place> {
        let desired = &self.desired(name)?.place;
        let memory = self.ledger.agents.get(name.as_str())?;
        let proven = &memory.proven.as_ref()?.place;
        let other = if place == desired { proven } else { desired };
        (other != place).then(|| other.clone())
    }

    /// When, in seconds since 1970, a retry is due that no event will bring.
    pub fn next_try(&self, now: u64) -> Option<u64> {
        let named = self.agents.iter().map(|(_, desired)| desired.name.as_str());
        named
            .filter_map(|name| self.ledger.agents.get(name)?.next_try(now))
            .min()
    }

    /// What a beat is to look at and to report; `phase` tells what is being done to an agent.
    pub fn reports(&self, phase: impl Fn(&AgentName) -> String) -> Vec<Reported> {
        let agents = self.agents.iter();
        agents
            .map(|(wire, desired)| Reported {
                wire: wire.clone(),
                there: self.elsewhere(&desired.name, &desired.place),
                phase: phase(&desired.name),
                error: self.error(&desired.name).to_owned(),
            })
            .collect()
    }

    pub fn error(&self, name: &AgentName) -> &str {
        let memory = self.ledger.agents.get(name.as_str());
        memory.map_or("", |memory| &memory.error)
    }

    pub fn refusals(&self) -> Vec<String> {
        self.refused.iter().map(ToString::to_string).collect()
    }

    /// Writes the ledger if it changed.
    pub fn save(&mut self) -> Result<()> {
        if self.saved == self.ledger {
            return Ok(());
        }
        record::save(&self.ledger_file, &self.ledger)?;
        self.saved = self.ledger.clone();
        Ok(())
    }
}

/// The end of one task.
pub struct Done {
    pub name: AgentName,
    pub task: Task,
    pub failure: Option<Failure>,
    pub seen: Option<SeenAgent>,
}

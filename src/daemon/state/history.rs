//! The ledger with its file: the histories of all agents, written when they change.

use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::json;
use crate::md5;
use crate::model::{AgentName, Build, Desired, Location};
use crate::os::disk;
use crate::plan::history::{AgentHistory, entry_digest};
use crate::store::layout;
use crate::store::ledger::{self, Ledger};

/// The kernel makes another id at each boot. Systems other than Linux have no such file, and their boots are not counted.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

pub(super) struct SavedLedger {
    pub(super) ledger: Ledger,
    file: PathBuf,
    boot: String,
    /// The digest of the text on disk. The text itself would be as large as all that is known of the agents.
    saved: [u8; 16],
    /// The ledger may differ from the file. To be sure it must be printed, which costs as much as it holds, and the
    /// daemon wakes often.
    is_touched: bool,
}

impl SavedLedger {
    pub(super) fn load(own_dir: &Path, now: u64) -> Self {
        let file = layout::ledger(own_dir);
        let mut ledger = ledger::load(&file, now);
        let boot = disk::read_small(Path::new(BOOT_ID), 64).unwrap_or_default();
        let saved = md5::of(json::to_string(&ledger).as_bytes());
        for history in ledger.agents.values_mut() {
            history.fold_boot(&boot, now);
        }
        Self {
            ledger,
            file,
            boot,
            saved,
            is_touched: false,
        }
    }

    /// Removes the temporary file of a killed daemon.
    pub(super) fn tidy(&self) {
        disk::remove_temporary(&self.file);
    }

    pub(super) fn get(&self, name: &AgentName) -> Option<&AgentHistory> {
        Some(self.ledger.agents.get(name.as_str())?)
    }

    /// Returns the history of an agent, to be changed.
    pub(super) fn entry(&mut self, name: &AgentName) -> &mut AgentHistory {
        self.is_touched = true;
        self.ledger.agents.entry(name.to_string()).or_default()
    }

    /// Returns the history of an agent that has one, to be changed.
    pub(super) fn get_mut(&mut self, name: &AgentName) -> Option<&mut AgentHistory> {
        let history = self.ledger.agents.get_mut(name.as_str())?;
        self.is_touched = true;
        Some(history)
    }

    /// `followed` is the server's entry or the same at a pinned version.
    pub(super) fn fold_desired(&mut self, followed: &Desired, of_server: &Desired) {
        let followed_digest = entry_digest(&followed.wire);
        let of_server = entry_digest(&of_server.wire);
        let history = self.entry(&followed.name);
        history.fold_desired(&followed_digest, &of_server);
    }

    pub(super) fn date_anew(&mut self, before: u64, set: i64) {
        self.is_touched = true;
        for history in self.ledger.agents.values_mut() {
            history.date_anew(before, set);
        }
    }

    pub(super) fn forget_unnamed(&mut self, is_named: impl Fn(&AgentName) -> bool) {
        self.is_touched = true;
        self.ledger.forget_unnamed(is_named);
    }

    /// Records, before it happens, that a build is started at a location.
    pub(super) fn begin_start(&mut self, name: &AgentName, build: &Build, location: &Location) {
        let boot = self.boot.clone();
        if let Some(history) = self.get_mut(name) {
            history.may_run_at(location);
            history.fold_unfinished_start(build, &boot);
        }
    }

    /// Returns every location where the agent may run because of us.
    pub(super) fn locations(&self, name: &AgentName) -> Vec<&Location> {
        let Some(history) = self.get(name) else {
            return Vec::new();
        };
        let mut locations: Vec<&Location> = history.moving_to.iter().collect();
        if let Some(last_good) = &history.last_good {
            locations.insert(0, &last_good.location);
        }
        locations
    }

    /// Returns whether the agent runs well at this location, and no move of it is unfinished.
    pub(super) fn is_settled_at(&self, name: &AgentName, location: &Location) -> bool {
        self.get(name).is_some_and(|history| {
            let last_good = history.last_good.as_ref();
            history.moving_to.is_empty()
                && last_good.is_some_and(|last_good| last_good.location == *location)
        })
    }

    /// Writes the ledger if it has changed.
    pub(super) fn save(&mut self) -> Result<()> {
        if self.is_touched {
            let text = json::to_string(&self.ledger);
            let digest = md5::of(text.as_bytes());
            if self.saved != digest {
                disk::write_atomic(&self.file, text.as_bytes(), layout::STATE_MODE)?;
                self.saved = digest;
            }
            self.is_touched = false;
        }
        Ok(())
    }
}

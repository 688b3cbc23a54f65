//! What cannot be seen on disk: attempts, errors, when to try again, and what ran well last. The folds are pure;
//! only `load` and `save` touch the disk. A lost ledger costs patience, never an agent.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use miniserde::json;

use crate::disk;
use crate::error::Result;
use crate::log;
use crate::model::{Cmd, Desired, Failure, Fault, Site, Spot, State, Step, Version};
use crate::schedule;

/// Deaths that are remembered; a crash loop is told by five.
const DEATHS_KEPT: usize = 5;
/// No retry lies further ahead; a ledger written under a wrong clock must not silence an agent for years.
const FURTHEST_RETRY: u64 = 86_400;

#[derive(Clone, PartialEq, Eq, Debug, Default, miniserde::Serialize, miniserde::Deserialize)]
pub struct Ledger {
    pub agents: BTreeMap<String, Memory>,
}

/// What is remembered of one agent. Times are seconds since 1970.
#[derive(Clone, PartialEq, Eq, Debug, Default, miniserde::Serialize, miniserde::Deserialize)]
pub struct Memory {
    /// Digest of the desired entry that the failures belong to; another entry starts afresh.
    pub entry: String,
    pub failures: u32,
    pub retry_at: u64,
    pub error: String,
    pub error_at: u64,
    /// When a start of the version in force was last needed, oldest first.
    pub deaths: Vec<u64>,
    /// Starts in a row without ten quiet minutes between.
    pub streak: u32,
    pub crash_loop: bool,
    pub restart_at: u64,
    /// What last ran well, and where: the way back from a bad version and from a move.
    pub proven: Option<Spot>,
    /// The version that ran before the proven one; kept on disk for a quick way back.
    pub previous: Option<Version>,
}

impl Memory {
    /// Whether the desired state is not to be tried again yet.
    pub fn is_waiting(&self, now: u64) -> bool {
        self.retry_at > now
    }

    /// When this agent next wants a look that no event brings.
    pub fn next_try(&self, now: u64) -> Option<u64> {
        let times = [self.retry_at, self.restart_at];
        times.into_iter().filter(|at| *at > now).min()
    }

    fn forget_failures(&mut self) {
        self.failures = 0;
        self.retry_at = 0;
        self.error.clear();
        self.error_at = 0;
    }

    fn forget_deaths(&mut self) {
        self.deaths.clear();
        self.streak = 0;
        self.crash_loop = false;
        self.restart_at = 0;
    }

    fn blame(&mut self, error: &str, now: u64) {
        error.clone_into(&mut self.error);
        self.error_at = now;
    }

    /// A changed entry is a new wish: whatever failed before may go well now.
    pub fn fold_desired(&mut self, entry: &str) {
        if self.entry != entry {
            entry.clone_into(&mut self.entry);
            self.forget_failures();
            self.forget_deaths();
        }
    }

    /// What was seen while nothing was being done to the agent.
    pub fn fold_observed(&mut self, desired: &Desired, site: &Site, now: u64) {
        let Some(current) = site.current.as_ref().filter(|_| site.whole) else {
            return;
        };
        let as_desired = match desired.cmd {
            Cmd::Start => {
                site.place == desired.place
                    && site.state == State::Started
                    && current.satisfies(&desired.release.build())
            }
            Cmd::Stop => site.is_down(),
        };
        if site.state == State::Started && (as_desired || self.proven.is_none()) {
            self.prove(&Spot {
                place: site.place.clone(),
                build: current.clone(),
            });
        }
        let quiet = self
            .deaths
            .last()
            .is_none_or(|at| now.saturating_sub(*at) >= schedule::CRASH_WINDOW);
        if as_desired && quiet && !self.is_waiting(now) {
            self.forget_deaths();
            self.forget_failures();
        }
    }

    /// A step went well; `site` is what was seen right after it.
    pub fn fold_success(&mut self, step: &Step, site: Option<&Site>, now: u64) {
        match step {
            Step::Install(_) | Step::Prune(_) => return,
            Step::Stop(_) | Step::Switch { back: Some(_), .. } => {
                self.forget_deaths();
                self.forget_failures();
            }
            // A failed wish stays remembered while the version before it is kept up.
            Step::Start(_) | Step::Switch { back: None, .. } => self.fold_death(now),
        }
        let running = site.filter(|site| site.whole && site.state == State::Started);
        if let Some((site, build)) = running.and_then(|s| Some((s, s.current.clone()?))) {
            self.prove(&Spot {
                place: site.place.clone(),
                build,
            });
        }
    }

    pub fn fold_failure(&mut self, step: &Step, why: &Failure, now: u64, interval: Duration) {
        self.blame(&why.error, now);
        let keeps_up = matches!(step, Step::Start(_) | Step::Switch { back: None, .. });
        if keeps_up && why.fault == Fault::Version {
            self.fold_death(now);
            return;
        }
        self.failures = self.failures.saturating_add(1);
        self.retry_at = now
            + match why.fault {
                Fault::Host => schedule::host_retry(interval, self.failures),
                Fault::Version => schedule::version_retry(self.failures),
            };
    }

    /// The agent had to be started: it had died, or would not stay up.
    fn fold_death(&mut self, now: u64) {
        self.deaths.push(now);
        let surplus = self.deaths.len().saturating_sub(DEATHS_KEPT);
        self.deaths.drain(..surplus);
        self.streak = self.streak.saturating_add(1);
        if !self.crash_loop && schedule::is_crash_loop(&self.deaths, now) {
            self.crash_loop = true;
            let last = if self.error.is_empty() {
                String::new()
            } else {
                format!("; last: {}", self.error)
            };
            let error =
                format!("crash loop: died {DEATHS_KEPT} times in 10 min, tried hourly{last}");
            self.blame(&error, now);
        }
        self.restart_at = now + schedule::restart_delay(self.streak, self.crash_loop);
    }

    fn prove(&mut self, spot: &Spot) {
        if self.proven.as_ref() == Some(spot) {
            return;
        }
        if let Some(before) = self.proven.replace(spot.clone())
            && before.place == spot.place
            && before.build.version != spot.build.version
        {
            self.previous = Some(before.build.version);
        }
    }

    /// Retry times further ahead than any schedule gives come from a clock that was wrong.
    fn clamp(&mut self, now: u64) {
        self.retry_at = self.retry_at.min(now + FURTHEST_RETRY);
        self.restart_at = self.restart_at.min(now + FURTHEST_RETRY);
    }
}

/// Reads the ledger; a corrupt one is set aside and told, and an empty one takes its place.
pub fn load(path: &Path, now: u64) -> Ledger {
    let Ok(bytes) = std::fs::read(path) else {
        return Ledger::default();
    };
    let parsed = String::from_utf8(bytes)
        .ok()
        .and_then(|text| json::from_str::<Ledger>(&text).ok());
    let Some(mut ledger) = parsed else {
        let aside = path.with_extension("json.corrupt");
        let set_aside = std::fs::rename(path, &aside);
        log::warn(format_args!(
            "cannot read {}: not a ledger; {}, all retry counts start afresh",
            path.display(),
            match set_aside {
                Ok(()) => format!("set aside as {}", aside.display()),
                Err(error) => format!("it stays until it can be replaced ({error})"),
            }
        ));
        return Ledger::default();
    };
    for memory in ledger.agents.values_mut() {
        memory.clamp(now);
    }
    ledger
}

pub fn save(path: &Path, ledger: &Ledger) -> Result<()> {
    disk::write_atomic(path, json::to_string(ledger).as_bytes())
}

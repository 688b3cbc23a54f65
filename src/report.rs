//! What the updater tells of itself: the document in `var/status.json`, from which `status`, the endpoint and its
//! metrics are made. The names in it are an interface: they may be added to, and do not change.

use std::path::{Path, PathBuf};

use crate::disk;
use crate::error::Result;
use crate::fields::{self, fields};
use crate::model::{Failure, Fault, Step, Task};
use crate::roster::SAVED_LIMIT;

/// Times are seconds since 1970, and 0 for never.
#[derive(Debug, Default)]
pub struct Status {
    pub version: String,
    pub arch: String,
    /// As heartbeats report it.
    pub hostname: String,
    pub pid: u32,
    /// When this daemon was started.
    pub since: u64,
    pub server: String,
    /// Seconds.
    pub interval: u64,
    /// Why nothing is changed on this host; empty: it is not held.
    pub hold: String,
    pub heartbeat: BeatStatus,
    pub agents: Vec<AgentStatus>,
    /// Entries of the last answer that are not followed, and why.
    pub refused: Vec<String>,
    pub counts: Counts,
}

fields!(Status {
    version,
    arch,
    hostname,
    pid,
    since,
    server,
    interval,
    hold,
    heartbeat,
    agents,
    refused,
    counts,
});

#[derive(Debug, Default, Clone)]
pub struct BeatStatus {
    /// When the last one that was to reach the server was begun.
    pub last: u64,
    /// When the server last gave an answer that could be used.
    pub answered: u64,
    /// When the next look is due; while the server is in trouble it is asked more rarely.
    pub next: u64,
    /// Those that failed since then.
    pub failures: u32,
    pub error: String,
}

fields!(BeatStatus {
    last,
    answered,
    next,
    failures,
    error,
});

#[derive(Debug, Default)]
pub struct AgentStatus {
    pub name: String,
    /// In force; empty: none.
    pub version: String,
    /// What the server wishes.
    pub desired: String,
    /// start or stop.
    pub cmd: String,
    /// What the operator keeps it at; empty: it is not pinned.
    pub pinned: String,
    /// started, stopped, other, absent or unknown.
    pub state: String,
    /// Since when it was seen in this state.
    pub since: u64,
    /// As heartbeats report it.
    pub status: String,
    /// Whether it is as it should be, pin included.
    pub converged: bool,
    /// What is being done to it; empty: nothing.
    pub phase: String,
    pub bytes: u64,
    /// 0: nobody knows.
    pub total: u64,
    /// Bytes a second.
    pub rate: u64,
    /// The next step, when it is due.
    pub next: String,
    pub error: String,
    pub error_at: u64,
    /// When it is tried again.
    pub retry_at: u64,
    pub run_user: String,
    pub work_dir: String,
}

fields!(AgentStatus {
    name,
    version,
    desired,
    cmd,
    pinned,
    state,
    since,
    status,
    converged,
    phase,
    bytes,
    total,
    rate,
    next,
    error,
    error_at "errorAt",
    retry_at "retryAt",
    run_user "runUser",
    work_dir "workDir",
});

/// Since the daemon was started.
#[derive(Debug, Default, Clone)]
pub struct Counts {
    pub heartbeats: u64,
    pub heartbeat_failures: u64,
    /// Steps that went well.
    pub installs: u64,
    pub switches: u64,
    pub starts: u64,
    pub stops: u64,
    pub prunes: u64,
    /// Steps that failed for host or network, and for the version itself.
    pub host_failures: u64,
    pub version_failures: u64,
    /// Switches that went back to the version before.
    pub rollbacks: u64,
    pub downloaded_bytes: u64,
}

fields!(Counts {
    heartbeats,
    heartbeat_failures "heartbeatFailures",
    installs,
    switches,
    starts,
    stops,
    prunes,
    host_failures "hostFailures",
    version_failures "versionFailures",
    rollbacks,
    downloaded_bytes "downloadedBytes",
});

impl Counts {
    /// One step has ended.
    pub fn count(&mut self, task: &Task, failure: Option<&Failure>) {
        let count = match (failure.map(|failure| failure.fault), &task.step) {
            (None, Step::Install(_)) => &mut self.installs,
            (None, Step::Switch { .. }) => &mut self.switches,
            (None, Step::Start(_)) => &mut self.starts,
            (None, Step::Stop(_)) => &mut self.stops,
            (None, Step::Prune(_)) => &mut self.prunes,
            (Some(Fault::Host), _) => &mut self.host_failures,
            (Some(Fault::Version), step) => {
                self.rollbacks += u64::from(matches!(step, Step::Switch { back: Some(_), .. }));
                &mut self.version_failures
            }
        };
        *count += 1;
    }
}

pub fn file(own_dir: &Path) -> PathBuf {
    own_dir.join("var/status.json")
}

/// What the daemon that runs, or the last one, told; none where there is nothing of that kind.
pub fn load(own_dir: &Path) -> Option<Status> {
    let text = disk::read_small(&file(own_dir), SAVED_LIMIT).ok()?;
    fields::read(&text)
}

/// Not for good: after a power cut it is written anew.
pub fn save(own_dir: &Path, text: &str) -> Result<()> {
    disk::replace(&file(own_dir), text.as_bytes())
}

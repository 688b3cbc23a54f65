//! The status document, from which `status`, the HTTP endpoint and its metrics are made. Its JSON keys are an interface:
//! keys may be added, and none is renamed or removed.

use std::fmt::Write as _;

use miniserde::{Deserialize, Serialize};

use crate::model::{Failure, Fault, Refusal, Step, Task};
use crate::text::megabytes;

/// The number of the form of the document. It changes only if a key is removed or gets another meaning.
pub const SCHEMA: u32 = 1;

/// The whole document. Times are seconds since 1970; 0 means never. docs/schema/status.schema.json describes it for readers.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub arch: String,
    /// As heartbeats report it.
    pub hostname: String,
    pub pid: u32,
    /// When the daemon was started.
    pub since: u64,
    pub server: String,
    /// Seconds.
    pub interval: u64,
    /// Why the host is held. Empty: it is not.
    pub hold: String,
    pub heartbeat: HeartbeatStatus,
    pub agents: Vec<AgentStatus>,
    /// The refused entries of the last answer, with their reasons.
    pub refused: Vec<String>,
    pub counts: Counts,
    /// `SCHEMA`. None, here and below: an older updater wrote the document.
    pub schema: Option<u32>,
    /// Whether the daemon runs. In the file: whether it ran when it wrote that.
    pub running: Option<bool>,
    /// What `refused` says, one object each.
    pub refusals: Option<Vec<Refusal>>,
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct HeartbeatStatus {
    /// When the last heartbeat to the server was begun.
    pub last: u64,
    /// When the server last gave a valid answer.
    pub answered: u64,
    /// When the next heartbeat is due.
    pub next: u64,
    /// The number of heartbeats that failed since then.
    pub failures: u32,
    pub error: String,
    /// The number of the last `status --wait` before the heartbeat that was answered last. Older documents do not have it.
    pub asked: Option<u64>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub struct AgentStatus {
    pub name: String,
    /// The version in force. Empty: there is none.
    pub version: String,
    /// The version that the server desires.
    pub desired: String,
    /// `start` or `stop`.
    pub cmd: String,
    /// The version that an operator pinned. Empty: there is no pin.
    pub pinned: String,
    /// `started`, `stopped`, `other`, `absent` or `unknown`.
    pub state: String,
    /// When it was first observed in this state.
    pub since: u64,
    /// The status column of the heartbeat.
    pub status: String,
    /// Whether it is in its desired state, pin included.
    pub converged: bool,
    /// What is being done to it. Empty: nothing.
    pub phase: String,
    pub bytes: u64,
    /// 0: unknown.
    pub total: u64,
    /// Bytes per second.
    pub rate: u64,
    /// The next step, if one is due.
    pub next: String,
    pub error: String,
    #[serde(rename = "errorAt")]
    pub error_at: u64,
    /// When the next try is due.
    #[serde(rename = "retryAt")]
    pub retry_at: u64,
    /// Starts after it was found dead, ever since this updater was installed. None: 0.1.0 wrote the document.
    pub restarts: Option<u64>,
    /// Whether it has died so often in a row that it is started hourly only. None: an older updater wrote the document.
    #[serde(rename = "crashLoop")]
    pub crash_loop: Option<bool>,
    #[serde(rename = "runUser")]
    pub run_user: String,
    #[serde(rename = "workDir")]
    pub work_dir: String,
}

impl AgentStatus {
    /// Returns what is being done to the agent: `downloading 12.3 of 45.0 MB, 27 %, 3.2 MB/s`.
    pub fn progress(&self) -> String {
        let mut words = self.phase.clone();
        if self.bytes == 0 {
            return words;
        }
        let _ = write!(words, " {}", megabytes(self.bytes));
        match self.bytes.saturating_mul(100).checked_div(self.total) {
            Some(percent) => {
                let _ = write!(words, " of {} MB, {percent} %", megabytes(self.total));
            }
            None => words += " MB",
        }
        if self.rate > 0 {
            let _ = write!(words, ", {} MB/s", megabytes(self.rate));
        }
        words
    }
}

/// Counters, from the start of the daemon.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Counts {
    pub heartbeats: u64,
    #[serde(rename = "heartbeatFailures")]
    pub heartbeat_failures: u64,
    /// Steps that succeeded.
    pub installs: u64,
    pub switches: u64,
    pub starts: u64,
    pub stops: u64,
    pub prunes: u64,
    /// Steps that failed because of host or network, and because of the version.
    #[serde(rename = "hostFailures")]
    pub host_failures: u64,
    #[serde(rename = "versionFailures")]
    pub version_failures: u64,
    /// Switches that went back to the previous version, and versions that were given up soon after one.
    pub rollbacks: u64,
    #[serde(rename = "downloadedBytes")]
    pub downloaded_bytes: u64,
}

impl Counts {
    /// Counts a step that has ended.
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

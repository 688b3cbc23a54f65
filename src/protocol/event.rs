//! What a child reports to the daemon: one event as JSON on each line of its stdout.
#![expect(clippy::disallowed_methods, reason = "events travel over stdout")]

use std::io::Write as _;
use std::time::Duration;

use miniserde::{Deserialize, Serialize};

use crate::error::{At, Result};
use crate::json;
use crate::model::{AgentName, Desired, Fault, Observation, Refusal};
use crate::os::fd;

/// The phase of a start.
pub const STARTING: &str = "starting";

/// The phase of a switch. The new version may run already, but has not stayed started yet.
pub const SWITCHING: &str = "switching";

/// The phase of a stop. Until it ends, an agent that says it is stopped may still run.
pub const STOPPING: &str = "stopping";

/// The phase of an agent whose installation waits for the turn of this host.
pub const WAITING: &str = "waiting for its turn";

/// The phase of an install that has what it needs of the network, but for a configuration.
pub const UNPACKING: &str = "unpacking";

/// The phase in which an install waits for the disk, with everything that others have written to it. It cannot give a sign of
/// life.
pub const SYNCING: &str = "syncing";
/// How long it may take.
pub const SYNC_PATIENCE: Duration = Duration::from_secs(600);

/// One report. It is one flat record, because miniserde derives no enums with data.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Event {
    pub what: What,
    /// With `Phase`: what is being done, for heartbeat and status.
    pub phase: String,
    pub bytes: Option<u64>,
    pub total: Option<u64>,
    /// Bytes that have come from the network since the last event.
    pub fetched: u64,
    /// With `Done` and `Refused`: why it failed.
    pub error: Option<String>,
    pub fault: Option<Fault>,
    /// With `Done`: the step has started the agent, which may now be in the same state as before.
    pub has_started: bool,
    /// The agents as they were last checked. A heartbeat reports them in the order of its job, a step reports its own.
    pub observations: Vec<Observation>,
    /// With `Answered`: the accepted entries, checked, and why the others were not accepted.
    pub agents: Vec<Desired>,
    pub refused: Vec<Refusal>,
    /// With `Answered`: the refused entries whose last good entry stays in force.
    pub kept: Vec<AgentName>,
    /// Seconds.
    pub retry_after: Option<u64>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// A sign of life, with what is being done, or with the agents that a heartbeat has checked so far.
    #[default]
    Phase,
    /// From now on the child must not be ended: its agent is between two versions.
    Critical,
    /// A heartbeat has checked its agents.
    Observed,
    /// A heartbeat has a valid answer.
    Answered,
    /// A heartbeat has no valid answer.
    Refused,
    /// A step has ended.
    Done,
}

impl Event {
    pub fn new(what: What) -> Self {
        Self {
            what,
            ..Default::default()
        }
    }

    /// Prints the event as one line. Fails when the daemon is gone; an orphan learns of it by this.
    pub fn send(&self) -> Result<()> {
        let line = json::to_string(self) + "\n";
        // Without a buffer: a process that is forked later would send again what is in it.
        let sent = fd::stdout_file().write_all(line.as_bytes());
        sent.at("report to", "the daemon")
    }

    /// Returns an event about agents that were checked.
    pub fn of_checks(what: What, observations: Vec<Observation>) -> Self {
        let mut event = Self::new(what);
        event.observations = observations;
        event
    }

    /// Reports what is being done.
    pub fn phase(name: &str) -> Result<()> {
        Self::begin(What::Phase, name)
    }

    /// Reports that from now on the daemon must not end this process.
    pub fn critical(phase: &str) -> Result<()> {
        Self::begin(What::Critical, phase)
    }

    fn begin(what: What, phase: &str) -> Result<()> {
        let mut event = Self::new(what);
        phase.clone_into(&mut event.phase);
        event.send()
    }

    pub fn parse(line: &str) -> Option<Self> {
        line.starts_with('{').then(|| json::read(line))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The seeds of the fuzz target `event`: one byte that chooses the case, then lines. A seed in a form of before finds
    /// nothing.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "the seeds are files")]
    fn the_seeds_of_the_fuzz_target_are_events() {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz/seeds/event");
        let mut events = 0;
        for entry in std::fs::read_dir(dir).expect("the seeds") {
            let path = entry.expect("an entry").path();
            let bytes = std::fs::read(&path).expect("a seed");
            let text = String::from_utf8_lossy(&bytes[1..]);
            for line in text.lines().filter(|line| line.ends_with('}')) {
                assert!(Event::parse(line).is_some(), "{}: {line}", path.display());
                events += 1;
            }
        }
        assert!(events >= 15, "{events} events");
    }
}

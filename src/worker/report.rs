//! What a step worker reports to the daemon: that it must not be ended, and how it ended.

use crate::error::{Error, Result};
use crate::model::{Failure, Fault, Observation, Observed};
use crate::protocol::event::{Event, What};
use crate::protocol::job::StepJob;

/// The outcome of a step. The failure says whether the host or the version is to blame.
pub(super) type Outcome = std::result::Result<(), Failure>;

/// Blames the host for an error.
#[allow(
    clippy::needless_pass_by_value,
    reason = "it is an argument of map_err"
)]
pub(super) fn host_failure(error: Error) -> Failure {
    Failure {
        fault: Fault::Host,
        error: error.to_string(),
    }
}

/// Reports that from now on the daemon must not end this process.
pub(super) fn critical(phase: &str) -> Result<()> {
    let event = Event {
        what: What::Critical,
        phase: Some(phase.to_owned()),
        ..Event::default()
    };
    event.send()
}

/// Reports that the step has ended, whether it has started the agent, and what the agent looks like now.
pub(super) fn done(
    job: &StepJob,
    failure: Option<Failure>,
    has_started: bool,
    (at_desired, elsewhere): (Observed, Option<Observed>),
) -> Result<()> {
    let observation = Observation {
        name: job.name.clone(),
        at_desired,
        elsewhere,
    };
    let event = Event {
        what: What::Done,
        fault: failure.as_ref().map(|failure| failure.fault),
        error: failure.map(|failure| failure.error),
        has_started: Some(has_started),
        observations: Some(vec![observation]),
        ..Event::default()
    };
    event.send()
}

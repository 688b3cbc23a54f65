//! What a step worker reports to the daemon: how it ended, and what the agent looks like then.

use crate::error::Result;
use crate::model::{Failure, Observation, Observed};
use crate::protocol::event::{Event, What};
use crate::protocol::job::StepJob;

/// Reports that the step has ended, whether it has started the agent, and what the agent looks like now.
pub(super) fn done(
    job: &StepJob,
    failure: Option<Box<Failure>>,
    has_started: bool,
    (at_desired, elsewhere): (Observed, Option<Observed>),
) -> Result<()> {
    let observation = Observation {
        name: job.name.clone(),
        at_desired,
        elsewhere: elsewhere.map(Box::new),
    };
    let mut event = Event::of_checks(What::Done, vec![observation]);
    if let Some(failure) = failure {
        event.fault = Some(failure.fault);
        event.error = Some(failure.error);
    }
    event.has_started = has_started;
    event.send()
}

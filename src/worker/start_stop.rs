//! The steps `Start` and `Stop`, and the stop that is the first half of a move.

use crate::agent::lifecycle::Agent;
use crate::log;
use crate::model::{AgentState, Build, Outcome};
use crate::os::disk;
use crate::os::fd;
use crate::os::signals::Signals;
use crate::protocol::event::{Event, STARTING, STOPPING};
use crate::protocol::job::StepJob;
use crate::worker::in_force::{put_in_force, stage};
use crate::worker::locations::Locations;

/// Puts the build in force if it is not, starts the agent and watches it. Does nothing if it runs already.
pub(super) fn start(
    job: &StepJob,
    locations: &Locations,
    signals: &Signals,
    build: &Build,
) -> Outcome {
    let agent = &locations.desired;
    if job.role.moving {
        // It was stopped as its old user, so it must be started as the new one, even if the updater is stopped now. This
        // comes before the first check, which TERM would end.
        signals.ignore_term();
        agent.note_stop();
        let _ = Event::critical(STARTING);
    }
    locations.stop_others()?;
    let observed = agent.check();
    if observed.is_in_force(build) && observed.state == AgentState::Started {
        return Ok(());
    }
    if !job.role.moving {
        Event::phase(STARTING)?;
    }
    let was_in_force = observed.is_in_force(build);
    if !was_in_force {
        replace_version(agent, build)?;
    } else if observed.state == AgentState::Stopped
        // What its `control` has lost sight of must not run beside it.
        && agent.end_leftovers_unless_back(&build.version)?
    {
        return Ok(());
    }
    let started = agent.start_and_watch(&build.version);
    if started.is_err() && job.role.moving && !was_in_force {
        remove_failed_start(agent);
    }
    started
}

/// Puts the build in force. Somebody else may have started another version meanwhile, and two must never run.
fn replace_version(agent: &Agent, build: &Build) -> Outcome {
    let staged = stage(agent, &build.version, "version.tmp")?;
    agent.stop()?;
    Ok(put_in_force(agent, build, staged)?)
}

/// Removes what an agent that does not start as its new user would leave in the way of the old one.
fn remove_failed_start(agent: &Agent) {
    let stopped = agent.stop_anyway();
    let removed = disk::remove_tree(&agent.paths().version_file());
    for error in [stopped.err(), removed.err()].into_iter().flatten() {
        log::warn(format_args!("{}: {error}", agent.name()));
    }
}

/// Stops the agent, and ends when it is gone.
pub(super) fn stop(agent: &Agent) -> Outcome {
    Event::phase(STOPPING)?;
    Ok(agent.stop()?)
}

/// Stops the agent, so that another worker can start it as its new user. Starts it again if the daemon is gone, because
/// then nobody continues the move.
pub(super) fn stop_for_move(agent: &Agent, signals: &Signals) -> Outcome {
    let before = agent.on_disk();
    signals.ignore_term();
    Event::critical(STOPPING)?;
    agent.stop()?;
    match &before.current {
        Some(build) if fd::is_stdout_closed() => {
            log::info(format_args!(
                "{}: the daemon is gone, so the move ends here and {build} is started again",
                agent.name()
            ));
            agent.start_and_watch(&build.version)
        }
        _ => Ok(()),
    }
}

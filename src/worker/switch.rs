//! The step `Switch`: stops the old version, puts the new one in force, starts and watches it. If that fails, goes back
//! to what ran before. Can be taken again after a crash at any point.

use crate::agent::foreign;
use crate::agent::receipt::{self, Receipt};
use crate::log;
use crate::model::{AgentState, Build, Deployment, Failure, Outcome, Version};
use crate::os::disk::{self, Staged};
use crate::os::signals::Signals;
use crate::protocol::event::{Event, SWITCHING};
use crate::worker::in_force::{put_in_force, stage};
use crate::worker::locations::Locations;

/// Switches to the build `to`, and back to `back` if `to` does not start.
///
/// From the stop of one version until the other has stayed started, nothing but KILL may end this process.
pub(super) fn switch(
    locations: &Locations,
    signals: &Signals,
    back: Option<&Deployment>,
    to: &Build,
) -> Outcome {
    signals.ignore_term();
    Event::critical(SWITCHING)?;
    // An install that was killed at its very end left its download. A failure here is no reason to wait.
    let _ = disk::remove_tree(&locations.desired.paths().staging(&to.version, ".part"));
    locations.stop_others()?;
    let before = locations.desired.on_disk();
    // The way back is written before anything is stopped, so that a full disk cannot close it.
    let way_back = back.map(|back| WayBack::prepare(locations, back));
    let way_back = way_back.transpose()?;
    let changed = if before.is_in_force(to) {
        resume(locations, to)
    } else {
        change_version(locations, to)
    };
    if let Err(mut failure) = changed {
        if let Some(way_back) = way_back {
            way_back.restart_previous(&mut failure);
        }
        return Err(failure);
    }
    let Err(mut failure) = start_or_watch(locations, to) else {
        if let Some(replaced) = &before.current {
            add_missing_receipt(locations, &replaced.version);
        }
        return Ok(());
    };
    if let Some(way_back) = way_back {
        way_back.roll_back(&mut failure);
    }
    Err(failure)
}

/// Stops the agent where it lived before.
fn stop_previous(locations: &Locations) -> Outcome {
    match &locations.previous {
        Some(previous) => {
            previous.stop()?;
            locations.desired.note_stop();
            Ok(())
        }
        None => Ok(()),
    }
}

/// Goes on with a switch that was interrupted after it put `to` in force. Perhaps it has started it too.
fn resume(locations: &Locations, to: &Build) -> Outcome {
    stop_previous(locations)?;
    let agent = &locations.desired;
    if agent.state() == AgentState::Stopped {
        agent.end_leftovers_unless_back(&to.version)?;
    }
    Ok(())
}

/// Stops what is in force and puts `to` in its place. On failure the old version is started again.
fn change_version(locations: &Locations, to: &Build) -> Outcome {
    let agent = &locations.desired;
    let in_force = || agent.paths().in_force().ok().flatten();
    let old = in_force();
    stop_and_replace(locations, to).map_err(|mut failure| {
        let still_in_force = old.filter(|old| Some(old) == in_force().as_ref());
        // An agent that moves is started again at its previous location, by the way back.
        if locations.previous.is_none()
            && let Some(old) = still_in_force
            && agent.check().is_down()
            && let Err(again) = agent.start_and_watch(&old)
        {
            failure.error = format!(
                "{}; {old} does not start again: {}",
                failure.error, again.error
            );
        }
        failure
    })
}

fn stop_and_replace(locations: &Locations, to: &Build) -> Outcome {
    let agent = &locations.desired;
    // Everything that a full disk could refuse is written before anything is stopped.
    let staged = stage(agent, &to.version, "version.tmp")?;
    stop_previous(locations)?;
    agent.stop()?;
    Ok(put_in_force(agent, to, staged)?)
}

/// Starts the agent, or only watches it if a switch that was interrupted has started it already.
fn start_or_watch(locations: &Locations, to: &Build) -> Outcome {
    let agent = &locations.desired;
    if agent.state() == AgentState::Started {
        agent.watch(&to.version, false)
    } else {
        agent.start_and_watch(&to.version)
    }
}

/// What ran before the switch, and its `.version`, written but not published.
struct WayBack<'a> {
    locations: &'a Locations<'a>,
    back: &'a Deployment,
    staged: Staged,
}

impl<'a> WayBack<'a> {
    fn prepare(locations: &'a Locations<'a>, back: &'a Deployment) -> Result<Self, Box<Failure>> {
        let staged = stage(locations.current(), &back.build.version, "version.back");
        Ok(Self {
            locations,
            back,
            staged: staged?,
        })
    }

    /// Starts the agent again at its previous location, if it was stopped there before the change failed.
    fn restart_previous(self, failure: &mut Failure) {
        if let Some(previous) = &self.locations.previous
            && previous.check().is_down()
        {
            add_return(failure, self.back, self.start_back());
        }
    }

    /// Goes back after a failed start. The failure stays that of the start; the outcome of the return is added to it.
    fn roll_back(self, failure: &mut Failure) {
        // An error means that the daemon is gone, which must not keep the old version down.
        let _ = Event::phase("rollback");
        add_return(failure, self.back, self.stop_and_start_back());
    }

    fn stop_and_start_back(self) -> Outcome {
        let agent = &self.locations.desired;
        // It is stopped even if it reports stopped, because processes of it may be left. If it does not stop, the old
        // version is started all the same.
        let stopped = agent.stop_anyway();
        self.locations.current().note_stop();
        if self.locations.previous.is_some() {
            disk::remove_tree(&agent.paths().version_file())?;
        }
        self.start_back()?;
        Ok(stopped?)
    }

    /// Starts what ran before. Puts it in force first, if an interrupted switch has put another build in force there.
    fn start_back(self) -> Outcome {
        let agent = self.locations.current();
        let build = &self.back.build;
        if agent.on_disk().is_in_force(build) {
            drop(self.staged);
        } else {
            put_in_force(agent, build, self.staged)?;
        }
        agent.start_and_watch(&build.version)
    }
}

/// Adds the outcome of the return to `back` to the text of the failure.
fn add_return(failure: &mut Failure, back: &Deployment, returned: Outcome) {
    failure.error = match returned {
        Ok(()) => format!("{}; back to {}", failure.error, back.build),
        Err(again) => format!(
            "{}; going back to {}: {}",
            failure.error, back.build, again.error
        ),
    };
}

/// Writes a receipt for a version that ran and was replaced, if it has none: the updater can then go back to it and
/// prune it. `.version` named it until now, and it has a `control`: an updater made it, ours or the original.
fn add_missing_receipt(locations: &Locations, replaced: &Version) {
    let agent = &locations.desired;
    let dir = agent.paths().version(replaced);
    let may_be_in_force = match agent.paths().in_force() {
        Ok(in_force) => in_force.as_ref() == Some(replaced),
        Err(_) => true,
    };
    let has_receipt = receipt::received(agent.name(), replaced, &dir).is_some();
    // A link, and a directory that holds the updater's own files, are not the agent's to remove.
    let is_version = disk::is_real_dir(&dir)
        && disk::is_program(&dir.join("control"))
        && !foreign::holds_ours(&dir, agent.updater());
    if may_be_in_force || has_receipt || !is_version {
        return;
    }
    let receipt = Receipt {
        name: agent.name().to_string(),
        version: replaced.clone(),
        md5: String::new(),
        size: 0,
        url: String::new(),
        time: 0,
        signer: None,
    };
    if let Err(error) = receipt.write(&dir) {
        log::warn(format_args!("{}: {error}", agent.name()));
    }
}

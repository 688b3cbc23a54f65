//! The check of one agent: what is on disk, and what `control status` prints. Writes nothing into an agent's directory,
//! except that it empties an output file that outgrew its limit and renews the updater's own mark after a restart.
#![expect(clippy::disallowed_methods, reason = "a check reads the disk")]

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use crate::agent::directory;
use crate::agent::leftovers;
use crate::agent::owner;
use crate::agent::paths::{Paths, Target, is_kept_by_us};
use crate::agent::receipt::{Received, received};
use crate::agent::script::{self, ScriptRun};
use crate::agent::script_output::{self, Ending, OUTPUT_LIMIT, ScriptOutput};
use crate::error::{At, Error, Result};
use crate::model::{
    AgentName, AgentState, Build, Location, Observation, Observed, STATUS_LIMIT, Version,
};
use crate::os::disk;
use crate::os::names::Names;
use crate::os::signals::Signals;
use crate::protocol::event::{Event, What};
use crate::text;

/// A status script has 10 s, then 5 s to obey TERM and 1 s to be killed.
const CHECK_PATIENCE: Duration = Duration::from_secs(17);
/// More builds of one agent are not reported: an agent's user can make up any number, and the daemon keeps them all.
const BUILDS_REPORTED: usize = 64;

/// What a check looks at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// The disk, and what `control status` prints.
    Status,
    /// The processes too, if the agent says that it is stopped: its `control` may have lost sight of one.
    Processes,
}

/// Checks an agent now, and waits for the result.
pub fn check(target: &Target, depth: Depth, signals: &Signals) -> Observed {
    let _term = signals.catch_term();
    match start(target, depth) {
        Ok(run) => result(&target.location, &script::wait_for(run, signals)),
        Err(error) => not_checked(target, &error),
    }
}

/// Starts a check in a fork of this process: only the fork suffers from what a script does to its parent, and from a
/// dead disk.
pub fn start(target: &Target, depth: Depth) -> Result<ScriptRun> {
    script::fork_check(&|| check_and_report(target, depth), CHECK_PATIENCE)
}

/// Reports what is on disk before it runs the script, because the script may end this process.
fn check_and_report(target: &Target, depth: Depth) {
    let mut observed = own_on_disk(target);
    report(target, &observed);
    let Some(current) = observed.current.as_ref().filter(|_| observed.whole) else {
        return;
    };
    let signals = Signals::new(&[libc::SIGCHLD]).at("catch", "signals");
    match signals.and_then(|signals| script::status(&target.paths, &current.version, &signals)) {
        Ok(output) => {
            let version = current.version.clone();
            set_status(output, &mut observed);
            if depth == Depth::Processes {
                set_still_runs(target, &version, &mut observed);
            }
        }
        Err(error) => set_not_asked(&mut observed, &error),
    }
    report(target, &observed);
}

/// Writes the event into the output file. Errors are ignored: nothing else could report them.
fn report(target: &Target, observed: &Observed) {
    let observation = Observation {
        name: target.name.clone(),
        at_desired: observed.clone(),
        elsewhere: None,
    };
    let _ = Event::of_checks(What::Done, vec![observation]).send();
}

/// Returns what is on disk, unless another user could have put it there.
fn own_on_disk(target: &Target) -> Observed {
    match directory::check(&target.paths) {
        Ok(()) => managed_by_other(target).unwrap_or_else(|| on_disk(target)),
        Err(error) => {
            let mut observed = Observed::empty(target.location.clone());
            set_not_asked(&mut observed, &error);
            observed
        }
    }
}

/// Returns what is reported of an agent that another updater manages: only that. Its script is not run.
fn managed_by_other(target: &Target) -> Option<Observed> {
    let managed_by = owner::other(&target.paths, &target.updater)?;
    let mut observed = Observed::empty(target.location.clone());
    observed.set_no_answer(&managed_by);
    observed.managed_by = managed_by;
    Some(observed)
}

/// Returns the result of a check that has ended. A check that was cut short may still have reported what is on disk.
pub fn result(location: &Location, output: &ScriptOutput) -> Observed {
    let text = output.whole_text();
    let mut events = text.lines().filter_map(Event::parse);
    let last = events.rfind(|event| event.what == What::Done);
    let Event {
        observations,
        error,
        ..
    } = last.unwrap_or_default();
    let observed = observed_at(location, observations);
    let is_complete = observed.is_some() && error.is_none() && output.succeeded();
    let mut observed = observed.unwrap_or_else(|| Observed::empty(location.clone()));
    if !is_complete {
        let sudo = text.lines().rfind(|line| line.starts_with("sudo: "));
        let why = error.or(sudo.map(str::to_owned));
        observed.set_no_answer(&why.unwrap_or_else(|| output.complaint()));
        observed.stuck.clone_from(&output.stuck);
    }
    observed
}

/// Returns the first observation, if it is of this location: a check ran as the agent's user, who may be hostile and
/// report another one.
fn observed_at(location: &Location, observations: Vec<Observation>) -> Option<Observed> {
    let first = observations.into_iter().next()?;
    Some(first.at_desired).filter(|observed| observed.location == *location)
}

/// Returns what is on disk where a check could not even be started.
pub fn not_checked(target: &Target, error: &Error) -> Observed {
    let mut observed = own_on_disk(target);
    set_not_asked(&mut observed, error);
    observed
}

/// Records why the script could not be run: through a fault of its own, or because the host lacked something.
fn set_not_asked(observed: &mut Observed, error: &Error) {
    observed.set_no_answer(&error.to_string());
    if error.is_host_fault() {
        observed.state = AgentState::NotAsked;
    }
}

/// Records what the status script printed. The first word decides, and only the words of the contract count.
fn set_status(mut output: ScriptOutput, observed: &mut Observed) {
    if let Ending::Overdue | Ending::Killed(_) = output.ending {
        observed.set_no_answer(&output.complaint());
        observed.stuck = output.stuck;
        return;
    }
    let text = output.text();
    let first = text.split_whitespace().next().unwrap_or_default();
    observed.state = match first {
        "started" => AgentState::Started,
        "stoped" | "stopped" => AgentState::Stopped,
        _ => AgentState::Unrecognized,
    };
    observed.status = match observed.state {
        AgentState::Started | AgentState::Stopped => first.to_owned(),
        AgentState::Unrecognized if first.is_empty() => output.complaint(),
        AgentState::Unrecognized
        | AgentState::NotInstalled
        | AgentState::NoAnswer
        | AgentState::NotAsked => text,
    };
    observed.status = text::brief(&observed.status, STATUS_LIMIT);
}

/// Records a program of the version that runs although the script says stopped: its `control` has lost it, or it still ends.
fn set_still_runs(target: &Target, version: &Version, observed: &mut Observed) {
    if observed.state != AgentState::Stopped {
        return;
    }
    if let Some(process) = leftovers::program(&target.paths, version) {
        let words = leftovers::words(&process);
        let status = format!("{}, but {words} still runs", observed.status);
        observed.status = text::brief(&status, STATUS_LIMIT);
        observed.state = AgentState::Unrecognized;
    }
}

/// Returns what can be observed without running anything. A location that cannot be read now is unknown, not empty: if it is
/// not the host's fault, an install is tried, and reports why it cannot be done.
pub fn on_disk(target: &Target) -> Observed {
    look(target).unwrap_or_else(|error| {
        let mut observed = Observed::empty(target.location.clone());
        set_not_asked(&mut observed, &error);
        observed
    })
}

/// Returns what can be observed without running anything, or the error why it cannot be read now.
pub fn look(target: &Target) -> Result<Observed> {
    let Target {
        name,
        location,
        paths,
        updater: _,
    } = target;
    let mut observed = Observed::empty(location.clone());
    observed.builds = received_builds(name, paths).at("read", &paths.agent)?;
    if let Some(version) = paths.in_force()? {
        observe_current(version, paths, &mut observed)?;
    }
    observed.builds.truncate(BUILDS_REPORTED);
    observe_ours(name, paths, &mut observed).at("read", paths.ours())?;
    Ok(observed)
}

/// Observes the version in force.
fn observe_current(version: Version, paths: &Paths, observed: &mut Observed) -> Result<()> {
    let control = paths.version(&version).join("control");
    match disk::find_program(&control).at("look at", &control) {
        Ok(is_there) => observed.whole = is_there,
        Err(error) if error.is_host_fault() => return Err(error),
        Err(error) => observed.set_no_answer(&error.to_string()),
    }
    let mut builds = observed.builds.iter();
    let received = builds.find(|build| build.version == version).cloned();
    observed.current = Some(received.unwrap_or(Build {
        version,
        md5: String::new(),
    }));
    Ok(())
}

/// Returns the whole versions that have a receipt, newest first.
fn received_builds(name: &AgentName, paths: &Paths) -> io::Result<Vec<Build>> {
    let mut builds: Vec<Received> = Vec::new();
    let Some(names) = names_if_there(&paths.agent)? else {
        return Ok(Vec::new());
    };
    for entry in names {
        let entry = entry?;
        let version = entry.to_str().and_then(Version::parse);
        let build = version.and_then(|version| received(name, &version, &paths.version(&version)));
        if let Some(build) = build {
            let at = builds.partition_point(|other| other.time >= build.time);
            builds.insert(at, build);
        }
    }
    Ok(builds.into_iter().map(|received| received.build).collect())
}

/// Observes `.updater`: a spare build, and leftovers.
fn observe_ours(name: &AgentName, paths: &Paths, observed: &mut Observed) -> io::Result<()> {
    let ours = paths.ours();
    let Some(names) = names_if_there(&ours)? else {
        return Ok(());
    };
    for entry in names {
        let entry = entry?;
        if is_kept_by_us(&entry) {
            continue;
        }
        let other = entry.to_str().and_then(|name| name.strip_suffix(".other"));
        let other = other.and_then(Version::parse);
        match other.and_then(|version| received(name, &version, &ours.join(entry))) {
            // Another build of the version in force can wait here only. Any other build is fetched again if need be.
            Some(Received { build, .. }) => {
                let current = observed.current.as_ref();
                let is_staged = current.is_some_and(|current| current.version == build.version);
                if is_staged || observed.spare.is_none() {
                    observed.spare = Some(build);
                }
            }
            None => observed.litter = true,
        }
    }
    cut_output(&paths.control_output());
    cut_output(&paths.failed_output());
    Ok(())
}

/// Returns the names in a directory, or `None` if there is no directory.
fn names_if_there(dir: &Path) -> io::Result<Option<Names>> {
    match disk::names(dir) {
        Err(error) if disk::is_absent(&error) => Ok(None),
        names => names.map(Some),
    }
}

/// Empties an output file that is too long: an agent may go on writing to the one that `control start` left it.
fn cut_output(path: &Path) {
    if fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() > OUTPUT_LIMIT)
        && let Ok(file) = File::options()
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW)
            .open(path)
    {
        script_output::cut_if_too_long(&file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_as_another_user_reports_only_the_location_that_it_was_asked_for() {
        let location = |run_user: &str| Location {
            work_dir: "/work".to_owned(),
            run_user: run_user.to_owned(),
        };
        let observations = |run_user: &str| {
            vec![Observation {
                name: AgentName::parse("demo").expect("a name"),
                at_desired: Observed::empty(location(run_user)),
                elsewhere: None,
            }]
        };
        assert!(observed_at(&location("falcon"), observations("falcon")).is_some());
        assert_eq!(observed_at(&location("falcon"), observations("")), None);
        assert_eq!(observed_at(&location("falcon"), Vec::new()), None);
    }
}

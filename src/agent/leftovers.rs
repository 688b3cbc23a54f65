//! The processes that a version leaves when it is stopped. A `control` may return from `stop`, and say `stoped`, before they
//! have ended, and one that lost its pid file stops nothing. Until they are gone, no other version can have their port.
#![expect(clippy::disallowed_methods, reason = "processes take time to end")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::agent::paths::Paths;
use crate::error::{Error, Result};
use crate::log;
use crate::model::{AgentName, Version};
use crate::os::occupants::{self, Occupant};

/// The time that a version gets to end by itself. The ecosystem's agents take up to 3 s.
const GONE_PATIENCE: Duration = Duration::from_secs(10);
/// The time from TERM to KILL.
const TERM_GRACE: Duration = Duration::from_secs(5);
/// A process that still lives this long after KILL hangs in the kernel, or somebody starts it again and again.
const KILL_GRACE: Duration = Duration::from_secs(1);
/// The pauses between two looks grow between these: a look reads some links of every process of the user.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// How the command line of a check ends.
const CHECK: &str = "./control\0status\0";

/// Which processes are waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Counts {
    All,
    /// Those whose program is there.
    Programs,
}

/// What became of the processes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// There were none.
    Nothing,
    Ended,
    /// They are the agent's, which is back.
    Back,
}

/// Waits until no process of the agent's user is below the directory of this version. What does not end by itself and has
/// its program there is ended, unless the agent is back by then. A process that only stands there may belong to an operator,
/// so it is left.
pub(super) fn end(
    name: &AgentName,
    paths: &Paths,
    version: &Version,
    is_back: &dyn Fn() -> bool,
) -> Result<End> {
    let dir = real_dir(paths, version);
    if wait(&dir, Duration::ZERO, Counts::All).is_empty() {
        return Ok(End::Nothing);
    }
    let left = wait(&dir, GONE_PATIENCE, Counts::All);
    if !left.is_empty() && is_back() {
        return Ok(End::Back);
    }
    for occupant in &left {
        let process = words(occupant);
        if occupant.runs_there {
            log::warn(format_args!(
                "{name}: {process} still runs from {version} 10 s after its stop; it gets TERM"
            ));
            occupant.signal(libc::SIGTERM);
        } else {
            log::warn(format_args!(
                "{name}: {process} still has its working directory in {version} 10 s after its stop; it is left, for its \
                 program is elsewhere"
            ));
        }
    }
    for occupant in &wait(&dir, TERM_GRACE, Counts::Programs) {
        log::warn(format_args!(
            "{name}: {} still runs from {version} 5 s after TERM; it gets KILL",
            words(occupant)
        ));
        occupant.signal(libc::SIGKILL);
    }
    match wait(&dir, KILL_GRACE, Counts::Programs).first() {
        Some(occupant) => {
            let cause = format!("{} still runs after KILL", words(occupant));
            Err(Error::new("stop", version.as_str(), cause))
        }
        None => Ok(End::Ended),
    }
}

/// Returns a process whose program is below the directory of the version.
pub(super) fn program(paths: &Paths, version: &Version) -> Option<Occupant> {
    let dir = real_dir(paths, version);
    wait(&dir, Duration::ZERO, Counts::Programs).pop()
}

/// Returns those that count and are left when the time is over.
fn wait(dir: &Path, patience: Duration, counts: Counts) -> Vec<Occupant> {
    let give_up_at = Instant::now() + patience;
    let mut pause = FIRST_PAUSE;
    loop {
        let mut left = occupants::below(dir);
        left.retain(|occupant| {
            (occupant.runs_there || counts == Counts::All) && !is_check(occupant)
        });
        if left.is_empty() || Instant::now() >= give_up_at {
            return left;
        }
        std::thread::sleep(pause);
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
    }
}

/// Returns whether the process belongs to a check, which may run beside the stop and even hang.
fn is_check(occupant: &Occupant) -> bool {
    occupant.session_command().ends_with(CHECK)
}

pub(super) fn words(occupant: &Occupant) -> String {
    format!("pid {} ({})", occupant.pid, occupant.name)
}

/// Returns the directory of the version as the kernel names it, without links. The version itself may be deleted.
fn real_dir(paths: &Paths, version: &Version) -> PathBuf {
    let dir = paths.version(version);
    occupants::real_path(&dir)
        .or_else(|| Some(occupants::real_path(&paths.agent)?.join(version.as_str())))
        .unwrap_or(dir)
}

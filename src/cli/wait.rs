//! `status --wait`: makes the updater ask its server, and waits until all is as desired. It reads the status file now and
//! then; a number in it says that the updater has followed everything that was so before the command began.
#![expect(clippy::disallowed_methods, reason = "it waits")]

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::current::{is_converged, load};
use super::exit::Exit;
use crate::error::Result;
use crate::os::clock;
use crate::protocol::status::Status;
use crate::store::{instance, overrides};

/// The updater writes its status once a second at most.
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Waited {
    Reached,
    /// A desired version has failed, an entry was refused, or no updater runs.
    Failed,
    TimeIsUp,
}

impl Waited {
    pub(super) fn exit(self) -> Exit {
        match self {
            Self::Reached => Exit::Success,
            Self::Failed => Exit::Failure,
            Self::TimeIsUp => Exit::Changes,
        }
    }
}

/// Waits for this number of seconds at most.
pub(super) fn wait(own_dir: &Path, seconds: u32) -> Result<Waited> {
    let give_up = Instant::now() + Duration::from_secs(seconds.into());
    if instance::holder(own_dir)?.is_none() {
        return Ok(Waited::Failed);
    }
    let asked = overrides::ask(own_dir, clock::unix_now())?;
    let mut is_running = instance::signal(own_dir, libc::SIGUSR1)?.is_some();
    while is_running {
        if let Some(verdict) = load(own_dir).and_then(|status| verdict(&status, asked)) {
            return Ok(verdict);
        }
        let left = give_up.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Waited::TimeIsUp);
        }
        thread::sleep(PAUSE.min(left));
        is_running = instance::holder(own_dir)?.is_some();
    }
    Ok(Waited::Failed)
}

/// Returns the end of the wait. None: it goes on.
fn verdict(status: &Status, asked: u64) -> Option<Waited> {
    if status.heartbeat.asked < Some(asked) {
        return None;
    }
    // A retry is not due before its time, and nothing is being done until then.
    let has_failed = status.agents.iter().any(|agent| {
        let is_idle = agent.phase.is_empty() && agent.next.is_empty();
        !agent.converged && !agent.error.is_empty() && agent.retry_at > 0 && is_idle
    });
    if has_failed || !status.refused.is_empty() {
        return Some(Waited::Failed);
    }
    is_converged(status).then_some(Waited::Reached)
}

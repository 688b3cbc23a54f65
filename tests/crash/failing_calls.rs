//! Every step that changes something meets a full disk, a disk error, or a file system that became read-only. The old
//! agent runs on, and the updater recovers by itself once the disk works again.

use crate::support::calls::Change;
use crate::support::host::Host;
use crate::support::platform;
use crate::support::points::Breaker;
use crate::support::scenarios::{SAME_MOMENT, SCENARIOS, Scenario, check_whole, recorded, recover};
use crate::support::trace;
use crate::support::trial::{self, Outcome, comes};
use crate::support::watch::{names, running_below};
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How the disk fails from some step on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    /// The disk is full until there is room again.
    Full,
    /// The file system is read-only until it is repaired.
    ReadOnly,
    /// Only this one call fails.
    Error,
}

impl Fault {
    fn errno(self) -> i32 {
        match self {
            Self::Full => libc::ENOSPC,
            Self::ReadOnly => libc::EROFS,
            Self::Error => libc::EIO,
        }
    }

    /// Returns whether the fault prevents this change.
    fn prevents(self, change: &Change) -> bool {
        match change {
            Change::Create(..)
            | Change::Write(..)
            | Change::MakeDir(_)
            | Change::Link(..)
            | Change::Symlink(_) => true,
            // A rename to an existing name needs no room. A new name may need some.
            Change::Rename(_, to) => self != Self::Full || !to.exists(),
            Change::Exchange(..)
            | Change::Truncate(_)
            | Change::Chmod(_)
            | Change::Unlink(_)
            | Change::RemoveDir(_) => self != Self::Full,
            Change::Sync(_) | Change::SyncAll(_) => self == Self::Error,
            Change::Tell | Change::Spawn(..) | Change::Signal(_) => false,
        }
    }
}

fn break_at(scenario: &Scenario, key: &str, fault: Fault) -> Outcome {
    let mut host = Host::new();
    (scenario.prepare)(&mut host);
    let before = running_below(&host.dir);
    let breaker = Breaker::new(
        host.dir.clone(),
        key,
        fault.errno(),
        fault == Fault::Error,
        move |change| fault.prevents(change),
    );
    let (hit, healed) = (breaker.hit.clone(), breaker.healed.clone());
    let traced = host.start_traced(false, breaker);
    if !comes(SAME_MOMENT, || hit.load(Ordering::Relaxed)) {
        traced.end();
        return Ok(None);
    }
    let mut result = Ok(());
    if fault != Fault::Error {
        // This is long enough for the current work to fail, and to be tried again.
        let heartbeats = host.meta.count_beats();
        comes(Duration::from_secs(4), || {
            traced.has_ended() || host.meta.count_beats() >= heartbeats + 3
        });
        result = check_in_fault(&host, scenario, before.len(), fault);
        healed.store(true, Ordering::Relaxed);
    }
    recover(&mut host, scenario, traced, result).map(Some)
}

/// Checks, while nothing can be written, that the agents still run and that no partial file fills the disk.
fn check_in_fault(
    host: &Host,
    scenario: &Scenario,
    before: usize,
    fault: Fault,
) -> Result<(), String> {
    for dir in ["work/demo", "new/demo"] {
        check_whole(host, &host.dir.join(dir))?;
    }
    // In a rollback `.version` names a version that fails. While it cannot be rewritten, no version can be started.
    let is_stuck = fault == Fault::ReadOnly && scenario.name == "rollback";
    let runs = || running_below(&host.dir).len() >= before || scenario.name == "stop";
    if !is_stuck && !comes(Duration::from_secs(20), runs) {
        return Err("nothing runs while the disk fails".to_owned());
    }
    let is_partial = |name: &String| matches!(name.rsplit_once('.'), Some((_, "part" | "new")));
    let remaining = || names(&host.agent_dir("demo").join(".updater"));
    let has_no_partials = || !remaining().iter().any(is_partial);
    if fault == Fault::Full && !comes(Duration::from_secs(10), has_no_partials) {
        return Err(format!("the full disk still holds {:?}", remaining()));
    }
    Ok(())
}

fn survive(fault: Fault) {
    if !trial::is_asked() || !trace::is_possible(&platform::binary()) {
        return;
    }
    let mut moments = Vec::new();
    for (scenario, steps) in SCENARIOS.iter().zip(recorded()) {
        let steps = steps.iter();
        let steps = steps.filter(|step| fault.prevents(&step.change) && step.count() <= 6);
        let keys: BTreeSet<_> = steps.map(|step| step.key.clone()).collect();
        moments.extend(keys.into_iter().map(|key| (scenario, key)));
    }
    let what = format!("{fault:?} disk from one of {} steps on", moments.len());
    let moments = trial::share_of(moments);
    trial::survive(&what, &moments, |(scenario, key)| {
        let broken = break_at(scenario, key, fault);
        broken.map_err(|why| format!("{}, {key}: {why}", scenario.name))
    });
}

#[test]
fn a_disk_that_is_full_from_any_step_on_costs_no_agent_and_no_upgrade() {
    survive(Fault::Full);
}

#[test]
fn a_disk_that_is_read_only_from_any_step_on_costs_no_agent_and_no_upgrade() {
    survive(Fault::ReadOnly);
}

#[test]
fn an_error_of_the_disk_at_any_step_costs_no_agent_and_no_upgrade() {
    survive(Fault::Error);
}

//! The updater is killed just before and just after each step that changes something, in each scenario. The next start
//! finds a whole version in force, runs one, converges to the desired state, and leaves no partial files.
//!
//! The steps are system calls, traced from outside (`support::trace`). A first run records their names. Then the test
//! makes one run for each step of a sample, and kills the updater there; `OPS_TEST_MOMENTS=1` takes every step.

use crate::support::calls::Change;
use crate::support::host::{Host, end_sandbox};
use crate::support::platform;
use crate::support::points::{Killer, Step};
use crate::support::scenarios::{
    SAME_MOMENT, SCENARIOS, Scenario, check_whole, come_home, recorded,
};
use crate::support::trace::{self, Traced, Verdict};
use crate::support::trial::{self, Outcome};
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// The processes that are killed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Death {
    /// All processes of the updater. Scripts and agents live on.
    Updater,
    /// Only the process that makes the call, as the kernel does when memory runs out.
    Process,
    /// The updater, the scripts and the agents, as when the host is reset.
    Host,
}

/// Returns whether to kill at this step. Steps that recur as time passes count only the first few times.
fn is_point(step: &Step) -> bool {
    let most = match &step.change {
        Change::Spawn(_, word) if word == "status" || word == "beat" => 2,
        Change::Tell => 3,
        // Only chance decides whether a heartbeat is under way when the run ends.
        Change::Signal(_) => 0,
        _ if step.key.starts_with("beat") => 2,
        _ => 6,
    };
    step.count() <= most
}

/// Kills at this step, and returns how long the recovery took, or `None` if the run never reached the step.
fn kill_at(scenario: &Scenario, key: &str, is_after: bool, death: Death) -> Outcome {
    let mut host = Host::new();
    (scenario.prepare)(&mut host);
    let verdict = match death {
        Death::Process => Verdict::KillOne,
        Death::Updater | Death::Host => Verdict::KillAll,
    };
    let killer = Killer::new(host.dir.clone(), key, is_after, verdict);
    let hit = killer.hit.clone();
    let traced = host.start_traced(false, killer);
    if !trial::comes(SAME_MOMENT, || hit.load(Ordering::Relaxed)) {
        traced.end();
        return Ok(None);
    }
    let is_daemon = key.starts_with("daemon ");
    recover_from(&mut host, scenario, traced, death, is_daemon).map(Some)
}

fn recover_from(
    host: &mut Host,
    scenario: &Scenario,
    traced: Traced<Killer>,
    death: Death,
    is_daemon: bool,
) -> Result<Duration, String> {
    if death == Death::Host {
        end_sandbox(&host.dir);
    }
    let mut survivor = Some(traced);
    if death != Death::Process || is_daemon {
        survivor.take().map(Traced::end);
        host.meta.take_seen();
    }
    for dir in ["work/demo", "new/demo"] {
        check_whole(host, &host.dir.join(dir))?;
    }
    let begun = Instant::now();
    come_home(host, scenario, survivor)?;
    Ok(begun.elapsed())
}

/// Kills at a sample of all moments.
fn survive(death: Death) {
    if !trial::is_asked() || !trace::is_possible(&platform::binary()) {
        return;
    }
    let mut moments = Vec::new();
    for (scenario, steps) in SCENARIOS.iter().zip(recorded()) {
        // A killed script is a failed start, which `rollout::rollback` tests.
        let is_spared = |step: &Step| death == Death::Process && step.is_of_a_script();
        let steps = steps.iter();
        let steps = steps.filter(|step| is_point(step) && !is_spared(step));
        let keys: BTreeSet<_> = steps.map(|step| step.key.clone()).collect();
        for key in keys {
            moments.push((scenario, key.clone(), false));
            moments.push((scenario, key, true));
        }
    }
    let what = format!("death of the {death:?} at one of {} moments", moments.len());
    let moments = trial::share_of(moments);
    trial::survive(&what, &moments, |(scenario, key, is_after)| {
        let when = if *is_after { "after" } else { "before" };
        let outcome = kill_at(scenario, key, *is_after, death);
        outcome.map_err(|why| format!("{}, {when} {key}: {why}", scenario.name))
    });
}

#[test]
fn killed_at_every_step_it_converges() {
    survive(Death::Updater);
}

#[test]
fn with_any_process_of_it_killed_at_every_step_it_converges() {
    survive(Death::Process);
}

#[test]
fn with_the_host_reset_at_every_step_it_converges() {
    survive(Death::Host);
}

//! Killed just before and just after every step that changes something, for each thing that the updater does: the
//! next start finds a whole version in force, runs one, and reaches what was desired; nothing is left lying about.
//!
//! The steps are system calls, seen from outside (`support::trace`): a first run records them by name, then there is
//! one run for each of a share of them, killed there; `OPS_TEST_MOMENTS=1` takes every one.

use crate::support::calls::Change;
use crate::support::host::{Host, end_sandbox};
use crate::support::platform;
use crate::support::points::{Killer, Step};
use crate::support::scenarios::{
    SCENARIOS, Scenario, TWO_ROUNDS, check_end, check_whole, recorded, settle,
};
use crate::support::trace::{self, Traced, Verdict};
use crate::support::trial::{self, Outcome};
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Who dies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Death {
    /// All of the updater; scripts and agents live on.
    Updater,
    /// The one process that makes the call, as by a kernel short of memory.
    Process,
    /// The updater, scripts and agents, as by a reset of the host.
    Host,
}

/// What comes again and again with the time that passes is taken the first times only.
fn is_point(step: &Step) -> bool {
    let most = match &step.change {
        Change::Spawn(_, word) if word == "status" || word == "beat" => 2,
        Change::Tell => 3,
        // Whether a beat is under way when the run is ended is chance.
        Change::Signal(_) => 0,
        _ if step.key.starts_with("beat") => 2,
        _ => 6,
    };
    step.count() <= most
}

/// How long after the death all was well again; none if the moment did not come.
fn die(scenario: &Scenario, key: &str, is_after: bool, death: Death) -> Outcome {
    let mut host = Host::new();
    (scenario.prepare)(&mut host);
    let verdict = match death {
        Death::Process => Verdict::KillOne,
        Death::Updater | Death::Host => Verdict::KillAll,
    };
    let killer = Killer::new(host.dir.clone(), key, is_after, verdict);
    let hit = killer.hit.clone();
    let traced = host.start_traced(false, killer);
    if !trial::comes(TWO_ROUNDS, || hit.load(Ordering::Relaxed)) {
        traced.end();
        return Ok(None);
    }
    let is_daemon = key.starts_with("daemon ");
    let result = go_on(&mut host, scenario, traced, death, is_daemon);
    if result.is_err() {
        eprintln!("--- {}\n{}---", scenario.name, host.log());
    }
    result.map(Some)
}

fn go_on(
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
    for home in ["work/demo", "new/demo"] {
        check_whole(host, &host.dir.join(home))?;
    }
    let begun = Instant::now();
    if survivor.is_none() {
        host.start();
    }
    let settled = settle(host, scenario);
    match survivor {
        Some(traced) => drop(traced.end()),
        None => drop(host.stop()),
    }
    settled.and_then(|()| check_end(host, scenario))?;
    Ok(begun.elapsed())
}

/// Dies at a share of all moments.
fn survive(death: Death) {
    if !trace::is_possible(&platform::binary()) {
        return;
    }
    let mut moments = Vec::new();
    for (scenario, steps) in SCENARIOS.iter().zip(recorded()) {
        // A script that is killed is a start that failed; tests/rollback.rs has those.
        let spares = |step: &Step| death == Death::Process && step.is_of_a_script();
        let steps = steps.iter();
        let steps = steps.filter(|step| is_point(step) && !spares(step));
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
        let died = die(scenario, key, *is_after, death);
        died.map_err(|why| format!("{}, {when} {key}: {why}", scenario.name))
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

//! Killed just before and just after every step that changes something, for each thing that the updater does: the
//! next start finds a whole version in force, runs one, and reaches what was desired; nothing is left lying about.
//!
//! The steps are system calls, seen from outside (`support::trace`): a first run records them by name, then there is
//! one run for each, killed there. `OPS_TEST_KILLS=all` takes every one and every kind of death.

use crate::support::calls::Change;
use crate::support::host::{Host, end_sandbox};
use crate::support::platform;
use crate::support::points::{Killer, Step};
use crate::support::scenarios::{SCENARIOS, Scenario, TWO_ROUNDS, check_whole, record, settle};
use crate::support::trace::{self, Traced, Verdict};
use crate::support::watch::running_below;
use std::collections::BTreeSet;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// So many sandboxes at once; they mostly wait.
const AT_ONCE: usize = 12;

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
    let (_, count) = step.key.rsplit_once('#').expect("a key has it");
    let most = match &step.change {
        Change::Spawn(_, word) if word == "status" || word == "beat" => 2,
        Change::Tell => 3,
        // Whether a beat is under way when the run is ended is chance.
        Change::Signal(_) => 0,
        _ if step.key.starts_with("beat") => 2,
        _ => 6,
    };
    count.parse::<usize>().expect("a number") <= most
}

/// How long after the death all was well again; none if the moment did not come.
fn die(
    scenario: &Scenario,
    key: &str,
    is_after: bool,
    death: Death,
) -> Result<Option<Duration>, String> {
    let mut host = Host::new();
    (scenario.prepare)(&mut host);
    let verdict = match death {
        Death::Process => Verdict::KillOne,
        Death::Updater | Death::Host => Verdict::KillAll,
    };
    let killer = Killer::new(host.dir.clone(), key, is_after, verdict);
    let hit = killer.hit.clone();
    let traced = host.start_traced(false, killer);
    let begun = Instant::now();
    while !hit.load(Ordering::Relaxed) {
        if begun.elapsed() > TWO_ROUNDS {
            traced.end();
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(10));
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
    settled?;
    for home in ["work/demo", "new/demo"] {
        check_whole(host, &host.dir.join(home))?;
    }
    let runs = running_below(&host.dir);
    let wanted = usize::from(scenario.name != "stop");
    if runs.len() != wanted {
        return Err(format!("{} run at the end", runs.len()));
    }
    match fs::read_to_string(host.dir.join("twice")) {
        Ok(text) => Err(format!("two ran at once: {text}")),
        Err(_) => Ok(begun.elapsed()),
    }
}

/// A kind of death at a share of all moments, and what came of it.
struct Trial {
    death: Death,
    moments: Vec<(&'static Scenario, String, bool)>,
    next: AtomicUsize,
    /// Runs in which the moment did not come: what happens when is not the same in every run.
    missed: AtomicUsize,
    longest: Mutex<Duration>,
    failed: Mutex<Vec<String>>,
}

impl Trial {
    fn new(death: Death) -> Self {
        let mut moments = Vec::new();
        for scenario in &SCENARIOS {
            // A script that is killed is a start that failed; tests/rollback.rs has those.
            let spares = |step: &Step| death == Death::Process && step.is_of_a_script();
            let steps = record(scenario).into_iter();
            let steps = steps.filter(|step| is_point(step) && !spares(step));
            let keys: BTreeSet<_> = steps.map(|step| step.key).collect();
            for key in keys {
                moments.push((scenario, key.clone(), false));
                moments.push((scenario, key, true));
            }
        }
        Self {
            death,
            moments,
            next: AtomicUsize::new(0),
            missed: AtomicUsize::new(0),
            longest: Mutex::default(),
            failed: Mutex::default(),
        }
    }

    /// Dies at one moment after the other until none is left.
    fn work(&self) {
        while let Some((scenario, key, is_after)) =
            self.moments.get(self.next.fetch_add(1, Ordering::Relaxed))
        {
            match die(scenario, key, *is_after, self.death) {
                Ok(Some(time)) => {
                    let mut longest = self.longest.lock().expect("nobody panicked");
                    *longest = time.max(*longest);
                }
                Ok(None) => {
                    self.missed.fetch_add(1, Ordering::Relaxed);
                }
                Err(why) => {
                    let when = if *is_after { "after" } else { "before" };
                    let failure = format!("{}, {when} {key}: {why}", scenario.name);
                    self.failed.lock().expect("nobody panicked").push(failure);
                }
            }
        }
    }
}

/// Every `share`th moment from the `first` on, unless all are asked for.
fn survive(death: Death, first: usize, share: usize) {
    if !trace::is_possible(&platform::binary()) {
        return;
    }
    let mut trial = Trial::new(death);
    let all = trial.moments.len();
    if !std::env::var("OPS_TEST_KILLS").is_ok_and(|text| text == "all") {
        let some = trial.moments.into_iter().skip(first).step_by(share);
        trial.moments = some.collect();
    }
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| trial.work());
        }
    });
    let (count, missed) = (trial.moments.len(), trial.missed.into_inner());
    let failed = trial.failed.into_inner().expect("nobody panicked");
    let longest = trial.longest.into_inner().expect("nobody panicked");
    eprintln!(
        "death of the {death:?} at {count} of {all} moments: {} survived, {missed} did not come, all was well within {:.1} s",
        count - missed - failed.len(),
        longest.as_secs_f32()
    );
    assert!(
        failed.is_empty(),
        "{} of {count}:\n{}",
        failed.len(),
        failed.join("\n")
    );
    assert!(
        missed * 20 <= count,
        "{missed} of {count} moments did not come"
    );
}

#[test]
fn killed_at_every_step_it_converges() {
    survive(Death::Updater, 0, 2);
}

#[test]
fn with_any_process_of_it_killed_at_every_step_it_converges() {
    survive(Death::Process, 1, 4);
}

#[test]
fn with_the_host_reset_at_every_step_it_converges() {
    survive(Death::Host, 2, 4);
}

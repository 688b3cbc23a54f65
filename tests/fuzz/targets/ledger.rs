//! var/ledger.json, and the plan that follows from it.
#![no_main]

use std::fs;
use std::path::Path;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use ops_updater::json;
use ops_updater::model::Observation;
use ops_updater::model::{
    AgentName, AgentState, Build, Desired, Failure, Fault, Observed, Step, Task, Version, WireAgent,
};
use ops_updater::plan;
use ops_updater::plan::history::AgentHistory;
use ops_updater::plan::schedule;
use ops_updater::store::ledger::{self, Ledger};
use ops_updater_fuzz::bench;

const INTERVAL: Duration = Duration::from_secs(300);
const DAY: u64 = 86_400;

fuzz_target!(|bytes: &[u8]| {
    let dir = bench::dir("ledger");
    let file = dir.join("ledger.json");
    bench::put(&file, bytes);
    let mut ledger = ledger::load(&file, bench::NOW);
    let written = json::to_string(&ledger);
    check_aside(&file, bytes);
    for (name, history) in &ledger.agents {
        assert!(AgentName::parse(name.as_str()).is_some());
        check_clamped(history);
    }
    bench::put(&file, written.as_bytes());
    let again = ledger::load(&file, bench::NOW);
    assert_eq!(json::to_string(&again), written, "read again it is another");
    let named = AgentName::parse("demo").expect("a name");
    ledger.forget_unnamed(|name| *name == named);
    for history in ledger.agents.values_mut() {
        live_with(history);
    }
});

/// A file that is not a ledger is set aside unchanged.
fn check_aside(file: &Path, bytes: &[u8]) {
    let aside = file.with_extension("json.corrupt");
    let is_ledger = std::str::from_utf8(bytes).is_ok_and(|t| Ledger::read(t).is_some());
    assert_eq!(file.exists(), is_ledger);
    if !is_ledger {
        assert_eq!(fs::read(&aside).expect("it was set aside"), bytes);
        fs::remove_file(&aside).expect("it is ours");
    }
}

fn check_clamped(history: &AgentHistory) {
    assert!(history.retry_at <= bench::NOW + DAY);
    let aside = history.set_aside.iter();
    assert!(
        aside
            .map(|aside| aside.retry_at)
            .all(|at| at <= bench::NOW + DAY)
    );
    assert!(
        history.restart_at <= bench::NOW + schedule::restart_delay(u32::MAX, history.crash_loop)
    );
    assert!(history.deaths.iter().all(|at| *at <= bench::NOW));
    assert!(
        history
            .next_try(bench::NOW)
            .is_none_or(|at| at > bench::NOW)
    );
}

/// Every history has a plan, and what is recorded after it stays within its limits.
fn live_with(history: &mut AgentHistory) {
    let wire = WireAgent {
        name: "demo".to_owned(),
        version: "2".to_owned(),
        tarball: "http://x".to_owned(),
        cmd: "start".to_owned(),
        ..WireAgent::default()
    };
    let desired = Desired::check(&wire, &bench::own()).expect("valid");
    for state in [
        AgentState::Started,
        AgentState::Stopped,
        AgentState::NotInstalled,
        AgentState::Unrecognized,
    ] {
        let mut at_desired = Observed::empty(desired.location.clone());
        at_desired.current = Version::parse("1").map(|version| Build {
            version,
            md5: String::new(),
        });
        at_desired.whole = true;
        at_desired.state = state;
        history.fold_observed(&desired, &at_desired, bench::NOW);
        let observation = Observation {
            name: desired.name.clone(),
            at_desired,
            elsewhere: None,
        };
        for task in plan::steps(&desired, &observation, history, bench::NOW) {
            try_both(history, &task, &observation.at_desired);
        }
    }
    history.fold_desired("another", "another");
    assert!(!history.is_waiting(bench::NOW) && history.deaths.is_empty());
}

fn try_both(history: &AgentHistory, task: &Task, observed: &Observed) {
    let is_known = history
        .last_good
        .iter()
        .any(|spot| spot.location == task.location);
    assert!(
        is_known || task.location == observed.location,
        "{task} in {:?}",
        task.location
    );
    for fault in [Fault::Host, Fault::Version] {
        let mut failed = history.clone();
        let why = Failure {
            fault,
            error: "why".to_owned(),
        };
        let moves = matches!(task.step, Step::Start(_)) && task.location != observed.location;
        failed.fold_failure(task, &why, moves, bench::NOW, INTERVAL);
        check_folded(&failed, history);
    }
    let mut done = history.clone();
    done.fold_success(task, Some(observed), bench::NOW, INTERVAL);
    check_folded(&done, history);
    if let Step::Prune(keep) = &task.step {
        assert!(
            observed
                .current
                .iter()
                .all(|build| keep.contains(&build.version))
        );
    }
}

fn check_folded(history: &AgentHistory, before: &AgentHistory) {
    assert!(history.deaths.len() <= before.deaths.len().max(5));
    assert!(history.retry_at <= bench::NOW + DAY);
    assert!(history.restart_at <= bench::NOW + 3600);
}

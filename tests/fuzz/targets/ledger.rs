//! var/ledger.json, and what the planner makes of it.
#![no_main]

use std::fs;
use std::path::Path;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use ops_updater::model::{
    AgentName, Build, Desired, Failure, Fault, Site, State, Step, Task, Version, WireAgent,
};
use ops_updater::plan::{self, Seen};
use ops_updater::record::{self, Ledger, Memory};
use ops_updater::{bench, fields, schedule};

const INTERVAL: Duration = Duration::from_secs(300);
const DAY: u64 = 86_400;

fuzz_target!(|bytes: &[u8]| {
    let dir = bench::dir("ledger");
    let file = dir.join("ledger.json");
    bench::put(&file, bytes);
    let mut ledger = record::load(&file, bench::NOW);
    let written = fields::write(&mut ledger);
    check_aside(&file, bytes);
    for (name, memory) in ledger.agents.iter_mut() {
        assert!(AgentName::parse(name.as_str()).is_some());
        check_clamped(memory);
    }
    bench::put(&file, written.as_bytes());
    let mut again = record::load(&file, bench::NOW);
    assert_eq!(
        fields::write(&mut again),
        written,
        "read again it is another"
    );
    let named = AgentName::parse("demo").expect("a name");
    ledger.forget_unnamed(|name| *name == named);
    for (_, memory) in ledger.agents.iter_mut() {
        live_with(memory);
    }
});

/// What is no ledger is set aside, byte for byte.
fn check_aside(file: &Path, bytes: &[u8]) {
    let aside = file.with_extension("json.corrupt");
    let is_ledger = std::str::from_utf8(bytes).is_ok_and(|t| fields::read::<Ledger>(t).is_some());
    assert_eq!(file.exists(), is_ledger);
    if !is_ledger {
        assert_eq!(fs::read(&aside).expect("it was set aside"), bytes);
        fs::remove_file(&aside).expect("it is ours");
    }
}

fn check_clamped(memory: &Memory) {
    assert!(memory.retry_at <= bench::NOW + DAY);
    assert!(memory.restart_at <= bench::NOW + schedule::restart_delay(u32::MAX, memory.crash_loop));
    assert!(memory.deaths.iter().all(|at| *at <= bench::NOW));
    assert!(memory.next_try(bench::NOW).is_none_or(|at| at > bench::NOW));
}

/// Whatever was remembered, an agent is planned for, and what becomes of it is remembered within bounds.
fn live_with(memory: &mut Memory) {
    let wire = WireAgent {
        name: "demo".to_owned(),
        version: "2".to_owned(),
        tarball: "http://x".to_owned(),
        cmd: "start".to_owned(),
        ..WireAgent::default()
    };
    let desired = Desired::check(&wire, &bench::own()).expect("valid");
    for state in [State::Started, State::Stopped, State::Absent, State::Other] {
        let mut here = Site::empty(desired.place.clone());
        here.current = Version::parse("1").map(|version| Build {
            version,
            md5: String::new(),
        });
        here.whole = true;
        here.state = state;
        memory.fold_observed(&desired, &here, bench::NOW);
        let seen = Seen { here, there: None };
        for task in plan::steps(&desired, &seen, memory, bench::NOW) {
            try_both(memory, &task, &seen.here);
        }
    }
    memory.fold_desired("another");
    assert!(!memory.is_waiting(bench::NOW) && memory.deaths.is_empty());
}

fn try_both(memory: &Memory, task: &Task, site: &Site) {
    let is_known = memory.proven.iter().any(|spot| spot.place == task.place);
    assert!(
        is_known || task.place == site.place,
        "{task} in {:?}",
        task.place
    );
    for fault in [Fault::Host, Fault::Version] {
        let mut failed = memory.clone();
        let why = Failure {
            fault,
            error: "why".to_owned(),
        };
        let moves = matches!(task.step, Step::Start(_)) && task.place != site.place;
        failed.fold_failure(task, &why, moves, bench::NOW, INTERVAL);
        check_folded(&failed, memory);
    }
    let mut done = memory.clone();
    done.fold_success(task, Some(site), bench::NOW, INTERVAL);
    check_folded(&done, memory);
    if let Step::Prune(keep) = &task.step {
        assert!(
            site.current
                .iter()
                .all(|build| keep.contains(&build.version))
        );
    }
}

fn check_folded(memory: &Memory, before: &Memory) {
    assert!(memory.deaths.len() <= before.deaths.len().max(5));
    assert!(memory.retry_at <= bench::NOW + DAY);
    assert!(memory.restart_at <= bench::NOW + 3600);
}

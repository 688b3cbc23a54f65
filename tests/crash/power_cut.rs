//! The power is cut between any two steps. The version in force, every visible version and every file of the updater
//! are whole, whichever unsynced changes the disk has kept. The test simulates this on the recorded steps of real runs.

use crate::support::agent::Agent;
use crate::support::calls::Change;
use crate::support::host::Host;
use crate::support::platform;
use crate::support::points::{Recorder, Step};
use crate::support::power::{Disk, Found};
use crate::support::scenarios::{
    SCENARIOS, Scenario, TWO_ROUNDS, agent, all_agents, bad, rebuilt, settle,
};
use crate::support::trace;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const DESIRED: &str = "updater/desired_agent.json";
const LEDGER: &str = "updater/var/ledger.json";
const VERSION: &str = "work/demo/.version";
const NEW_VERSION: &str = "new/demo/.version";

/// The recorded steps of a whole run, and the disk as it was before the run.
struct Run {
    scenario: &'static Scenario,
    dir: PathBuf,
    before: Disk,
    steps: Vec<Step>,
}

fn record(scenario: &'static Scenario, recorder: fn(PathBuf) -> Recorder) -> Run {
    let mut host = Host::new();
    (scenario.prepare)(&mut host);
    let dir = host.dir.clone();
    let before = Disk::of(&dir);
    let traced = host.start_traced(false, recorder(dir.clone()));
    let settled = settle(&host, scenario);
    let steps = traced.end().steps;
    settled.unwrap_or_else(|why| panic!("{} within {TWO_ROUNDS:?}: {why}", scenario.name));
    Run {
        scenario,
        dir,
        before,
        steps,
    }
}

/// Returns the agent that must be whole on the disk before the old version is stopped, and its directory.
fn replacement(scenario: &Scenario) -> Option<(&'static str, Agent)> {
    match scenario.name {
        "upgrade" => Some(("work/demo/1.0.1", agent("1.0.1"))),
        "rollback" => Some(("work/demo/1.0.1", bad())),
        "rebuild of a version" => Some(("work/demo/.updater/1.0.0.other", rebuilt())),
        "relocation" => Some(("new/demo/1.0.0", agent("1.0.0"))),
        _ => None,
    }
}

impl Run {
    /// Cuts the power after each of these steps. Returns how many disks were checked, or what is wrong with one.
    fn check<'a>(&self, steps: impl Iterator<Item = &'a Step>) -> Result<usize, String> {
        let agents = all_agents();
        let mut disk = self.before.clone();
        let mut lasting: BTreeSet<PathBuf> = BTreeSet::new();
        let (mut checked, mut has_stopped) = (0, false);
        for step in steps {
            disk.apply(&step.change);
            let is_stop = matches!(&step.change, Change::Spawn(_, word) if word == "stop");
            let found = disk.after_a_cut();
            for found in &found {
                checked += 1;
                let check = DiskCheck {
                    run: self,
                    found,
                    agents: &agents,
                };
                check
                    .whole(&lasting)
                    .map_err(|why| format!("cut after {}: {why}", step.key))?;
                let relied_on = match &step.change {
                    Change::Spawn(_, word) if word == "stop" && !has_stopped => check.replaced(),
                    Change::Spawn(_, word) if word == "start" => {
                        check.lasts(&[VERSION, NEW_VERSION])
                    }
                    Change::Spawn(_, word) if word == "act" => check.lasts(&[DESIRED, LEDGER]),
                    _ => Ok(()),
                };
                relied_on.map_err(|why| format!("at {}: {why}", step.key))?;
            }
            has_stopped |= is_stop;
            let files = self.own_files().into_iter();
            lasting.extend(files.filter(|file| found.iter().all(|found| found.exists(file))));
        }
        for found in &disk.after_a_cut() {
            let check = DiskCheck {
                run: self,
                found,
                agents: &agents,
            };
            check.lasts(&[VERSION, NEW_VERSION, DESIRED, LEDGER])?;
        }
        Ok(checked)
    }

    /// Returns the files that are only ever replaced whole, and never removed.
    fn own_files(&self) -> Vec<PathBuf> {
        let files = [DESIRED, LEDGER, "updater/var/app.pid", VERSION];
        files.iter().map(|file| self.dir.join(file)).collect()
    }
}

/// The checks of one disk after the cut.
struct DiskCheck<'a> {
    run: &'a Run,
    found: &'a Found<'a>,
    agents: &'a [Agent],
}

impl DiskCheck<'_> {
    fn whole(&self, lasting: &BTreeSet<PathBuf>) -> Result<(), String> {
        for dir in ["work/demo", "new/demo"] {
            let dir = self.run.dir.join(dir);
            for name in self.found.names(&dir) {
                if !name.starts_with('.') && !self.is_whole(&dir.join(&name), &name) {
                    return Err(format!("{name} in {} is not whole", dir.display()));
                }
            }
            let file = dir.join(".version");
            let version = self.found.read(&file).map(String::from_utf8_lossy);
            let names_whole =
                version.is_some_and(|version| self.is_whole(&dir.join(&*version), &version));
            if self.found.exists(&file) && !names_whole {
                return Err(format!("{} names no whole version", file.display()));
            }
        }
        for file in self.run.own_files() {
            let is_good = self
                .found
                .read(&file)
                .is_some_and(|bytes| !bytes.is_empty());
            if self.found.exists(&file) && !is_good {
                return Err(format!("{} is empty or torn", file.display()));
            }
            if lasting.contains(&file) && !self.found.exists(&file) {
                return Err(format!("{} is gone", file.display()));
            }
        }
        Ok(())
    }

    /// Returns whether the directory holds every file of some build of this version, and its receipt.
    fn is_whole(&self, dir: &Path, version: &str) -> bool {
        let mut builds = self.agents.iter().filter(|agent| agent.version == version);
        builds.any(|agent| self.holds(dir, agent))
    }

    fn holds(&self, dir: &Path, agent: &Agent) -> bool {
        let control = agent.control(&self.run.dir);
        let is_same = |name: &str, bytes: &[u8]| self.found.read(&dir.join(name)) == Some(bytes);
        let receipt = self.found.read(&dir.join(".receipt.json"));
        receipt.is_some_and(|bytes| bytes.ends_with(b"}"))
            && is_same("control", control.as_bytes())
            && agent
                .files()
                .iter()
                .all(|(name, bytes)| is_same(name, bytes))
    }

    /// Checks that these files have the same content after the cut as before it.
    fn lasts(&self, files: &[&str]) -> Result<(), String> {
        for file in files {
            if !self.found.is_as_now(&self.run.dir.join(file)) {
                return Err(format!("{file} might have other content after a cut"));
            }
        }
        Ok(())
    }

    fn replaced(&self) -> Result<(), String> {
        match replacement(self.run.scenario) {
            Some((dir, agent)) if !self.holds(&self.run.dir.join(dir), &agent) => {
                Err(format!("stopped, but {dir} might be missing after a cut"))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// Records all scenarios. Returns no runs where tracing is impossible.
fn runs(recorder: fn(PathBuf) -> Recorder) -> Vec<Run> {
    if !trace::is_possible(&platform::binary()) {
        return Vec::new();
    }
    std::thread::scope(|scope| {
        let runs: Vec<_> = SCENARIOS
            .iter()
            .map(|scenario| scope.spawn(move || record(scenario, recorder)))
            .collect();
        runs.into_iter()
            .map(|run| run.join().expect("the run was recorded"))
            .collect()
    })
}

#[test]
fn a_power_cut_between_any_two_steps_leaves_whole_versions_and_files() {
    check_all(&runs(Recorder::new));
}

#[test]
fn the_same_holds_where_files_must_be_synced_one_by_one() {
    let runs = runs(Recorder::of_old_kernel);
    let mut steps = runs.iter().flat_map(|run| &run.steps);
    assert!(!steps.any(|step| matches!(step.change, Change::SyncAll(_))));
    check_all(&runs);
}

fn check_all(runs: &[Run]) {
    let (mut steps, mut disks, mut syncs) = (0, 0, 0);
    for run in runs {
        steps += run
            .steps
            .iter()
            .filter(|step| step.change.is_on_disk())
            .count();
        let checked = run.check(run.steps.iter());
        disks += checked.unwrap_or_else(|why| panic!("{}: {why}", run.scenario.name));
        syncs += every_sync_is_needed(run);
    }
    eprintln!(
        "power cut after each of {steps} steps: all {disks} disks are whole; each of {syncs} syncs is needed for this"
    );
}

/// Asserts that the check fails without the syncs of any one file or directory. Returns how many of these there are.
fn every_sync_is_needed(run: &Run) -> usize {
    let target = |step: &Step| match &step.change {
        Change::Sync(_) | Change::SyncAll(_) => step
            .key
            .split_once('#')
            .map(|(target, _)| target.to_owned()),
        _ => None,
    };
    let mut targets: BTreeSet<String> = run.steps.iter().filter_map(target).collect();
    // The updater never reads these two: one is for tools of the original, the other only tests that a write works.
    for file in ["var/app.pid.tmp", ".probe.tmp"] {
        targets.remove(&format!("daemon sync updater/{file} "));
    }
    if run.scenario.name != "rollback" {
        // Only a rollback uses this file.
        targets.retain(|target| !target.contains("version.back"));
    }
    for removed in &targets {
        let others = run
            .steps
            .iter()
            .filter(|step| target(step).as_ref() != Some(removed));
        let name = run.scenario.name;
        assert!(
            run.check(others).is_err(),
            "{name}: the sync of {removed} is not needed"
        );
    }
    targets.len()
}

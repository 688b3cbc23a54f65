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
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const DESIRED: &str = "updater/desired_agent.json";
const LEDGER: &str = "updater/var/ledger.json";
const VERSION: &str = "work/demo/.version";
const NEW_VERSION: &str = "new/demo/.version";
/// The files that are only ever replaced whole, and never removed.
const OWN_FILES: [&str; 4] = [DESIRED, LEDGER, "updater/var/app.pid", VERSION];

/// The recorded steps of a whole run, and the disk as it was before the run.
struct Run {
    scenario: &'static Scenario,
    before: Disk,
    steps: Vec<Step>,
    builds: Vec<Build>,
    replacement: Option<(&'static Path, Build)>,
}

/// A build of the agent, with the files of its directory.
struct Build {
    version: String,
    files: Vec<(String, Vec<u8>)>,
}

impl Build {
    fn of(agent: &Agent, sandbox: &Path) -> Self {
        let control = ("control".to_owned(), agent.control(sandbox).into_bytes());
        Self {
            version: agent.version.clone(),
            files: [&[control], agent.files()].concat(),
        }
    }
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
    let build = |agent: &Agent| Build::of(agent, &dir);
    Run {
        scenario,
        before,
        steps,
        builds: all_agents().iter().map(build).collect(),
        replacement: replacement(scenario).map(|(at, agent)| (Path::new(at), build(&agent))),
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
    fn start(&self) -> Moment<'_> {
        Moment {
            run: self,
            disk: self.before.clone(),
            lasting: BTreeSet::new(),
            has_stopped: false,
        }
    }
}

/// A run up to some step.
#[derive(Clone)]
struct Moment<'a> {
    run: &'a Run,
    disk: Disk,
    /// The files that a cut can no longer remove.
    lasting: BTreeSet<&'static str>,
    has_stopped: bool,
}

impl Moment<'_> {
    /// Makes one more step and cuts the power after it. Returns how many disks were checked, or what is wrong with one.
    fn check(&mut self, step: &Step) -> Result<usize, String> {
        self.disk.apply(&step.change);
        let found = self.disk.after_a_cut();
        for found in &found {
            let check = DiskCheck {
                run: self.run,
                found,
            };
            check
                .whole(&self.lasting)
                .map_err(|why| format!("cut after {}: {why}", step.key))?;
            let relied_on = match &step.change {
                Change::Spawn(_, word) if word == "stop" && !self.has_stopped => check.replaced(),
                Change::Spawn(_, word) if word == "start" => check.lasts(&[VERSION, NEW_VERSION]),
                Change::Spawn(_, word) if word == "act" => check.lasts(&[DESIRED, LEDGER]),
                _ => Ok(()),
            };
            relied_on.map_err(|why| format!("at {}: {why}", step.key))?;
        }
        self.has_stopped |= matches!(&step.change, Change::Spawn(_, word) if word == "stop");
        for file in OWN_FILES {
            let exists = |found: &Found| found.exists(Path::new(file));
            if !self.lasting.contains(file) && found.iter().all(exists) {
                self.lasting.insert(file);
            }
        }
        Ok(found.len())
    }

    /// Checks what must last when the run is over.
    fn check_end(&self) -> Result<(), String> {
        for found in &self.disk.after_a_cut() {
            let check = DiskCheck {
                run: self.run,
                found,
            };
            check.lasts(&[VERSION, NEW_VERSION, DESIRED, LEDGER])?;
        }
        Ok(())
    }

    /// Checks the rest of a run.
    fn check_all<'a>(mut self, steps: impl Iterator<Item = &'a Step>) -> Result<(), String> {
        for step in steps {
            self.check(step)?;
        }
        self.check_end()
    }
}

/// The checks of one disk after the cut.
struct DiskCheck<'a> {
    run: &'a Run,
    found: &'a Found<'a>,
}

impl DiskCheck<'_> {
    fn whole(&self, lasting: &BTreeSet<&str>) -> Result<(), String> {
        for dir in ["work/demo", "new/demo"].map(Path::new) {
            for name in self.found.names(dir) {
                if !name.starts_with('.') && !self.is_whole(dir, &name) {
                    return Err(format!("{name} in {} is not whole", dir.display()));
                }
            }
            let file = dir.join(".version");
            let version = self.found.read(&file).map(String::from_utf8_lossy);
            let names_whole = version.is_some_and(|version| self.is_whole(dir, &version));
            if !names_whole && self.found.exists(&file) {
                return Err(format!("{} names no whole version", file.display()));
            }
        }
        for file in OWN_FILES {
            let path = Path::new(file);
            if self.found.read(path).is_none_or(<[u8]>::is_empty) {
                if self.found.exists(path) {
                    return Err(format!("{file} is empty or torn"));
                }
                if lasting.contains(file) {
                    return Err(format!("{file} is gone"));
                }
            }
        }
        Ok(())
    }

    /// Returns whether the version's directory holds every file of some build of it, and its receipt.
    fn is_whole(&self, home: &Path, version: &str) -> bool {
        let mut builds = self
            .run
            .builds
            .iter()
            .filter(|build| build.version == version);
        builds.any(|build| self.holds(&home.join(version), build))
    }

    fn holds(&self, dir: &Path, build: &Build) -> bool {
        let read = |name: &str| self.found.read(&dir.join(name));
        read(".receipt.json").is_some_and(|bytes| bytes.ends_with(b"}"))
            && build
                .files
                .iter()
                .all(|(name, bytes)| read(name) == Some(bytes))
    }

    /// Checks that these files have the same content after the cut as before it.
    fn lasts(&self, files: &[&str]) -> Result<(), String> {
        for file in files {
            if !self.found.is_as_now(Path::new(file)) {
                return Err(format!("{file} might have other content after a cut"));
            }
        }
        Ok(())
    }

    fn replaced(&self) -> Result<(), String> {
        match &self.run.replacement {
            Some((dir, build)) if !self.holds(dir, build) => Err(format!(
                "stopped, but {} might be missing after a cut",
                dir.display()
            )),
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
        let mut moment = run.start();
        let mut unsynced = BTreeMap::new();
        for (at, step) in run.steps.iter().enumerate() {
            if let Some(target) = target(step) {
                let rest = || (moment.clone(), &run.steps[at..]);
                unsynced.entry(target).or_insert_with(rest);
            }
            let checked = moment.check(step);
            disks += checked.unwrap_or_else(|why| panic!("{}: {why}", run.scenario.name));
        }
        let end = moment.check_end();
        end.unwrap_or_else(|why| panic!("{}: {why}", run.scenario.name));
        syncs += every_sync_is_needed(run, unsynced);
    }
    eprintln!(
        "power cut after each of {steps} steps: all {disks} disks are whole; each of {syncs} syncs is needed for this"
    );
}

/// Returns the program and the file or directory that it syncs.
fn target(step: &Step) -> Option<&str> {
    let is_sync = matches!(step.change, Change::Sync(_) | Change::SyncAll(_));
    let (target, _) = step.key.split_once('#').filter(|_| is_sync)?;
    Some(target)
}

/// Asserts that the check fails without the syncs of any one file or directory: each comes with the run up to its first sync,
/// and the steps from there. Returns how many of these there are.
fn every_sync_is_needed<'a>(
    run: &Run,
    mut targets: BTreeMap<&'a str, (Moment<'a>, &'a [Step])>,
) -> usize {
    // The updater never reads these two: one is for tools of the original, the other only tests that a write works.
    for file in ["var/app.pid.tmp", ".probe.tmp"] {
        targets.remove(&*format!("daemon sync updater/{file} "));
    }
    if run.scenario.name != "rollback" {
        // Only a rollback uses this file.
        targets.retain(|target, _| !target.contains("version.back"));
    }
    let count = targets.len();
    for (removed, (moment, rest)) in targets {
        let others = rest.iter().filter(|step| target(step) != Some(removed));
        let name = run.scenario.name;
        assert!(
            moment.check_all(others).is_err(),
            "{name}: the sync of {removed} is not needed"
        );
    }
    count
}

//! The power is cut between any two steps: whatever of the unsynced changes the disk has kept, a version in force is
//! whole, and so is every version in sight and every file of our own. Shown on the recorded steps of real runs.

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

/// A run to its end, and the disk as it was before.
struct Run {
    scenario: &'static Scenario,
    dir: PathBuf,
    before: Disk,
    steps: Vec<Step>,
}

fn record(scenario: &'static Scenario) -> Run {
    let mut host = Host::new();
    (scenario.prepare)(&mut host);
    let dir = host.dir.clone();
    let before = Disk::of(&dir);
    let traced = host.start_traced(false, Recorder::new(dir.clone()));
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

/// What must be whole on the disk before the old version is stopped, and where.
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
    /// Cuts the power after each of these steps; how many disks were looked at. The error is what is wrong with one.
    fn check<'a>(&self, steps: impl Iterator<Item = &'a Step>) -> Result<usize, String> {
        let agents = all_agents();
        let mut disk = self.before.clone();
        let mut lasting: BTreeSet<PathBuf> = BTreeSet::new();
        let (mut looked, mut has_stopped) = (0, false);
        for step in steps {
            disk.apply(&step.change);
            let is_stop = matches!(&step.change, Change::Spawn(_, word) if word == "stop");
            let found = disk.after_a_cut();
            for found in &found {
                looked += 1;
                let state = Look {
                    run: self,
                    found,
                    agents: &agents,
                };
                state
                    .whole(&lasting)
                    .map_err(|why| format!("cut after {}: {why}", step.key))?;
                let relied_on = match &step.change {
                    Change::Spawn(_, word) if word == "stop" && !has_stopped => state.replaced(),
                    Change::Spawn(_, word) if word == "start" => {
                        state.lasts(&[VERSION, NEW_VERSION])
                    }
                    Change::Spawn(_, word) if word == "act" => state.lasts(&[DESIRED, LEDGER]),
                    _ => Ok(()),
                };
                relied_on.map_err(|why| format!("at {}: {why}", step.key))?;
            }
            has_stopped |= is_stop;
            let files = self.own_files().into_iter();
            lasting.extend(files.filter(|file| found.iter().all(|found| found.exists(file))));
        }
        for found in &disk.after_a_cut() {
            let state = Look {
                run: self,
                found,
                agents: &agents,
            };
            state.lasts(&[VERSION, NEW_VERSION, DESIRED, LEDGER])?;
        }
        Ok(looked)
    }

    /// Files that are replaced whole, and once they are there never go.
    fn own_files(&self) -> Vec<PathBuf> {
        let files = [DESIRED, LEDGER, "updater/var/app.pid", VERSION];
        files.iter().map(|file| self.dir.join(file)).collect()
    }
}

/// One disk after the cut.
struct Look<'a> {
    run: &'a Run,
    found: &'a Found<'a>,
    agents: &'a [Agent],
}

impl Look<'_> {
    fn whole(&self, lasting: &BTreeSet<PathBuf>) -> Result<(), String> {
        for home in ["work/demo", "new/demo"] {
            let home = self.run.dir.join(home);
            for name in self.found.names(&home) {
                if !name.starts_with('.') && !self.is_whole(&home.join(&name), &name) {
                    return Err(format!("{name} in {} is not whole", home.display()));
                }
            }
            let file = home.join(".version");
            let version = self.found.read(&file).map(String::from_utf8_lossy);
            let names_whole =
                version.is_some_and(|version| self.is_whole(&home.join(&*version), &version));
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
                return Err(format!("{} was there and is gone", file.display()));
            }
        }
        Ok(())
    }

    /// Some build of this version, every file of it, with its receipt.
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

    /// What programs read there now is what they would read after the cut.
    fn lasts(&self, files: &[&str]) -> Result<(), String> {
        for file in files {
            if !self.found.is_as_now(&self.run.dir.join(file)) {
                return Err(format!("{file} might be another after a cut"));
            }
        }
        Ok(())
    }

    fn replaced(&self) -> Result<(), String> {
        match replacement(self.run.scenario) {
            Some((dir, agent)) if !self.holds(&self.run.dir.join(dir), &agent) => {
                Err(format!("stopped, and {dir} might not be there after a cut"))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// The runs, or none where nothing can be traced.
fn runs() -> Vec<Run> {
    if !trace::is_possible(&platform::binary()) {
        return Vec::new();
    }
    std::thread::scope(|scope| {
        let runs: Vec<_> = SCENARIOS
            .iter()
            .map(|scenario| scope.spawn(|| record(scenario)))
            .collect();
        runs.into_iter()
            .map(|run| run.join().expect("it was recorded"))
            .collect()
    })
}

#[test]
fn a_power_cut_between_any_two_steps_leaves_whole_versions_and_files() {
    let (mut steps, mut disks, mut syncs) = (0, 0, 0);
    for run in &runs() {
        steps += run
            .steps
            .iter()
            .filter(|step| step.change.is_on_disk())
            .count();
        let looked = run.check(run.steps.iter());
        disks += looked.unwrap_or_else(|why| panic!("{}: {why}", run.scenario.name));
        syncs += every_sync_is_needed(run);
    }
    eprintln!(
        "power cut after each of {steps} steps: {disks} disks are whole; without any of {syncs} syncs one is not"
    );
}

/// Without the syncs of any one file or directory the check fails. How many there are.
fn every_sync_is_needed(run: &Run) -> usize {
    let place = |step: &Step| match &step.change {
        Change::Sync(_) => step.key.split_once('#').map(|(place, _)| place.to_owned()),
        _ => None,
    };
    let mut places: BTreeSet<String> = run.steps.iter().filter_map(place).collect();
    // For tools of the original, nothing of ours reads it; and a file that only shows that one can be written.
    for file in ["var/app.pid.tmp", ".probe.tmp"] {
        places.remove(&format!("daemon sync updater/{file} "));
    }
    if run.scenario.name != "rollback" {
        // The way back, which is not taken.
        places.retain(|place| !place.contains("version.back"));
    }
    for removed in &places {
        let others = run
            .steps
            .iter()
            .filter(|step| place(step).as_ref() != Some(removed));
        let name = run.scenario.name;
        assert!(
            run.check(others).is_err(),
            "{name}: no harm without {removed}"
        );
    }
    places.len()
}

//! A host runs out of processes or of descriptors at any moment. The agent runs on, and the updater recovers once there
//! are some again.

use crate::support::host::Host;
use crate::support::platform;
use crate::support::scenarios::{SAME_MOMENT, SCENARIOS, Scenario, recover, settle};
use crate::support::trace::{self, Call, Verdict, Watch};
use crate::support::trial::{self, Outcome, comes};
use crate::support::watch::running_below;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Returns the resource that a call takes, and the error when the host has none left.
fn resource(call: &Call) -> Option<(&'static str, i32)> {
    Some(match call.nr {
        libc::SYS_fork | libc::SYS_vfork | libc::SYS_clone => ("process", libc::EAGAIN),
        libc::SYS_execve => ("program", libc::ENOMEM),
        libc::SYS_pipe | libc::SYS_pipe2 => ("pipe", libc::EMFILE),
        libc::SYS_socket => ("socket", libc::EMFILE),
        libc::SYS_memfd_create => ("memory file", libc::EMFILE),
        libc::SYS_open | libc::SYS_openat => ("file", libc::ENFILE),
        _ => return None,
    })
}

/// Lets every call that takes a resource fail from some moment on, or only the call at that moment.
struct Starver {
    counts: HashMap<String, usize>,
    /// The call at which it begins. When empty, it only records.
    key: String,
    is_single: bool,
    seen: BTreeSet<String>,
    hit: Arc<AtomicBool>,
    healed: Arc<AtomicBool>,
}

impl Starver {
    fn new(key: &str, is_single: bool) -> Self {
        Self {
            counts: HashMap::new(),
            key: key.to_owned(),
            is_single,
            seen: BTreeSet::new(),
            hit: Arc::default(),
            healed: Arc::default(),
        }
    }
}

impl Watch for Starver {
    fn enter(&mut self, call: &Call) -> Verdict {
        let Some((what, errno)) = resource(call) else {
            return Verdict::Go;
        };
        let name = format!("{} {what}", call.role);
        let count = self.counts.entry(name.clone()).or_default();
        *count += 1;
        let key = format!("{name} #{count}");
        if *count <= 8 {
            self.seen.insert(key.clone());
        }
        let is_moment = key == self.key;
        if is_moment {
            self.hit.store(true, Ordering::Relaxed);
        }
        let is_on = self.hit.load(Ordering::Relaxed) && !self.healed.load(Ordering::Relaxed);
        if is_moment || is_on && !self.is_single {
            return Verdict::Fail(errno);
        }
        Verdict::Go
    }

    fn leave(&mut self, _call: &Call, _result: i64) -> Verdict {
        Verdict::Go
    }
}

fn record(scenario: &Scenario) -> BTreeSet<String> {
    let mut host = Host::new();
    (scenario.prepare)(&mut host);
    let traced = host.start_traced(false, Starver::new("", true));
    let settled = settle(&host, scenario);
    let seen = traced.end().seen;
    settled.unwrap_or_else(|why| panic!("{}: {why}", scenario.name));
    seen
}

fn starve(scenario: &Scenario, key: &str, is_single: bool) -> Outcome {
    let mut host = Host::new();
    (scenario.prepare)(&mut host);
    let before = running_below(&host.dir).len();
    let starver = Starver::new(key, is_single);
    let (hit, healed) = (starver.hit.clone(), starver.healed.clone());
    let traced = host.start_traced(false, starver);
    if !comes(SAME_MOMENT, || hit.load(Ordering::Relaxed)) {
        traced.end();
        return Ok(None);
    }
    if !is_single {
        // This is long enough for the current work to fail, and to be tried again.
        let heartbeats = host.meta.count_beats();
        comes(Duration::from_secs(3), || {
            traced.has_ended() || host.meta.count_beats() > heartbeats + 3
        });
    }
    healed.store(true, Ordering::Relaxed);
    let result = recover(&mut host, scenario, traced, Ok(()));
    let result = result.map_err(|why| format!("{why}; {before} ran before"));
    result.map(Some)
}

#[test]
fn a_host_without_processes_or_descriptors_at_any_moment_costs_no_agent_and_no_upgrade() {
    if !trial::is_asked() || !trace::is_possible(&platform::binary()) {
        return;
    }
    let mut moments = Vec::new();
    for scenario in SCENARIOS
        .iter()
        .filter(|one| ["upgrade", "relocation", "restart of a dead agent"].contains(&one.name))
    {
        for key in record(scenario) {
            moments.push((scenario, key.clone(), true));
            moments.push((scenario, key, false));
        }
    }
    let what = format!(
        "a host without resources at one of {} moments",
        moments.len()
    );
    let moments = trial::share_of(moments);
    trial::survive(&what, &moments, |(scenario, key, is_single)| {
        let once = if *is_single { "once" } else { "from then on" };
        let starved = starve(scenario, key, *is_single);
        starved.map_err(|why| format!("{}, {key} {once}: {why}", scenario.name))
    });
}

/// The daemon's own files record where the agent ran before its move. If it took them for missing, it would start the
/// agent twice.
#[test]
fn started_without_descriptors_it_takes_nothing_of_its_own_for_missing() {
    if !trace::is_possible(&platform::binary()) {
        return;
    }
    let mut scenarios = SCENARIOS.iter();
    let moves = scenarios.find(|one| one.name == "relocation");
    let moves = moves.expect("a relocation");
    let keys = record(moves).into_iter();
    let moments: Vec<_> = keys
        .filter(|key| key.starts_with("daemon file"))
        .flat_map(|key| [(key.clone(), true), (key, false)])
        .collect();
    let what = format!("no file can be opened at one of {} moments", moments.len());
    trial::survive(&what, &moments, |(key, is_single)| {
        let starved = starve(moves, key, *is_single);
        starved.map_err(|why| format!("{key}, once: {is_single}: {why}"))
    });
}

//! The agents of this host: what is desired, what was seen, what is remembered, and from these the next task of each.
//! Folds what the daemon's children report and keeps it on disk; starts nothing itself.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::digest;
use crate::disk;
use crate::error::Result;
use crate::fields::{self, Field, Json};
use crate::heartbeat;
use crate::job::{Event, Reported, SeenAgent};
use crate::log;
use crate::model::{
    AgentName, Cmd, Desired, Failure, Fault, Own, Place, Refusal, Release, Site, State, Step, Task,
    Version, WireAgent,
};
use crate::named::Named;
use crate::overrides::Overrides;
use crate::plan::{self, Seen};
use crate::record::{self, Ledger};
use crate::report::{self, AgentStatus, Status};

/// Another one after each start of the kernel.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// More than 10,000 agents; what is larger is no desired state, nor a status.
pub const SAVED_LIMIT: u64 = 16 << 20;

pub struct Roster {
    own: Own,
    desired_file: PathBuf,
    ledger_file: PathBuf,
    /// As the server wishes them, and as they are followed here.
    agents: Vec<(WireAgent, Desired)>,
    overrides: Overrides,
    /// In which state each was last seen, and since when.
    since: Named<Since>,
    refused: Vec<Refusal>,
    /// Where in `agents`.
    places: Named<usize>,
    seen: Named<Seen>,
    ledger: Ledger,
    boot: String,
    /// The text of the ledger on disk.
    saved: String,
    /// It may differ from that. To print it is to see, but costs as much as it holds, and the daemon wakes often.
    is_ledger_touched: bool,
    /// The desired state in memory is not yet the one on disk.
    is_desired_unsaved: bool,
}

impl Roster {
    /// What the last run, or the original updater, left in the directory.
    pub fn load(own_dir: &Path, user: &str, now: u64) -> Self {
        let ledger_file = own_dir.join("var/ledger.json");
        let mut ledger = record::load(&ledger_file, now);
        // Elsewhere than on Linux no boot is told from another, and none is counted.
        let boot = disk::read_small(Path::new(BOOT_ID), 64).unwrap_or_default();
        let saved = fields::write(&mut ledger);
        for (_, memory) in ledger.agents.iter_mut() {
            memory.fold_boot(&boot, now);
        }
        let mut roster = Self {
            own: Own {
                dir: own_dir.to_string_lossy().into_owned(),
                user: user.to_owned(),
            },
            desired_file: own_dir.join("desired_agent.json"),
            ledger_file,
            agents: Vec::new(),
            overrides: Overrides::load(own_dir),
            since: Named::default(),
            refused: Vec::new(),
            places: Named::default(),
            seen: Named::default(),
            saved,
            boot,
            is_ledger_touched: false,
            ledger,
            is_desired_unsaved: false,
        };
        let saved = roster.load_desired();
        roster.replace_agents(saved);
        roster
    }

    /// Removes what was left by a daemon that was killed; to be called by its successor alone.
    pub fn tidy(&self) {
        disk::remove_aside(&self.desired_file);
        disk::remove_aside(&self.ledger_file);
        disk::remove_aside(&report::file(Path::new(&self.own.dir)));
    }

    fn load_desired(&self) -> Vec<WireAgent> {
        let file = self.desired_file.display();
        let text = match disk::read_patiently(&self.desired_file, SAVED_LIMIT) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => {
                log::warn(format_args!(
                    "cannot read {file}: {error}; the server's next answer replaces it"
                ));
                return Vec::new();
            }
        };
        let Some(entries) = heartbeat::saved(&text) else {
            log::warn(format_args!(
                "cannot use {file}: it is no list of agents; the server's next answer replaces it"
            ));
            return Vec::new();
        };
        let (accepted, refused) = heartbeat::sort(entries, &self.own);
        for refusal in refused {
            log::warn(format_args!("{file}: {refusal}"));
        }
        accepted
    }

    fn replace_agents(&mut self, wires: Vec<WireAgent>) {
        self.is_ledger_touched = true;
        self.agents.clear();
        self.places = Named::default();
        for wire in wires {
            let mut followed = self.overrides.apply(&wire);
            let Ok(desired) = Desired::check(&followed, &self.own) else {
                continue;
            };
            self.places.insert(desired.name.clone(), self.agents.len());
            let entry = digest::hex(fields::write(&mut followed).as_bytes());
            self.ledger.agents.entry(&desired.name).fold_desired(&entry);
            self.agents.push((wire, desired));
        }
    }

    /// Follows what an operator asks for from now on.
    pub fn heed(&mut self, overrides: Overrides) {
        let old = std::mem::replace(&mut self.overrides, overrides);
        if old.hold != self.overrides.hold {
            log::info(format_args!(
                "{}",
                match self.overrides.hold.as_str() {
                    "" => "this host is released".to_owned(),
                    why => format!("this host is held, nothing is changed: {why}"),
                }
            ));
        }
        let mut is_changed = false;
        for (_, desired) in &self.agents {
            let name = &desired.name;
            let pin = self.overrides.pins.get(name);
            if pin != old.pins.get(name) {
                is_changed = true;
                let pin = pin.map_or("nothing any more", Version::as_str);
                log::info(format_args!("{name}: pinned to {pin}"));
            }
        }
        if is_changed {
            let wires = std::mem::take(&mut self.agents);
            self.replace_agents(wires.into_iter().map(|(wire, _)| wire).collect());
        }
    }

    pub fn hold(&self) -> &str {
        &self.overrides.hold
    }

    fn pin(&self, name: &AgentName) -> String {
        let pin = self.overrides.pins.get(name);
        pin.map(ToString::to_string).unwrap_or_default()
    }

    /// Forgets what went wrong with the agent, if there is one of that name.
    pub fn retry(&mut self, name: &AgentName) {
        if let Some(memory) = self.ledger.agents.get_mut(name) {
            memory.fold_retry();
            self.is_ledger_touched = true;
            log::info(format_args!("{name}: tried again, an operator wants it"));
        }
    }

    /// Takes over a new desired state. An answer that names nobody changes nothing; an entry that is refused leaves the
    /// last good one of that name in force.
    pub fn accept(&mut self, mut agents: Vec<WireAgent>, refused: Vec<Refusal>) {
        for refusal in refused
            .iter()
            .filter(|refusal| !self.refused.contains(refusal))
        {
            log::warn(format_args!("{refusal}"));
        }
        for (wire, _) in &self.agents {
            let is_refused = refused.iter().any(|refusal| refusal.name == wire.name);
            if is_refused && agents.iter().all(|agent| agent.name != wire.name) {
                agents.push(wire.clone());
            }
        }
        self.refused = refused;
        if agents.is_empty() || agents.iter().eq(self.agents.iter().map(|(wire, _)| wire)) {
            return;
        }
        self.replace_agents(agents);
        self.is_desired_unsaved = true;
        let places = &self.places;
        self.seen.retain(|name, _| places.get(name).is_some());
        self.ledger
            .forget_unnamed(|name| places.get(name).is_some());
    }

    pub fn names(&self) -> Vec<AgentName> {
        self.agents
            .iter()
            .map(|(_, desired)| desired.name.clone())
            .collect()
    }

    pub fn desired(&self, name: &AgentName) -> Option<&Desired> {
        let at = self.places.get(name)?;
        self.agents.get(*at).map(|(_, desired)| desired)
    }

    /// Whether a download of it is still of use.
    pub fn wants(&self, name: &AgentName, release: &Release, place: &Place) -> bool {
        let desired = self.desired(name);
        let is_held = !self.overrides.hold.is_empty();
        desired.is_some_and(|d| {
            !is_held && d.cmd == Cmd::Start && d.release == *release && d.place == *place
        })
    }

    /// Folds one look at an agent to which nothing is being done.
    pub fn observe(&mut self, seen: SeenAgent, now: u64) {
        let Some(desired) = self.desired(&seen.name).cloned() else {
            return;
        };
        self.is_ledger_touched = true;
        let memory = self.ledger.agents.entry(&seen.name);
        let name = seen.name;
        let seen = Seen {
            here: seen.here,
            there: seen.there,
        };
        let home = seen.home();
        memory.fold_observed(&desired, home, now);
        if !matches!(home.state, State::Absent | State::Stopped) {
            // Whatever it says, if it is wished elsewhere before it has said started, it must be found again.
            memory.may_run_at(&home.place);
        }
        self.since
            .insert(name.clone(), Since::of(home, self.since.get(&name), now));
        self.seen.insert(name, seen);
    }

    /// Since when, before this daemon was started, agents are in the states in which it finds them.
    pub fn recall(&mut self, status: &Status) {
        for agent in &status.agents {
            if let Some(name) = AgentName::parse(&agent.name) {
                let since = Since {
                    state: agent.state.clone(),
                    version: agent.version.clone(),
                    at: agent.since,
                };
                self.since.insert(name, since);
            }
        }
    }

    /// Folds the end of a task, and what the agent looked like right after it.
    pub fn finish(&mut self, done: Attempt, now: u64, interval: Duration) {
        let is_wanted = self.entry(&done.name) == done.entry;
        self.is_ledger_touched = true;
        let task = &done.task;
        let seen = self.seen.get(&done.name);
        let moves = matches!(task.step, Step::Start(_))
            && seen.is_some_and(|seen| seen.home().place != task.place);
        let memory = self.ledger.agents.entry(&done.name);
        if let Step::Start(build) | Step::Switch { to: build, .. } = &task.step
            && memory
                .begun
                .as_ref()
                .is_some_and(|begun| begun.build.satisfies(build))
        {
            // However it ended, the host has seen it.
            memory.begun = None;
        }
        let here = done.seen.as_ref().map(|seen| &seen.here);
        let since = here.map(|here| Since::of(here, self.since.get(&done.name), now));
        match &done.failure {
            // What failed was an older wish; it says nothing about this one.
            Some(_) if !is_wanted => {}
            Some(failure) => {
                memory.fold_failure(task, failure, moves, now, interval);
                // Its own act has seen the move end, and nothing runs there.
                if let Some(here) = here.filter(|here| here.state == State::Absent) {
                    memory.moving_to.retain(|place| *place != here.place);
                }
            }
            None => memory.fold_success(task, here, now, interval),
        }
        if let Some(since) = since {
            self.since.insert(done.name.clone(), since);
        }
        let desired_place = self
            .desired(&done.name)
            .map(|desired| desired.place.clone());
        match done.seen {
            Some(seen) => self.place_seen(seen, desired_place.as_ref()),
            // What was known is no more, and what it did nobody has told: it is looked at before anything else.
            None => {
                self.seen.remove(&done.name);
            }
        }
    }

    /// A task at the place where the agent lived before was a look at "there".
    fn place_seen(&mut self, seen: SeenAgent, desired: Option<&Place>) {
        match self.seen.get_mut(&seen.name) {
            Some(known) if desired != Some(&seen.here.place) => known.there = Some(seen.here),
            Some(known) => {
                known.here = seen.here;
                known.there = seen.there.or(known.there.take());
                // Once the agent runs well here, nothing is elsewhere any more.
                let proven = self.ledger.agents.get(&seen.name);
                let lives_here = proven.is_some_and(|memory| {
                    let spot = memory.proven.as_ref();
                    memory.moving_to.is_empty()
                        && spot.is_some_and(|spot| Some(&spot.place) == desired)
                });
                if lives_here {
                    known.there = None;
                }
            }
            None => {}
        }
    }

    /// The next task of an agent, or none: all is well, it is time to wait, or it was not looked at yet.
    pub fn next_task(&self, name: &AgentName, now: u64) -> Option<Task> {
        self.tasks(name, now)?.into_iter().next()
    }

    /// All that is to be done, as far as it can be told from here. None where it cannot.
    pub fn tasks(&self, name: &AgentName, now: u64) -> Option<Vec<Task>> {
        let desired = self.desired(name)?;
        let seen = self.seen.get(name)?;
        if seen.here.place != desired.place {
            // The look is older than the wish.
            return None;
        }
        if self.lacks_a_look(name) {
            return None;
        }
        let memory = self.ledger.agents.get(name)?;
        Some(if self.overrides.hold.is_empty() {
            plan::steps(desired, seen, memory, now)
        } else {
            plan::steps_while_held(desired, seen, memory, now)
        })
    }

    /// An agent that was seen here, but not yet where else it may run: it could be started twice.
    pub fn lacks_a_look(&self, name: &AgentName) -> bool {
        let (Some(seen), Some(desired)) = (self.seen.get(name), self.desired(name)) else {
            return false;
        };
        let there = self.elsewhere(name, &desired.place);
        there.is_some() && seen.there.as_ref().map(|site| &site.place) != there.as_ref()
    }

    /// Remembers, before it is begun, where a task starts the agent; a crash on the way must not leave two running.
    pub fn begin(&mut self, name: &AgentName, task: &Task) {
        self.is_ledger_touched = true;
        let Some(memory) = self.ledger.agents.get_mut(name) else {
            return;
        };
        if let Step::Start(build) | Step::Switch { to: build, .. } = &task.step {
            memory.may_run_at(&task.place);
            memory.fold_begun(build, &self.boot);
        }
    }

    /// Which wish the agent's failures belong to.
    pub fn entry(&self, name: &AgentName) -> String {
        let memory = self.ledger.agents.get(name);
        memory.map_or_else(String::new, |memory| memory.entry.clone())
    }

    /// Whether an agent that should run was found dead.
    pub fn is_down(&self, name: &AgentName) -> bool {
        let starts = self.desired(name).is_some_and(|d| d.cmd == Cmd::Start);
        starts
            && self
                .seen
                .get(name)
                .is_some_and(|seen| seen.home().is_down())
    }

    /// Where else the agent lives, or is to live, than at this place: there it must be looked at and stopped too.
    pub fn elsewhere(&self, name: &AgentName, place: &Place) -> Option<Place> {
        let desired = &self.desired(name)?.place;
        let memory = self.ledger.agents.get(name)?;
        let proven = memory.proven.iter().map(|spot| &spot.place);
        let mut places = proven.chain(&memory.moving_to).chain([desired]);
        places.find(|other| *other != place).cloned()
    }

    /// Everywhere else that it may run as the same user: a start at this place stops it there first.
    pub fn strays(&self, name: &AgentName, place: &Place) -> Vec<Place> {
        let mut strays = Vec::new();
        if let Some(memory) = self.ledger.agents.get(name) {
            let proven = memory.proven.iter().map(|spot| &spot.place);
            for other in proven.chain(&memory.moving_to) {
                if other != place && other.run_user == place.run_user {
                    strays.push(other.clone());
                }
            }
        }
        strays
    }

    /// When, in seconds since 1970, a retry is due that no event will bring.
    pub fn next_try(&self, now: u64) -> Option<u64> {
        let mut next: Option<u64> = None;
        for (_, desired) in &self.agents {
            let memory = self.ledger.agents.get(&desired.name);
            if let Some(at) = memory.and_then(|memory| memory.next_try(now)) {
                next = Some(next.map_or(at, |next| next.min(at)));
            }
        }
        next
    }

    /// What a beat is to look at and to report; `phase` tells what is being done to an agent.
    pub fn reports(&self, phase: impl Fn(&AgentName) -> String) -> Vec<Reported> {
        let mut reports = Vec::new();
        for (wire, desired) in &self.agents {
            reports.push(Reported {
                wire: wire.clone(),
                there: self.elsewhere(&desired.name, &desired.place),
                pinned: self.pin(&desired.name),
                phase: phase(&desired.name),
                error: self.error(&desired.name).to_owned(),
            });
        }
        reports
    }

    pub fn error(&self, name: &AgentName) -> &str {
        let memory = self.ledger.agents.get(name);
        memory.map_or("", |memory| &memory.error)
    }

    /// What there is to tell of each agent, but for what is being done to it.
    pub fn statuses(&self, now: u64) -> Vec<AgentStatus> {
        let agents = self.agents.iter();
        agents
            .map(|(wire, desired)| self.status(wire, desired, now))
            .collect()
    }

    fn status(&self, wire: &WireAgent, desired: &Desired, now: u64) -> AgentStatus {
        let name = &desired.name;
        let mut status = AgentStatus {
            name: wire.name.clone(),
            desired: wire.version.clone(),
            cmd: wire.cmd.clone(),
            pinned: self.pin(name),
            state: UNKNOWN.to_owned(),
            run_user: desired.place.run_user.clone(),
            work_dir: desired.place.work_dir.clone(),
            ..Default::default()
        };
        if let Some(memory) = self.ledger.agents.get(name) {
            status.error.clone_from(&memory.error);
            status.error_at = memory.error_at;
            status.retry_at = memory.next_try(now).unwrap_or_default();
        }
        if let Some(seen) = self.seen.get(name) {
            let home = seen.home();
            status.version = version_at(home);
            word_of(home.state).clone_into(&mut status.state);
            status.since = self.since.get(name).map_or(0, |since| since.at);
            status.status = heartbeat::status(home, "", &status.error);
            status.converged = plan::is_reached(desired, seen);
            let next = self.next_task(name, now);
            status.next = next.map(|task| task.to_string()).unwrap_or_default();
        }
        status
    }

    pub fn refusals(&self) -> Vec<String> {
        let mut refusals = Vec::new();
        for refusal in &self.refused {
            refusals.push(refusal.to_string());
        }
        refusals
    }

    /// Writes what changed, again and again until it is on disk: after a restart an older wish would bring an older
    /// version back.
    pub fn save(&mut self) -> Result<()> {
        let desired = self.save_desired();
        // Neither waits for the other: what is in the way of one may be in the way of it alone.
        self.save_ledger().and(desired)
    }

    fn save_desired(&mut self) -> Result<()> {
        if self.is_desired_unsaved {
            let mut json = Json::default();
            json.open_list();
            for (wire, _) in &mut self.agents {
                wire.pass(&mut json);
            }
            json.close();
            disk::write_atomic(&self.desired_file, json.finish().as_bytes())?;
            self.is_desired_unsaved = false;
        }
        Ok(())
    }

    fn save_ledger(&mut self) -> Result<()> {
        if self.is_ledger_touched {
            let text = fields::write(&mut self.ledger);
            if self.saved != text {
                disk::write_atomic(&self.ledger_file, text.as_bytes())?;
                self.saved = text;
            }
            self.is_ledger_touched = false;
        }
        Ok(())
    }
}

/// A state in which an agent is, and since when.
struct Since {
    state: String,
    version: String,
    at: u64,
}

impl Since {
    fn of(site: &Site, known: Option<&Self>, now: u64) -> Self {
        let (state, version) = (word_of(site.state).to_owned(), version_at(site));
        let same = known.filter(|known| known.state == state && known.version == version);
        let at = same.map_or(now, |known| known.at);
        Self { state, version, at }
    }
}

fn version_at(site: &Site) -> String {
    let version = site.current.as_ref().map(ToString::to_string);
    version.unwrap_or_default()
}

const UNKNOWN: &str = "unknown";

/// What `control status` said, for operators and dashboards.
fn word_of(state: State) -> &'static str {
    match state {
        State::Started => "started",
        State::Stopped => "stopped",
        State::Other => "other",
        State::Absent => "absent",
        State::Silent | State::Unasked => UNKNOWN,
    }
}

/// One task, and how it ended.
pub struct Attempt {
    pub name: AgentName,
    /// The wish that it was begun for, as `Roster::entry` tells it.
    pub entry: String,
    pub task: Task,
    pub failure: Option<Failure>,
    pub seen: Option<SeenAgent>,
}

impl Attempt {
    /// Takes over the child's own word on how it ended.
    pub fn end(&mut self, event: Event) {
        self.failure = event.error.map(|error| Failure {
            fault: event.fault.unwrap_or(Fault::Host),
            error,
        });
        let seen = event.seen.and_then(|mut seen| seen.pop());
        // A child that became another user speaks for its own agent only, and for where it was sent to: of what is seen
        // anywhere the next task may be made, as the user of that place.
        let there = self.task.there();
        self.seen = seen.filter(|seen| {
            seen.name == self.name
                && seen.here.place == self.task.place
                && seen.there.iter().all(|site| Some(&site.place) == there)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Build, Site, Spot, Version};

    fn place(work_dir: &str, run_user: &str) -> Place {
        Place {
            work_dir: work_dir.to_owned(),
            run_user: run_user.to_owned(),
        }
    }

    fn build() -> Build {
        Build {
            version: Version::parse("1").expect("a version"),
            md5: String::new(),
        }
    }

    /// Whether the daemon takes what a child reports of this agent at this place, and at the other.
    fn is_taken(step: Step, name: &str, here: Place, there: Option<Place>) -> bool {
        let mut attempt = Attempt {
            name: AgentName::parse("demo").expect("a name"),
            entry: String::new(),
            task: Task {
                place: place("/new", "falcon"),
                step,
            },
            failure: None,
            seen: None,
        };
        attempt.end(Event {
            seen: Some(vec![SeenAgent {
                name: AgentName::parse(name).expect("a name"),
                here: Site::empty(here),
                there: there.map(Site::empty),
            }]),
            ..Event::default()
        });
        attempt.seen.is_some()
    }

    #[test]
    fn a_child_speaks_for_its_own_agent_at_the_places_where_it_was_sent_to_and_no_other() {
        let new = || place("/new", "falcon");
        let from = |work_dir: &str, run_user: &str| Step::Switch {
            back: Some(Spot {
                place: place(work_dir, run_user),
                build: build(),
            }),
            to: build(),
        };
        let old = Some(place("/old", "falcon"));
        assert!(is_taken(Step::Start(build()), "demo", new(), None));
        assert!(is_taken(from("/old", "falcon"), "demo", new(), old.clone()));
        // It may have found that both are one.
        assert!(is_taken(from("/old", "falcon"), "demo", new(), None));
        for (step, name, here, there) in [
            (Step::Start(build()), "other", new(), None),
            (Step::Start(build()), "demo", place("/new", ""), None),
            (Step::Start(build()), "demo", new(), old.clone()),
            (from("/new", "falcon"), "demo", new(), Some(new())),
            (from("/old", ""), "demo", new(), Some(place("/old", ""))),
            (from("/old", "falcon"), "demo", new(), Some(place("/", ""))),
        ] {
            let told = format!("{step:?} of {name} in {here:?} and {there:?}");
            assert!(!is_taken(step, name, here, there), "{told}");
        }
    }
}

#[cfg(test)]
#[path = "properties/mod.rs"]
mod properties;

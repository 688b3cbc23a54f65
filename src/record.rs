//! What cannot be seen on disk: attempts, errors, when to try again, and what ran well last. The folds are pure;
//! only `load` touches the disk. A lost ledger costs patience, never an agent.
#![expect(
    clippy::disallowed_methods,
    reason = "only load touches the disk; the folds do not"
)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::disk;
use crate::fields::{self, fields};
use crate::log;
use crate::model::{
    AgentName, Build, Cmd, Desired, Failure, Fault, Place, Site, Spot, State, Step, Task, Version,
};
use crate::named::Named;
use crate::schedule;
use crate::sys;

/// Deaths that are remembered; a crash loop is told by five.
const DEATHS_KEPT: usize = 5;
/// Places where it may run; more in a row means that it never got anywhere.
const PLACES_KEPT: usize = 4;
/// A power cut may come in the middle of a start; so many in a row are no chance any more.
const FALLS_OF_A_VERSION: u32 = 2;
/// No retry lies further ahead; a ledger written under a wrong clock must not silence an agent for years.
const FURTHEST_RETRY: u64 = 86_400;
/// A ledger of more agents than any host has.
const LEDGER_LIMIT: u64 = 16 << 20;
/// Agents that are named no more are remembered, so that they are found again; so many at most.
const UNNAMED_KEPT: usize = 256;

#[derive(Debug, Default)]
pub struct Ledger {
    pub agents: Named<Memory>,
}

fields!(Ledger { agents });

/// What is remembered of one agent. Times are seconds since 1970.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Digest of the desired entry that the failures belong to; another entry starts afresh.
    pub entry: String,
    /// Faults of host or network in a row.
    pub host_failures: u32,
    /// Failures of the version itself.
    pub version_failures: u32,
    pub retry_at: u64,
    pub error: String,
    pub error_at: u64,
    /// When the version in force was last found dead, oldest first.
    pub deaths: Vec<u64>,
    /// Starts after a death, in a row, without ten quiet minutes between.
    pub restarts: u32,
    pub crash_loop: bool,
    pub restart_at: u64,
    /// Stops in a row after which the agent would not say that it is down.
    pub stops_in_doubt: u32,
    /// What last ran well, and where: the way back from a bad version and from a move.
    pub proven: Option<Spot>,
    /// Where else it may run: a start there was begun, and nobody saw the end of it. The next start stops it there.
    pub moving_to: Vec<Place>,
    /// The version that ran before the proven one; kept on disk for a quick way back.
    pub previous: Option<Version>,
    /// Where it was stopped, as far as that can be told, and nothing was started since. What merely looks stopped may
    /// be about to start: a script that a killed updater left does not end with it.
    pub left: Option<Place>,
    /// A first start that nobody has seen the end of. Ledgers of before have none.
    pub begun: Option<Begun>,
}

fields!(Memory {
    entry,
    host_failures,
    version_failures,
    retry_at,
    error,
    error_at,
    deaths,
    restarts,
    crash_loop,
    restart_at,
    stops_in_doubt,
    proven,
    moving_to,
    previous,
    left,
    begun,
});

/// The first start of a build, and how often in a row the host went down before it ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Begun {
    pub build: Build,
    /// Which boot of the host it was begun in; empty where nobody can tell.
    pub boot: String,
    pub falls: u32,
}

fields!(Begun { build, boot, falls });

impl Memory {
    /// Whether the desired state is not to be tried again yet.
    pub fn is_waiting(&self, now: u64) -> bool {
        self.retry_at > now
    }

    /// When this agent next wants a look that no event brings.
    pub fn next_try(&self, now: u64) -> Option<u64> {
        let times = [self.retry_at, self.restart_at];
        times.into_iter().filter(|at| *at > now).min()
    }

    /// An operator wants it to be tried again.
    pub fn fold_retry(&mut self) {
        self.forget_failures();
        self.forget_deaths();
    }

    fn forget_failures(&mut self) {
        self.host_failures = 0;
        self.version_failures = 0;
        self.retry_at = 0;
        self.error.clear();
        self.error_at = 0;
    }

    fn forget_deaths(&mut self) {
        self.deaths.clear();
        self.restarts = 0;
        self.crash_loop = false;
        self.restart_at = 0;
    }

    fn blame(&mut self, error: &str, now: u64) {
        error.clone_into(&mut self.error);
        self.error_at = now;
    }

    /// A changed entry is a new wish: whatever failed before may go well now.
    pub fn fold_desired(&mut self, entry: &str) {
        if self.entry != entry {
            entry.clone_into(&mut self.entry);
            self.left = None;
            self.begun = None;
            self.forget_failures();
            self.forget_deaths();
        }
    }

    /// What was seen while nothing was being done to the agent.
    pub fn fold_observed(&mut self, desired: &Desired, site: &Site, now: u64) {
        let Some(current) = site.current.as_ref().filter(|_| site.whole) else {
            return;
        };
        let as_desired = match desired.cmd {
            Cmd::Start => {
                site.place == desired.place
                    && site.state == State::Started
                    && current.satisfies(&desired.release.build())
            }
            Cmd::Stop => site.is_down(),
        };
        if site.state == State::Started && (as_desired || self.proven.is_none()) {
            self.prove(&Spot {
                place: site.place.clone(),
                build: current.clone(),
            });
        }
        let quiet = self
            .deaths
            .last()
            .is_none_or(|at| now.saturating_sub(*at) >= schedule::CRASH_WINDOW);
        if as_desired && quiet && !self.is_waiting(now) {
            self.forget_deaths();
            self.forget_failures();
        }
    }

    /// A task went well; `site` is what was seen right after it.
    pub fn fold_success(&mut self, task: &Task, site: Option<&Site>, now: u64, interval: Duration) {
        match &task.step {
            Step::Install(_) | Step::Prune(_) => {
                self.host_failures = 0;
                return;
            }
            Step::Stop(_) => {
                self.forget_deaths();
                // It may be the first half of a move, whose second half has failed before: those are not forgotten.
                self.left = Some(task.place.clone());
                self.retry_at = 0;
                self.blame("", 0);
                if site.is_some_and(|site| {
                    matches!(site.state, State::Other | State::Silent | State::Unasked)
                }) {
                    // Nobody knows whether it is down; it is asked again, ever more rarely.
                    self.stops_in_doubt = self.stops_in_doubt.saturating_add(1);
                    self.retry_at = now + schedule::host_retry(interval, self.stops_in_doubt);
                } else {
                    self.stops_in_doubt = 0;
                }
            }
            Step::Switch { back: Some(_), .. } => {
                self.left = None;
                self.forget_deaths();
                self.forget_failures();
            }
            // A failed wish stays remembered while the version before it is kept up.
            Step::Start(build)
            | Step::Switch {
                back: None,
                to: build,
            } => {
                self.left = None;
                if self.is_restart(task, build) {
                    self.fold_death(now);
                    self.fold_restart(now);
                }
            }
        }
        let running = site.filter(|site| site.whole && site.state == State::Started);
        if let Some((site, build)) = running.and_then(|s| Some((s, s.current.clone()?))) {
            // Before it was started here it was stopped everywhere else.
            self.moving_to.clear();
            self.prove(&Spot {
                place: site.place.clone(),
                build,
            });
        }
    }

    /// A build is about to be started. One that ran well before takes no host down.
    pub fn fold_begun(&mut self, build: &Build, boot: &str) {
        let proven = self.proven.as_ref();
        if proven.is_some_and(|spot| spot.build.satisfies(build)) {
            return;
        }
        let before = self
            .begun
            .take()
            .filter(|begun| begun.build.satisfies(build));
        self.begun = Some(Begun {
            build: build.clone(),
            boot: boot.to_owned(),
            falls: before.map_or(0, |begun| begun.falls),
        });
    }

    /// What the last boot has begun and not ended may have ended it.
    pub fn fold_boot(&mut self, boot: &str, now: u64) {
        let Some(begun) = &mut self.begun else { return };
        if begun.boot.is_empty() || boot.is_empty() || begun.boot == boot {
            return;
        }
        boot.clone_into(&mut begun.boot);
        begun.falls = begun.falls.saturating_add(1);
        if begun.falls < FALLS_OF_A_VERSION {
            return;
        }
        let (build, falls) = (&begun.build, begun.falls);
        let error = format!("the host went down {falls} times while {build} was being started");
        self.blame(&error, now);
        self.version_failures = self.version_failures.saturating_add(1);
        self.retry_at = now + schedule::version_retry(self.version_failures);
        if self.proven.is_none() {
            // Without a way back it is what would be kept up.
            self.crash_loop = true;
            self.restart_at = now + schedule::restart_delay(1, true);
        }
    }

    /// The agent is about to be started at this place, or was seen there.
    pub fn may_run_at(&mut self, place: &Place) {
        let is_proven = self
            .proven
            .as_ref()
            .is_some_and(|spot| spot.place == *place);
        if !is_proven && !self.moving_to.contains(place) {
            self.moving_to.push(place.clone());
            let surplus = self.moving_to.len().saturating_sub(PLACES_KEPT);
            self.moving_to.drain(..surplus);
        }
    }

    /// A task failed. With `moves` it was a start away from where the agent is at home.
    pub fn fold_failure(
        &mut self,
        task: &Task,
        why: &Failure,
        moves: bool,
        now: u64,
        interval: Duration,
    ) {
        self.blame(&why.error, now);
        self.left = None;
        let kept_up = match &task.step {
            // Its old place has it back meanwhile.
            _ if moves => None,
            Step::Start(build)
            | Step::Switch {
                back: None,
                to: build,
            } => Some(build),
            Step::Install(_) | Step::Switch { .. } | Step::Stop(_) | Step::Prune(_) => None,
        };
        if let Some(build) = kept_up {
            // It has to be kept up; what else is wished does not wait for it.
            let is_restart = self.is_restart(task, build);
            if why.fault == Fault::Version {
                self.fold_death(now);
            }
            if is_restart || why.fault == Fault::Host {
                self.fold_restart(now);
            }
            return;
        }
        self.retry_at = now
            + match why.fault {
                Fault::Host => {
                    self.host_failures = self.host_failures.saturating_add(1);
                    schedule::host_retry(interval, self.host_failures)
                }
                Fault::Version => {
                    self.version_failures = self.version_failures.saturating_add(1);
                    schedule::version_retry(self.version_failures)
                }
            };
    }

    /// Whether this start follows a death; the very first start of a build does not.
    fn is_restart(&self, task: &Task, build: &Build) -> bool {
        let ran_well = self
            .proven
            .as_ref()
            .is_some_and(|spot| spot.place == task.place && spot.build.satisfies(build));
        ran_well || !self.deaths.is_empty()
    }

    /// The agent was found dead, or did not live through its start.
    fn fold_death(&mut self, now: u64) {
        self.deaths.push(now);
        let surplus = self.deaths.len().saturating_sub(DEATHS_KEPT);
        self.deaths.drain(..surplus);
        if !self.crash_loop && schedule::is_crash_loop(&self.deaths, now) {
            self.crash_loop = true;
            let last = if self.error.is_empty() {
                String::new()
            } else {
                format!("; last: {}", self.error)
            };
            let error =
                format!("crash loop: died {DEATHS_KEPT} times in 10 min, tried hourly{last}");
            self.blame(&error, now);
        }
    }

    /// It was started again; the next time it has to wait longer.
    fn fold_restart(&mut self, now: u64) {
        self.restarts = self.restarts.saturating_add(1);
        self.restart_at = now + schedule::restart_delay(self.restarts, self.crash_loop);
    }

    fn prove(&mut self, spot: &Spot) {
        self.moving_to.retain(|place| *place != spot.place);
        if self.proven.as_ref() == Some(spot) {
            return;
        }
        if let Some(before) = self.proven.replace(spot.clone())
            && before.place == spot.place
            && before.build.version != spot.build.version
        {
            self.previous = Some(before.build.version);
        }
    }

    /// Retry times further ahead than any schedule gives come from a clock that was wrong.
    fn clamp(&mut self, now: u64) {
        self.retry_at = self.retry_at.min(now + FURTHEST_RETRY);
        let furthest = schedule::restart_delay(u32::MAX, self.crash_loop);
        self.restart_at = self.restart_at.min(now + furthest);
        self.deaths.retain(|at| *at <= now);
    }
}

impl Ledger {
    /// Forgets agents that are named no more, save some of those that run somewhere because of us.
    pub fn forget_unnamed(&mut self, is_named: impl Fn(&AgentName) -> bool) {
        let mut unnamed = 0;
        self.agents.retain(|name, memory| {
            let stays = is_named(name) || memory.proven.is_some() && unnamed < UNNAMED_KEPT;
            unnamed += usize::from(stays && !is_named(name));
            stays
        });
    }
}

/// Reads the ledger of a daemon that may be running.
pub fn peek(path: &Path) -> Option<Ledger> {
    fields::read(&disk::read_small(path, LEDGER_LIMIT).ok()?)
}

/// Reads the ledger; a corrupt one is set aside and told, and an empty one takes its place.
pub fn load(path: &Path, now: u64) -> Ledger {
    let text = match disk::read_patiently(path, LEDGER_LIMIT) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ledger::default(),
        read => read,
    };
    let parsed = text.ok().and_then(|text| fields::read::<Ledger>(&text));
    let Some(mut ledger) = parsed else {
        let mut aside = path.as_os_str().to_owned();
        aside.push(".corrupt");
        let aside = PathBuf::from(aside);
        let set_aside = sys::rename(path, &aside);
        log::warn(format_args!(
            "cannot read {}: not a ledger; {}, all retry counts start afresh",
            path.display(),
            match set_aside {
                Ok(()) => format!("set aside as {}", aside.display()),
                Err(error) => format!("it stays until it can be replaced ({error})"),
            }
        ));
        return Ledger::default();
    };
    for (_, memory) in ledger.agents.iter_mut() {
        memory.clamp(now);
    }
    ledger
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Own, Place, WireAgent};

    const INTERVAL: Duration = Duration::from_secs(300);

    fn place() -> Place {
        Place {
            work_dir: "/work".into(),
            run_user: String::new(),
        }
    }

    fn build(version: &str) -> Build {
        Build {
            version: Version::parse(version).expect("valid"),
            md5: String::new(),
        }
    }

    fn desired(version: &str) -> Desired {
        let wire = WireAgent {
            name: "demo".into(),
            version: version.into(),
            tarball: "http://x".into(),
            cmd: "start".into(),
            ..Default::default()
        };
        Desired::check(
            &wire,
            &Own {
                dir: "/work".into(),
                ..Default::default()
            },
        )
        .expect("valid")
    }

    fn site(version: &str, state: State) -> Site {
        let mut site = Site::empty(place());
        site.current = Some(build(version));
        site.whole = true;
        site.state = state;
        site
    }

    fn task(step: Step) -> Task {
        Task {
            place: place(),
            step,
        }
    }

    fn failed(fault: Fault) -> Failure {
        Failure {
            fault,
            error: "why".into(),
        }
    }

    #[test]
    fn host_faults_and_bad_versions_wait_by_their_own_schedules() {
        let back = Some(Spot {
            place: place(),
            build: build("1"),
        });
        let to = build("2");
        let switch = task(Step::Switch { back, to });
        let mut memory = Memory::default();
        memory.fold_failure(&switch, &failed(Fault::Host), false, 1000, INTERVAL);
        assert_eq!(memory.retry_at, 1300);
        let mut memory = Memory::default();
        let mut waits = Vec::new();
        for _ in 0..4 {
            memory.fold_failure(&switch, &failed(Fault::Version), false, 1000, INTERVAL);
            waits.push(memory.retry_at - 1000);
        }
        assert_eq!(waits, [600, 3600, 86_400, 86_400]);
        assert!(memory.deaths.is_empty());
    }

    #[test]
    fn the_stop_that_begins_every_try_of_a_move_forgets_no_try_before() {
        let (stop, start) = (Step::Stop(build("1").version), Step::Start(build("2")));
        let (stop, start) = (task(stop), task(start));
        let mut memory = Memory::default();
        let mut waits = Vec::new();
        for _ in 0..3 {
            memory.fold_success(&stop, Some(&site("1", State::Stopped)), 1000, INTERVAL);
            memory.fold_failure(&start, &failed(Fault::Version), true, 1000, INTERVAL);
            waits.push(memory.retry_at - 1000);
        }
        assert_eq!(waits, [600, 3600, 86_400]);
    }

    #[test]
    fn what_fails_to_start_where_it_is_at_home_is_started_ever_more_rarely_wherever_it_ran_well() {
        let mut elsewhere = place();
        elsewhere.work_dir = "/elsewhere".into();
        let build = build("1");
        let start = task(Step::Start(build.clone()));
        let mut memory = Memory::default();
        let place = elsewhere;
        memory.proven = Some(Spot { place, build });
        let mut waits = Vec::new();
        for _ in 0..5 {
            memory.fold_failure(&start, &failed(Fault::Version), false, 1000, INTERVAL);
            waits.push(memory.restart_at.saturating_sub(1000));
        }
        assert_eq!(waits, [0, 10, 20, 40, 3600]);
        assert!(!memory.is_waiting(1000));
    }

    #[test]
    fn wherever_it_may_run_is_remembered_until_it_runs_well() {
        let mut memory = Memory::default();
        for work_dir in ["/a", "/b", "/a", "/c", "/d", "/e"] {
            let mut place = place();
            place.work_dir = work_dir.into();
            memory.may_run_at(&place);
        }
        let kept = |memory: &Memory| {
            let places = memory.moving_to.iter();
            places
                .map(|place| place.work_dir.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(kept(&memory), ["/b", "/c", "/d", "/e"]);
        let start = task(Step::Start(build("1")));
        memory.fold_success(&start, Some(&site("1", State::Started)), 1, INTERVAL);
        memory.may_run_at(&place());
        assert_eq!(kept(&memory), [""; 0]);
    }

    #[test]
    fn where_it_was_first_seen_is_no_second_place_once_it_is_seen_well_there() {
        let mut memory = Memory::default();
        memory.may_run_at(&place());
        memory.fold_observed(&desired("1"), &site("1", State::Started), 1);
        assert!(memory.proven.is_some());
        assert_eq!(memory.moving_to, []);
    }

    #[test]
    fn a_version_under_which_the_host_goes_down_twice_in_a_row_has_failed() {
        let mut memory = Memory::default();
        let one = task(Step::Start(build("1")));
        memory.fold_success(&one, Some(&site("1", State::Started)), 1, INTERVAL);
        let mut two = build("2");
        memory.fold_begun(&two, "a");
        // Its digest is known once it is on disk.
        two.md5 = "490ac172dabecc867289079d48e84a66".into();
        memory.fold_boot("a", 1000);
        assert_eq!(memory.begun.as_ref().map(|begun| begun.falls), Some(0));
        let mut waits = Vec::new();
        for boot in ["b", "c", "d", "e", ""] {
            memory.fold_boot(boot, 1000);
            waits.push(memory.retry_at.saturating_sub(1000));
            memory.fold_begun(&two, boot);
        }
        assert_eq!(waits, [0, 600, 3600, 86_400, 86_400]);
        assert!(
            memory
                .error
                .starts_with("the host went down 4 times while 2")
        );
        assert_eq!(memory.restart_at, 0, "the one before is started at once");
        memory.fold_begun(&build("1"), "f");
        assert_eq!(memory.begun.as_ref().map(|begun| &begun.build), Some(&two));
        memory.fold_begun(&build("3"), "f");
        memory.fold_boot("g", 1000);
        assert_eq!(memory.begun.map(|begun| begun.falls), Some(1));
    }

    #[test]
    fn a_ledger_of_before_is_read() {
        let ledger = |begun| {
            let mut ledger = Ledger::default();
            let name = AgentName::parse("demo").expect("valid");
            ledger.agents.entry(&name).begun = begun;
            fields::write(&mut ledger)
        };
        let old = ledger(None).replace(",\"left\":null,\"begun\":null", "");
        assert!(!old.contains("left"));
        let mut read = fields::read::<Ledger>(&old).expect("a ledger");
        assert_eq!(fields::write(&mut read), ledger(None));
        let begun = Begun {
            build: build("1"),
            boot: "a".into(),
            falls: 1,
        };
        let new = ledger(Some(begun));
        assert!(
            fields::read::<Ledger>(&new).is_some_and(|mut read| fields::write(&mut read) == new)
        );
    }

    #[test]
    fn a_changed_entry_forgets_every_failure_but_not_what_ran_well() {
        let mut memory = Memory::default();
        memory.fold_desired("a");
        memory.fold_success(
            &task(Step::Start(build("1"))),
            Some(&site("1", State::Started)),
            1,
            INTERVAL,
        );
        let install = task(Step::Install(desired("2").release));
        memory.fold_failure(&install, &failed(Fault::Host), false, 5, INTERVAL);
        memory.fold_desired("a");
        assert!(memory.is_waiting(6));
        memory.fold_desired("b");
        assert!(!memory.is_waiting(6) && memory.error.is_empty());
        assert!(memory.proven.is_some());
    }

    #[test]
    fn an_agent_that_dies_is_restarted_at_once_then_ever_later_and_in_a_loop_hourly() {
        let mut memory = Memory::default();
        let start = task(Step::Start(build("1")));
        memory.fold_success(&start, Some(&site("1", State::Started)), 0, INTERVAL);
        assert_eq!(memory.restart_at, 0, "the first start is no restart");
        let mut now = 1000;
        let mut waits = Vec::new();
        for _ in 0..6 {
            memory.fold_success(&start, Some(&site("1", State::Started)), now, INTERVAL);
            waits.push(memory.restart_at - now);
            now = memory.restart_at;
        }
        assert_eq!(waits, [10, 20, 40, 80, 3600, 3600]);
        assert!(memory.error.starts_with("crash loop: died 5 times"));
        let quiet = now + schedule::CRASH_WINDOW;
        memory.fold_observed(&desired("1"), &site("1", State::Started), quiet);
        assert_eq!((memory.restarts, memory.restart_at), (0, 0));
        assert!(memory.error.is_empty() && !memory.crash_loop);
    }

    #[test]
    fn a_fresh_agent_that_dies_at_its_first_start_is_started_again_at_once() {
        let mut memory = Memory::default();
        let start = task(Step::Start(build("1")));
        memory.fold_failure(&start, &failed(Fault::Version), false, 100, INTERVAL);
        assert!(memory.restart_at <= 100 && !memory.is_waiting(100));
        memory.fold_failure(&start, &failed(Fault::Version), false, 100, INTERVAL);
        assert_eq!(memory.restart_at, 110);
        assert_eq!(memory.error, "why");
    }

    #[test]
    fn what_ran_well_before_is_the_previous_version() {
        let mut memory = Memory::default();
        memory.fold_observed(&desired("1"), &site("1", State::Started), 1);
        let back = memory.proven.clone();
        let switch = task(Step::Switch {
            back,
            to: build("2"),
        });
        memory.fold_success(&switch, Some(&site("2", State::Started)), 2, INTERVAL);
        assert_eq!(memory.previous, Version::parse("1"));
        assert_eq!(memory.proven.map(|spot| spot.build), Some(build("2")));
    }

    #[test]
    fn an_adopted_agent_is_proven_by_its_first_look_and_a_dead_one_is_not() {
        let mut memory = Memory::default();
        memory.fold_observed(&desired("2"), &site("1", State::Stopped), 1);
        assert!(memory.proven.is_none());
        memory.fold_observed(&desired("2"), &site("1", State::Started), 1);
        assert_eq!(memory.proven.map(|spot| spot.build), Some(build("1")));
    }

    #[test]
    fn a_ledger_from_the_future_waits_a_day_at_most() {
        let mut memory = Memory {
            retry_at: u64::MAX,
            restart_at: u64::MAX,
            ..Default::default()
        };
        memory.clamp(1000);
        assert_eq!(memory.retry_at, 1000 + FURTHEST_RETRY);
        assert_eq!(memory.next_try(1000), Some(1000 + 300));
    }
}

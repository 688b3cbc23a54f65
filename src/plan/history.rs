//! What the disk does not show of an agent: attempts, errors, when to try again, and what ran well last.
//! Each `fold_` function adds one event to the history. Pure: the time is an argument.

use miniserde::Serialize;

use super::schedule;
use crate::json;
use crate::md5;
use crate::model::{
    AgentState, Build, Cmd, Deployment, Desired, Location, Observed, Version, WireAgent,
};

/// Locations where an agent may run. A longer list means that it never arrived at any of them.
const LOCATIONS_KEPT: usize = 4;
/// A power cut may come in the middle of a start once. A version fails after this many crashes of the host in a row.
const HOST_CRASHES_OF_A_VERSION: u32 = 2;
/// The latest retry, in seconds from now. A ledger written under a wrong clock must not silence an agent for years.
const FURTHEST_RETRY: u64 = 86_400;
/// The longest `download_spread` and one interval more. For the same reason.
const FURTHEST_TURN: u64 = 8 * 86_400;

/// What is remembered of one agent. Times are in seconds since 1970.
// Not `use Deserialize`: its `default` would make `Default::default` ambiguous.
#[derive(Clone, Debug, Default, Serialize, miniserde::Deserialize)]
pub struct AgentHistory {
    /// The digest of the desired entry to which the failures belong. Another entry begins afresh.
    #[serde(rename = "entry")]
    pub desired_digest: String,
    /// Faults of host or network in a row.
    pub host_failures: u32,
    /// Failures of the version itself.
    pub version_failures: u32,
    /// The desired state is not tried again before.
    pub retry_at: u64,
    pub error: String,
    pub error_at: u64,
    /// When the version in force was found dead after short runs in a row, oldest first.
    pub deaths: Vec<u64>,
    /// Starts after a death, in a row, without ten quiet minutes between.
    pub restarts: u32,
    pub crash_loop: bool,
    /// An agent that died is not started again before.
    pub restart_at: u64,
    /// Stops in a row after which the agent did not say that it is stopped.
    pub stops_in_doubt: u32,
    /// What last ran well, and where. A failed switch or move returns to it.
    #[serde(rename = "proven")]
    pub last_good: Option<Deployment>,
    /// Other locations where the agent may run, because nobody saw the end of a start there. The next start stops it
    /// there first.
    pub moving_to: Vec<Location>,
    /// The version that ran before the last good one. It is kept on disk for a quick rollback.
    pub previous: Option<Version>,
    /// Where the agent was stopped and not started since. An agent that only looks stopped may be about to start: a
    /// script outlives the updater that was killed while it ran.
    #[serde(rename = "left")]
    pub vacated: Option<Location>,
    /// A first start whose end nobody has seen. Older ledgers do not have it.
    #[serde(rename = "begun")]
    pub unfinished_start: Option<Box<UnfinishedStart>>,
    /// The build in force was switched to a short time ago. Older ledgers do not have it.
    pub trial: Option<Box<Trial>>,
    /// How the server's entry has failed, while a pin is followed. Older ledgers do not have it.
    #[serde(rename = "aside")]
    pub set_aside: Option<Box<Failures>>,
    /// The highest version that ran well here. It is never lowered. Older ledgers do not have it.
    pub highest: Option<Version>,
    /// When the turn of this host comes to download what the server desires. Older ledgers do not have it.
    #[serde(rename = "turn")]
    pub turn_at: Option<u64>,
}

/// The failures of one desired entry.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, miniserde::Deserialize)]
pub struct Failures {
    /// The digest of the entry.
    pub entry: String,
    pub host_failures: u32,
    pub version_failures: u32,
    pub retry_at: u64,
    pub error: String,
    pub error_at: u64,
}

/// The first start of a build, and how often in a row the host went down before the start ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, miniserde::Deserialize)]
pub struct UnfinishedStart {
    pub build: Build,
    /// The boot id of the host at the start; empty where there is none.
    pub boot: String,
    #[serde(rename = "falls")]
    pub host_crashes: u32,
}

/// A build on trial: it was switched to, and its first start is less than ten minutes ago.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, miniserde::Deserialize)]
pub struct Trial {
    /// The first start, in seconds since 1970.
    pub since: u64,
    /// What ran before, and is started again if this build fails.
    pub back: Deployment,
    /// The version that ran before that.
    pub previous: Option<Version>,
}

impl AgentHistory {
    /// Whether it is too early to try the desired state again.
    pub fn is_waiting(&self, now: u64) -> bool {
        self.retry_at > now
    }

    /// Returns the next time at which a wait of this agent ends.
    pub fn next_try(&self, now: u64) -> Option<u64> {
        let times = [self.retry_at, self.restart_at];
        times.into_iter().filter(|at| *at > now).min()
    }

    /// An operator wants the agent to be tried again.
    pub fn fold_retry(&mut self) {
        self.set_aside = None;
        self.forget_failures();
        self.forget_deaths();
        self.turn_at = None;
    }

    /// Forgets all failures if the desired entry has changed: what failed before may succeed now. A pin is no such change:
    /// the failures of the server's entry come back when the pin ends, unless the server has changed its entry meanwhile.
    pub fn fold_desired(&mut self, followed: &str, of_server: &str) {
        let aside = self.failures_of(of_server);
        self.set_aside = aside
            .clone()
            .filter(|_| followed != of_server)
            .map(Box::new);
        if self.desired_digest != followed {
            followed.clone_into(&mut self.desired_digest);
            self.vacated = None;
            self.unfinished_start = None;
            self.forget_failures();
            self.forget_deaths();
            if let Some(failures) = aside.filter(|failures| failures.entry == followed) {
                self.host_failures = failures.host_failures;
                self.version_failures = failures.version_failures;
                self.retry_at = failures.retry_at;
                self.error = failures.error;
                self.error_at = failures.error_at;
            }
        }
    }

    /// Returns how this entry has failed, whether it is followed now or set aside. None: it has not.
    pub fn failures_of(&self, entry: &str) -> Option<Failures> {
        if self.desired_digest != entry {
            let set_aside = self.set_aside.as_deref();
            return set_aside
                .filter(|failures| failures.entry == entry)
                .cloned();
        }
        (!self.error.is_empty()).then(|| Failures {
            entry: entry.to_owned(),
            host_failures: self.host_failures,
            version_failures: self.version_failures,
            retry_at: self.retry_at,
            error: self.error.clone(),
            error_at: self.error_at,
        })
    }

    /// The agent was checked while no step of it was under way.
    pub fn fold_observed(&mut self, desired: &Desired, observed: &Observed, now: u64) {
        let Some(current) = observed.current.as_ref().filter(|_| observed.whole) else {
            return;
        };
        let as_desired = match desired.cmd {
            Cmd::Start => {
                observed.location == desired.location
                    && observed.state == AgentState::Started
                    && current.satisfies(&desired.build())
            }
            Cmd::Stop => observed.is_down(),
        };
        if observed.state == AgentState::Started && (as_desired || self.last_good.is_none()) {
            self.set_last_good(&Deployment {
                location: observed.location.clone(),
                build: current.clone(),
            });
        }
        let is_steady = self.is_quiet(now) && !self.is_on_trial(now);
        if observed.state == AgentState::Started && is_steady {
            self.raise_highest(&current.version);
        }
        if as_desired && is_steady && !self.is_waiting(now) {
            self.trial = None;
            self.forget_deaths();
            self.forget_failures();
        }
    }

    /// Whether it dies is known by now: a version that is rolled back would otherwise keep its own replacement away.
    fn raise_highest(&mut self, version: &Version) {
        let highest = self.highest.as_ref();
        if highest.is_none_or(|highest| highest.is_below(version)) {
            self.highest = Some(version.clone());
        }
    }

    /// Returns the highest version that ran here if this one is below it.
    pub fn higher_than(&self, version: &Version) -> Option<&Version> {
        let highest = self.highest.as_ref()?;
        version.is_below(highest).then_some(highest)
    }

    /// A build is about to be started. One that ran well before is not recorded: it does not crash the host.
    pub fn fold_unfinished_start(&mut self, build: &Build, boot: &str) {
        let last_good = self.last_good.as_ref();
        if last_good.is_some_and(|last_good| last_good.build.satisfies(build)) {
            return;
        }
        let before = self.unfinished_start.take();
        let before = before.filter(|before| before.build.satisfies(build));
        self.unfinished_start = Some(Box::new(UnfinishedStart {
            build: build.clone(),
            boot: boot.to_owned(),
            host_crashes: before.map_or(0, |before| before.host_crashes),
        }));
    }

    /// The updater was started. If the host has booted since an unfinished start, that start may have crashed the host.
    pub fn fold_boot(&mut self, boot: &str, now: u64) {
        let Some(start) = &mut self.unfinished_start else {
            return;
        };
        if start.boot.is_empty() || boot.is_empty() || start.boot == boot {
            return;
        }
        boot.clone_into(&mut start.boot);
        start.host_crashes = start.host_crashes.saturating_add(1);
        if start.host_crashes < HOST_CRASHES_OF_A_VERSION {
            return;
        }
        let error = format!(
            "the host went down {} times while {} was being started",
            start.host_crashes, start.build
        );
        self.set_error(&error, now);
        self.version_failures = self.version_failures.saturating_add(1);
        self.retry_at = now + schedule::version_retry(self.version_failures);
        if self.last_good.is_none() {
            // Without a version to return to, this build is the one that is restarted.
            self.crash_loop = true;
            self.restart_at = now + schedule::restart_delay(1, true);
        }
    }

    /// The agent is about to be started at this location, or was seen there.
    pub fn may_run_at(&mut self, location: &Location) {
        let last_good = self.last_good.as_ref();
        let is_last_good = last_good.is_some_and(|last_good| last_good.location == *location);
        if !is_last_good && !self.moving_to.contains(location) {
            self.moving_to.push(location.clone());
            let surplus = self.moving_to.len().saturating_sub(LOCATIONS_KEPT);
            self.moving_to.drain(..surplus);
        }
    }

    /// Brings times into the range that a schedule gives. Others come from a clock that was wrong.
    pub fn clamp(&mut self, now: u64) {
        self.retry_at = self.retry_at.min(now + FURTHEST_RETRY);
        if let Some(failures) = &mut self.set_aside {
            failures.retry_at = failures.retry_at.min(now + FURTHEST_RETRY);
        }
        // The agent is down until then. Where the clock of a booting host is not set yet, that would be too long.
        if self.restart_at > now + schedule::restart_delay(u32::MAX, self.crash_loop) {
            self.restart_at = 0;
        }
        self.deaths.retain(|at| *at <= now);
        if let Some(trial) = &mut self.trial {
            trial.since = trial.since.min(now);
        }
        let longest = now + FURTHEST_TURN;
        self.turn_at = self.turn_at.filter(|at| *at <= longest);
    }

    /// The clock showed `before` and was set by this many seconds. Ages and waits stay as they are.
    pub fn date_anew(&mut self, before: u64, set: i64) {
        self.error_at = schedule::dated_anew(self.error_at, before, set);
        for death in &mut self.deaths {
            *death = schedule::dated_anew(*death, before, set);
        }
        // These are to come, but this clock has set them too.
        for wait in [&mut self.retry_at, &mut self.restart_at] {
            *wait = schedule::dated_anew(*wait, u64::MAX, set);
        }
        if let Some(turn) = &mut self.turn_at {
            *turn = schedule::dated_anew(*turn, u64::MAX, set);
        }
        if let Some(trial) = &mut self.trial {
            trial.since = schedule::dated_anew(trial.since, before, set);
        }
        if let Some(failures) = &mut self.set_aside {
            failures.error_at = schedule::dated_anew(failures.error_at, before, set);
            failures.retry_at = schedule::dated_anew(failures.retry_at, u64::MAX, set);
        }
    }

    pub(super) fn set_error(&mut self, error: &str, now: u64) {
        error.clone_into(&mut self.error);
        self.error_at = now;
    }

    pub(super) fn set_last_good(&mut self, good: &Deployment) {
        self.moving_to.retain(|location| *location != good.location);
        if self.last_good.as_ref() == Some(good) {
            return;
        }
        if let Some(before) = self.last_good.replace(good.clone())
            && before.location == good.location
            && before.build.version != good.build.version
        {
            self.previous = Some(before.build.version);
        }
    }

    pub(super) fn forget_failures(&mut self) {
        self.version_failures = 0;
        self.forget_last_failure();
    }

    /// The desired state is tried at once, but a version that fails again waits longer than before.
    pub(super) fn forget_last_failure(&mut self) {
        self.host_failures = 0;
        self.retry_at = 0;
        self.error.clear();
        self.error_at = 0;
    }
}

/// Returns why a host that allows no downgrade refuses a version.
pub fn downgrade(version: &Version, highest: &Version) -> String {
    format!("version {version} is below {highest}, which ran here; allow_downgrade is false")
}

/// Returns the digest under which the failures of a desired entry are remembered. It covers these fields alone, in the
/// order and form of 0.1.0: a new field on the wire must not make a whole fleet forget what failed.
pub fn entry_digest(wire: &WireAgent) -> String {
    #[derive(Serialize)]
    struct Remembered<'a> {
        name: &'a str,
        version: &'a str,
        tarball: &'a str,
        md5: &'a str,
        cmd: &'a str,
        #[serde(rename = "runUser")]
        run_user: &'a str,
        #[serde(rename = "workDir")]
        work_dir: &'a str,
        #[serde(rename = "configFileName")]
        config_file_name: &'a str,
        #[serde(rename = "configRemoteUrl")]
        config_remote_url: &'a str,
    }

    let remembered = Remembered {
        name: &wire.name,
        version: &wire.version,
        tarball: &wire.tarball,
        md5: &wire.md5,
        cmd: &wire.cmd,
        run_user: &wire.run_user,
        work_dir: &wire.work_dir,
        config_file_name: &wire.config_file_name,
        config_remote_url: &wire.config_remote_url,
    };
    md5::hex(json::to_string(&remembered).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::examples::*;

    #[test]
    fn a_location_where_it_is_seen_running_is_no_second_location() {
        let mut history = AgentHistory::default();
        history.may_run_at(&location());
        history.fold_observed(&desired("1"), &observed("1", AgentState::Started), 1);
        assert!(history.last_good.is_some());
        assert_eq!(history.moving_to, []);
    }

    #[test]
    fn an_adopted_agent_is_good_if_its_first_check_finds_it_running() {
        let mut history = AgentHistory::default();
        history.fold_observed(&desired("2"), &observed("1", AgentState::Stopped), 1);
        assert!(history.last_good.is_none());
        history.fold_observed(&desired("2"), &observed("1", AgentState::Started), 1);
        assert_eq!(history.last_good.map(|good| good.build), Some(build("1")));
    }

    #[test]
    fn the_highest_version_is_the_highest_that_ran_on_when_its_trial_was_over() {
        let highest = |history: &AgentHistory| history.highest.as_ref().map(ToString::to_string);
        let see = |history: &mut AgentHistory, version, state, now| {
            history.fold_observed(&desired("9"), &observed(version, state), now);
        };
        let mut history = AgentHistory::default();
        see(&mut history, "2", AgentState::Stopped, 1000);
        assert_eq!(highest(&history), None, "it does not run");
        see(&mut history, "2", AgentState::Started, 1000);
        see(&mut history, "1", AgentState::Started, 1000);
        assert_eq!(highest(&history).as_deref(), Some("2"), "never lowered");
        history.fold_death(&build("10"), 0, 2000);
        see(&mut history, "10", AgentState::Started, 2001);
        assert_eq!(highest(&history).as_deref(), Some("2"), "it has just died");
        see(&mut history, "10", AgentState::Started, 2600);
        assert_eq!(highest(&history).as_deref(), Some("10"));
        let back = history.last_good.clone().expect("2 ran");
        history.begin_trial(&build("11"), &back, 3000);
        see(&mut history, "11", AgentState::Started, 3600);
        assert_eq!(highest(&history).as_deref(), Some("10"), "on trial");
        see(&mut history, "11", AgentState::Started, 3601);
        assert_eq!(highest(&history).as_deref(), Some("11"));
        history.fold_retry();
        history.fold_desired("other", "other");
        assert_eq!(highest(&history).as_deref(), Some("11"), "no failure");
    }

    #[test]
    fn a_turn_keeps_its_distance_from_now_and_ends_when_an_operator_wants_it() {
        let mut history = AgentHistory {
            turn_at: Some(5000),
            ..AgentHistory::default()
        };
        history.date_anew(1000, -600);
        assert_eq!(history.turn_at, Some(4400));
        history.clamp(400);
        assert_eq!(history.turn_at, Some(4400));
        history.fold_desired("another", "another");
        assert_eq!(history.turn_at, Some(4400), "it is of the release");
        history.fold_retry();
        assert_eq!(history.turn_at, None);
        history.turn_at = Some(u64::MAX);
        history.clamp(400);
        assert_eq!(history.turn_at, None, "a clock was wrong");
    }

    /// Returns a history in which the server's entry, `two`, has failed.
    fn failed_once() -> AgentHistory {
        let mut history = AgentHistory::default();
        history.fold_desired("two", "two");
        history.version_failures = 1;
        history.retry_at = 1600;
        history.set_error("two failed", 1000);
        history
    }

    #[test]
    fn failures_of_the_server_s_entry_survive_pins_and_their_end() {
        let mut history = failed_once();
        let before = history.failures_of("two");
        for pin in ["one", "zero"] {
            history.fold_desired(pin, "two");
            assert!(history.error.is_empty() && !history.is_waiting(1000));
            assert_eq!(history.failures_of("two"), before);
            history.set_error("the pinned one failed too", 1001);
        }
        history.fold_desired("two", "two");
        assert_eq!((history.version_failures, history.retry_at), (1, 1600));
        assert_eq!(history.error, "two failed");
        assert_eq!(
            (history.failures_of("two"), history.set_aside),
            (before, None)
        );
    }

    #[test]
    fn a_change_of_the_server_s_entry_or_a_retry_forgets_its_failures_even_while_a_pin_is_followed()
    {
        let mut history = failed_once();
        history.fold_desired("one", "two");
        history.fold_desired("one", "three");
        history.fold_desired("two", "two");
        assert_eq!((history.failures_of("two"), history.retry_at), (None, 0));
        let mut history = failed_once();
        history.fold_desired("one", "two");
        history.fold_retry();
        history.fold_desired("two", "two");
        assert_eq!((history.failures_of("two"), history.retry_at), (None, 0));
        let mut history = failed_once();
        history.fold_desired("three", "three");
        assert_eq!(
            (history.failures_of("two"), history.set_aside),
            (None, None)
        );
    }

    #[test]
    fn no_wait_changes_when_the_clock_is_set() {
        for (before, set) in [(1000, 5000), (9000, -5000), (1000, i64::MAX / 2)] {
            let mut history = AgentHistory {
                retry_at: before + 600,
                restart_at: before + 10,
                error_at: before - 30,
                deaths: vec![before - 40, before - 30],
                ..Default::default()
            };
            history.date_anew(before, set);
            let now = before.saturating_add_signed(set);
            assert_eq!(
                (history.retry_at, history.restart_at),
                (now + 600, now + 10)
            );
            assert_eq!(history.error_at, now - 30);
            assert_eq!(history.deaths, [now - 40, now - 30]);
        }
        let mut history = AgentHistory::default();
        history.date_anew(1000, 5000);
        assert_eq!(
            (history.retry_at, history.error_at),
            (0, 0),
            "never stays never"
        );
    }

    #[test]
    fn a_history_from_a_wrong_clock_waits_a_day_at_most() {
        let mut history = AgentHistory {
            retry_at: u64::MAX,
            restart_at: u64::MAX,
            set_aside: Some(Box::new(Failures {
                retry_at: u64::MAX,
                ..Default::default()
            })),
            ..Default::default()
        };
        history.clamp(1000);
        let aside = history.set_aside.take().map(|failures| failures.retry_at);
        assert_eq!(aside, Some(1000 + FURTHEST_RETRY));
        assert_eq!(history.retry_at, 1000 + FURTHEST_RETRY);
        assert_eq!(history.restart_at, 0);
    }

    #[test]
    fn a_boot_in_1970_keeps_no_agent_down() {
        let (before, now) = (1_795_952_000, 100);
        let mut history = AgentHistory {
            restart_at: before + 10,
            ..Default::default()
        };
        // The host was down for longer than that, and has no clock of its own.
        history.clamp(now);
        assert!(history.restart_at <= now);
        history.date_anew(now, 1_795_960_000);
        assert!(history.restart_at <= now + 1_795_960_000);
    }
}

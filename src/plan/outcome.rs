//! How the end of a step changes the history of its agent. Pure.

use std::time::Duration;

use super::deaths::AfterDeath;
use super::history::AgentHistory;
use super::schedule;
use crate::model::{AgentState, Build, Deployment, Failure, Fault, Observed, Step, Task};

impl AgentHistory {
    /// A task succeeded. `observed` is what the worker saw at its location right after it.
    pub fn fold_success(
        &mut self,
        task: &Task,
        observed: Option<&Observed>,
        now: u64,
        interval: Duration,
    ) {
        if matches!(task.step, Step::Install(_)) {
            // What was installed once is not waited for again.
            self.turn_at = None;
        }
        match &task.step {
            // A start at this location has not succeeded yet. The install may have found everything in place.
            Step::Install(_) if self.moving_to.contains(&task.location) => return,
            Step::Install(_) | Step::Prune(_) => {
                self.host_failures = 0;
                return;
            }
            Step::Stop(_) => self.fold_stop(task, observed, now, interval),
            Step::Switch {
                back: Some(back),
                to,
            } => {
                self.vacated = None;
                self.forget_deaths();
                self.forget_last_failure();
                self.begin_trial(to, back, now);
            }
            // These keep the current version up. A failure of the desired one stays remembered meanwhile.
            Step::Start(_) | Step::Switch { back: None, .. } => {
                self.vacated = None;
                // A start after a boot, or after it was to be stopped, is none after a death.
                if !self.deaths.is_empty() {
                    self.fold_restart(now);
                }
            }
        }
        if let Some(observed) = observed {
            self.fold_running(observed);
        }
    }

    /// The agent was checked right after it was started or stopped.
    fn fold_running(&mut self, observed: &Observed) {
        if observed.whole
            && observed.state == AgentState::Started
            && let Some(build) = &observed.current
        {
            // The step stopped the agent everywhere else before it started it here.
            self.moving_to.clear();
            self.set_last_good(&Deployment {
                location: observed.location.clone(),
                build: build.clone(),
            });
        }
    }

    /// A stop succeeded. If nobody knows whether the agent is down, it is asked again, each time later.
    fn fold_stop(
        &mut self,
        task: &Task,
        observed: Option<&Observed>,
        now: u64,
        interval: Duration,
    ) {
        self.forget_deaths();
        // The stop may be the first half of a move whose second half has failed before, so the counts of failures stay.
        self.vacated = Some(task.location.clone());
        self.retry_at = 0;
        self.set_error("", 0);
        let is_in_doubt = observed.is_some_and(|observed| {
            matches!(
                observed.state,
                AgentState::Unrecognized | AgentState::NoAnswer | AgentState::NotAsked
            )
        });
        if is_in_doubt {
            self.stops_in_doubt = self.stops_in_doubt.saturating_add(1);
            self.retry_at = now + schedule::host_retry(interval, self.stops_in_doubt);
        } else {
            self.stops_in_doubt = 0;
        }
    }

    /// A task failed. `is_move` says that it was a start away from the agent's current location. Returns what follows if
    /// the failure was a death.
    pub fn fold_failure(
        &mut self,
        task: &Task,
        failure: &Failure,
        is_move: bool,
        now: u64,
        interval: Duration,
    ) -> Option<AfterDeath> {
        self.set_error(&failure.error, now);
        self.vacated = None;
        // After a failed move the agent is started at its old location, and the desired state waits.
        let restarted = restarted_build(&task.step).filter(|_| !is_move);
        if let Some(build) = restarted {
            // Restarts have waits of their own: the desired state does not wait for them.
            let is_restart = self.is_restart(task, build);
            let died = failure.fault == Fault::Version;
            let after = died.then(|| self.fold_death(build, 0, now));
            let is_given_up = after == Some(AfterDeath::RollBack);
            if !is_given_up && (is_restart || failure.fault == Fault::Host) {
                self.fold_restart(now);
            }
            return after;
        }
        let wait = match failure.fault {
            Fault::Host => {
                self.host_failures = self.host_failures.saturating_add(1);
                schedule::host_retry(interval, self.host_failures)
            }
            Fault::Version => {
                self.version_failures = self.version_failures.saturating_add(1);
                schedule::version_retry(self.version_failures)
            }
        };
        self.retry_at = now + wait;
        None
    }

    /// Whether this start follows a death. The very first start of a build does not.
    fn is_restart(&self, task: &Task, build: &Build) -> bool {
        let ran_well = self.last_good.as_ref().is_some_and(|last_good| {
            last_good.location == task.location && last_good.build.satisfies(build)
        });
        ran_well || !self.deaths.is_empty()
    }
}

/// Returns the build of a step that only keeps an agent up.
fn restarted_build(step: &Step) -> Option<&Build> {
    match step {
        Step::Start(build)
        | Step::Switch {
            back: None,
            to: build,
        } => Some(build),
        Step::Install(_) | Step::Switch { .. } | Step::Stop(_) | Step::Prune(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Version;
    use crate::plan::examples::*;

    #[test]
    fn host_faults_and_bad_versions_have_schedules_of_their_own() {
        let back = Some(Deployment {
            location: location(),
            build: build("1"),
        });
        let to = build("2");
        let switch = task(Step::Switch { back, to });
        let mut history = AgentHistory::default();
        history.fold_failure(&switch, &failed(Fault::Host), false, 1000, INTERVAL);
        assert_eq!(history.retry_at, 1300);
        let mut history = AgentHistory::default();
        let mut waits = Vec::new();
        for _ in 0..4 {
            history.fold_failure(&switch, &failed(Fault::Version), false, 1000, INTERVAL);
            waits.push(history.retry_at - 1000);
        }
        assert_eq!(waits, [600, 3600, 86_400, 86_400]);
        assert!(history.deaths.is_empty());
    }

    #[test]
    fn the_stop_that_begins_each_try_of_a_move_keeps_the_count_of_tries() {
        let (stop, start) = (Step::Stop(build("1").version), Step::Start(build("2")));
        let (stop, start) = (task(stop), task(start));
        let mut history = AgentHistory::default();
        let mut waits = Vec::new();
        for _ in 0..3 {
            history.fold_success(
                &stop,
                Some(&observed("1", AgentState::Stopped)),
                1000,
                INTERVAL,
            );
            history.fold_failure(&start, &failed(Fault::Version), true, 1000, INTERVAL);
            waits.push(history.retry_at - 1000);
        }
        assert_eq!(waits, [600, 3600, 86_400]);
    }

    #[test]
    fn an_install_where_a_start_has_failed_keeps_the_count_of_failures() {
        let (install, start) = (
            Step::Install(desired("2").release()),
            Step::Start(build("2")),
        );
        let (install, start) = (task(install), task(start));
        let mut history = AgentHistory::default();
        let mut waits = Vec::new();
        for _ in 0..3 {
            history.fold_success(&install, None, 1000, INTERVAL);
            history.may_run_at(&start.location);
            history.fold_failure(&start, &failed(Fault::Host), true, 1000, INTERVAL);
            waits.push(history.retry_at - 1000);
        }
        assert_eq!(waits, [300, 600, 1200]);
    }

    #[test]
    fn a_failing_start_at_the_current_location_is_tried_later_each_time_even_if_it_ran_well_elsewhere()
     {
        let mut elsewhere = location();
        elsewhere.work_dir = "/elsewhere".into();
        let build = build("1");
        let start = task(Step::Start(build.clone()));
        let mut history = AgentHistory::default();
        let location = elsewhere;
        history.last_good = Some(Deployment { location, build });
        let mut waits = Vec::new();
        for _ in 0..5 {
            history.fold_failure(&start, &failed(Fault::Version), false, 1000, INTERVAL);
            waits.push(history.restart_at.saturating_sub(1000));
        }
        assert_eq!(waits, [0, 10, 20, 40, 3600]);
        assert!(!history.is_waiting(1000));
    }

    #[test]
    fn locations_where_it_may_run_are_remembered_until_it_runs_well() {
        let mut history = AgentHistory::default();
        for work_dir in ["/a", "/b", "/a", "/c", "/d", "/e"] {
            let mut location = location();
            location.work_dir = work_dir.into();
            history.may_run_at(&location);
        }
        let kept = |history: &AgentHistory| {
            let locations = history.moving_to.iter();
            locations
                .map(|location| location.work_dir.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(kept(&history), ["/b", "/c", "/d", "/e"]);
        let start = task(Step::Start(build("1")));
        history.fold_success(
            &start,
            Some(&observed("1", AgentState::Started)),
            1,
            INTERVAL,
        );
        history.may_run_at(&location());
        assert_eq!(kept(&history), [""; 0]);
    }

    #[test]
    fn a_version_fails_after_two_crashes_of_the_host_in_a_row() {
        let mut history = AgentHistory::default();
        let one = task(Step::Start(build("1")));
        history.fold_success(&one, Some(&observed("1", AgentState::Started)), 1, INTERVAL);
        let mut two = build("2");
        history.fold_unfinished_start(&two, "a");
        // The digest is known once the build is on disk.
        two.md5 = "490ac172dabecc867289079d48e84a66".into();
        history.fold_boot("a", 1000);
        assert_eq!(
            history
                .unfinished_start
                .as_ref()
                .map(|start| start.host_crashes),
            Some(0)
        );
        let mut waits = Vec::new();
        for boot in ["b", "c", "d", "e", ""] {
            history.fold_boot(boot, 1000);
            waits.push(history.retry_at.saturating_sub(1000));
            history.fold_unfinished_start(&two, boot);
        }
        assert_eq!(waits, [0, 600, 3600, 86_400, 86_400]);
        assert!(
            history
                .error
                .starts_with("the host went down 4 times while 2")
        );
        assert_eq!(history.restart_at, 0, "the one before is started at once");
        history.fold_unfinished_start(&build("1"), "f");
        assert_eq!(
            history.unfinished_start.as_ref().map(|start| &start.build),
            Some(&two)
        );
        history.fold_unfinished_start(&build("3"), "f");
        history.fold_boot("g", 1000);
        assert_eq!(
            history.unfinished_start.map(|start| start.host_crashes),
            Some(1)
        );
    }

    #[test]
    fn a_changed_entry_forgets_every_failure_but_not_what_ran_well() {
        let mut history = AgentHistory::default();
        history.fold_desired("a", "a");
        history.fold_success(
            &task(Step::Start(build("1"))),
            Some(&observed("1", AgentState::Started)),
            1,
            INTERVAL,
        );
        let install = task(Step::Install(desired("2").release()));
        history.fold_failure(&install, &failed(Fault::Host), false, 5, INTERVAL);
        history.fold_desired("a", "a");
        assert!(history.is_waiting(6));
        history.fold_desired("b", "b");
        assert!(!history.is_waiting(6) && history.error.is_empty());
        assert!(history.last_good.is_some());
    }

    #[test]
    fn an_agent_that_dies_is_restarted_at_once_then_later_each_time_and_hourly_in_a_crash_loop() {
        let mut history = AgentHistory::default();
        let start = task(Step::Start(build("1")));
        history.fold_success(
            &start,
            Some(&observed("1", AgentState::Started)),
            0,
            INTERVAL,
        );
        assert_eq!(history.restart_at, 0, "the first start is no restart");
        let mut now = 1000;
        let mut waits = Vec::new();
        for _ in 0..6 {
            history.fold_death(&build("1"), 0, now);
            history.fold_success(
                &start,
                Some(&observed("1", AgentState::Started)),
                now,
                INTERVAL,
            );
            waits.push(history.restart_at - now);
            now = history.restart_at;
        }
        assert_eq!(waits, [10, 20, 40, 80, 3600, 3600]);
        assert!(history.error.starts_with("crash loop: died 5 times"));
        let quiet = now + schedule::CRASH_WINDOW;
        history.fold_observed(&desired("1"), &observed("1", AgentState::Started), quiet);
        assert_eq!((history.restarts, history.restart_at), (0, 0));
        assert!(history.error.is_empty() && !history.crash_loop);
    }

    #[test]
    fn a_fresh_agent_that_dies_at_its_first_start_is_started_again_at_once() {
        let mut history = AgentHistory::default();
        let start = task(Step::Start(build("1")));
        history.fold_failure(&start, &failed(Fault::Version), false, 100, INTERVAL);
        assert!(history.restart_at <= 100 && !history.is_waiting(100));
        history.fold_failure(&start, &failed(Fault::Version), false, 100, INTERVAL);
        assert_eq!(history.restart_at, 110);
        assert_eq!(history.error, "why");
    }

    #[test]
    fn the_version_that_ran_well_before_is_the_previous_one() {
        let mut history = AgentHistory::default();
        history.fold_observed(&desired("1"), &observed("1", AgentState::Started), 1);
        let back = history.last_good.clone();
        let switch = task(Step::Switch {
            back,
            to: build("2"),
        });
        history.fold_success(
            &switch,
            Some(&observed("2", AgentState::Started)),
            2,
            INTERVAL,
        );
        assert_eq!(history.previous, Version::parse("1"));
        assert_eq!(history.last_good.map(|good| good.build), Some(build("2")));
    }
}

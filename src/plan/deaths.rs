//! Deaths of an agent: when it is started again, when it is in a crash loop, and when a new version is given up. Pure.

use super::history::{AgentHistory, Trial};
use super::schedule;
use crate::model::{Build, Deployment};

/// Deaths that are remembered: as many as make a crash loop.
const DEATHS_KEPT: usize = 5;
/// So many deaths within `schedule::CRASH_WINDOW` of its first start, and a new version has failed.
const DEATHS_ON_TRIAL: usize = 3;

/// What follows from a death.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AfterDeath {
    /// The agent is started again, later each time.
    Restart,
    /// From now on the agent is in a crash loop. `error` says so.
    CrashLoop,
    /// The new version has failed, and what ran before is started. `error` says so.
    RollBack,
}

impl AgentHistory {
    /// The agent was found dead, or it died during its start. `ran` is for how long it was seen running, in seconds: a
    /// long run ends a row of deaths.
    pub fn fold_death(&mut self, build: &Build, ran: u64, now: u64) -> AfterDeath {
        if ran >= schedule::CRASH_WINDOW {
            self.forget_deaths();
        }
        self.deaths.push(now);
        if self.has_failed_trial(now)
            && let Some(trial) = self.trial.take()
        {
            self.give_up(build, *trial, now);
            return AfterDeath::RollBack;
        }
        let surplus = self.deaths.len().saturating_sub(DEATHS_KEPT);
        self.deaths.drain(..surplus);
        if self.crash_loop || self.deaths.len() < DEATHS_KEPT {
            return AfterDeath::Restart;
        }
        self.crash_loop = true;
        let mut error = format!("crash loop: {}, tried hourly", self.deaths_in_words());
        if !self.error.is_empty() {
            error += "; last: ";
            error += &self.error;
        }
        self.set_error(&error, now);
        AfterDeath::CrashLoop
    }

    /// A build was switched to. It is on trial from now on, unless it is another build of the same version: the build before
    /// is removed as soon as the new one runs.
    pub(super) fn begin_trial(&mut self, build: &Build, back: &Deployment, now: u64) {
        let is_new = back.build.version != build.version;
        self.trial = is_new.then(|| {
            Box::new(Trial {
                since: now,
                back: back.clone(),
                previous: self.previous.clone(),
            })
        });
    }

    /// Whether a build is on trial. Its former failures still count if it fails again.
    pub(super) fn is_on_trial(&self, now: u64) -> bool {
        let trial = self.trial.as_ref();
        trial.is_some_and(|trial| now.saturating_sub(trial.since) <= schedule::CRASH_WINDOW)
    }

    fn has_failed_trial(&self, now: u64) -> bool {
        self.is_on_trial(now) && self.deaths.len() >= DEATHS_ON_TRIAL
    }

    fn give_up(&mut self, build: &Build, trial: Trial, now: u64) {
        let error = format!(
            "{build} died {} times within 10 min of its first start; back to {}",
            self.deaths.len(),
            trial.back.build
        );
        self.set_error(&error, now);
        self.forget_deaths();
        self.version_failures = self.version_failures.saturating_add(1);
        self.retry_at = now + schedule::version_retry(self.version_failures);
        self.last_good = Some(trial.back);
        self.previous = trial.previous;
    }

    /// Returns the deaths in a row in words. Empty: it died once at most, and was started again.
    pub fn deaths_in_words(&self) -> String {
        match self.deaths.len() {
            0 | 1 => String::new(),
            times => format!("died {times} times in a row, each within 10 min of its start"),
        }
    }

    /// The agent was started again. It waits longer before the next time.
    pub(super) fn fold_restart(&mut self, now: u64) {
        self.restarts = self.restarts.saturating_add(1);
        self.restart_at = now + schedule::restart_delay(self.restarts, self.crash_loop);
    }

    /// Whether it has neither died nor been started again for so long that former deaths do not count any more.
    pub(super) fn is_quiet(&self, now: u64) -> bool {
        // Mostly it is started soon after it died, but in a crash loop an hour later.
        let delay = schedule::restart_delay(self.restarts, self.crash_loop);
        let restarted = self.restart_at.saturating_sub(delay);
        let last = self.deaths.last().copied().unwrap_or_default();
        now.saturating_sub(last.max(restarted)) >= schedule::CRASH_WINDOW
    }

    pub(super) fn forget_deaths(&mut self) {
        self.deaths.clear();
        self.restarts = 0;
        self.crash_loop = false;
        self.restart_at = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AgentState, Step};
    use crate::plan::examples::*;

    /// Switches from 1 to 2, which then dies after these seconds each time, and returns what followed from each death.
    fn trial_of(lives: &[u64]) -> (AgentHistory, Vec<AfterDeath>) {
        let mut history = AgentHistory::default();
        let mut now = 1000;
        history.fold_observed(&desired("1"), &observed("1", AgentState::Started), now);
        switch(&mut history, now);
        let mut followed = Vec::new();
        for life in lives {
            now += life;
            followed.push(history.fold_death(&build("2"), *life, now));
        }
        (history, followed)
    }

    fn switch(history: &mut AgentHistory, now: u64) {
        let back = history.last_good.clone();
        let to = build("2");
        let switch = task(Step::Switch { back, to });
        let started = observed("2", AgentState::Started);
        history.fold_success(&switch, Some(&started), now, INTERVAL);
    }

    #[test]
    fn short_runs_in_a_row_are_a_crash_loop_however_far_apart_they_are_found() {
        let mut history = AgentHistory::default();
        let hourly = (1..=6).map(|n| history.fold_death(&build("1"), 0, n * 3600));
        let followed: Vec<_> = hourly.collect();
        let mut expected = [AfterDeath::Restart; 6];
        expected[4] = AfterDeath::CrashLoop;
        assert_eq!(followed, expected);
        assert!(history.error.starts_with("crash loop: died 5 times"));
        history.fold_death(&build("1"), 600, 30_000);
        assert!(!history.crash_loop, "a long run ends it");
        assert_eq!(history.deaths, [30_000]);
    }

    #[test]
    fn a_crash_loop_does_not_end_because_the_agent_was_down_for_long() {
        let mut history = AgentHistory::default();
        let started = observed("1", AgentState::Started);
        history.fold_observed(&desired("1"), &started, 1000);
        let mut now = 1000;
        let mut starts = Vec::new();
        for _ in 0..8 {
            history.fold_death(&build("1"), 8, now);
            now = now.max(history.restart_at);
            starts.push(now);
            history.fold_success(
                &task(Step::Start(build("1"))),
                Some(&started),
                now,
                INTERVAL,
            );
            // It is checked right after its start, and dies after that.
            history.fold_observed(&desired("1"), &started, now + 1);
            now += 8;
        }
        assert_eq!(starts, [1000, 1010, 1030, 1070, 1150, 4750, 8350, 11950]);
        assert!(history.error.starts_with("crash loop"));
        history.fold_observed(&desired("1"), &started, 11950 + schedule::CRASH_WINDOW);
        assert!(!history.crash_loop, "a long run ends it");
    }

    #[test]
    fn a_new_version_that_dies_three_times_in_ten_minutes_gives_way_to_the_one_before() {
        let mut history = AgentHistory::default();
        history.fold_observed(&desired("1"), &observed("1", AgentState::Started), 1000);
        let mut waits = Vec::new();
        let mut now = 1000;
        for _ in 0..4 {
            switch(&mut history, now);
            assert_eq!((history.retry_at, history.error.as_str()), (0, ""));
            assert_eq!(
                history.last_good.as_ref().map(|good| &good.build),
                Some(&build("2"))
            );
            for life in [8, 18, 28] {
                now += life;
                history.fold_death(&build("2"), life, now);
            }
            assert!(history.error.starts_with("2 died 3 times within 10 min"));
            assert_eq!(
                history.last_good.as_ref().map(|good| &good.build),
                Some(&build("1"))
            );
            assert_eq!((history.restart_at, history.deaths.len()), (0, 0));
            waits.push(history.retry_at - now);
            now = history.retry_at;
        }
        assert_eq!(waits, [600, 3600, 86_400, 86_400]);
    }

    #[test]
    fn a_version_that_ran_for_ten_minutes_is_not_on_trial_any_more() {
        let (history, followed) = trial_of(&[8, 18, 700]);
        assert_eq!(followed, [AfterDeath::Restart; 3]);
        assert_eq!(history.last_good.map(|good| good.build), Some(build("2")));
        let (_, followed) = trial_of(&[300, 200, 101]);
        assert_eq!(followed, [AfterDeath::Restart; 3]);
        let (_, followed) = trial_of(&[300, 200, 100]);
        assert_eq!(followed[2], AfterDeath::RollBack);
    }

    #[test]
    fn failures_are_forgotten_once_the_trial_is_over() {
        let (mut history, _) = trial_of(&[]);
        history.version_failures = 1;
        let started = observed("2", AgentState::Started);
        history.fold_observed(&desired("2"), &started, 1600);
        assert_eq!(history.version_failures, 1);
        history.fold_observed(&desired("2"), &started, 1601);
        assert_eq!((history.version_failures, history.trial), (0, None));
    }
}

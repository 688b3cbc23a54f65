//! The rounds: when agents are checked and the server is asked, and what the checks find.
#![expect(
    clippy::disallowed_methods,
    reason = "checks are dated, posts are paced"
)]

use std::time::{Duration, Instant};

use nanorand::Rng;

use super::child::{Child, Patience};
use super::parts::Round;
use super::{Daemon, REPORT_SOON};
use crate::log;
use crate::log::on_change::Subject;
use crate::model::{AgentName, Location, Observation, STATUS_LIMIT, Step};
use crate::os::process;
use crate::plan::schedule;
use crate::protocol::event::{Event, What};
use crate::text::brief;

const ROUND_PATIENCE: Patience = Patience {
    whole: Duration::from_secs(60),
    silent: None,
    // More than 10,000 agents.
    longest_event: 32 << 20,
};

impl Daemon {
    /// Checks every agent, and asks the server if that is due.
    pub(super) fn start_round(&mut self) {
        self.follow_operator();
        self.listen();
        let now = Instant::now();
        let pause = schedule::next_heartbeat(self.config.interval, self.random.generate());
        self.heartbeats.next_check = now + self.check_pause(pause);
        let input = self.input();
        let is_time = now >= self.heartbeats.next_post && !self.heartbeats.is_posting();
        // A round of `apply` has no server to report to.
        let posts = is_time && (input.is_some() || !self.config.url.is_empty());
        if is_time {
            self.heartbeats.next_post = now + pause;
            self.heartbeats.is_wanted = false;
        }
        if posts && !self.config.url.is_empty() {
            self.heartbeats.status.last = self.clock.now();
        }
        if is_time || self.heartbeats.failures > 0 {
            self.heartbeats.is_report_due = false;
        }
        let lives = |observation: &Observation| observation.stuck().is_some_and(process::is_alive);
        self.workers.stuck.retain(lives);
        let start = || {
            let job = self.heartbeat_job(posts, input)?;
            let command = self.identity.program.command("beat", None)?;
            Child::spawn(command, &job, ROUND_PATIENCE, false)
        };
        match start() {
            Ok(child) => self.heartbeats.running.push(Round {
                child,
                posts,
                asked: self.state.asked(),
                has_checked: false,
                is_settled: false,
                outdated: Vec::new(),
            }),
            Err(error) if posts => self.heartbeat_failed(&error.to_string(), None),
            Err(error) => self.checks_failed(&error.to_string()),
        }
    }

    fn checks_failed(&mut self, error: &str) {
        if self.on_change.record(Subject::Checks, error) {
            log::warn(format_args!("cannot check the agents: {error}"));
        }
    }

    /// Returns the pause before the next check. `heartbeat` is that before the next heartbeat.
    pub(super) fn check_pause(&self, heartbeat: Duration) -> Duration {
        match self.config.check_interval {
            // With an interval that is not shorter, every heartbeat checks, and nothing else has to.
            pause if pause.is_zero() || pause >= self.config.interval => heartbeat,
            pause => pause,
        }
    }

    pub(super) fn tend_rounds(&mut self) {
        let now = Instant::now();
        for mut round in std::mem::take(&mut self.heartbeats.running) {
            let (events, ended) = round.child.tend(now);
            for event in events {
                self.take_event(&mut round, event);
            }
            match ended {
                None => self.heartbeats.running.push(round),
                Some(why) if round.posts && !round.is_settled => {
                    let url = &self.config.url;
                    let error = format!("cannot send a heartbeat to {url}: {why}");
                    self.heartbeat_failed(&error, None);
                }
                Some(why) if !round.has_checked && !round.is_settled => self.checks_failed(&why),
                Some(_) => {}
            }
        }
    }

    fn take_event(&mut self, round: &mut Round, mut event: Event) {
        if event.what == What::Answered {
            self.take_answer(&mut event);
        }
        for observation in std::mem::take(&mut event.observations) {
            self.report_unknown(&observation);
            self.note_stuck(&observation);
            // An install touches nothing that runs, so a check beside it counts.
            let worker = self.workers.get(&observation.name);
            let step = worker.map(|worker| &worker.attempt.task.step);
            let is_recent = !round.outdated.contains(&observation.name);
            if is_recent && matches!(step, None | Some(Step::Install(_))) {
                self.record_check(observation);
            }
        }
        self.withdraw_installs();
        match event.what {
            What::Observed => {
                round.has_checked = true;
                // Where checks take longer than their interval, the server has as long to answer before the next one: a
                // check that begins meanwhile delays the next heartbeat by all its time.
                let rest = if round.posts {
                    self.check_pause(self.config.interval)
                } else {
                    REPORT_SOON
                };
                let soon = Instant::now() + rest;
                self.heartbeats.next_check = self.heartbeats.next_check.max(soon);
                self.on_change.clear(&Subject::Checks);
            }
            What::Answered => {
                round.is_settled = true;
                self.heartbeats.has_asked = true;
                self.heartbeats.status.asked = Some(round.asked);
                self.heartbeat_answered();
            }
            What::Refused => {
                round.is_settled = true;
                let error = event.error.unwrap_or_default();
                self.heartbeat_failed(&error, event.retry_after);
            }
            What::Phase | What::Critical | What::Done => {}
        }
    }

    /// Records a check of an agent, and logs its death if the check has found one.
    fn record_check(&mut self, observation: Observation) {
        let Some(death) = self.state.observe(observation, self.clock.now()) else {
            return;
        };
        log::warn(format_args!("{}", death.words));
        self.record_verdict(death.verdict);
        // What died is published at once.
        self.published.at = None;
    }

    /// Logs why nothing happens to an agent that another updater manages, or that may run where it cannot be checked. It
    /// is left alone as long as this is so.
    fn report_unknown(&mut self, observation: &Observation) {
        let subject = Subject::Check(observation.name.clone());
        let name = &observation.name;
        let elsewhere = observation.elsewhere.as_ref();
        let reason = match observation.managed_by() {
            Some(managed_by) => Some(format!(
                "{name}: left alone, it is {}",
                brief(managed_by, STATUS_LIMIT)
            )),
            None => elsewhere
                .filter(|elsewhere| elsewhere.is_unknown())
                .map(|elsewhere| {
                    let Location { work_dir, run_user } = &elsewhere.location;
                    format!(
                        "{name}: cannot check it in {work_dir} as {run_user}, so it is not moved: {}",
                        elsewhere.status
                    )
                }),
        };
        match reason {
            Some(warning) => {
                if self.on_change.record(subject, &warning) {
                    log::warn(format_args!("{warning}"));
                }
            }
            None => {
                self.on_change.clear(&subject);
            }
        }
    }

    pub(super) fn is_stuck(&self, name: &AgentName) -> bool {
        self.workers
            .stuck
            .iter()
            .any(|observation| observation.name == *name)
    }

    pub(super) fn note_stuck(&mut self, observation: &Observation) {
        if let Some(trace) = observation.stuck()
            && !self.is_stuck(&observation.name)
        {
            log::warn(format_args!(
                "{}: a process cannot be killed, the disk may hang; nothing is begun until it is gone: {trace}",
                observation.name
            ));
            self.workers.stuck.push(observation.clone());
        }
    }
}

//! The step workers: which step starts when, and what the end of a worker means.
#![expect(clippy::disallowed_methods, reason = "steps are dated")]

use std::time::{Duration, Instant};

use super::child::{Child, Patience};
use super::lanes::Lane;
use super::parts::{Mode, Worker};
use super::progress::Progress;
use super::state::{Attempt, Verdict};
use super::{Daemon, REPORT_SOON};
use crate::error::Result;
use crate::log;
use crate::log::on_change::Subject;
use crate::model::{AgentName, Failure, Fault, Step, Task};
use crate::os::{credentials, spawn};
use crate::protocol::event::{STARTING, STOPPING, SWITCHING, SYNC_PATIENCE, SYNCING, What};
use crate::protocol::job::{Role, StepJob};
use crate::store::tokens;

/// The longest event of a step in bytes. A step reports one agent at two locations at most, in about 20 KB, and its worker
/// may belong to a hostile user.
const LONGEST_STEP_EVENT: usize = 64 << 10;

/// The pause before a step that waits is tried again, where a slot may become free without an event.
const TURN_PAUSE: Duration = Duration::from_secs(1);

impl Daemon {
    /// Ends the downloads that are no longer desired, and those of an agent that has died meanwhile. The agent is started
    /// first, and its download is resumed after that.
    pub(super) fn withdraw_installs(&mut self) {
        for worker in &mut self.workers.running {
            let Attempt { name, task, .. } = &worker.attempt;
            let Step::Install(release) = &task.step else {
                continue;
            };
            let is_wanted = self.state.wants(name, release, &task.location);
            let next = self.state.next_task(name, self.clock.now());
            let must_start = self.state.is_down(name)
                && next.is_some_and(|task| matches!(task.step, Step::Start(_)));
            if (!is_wanted || must_start) && !worker.is_withdrawn {
                worker.is_withdrawn = true;
                worker.child.end("it is not wanted now".to_owned());
            }
        }
    }

    /// Starts the next step of each agent: one step an agent, and not more at once than its lane has slots. A worker checks
    /// its agent again before it changes anything, so the last check may be some seconds old.
    pub(super) fn start_workers(&mut self) {
        self.workers.next_turn = None;
        if !self.state.is_confirmed() && self.heartbeats.is_just_posting(Instant::now()) {
            // What is saved may be out of date.
            self.workers.next_turn = Some(Instant::now() + TURN_PAUSE);
            return;
        }
        let now = self.clock.now();
        for name in self.state.names() {
            if self.workers.get(&name).is_some() || self.is_stuck(&name) {
                continue;
            }
            if self.state.must_be_checked(&name) {
                self.heartbeats.check_by(Instant::now() + REPORT_SOON);
            }
            if let Some(task) = self.state.next_task(&name, now)
                && self.mode != Mode::Plan
            {
                self.start_in_turn(name, task);
            }
        }
    }

    fn start_in_turn(&mut self, name: AgentName, task: Task) {
        let now = Instant::now();
        let lane = self.lane(&name, &task);
        // A worker that cannot be ended blocks its own agent, but takes no turn from the others.
        let workers = self.workers.running.iter();
        let ages = workers
            .filter(|worker| !worker.child.is_lost)
            .map(|worker| (worker.lane, worker.child.age(now)));
        if lane.has_room(ages) {
            self.start_worker(name, task, lane);
        } else if lane.has_ages() {
            self.workers.next_turn = Some(now + TURN_PAUSE);
        }
    }

    fn lane(&self, name: &AgentName, task: &Task) -> Lane {
        // An agent that was stopped to be started elsewhere has run well too, and is down now.
        let is_proven = self.workers.moving.contains(name) || self.state.is_proven(name, task);
        Lane::of(&task.step, self.state.is_down(name), is_proven)
    }

    fn start_worker(&mut self, name: AgentName, task: Task, lane: Lane) {
        let step = format!("{name}: {task}");
        if self.on_change.record(Subject::Step(name.clone()), &step) {
            log::info(format_args!("{step}"));
        }
        self.state.begin(&name, &task);
        self.save();
        let start = || {
            let job = self.step_job(&name, &task)?;
            let by_sudo = job.role.by_sudo;
            let sudo = self.sudo().filter(|_| by_sudo);
            let command = self.identity.program.command("act", sudo)?;
            Child::spawn(command, &job, patience(&task.step), by_sudo)
        };
        let child = start();
        let mut attempt = Attempt {
            desired_digest: self.state.desired_digest(&name),
            name,
            task,
            failure: None,
            has_started: false,
            observation: None,
        };
        match child {
            Ok(child) => {
                self.workers.running.push(Worker {
                    child,
                    lane,
                    share: 0,
                    is_withdrawn: false,
                    phase: first_phase(&attempt.task.step).to_owned(),
                    progress: Progress::default(),
                    is_done: false,
                    attempt,
                });
                self.workers.divide(self.config.download_rate);
            }
            Err(error) => {
                attempt.failure = Some(unfinished(&attempt.task, &error.to_string()));
                self.step_ended(attempt);
            }
        }
    }

    fn step_job(&self, name: &AgentName, task: &Task) -> Result<StepJob> {
        let elsewhere = self.state.elsewhere(name, &task.location);
        let by_sudo = self.sudo().is_some();
        let role = Role::new(
            &self.identity.run_user,
            &task.location,
            elsewhere.as_ref(),
            by_sudo,
        );
        let other_locations = self.state.other_locations(name, &task.location);
        let is_move =
            role.moving && self.state.is_to_run(name) && matches!(task.step, Step::Stop(_));
        let mut job = StepJob::new(
            name,
            task,
            other_locations,
            role,
            &self.identity.updater,
            self.config.log_level.name(),
        );
        job.public_keys.clone_from(&self.config.public_keys);
        job.is_move = is_move;
        job.keeps_work_dir = elsewhere.is_some_and(|at| at.work_dir == task.location.work_dir);
        if let Step::Install(release) = &task.step {
            job.network = self.config.network.clone();
            job.network.tokens = tokens::of_stores(&self.config, Some(release))?;
            job.network.download_share = Lane::Install.least_share(self.config.download_rate);
        }
        Ok(job)
    }

    /// Returns the program through which children become other users. None: the daemon is root.
    pub(super) fn sudo(&self) -> Option<&str> {
        (credentials::effective_uid() != 0).then_some(self.config.sudo.as_str())
    }

    pub(super) fn tend_workers(&mut self) {
        let now = Instant::now();
        let mut ended = Vec::new();
        let mut changed = false;
        for mut worker in std::mem::take(&mut self.workers.running) {
            let (events, end) = worker.child.tend(now);
            for mut event in events {
                worker.progress.note(&event);
                let all = self.counts.downloaded_bytes.saturating_add(event.fetched);
                self.counts.downloaded_bytes = all;
                changed = true;
                worker.phase = std::mem::take(&mut event.phase);
                if worker.phase == SYNCING {
                    worker.child.may_be_silent(SYNC_PATIENCE);
                }
                if event.what == What::Done {
                    worker.is_done = true;
                    worker.attempt.end(event);
                }
            }
            match end {
                Some(why) => ended.push((worker, why)),
                None => self.workers.running.push(worker),
            }
        }
        if changed && self.mode != Mode::Serve {
            self.show_progress();
        }
        for (mut worker, why) in ended {
            if !worker.is_done {
                let Attempt { name, task, .. } = &worker.attempt;
                if worker.is_withdrawn {
                    log::info(format_args!("{name}: {}: put off", task.step));
                    continue;
                }
                worker.attempt.failure = Some(unfinished(task, &why));
            }
            self.step_ended(worker.attempt);
        }
        self.workers.divide(self.config.download_rate);
    }

    /// Reaps agents that have died, if they became children of the daemon. `kill -0` in a control script would take such an
    /// agent for one that runs.
    pub(super) fn reap_orphans(&self) {
        let rounds = self.heartbeats.running.iter();
        let mut ours: Vec<u32> = rounds.map(|round| round.child.pid()).collect();
        ours.extend(self.workers.running.iter().map(|worker| worker.child.pid()));
        spawn::reap_orphans(&ours);
    }

    fn step_ended(&mut self, attempt: Attempt) {
        if let Some(observation) = &attempt.observation {
            self.note_stuck(observation);
        }
        let Attempt { name, task, .. } = &attempt;
        for round in &mut self.heartbeats.running {
            round.outdated.push(name.clone());
        }
        self.workers.moving.retain(|moving| moving != name);
        if self.state.is_to_run(name) && matches!(task.step, Step::Stop(_)) {
            self.workers.moving.push(name.clone());
        }
        self.counts.count(task, attempt.failure.as_ref());
        if attempt.failure.is_some() {
            self.failures.count(&task.step);
        }
        // The new state is published at once.
        self.published.at = None;
        let soon = Instant::now() + REPORT_SOON;
        let is_unknown = attempt.observation.is_none();
        if is_unknown {
            self.heartbeats.check_by(soon);
        }
        if self.report_end(name, task, attempt.failure.as_ref()) || is_unknown {
            self.heartbeats.is_report_due = true;
            self.heartbeats.report_by(soon);
        }
        let interval = self.config.interval;
        let verdict = self.state.finish(attempt, self.clock.now(), interval);
        self.record_verdict(verdict);
    }

    /// Logs and counts what changes for an agent that died once too often.
    pub(super) fn record_verdict(&mut self, verdict: Option<Verdict>) {
        if let Some(verdict) = verdict {
            self.counts.rollbacks += u64::from(verdict.is_rollback);
            log::error(format_args!("{}", verdict.words));
        }
    }

    /// Logs the end of a task. Returns whether the server is to hear of it soon: not of the same failure as before, and not of what
    /// is only installed. That is started at once, and a release would cost each host one heartbeat more.
    fn report_end(&mut self, name: &AgentName, task: &Task, failure: Option<&Failure>) -> bool {
        let subject = Subject::StepError(name.clone());
        match failure {
            None => {
                self.on_change.clear(&subject);
                self.on_change.clear(&Subject::Step(name.clone()));
                log::info(format_args!("{name}: {}: done", task.step));
                !matches!(task.step, Step::Install(_))
            }
            Some(failure) => {
                let error = format!("{name}: {}", failure.error);
                let changed = self.on_change.record(subject, &error);
                if changed {
                    log::warn(format_args!("{error}"));
                } else {
                    log::debug(format_args!("{name}: again: {}", failure.error));
                }
                changed
            }
        }
    }

    /// Starts the agents that were stopped as one user and not yet started as another. Their workers outlive the daemon.
    pub(super) fn finish_moves(&mut self) {
        let moving = std::mem::take(&mut self.workers.moving);
        for name in &moving {
            if self.workers.get(name).is_none()
                && let Some(task) = self.state.next_task(name, self.clock.now())
            {
                let lane = self.lane(name, &task);
                self.start_worker(name.clone(), task, lane);
            }
        }
        for worker in &mut self.workers.running {
            worker.child.critical |= moving.contains(&worker.attempt.name);
        }
    }
}

/// Returns the failure of a child that ended without a result. The host is at fault, because the version was not asked.
fn unfinished(task: &Task, why: &str) -> Failure {
    Failure {
        fault: Fault::Host,
        error: format!("cannot {task}: {why}"),
    }
}

/// Returns the phase of a step until its worker reports one. A heartbeat of that time may look at the agent later, in the middle
/// of the step, and must not take what it sees for the end of it.
fn first_phase(step: &Step) -> &'static str {
    match step {
        Step::Start(_) => STARTING,
        Step::Switch { .. } => SWITCHING,
        Step::Stop(_) => STOPPING,
        Step::Install(_) | Step::Prune(_) => "",
    }
}

/// Returns how long a step may take and be silent. A step that runs scripts keeps their deadlines itself; these limits are
/// for a step that cannot.
fn patience(step: &Step) -> Patience {
    let whole = |seconds| Patience {
        whole: Duration::from_secs(seconds),
        silent: None,
        longest_event: LONGEST_STEP_EVENT,
    };
    match step {
        Step::Install(_) => Patience {
            whole: Duration::from_secs(2 * 3600),
            silent: Some(Duration::from_secs(60)),
            longest_event: LONGEST_STEP_EVENT,
        },
        Step::Switch { .. } => whole(900),
        Step::Start(_) | Step::Stop(_) | Step::Prune(_) => whole(600),
    }
}

//! The daemon's half of an act: which child is started when, what it tells, and what its end means.
#![expect(clippy::disallowed_methods, reason = "acts are dated")]

use std::fmt::Write;
use std::time::{Duration, Instant};

use super::{Daemon, Errand, REPORT_SOON};
use crate::children::{Child, Patience};
use crate::job::{ActJob, Event, Role, What};
use crate::log;
use crate::model::{AgentName, Cmd, Failure, Fault, Step, Task};
use crate::roster::Attempt;
use crate::show;
use crate::sys;

/// An act reports one agent, at two places at most, in 20 KB or so. It may belong to a hostile user.
const LONGEST_ACT_EVENT: usize = 64 << 10;

/// A host of hundreds of agents starts them in turns; more at once would starve the heartbeat.
const ACTS_AT_ONCE: usize = 16;

pub(super) struct Act {
    pub(super) child: Child,
    pub(super) attempt: Attempt,
    /// Ended by us for something more important; not a failure.
    pub(super) is_withdrawn: bool,
    pub(super) phase: String,
    pub(super) progress: Progress,
    /// The child has told how it ended.
    is_done: bool,
}

/// How far a download is.
#[derive(Default)]
pub(super) struct Progress {
    pub(super) bytes: u64,
    pub(super) total: u64,
    /// The first that was told of it.
    began: Option<(Instant, u64)>,
}

impl Progress {
    /// Tells how many bytes have come since the last time. What an earlier attempt left comes without a total, and from
    /// no network.
    fn note(&mut self, event: &Event) -> u64 {
        let (bytes, total) = (event.bytes.unwrap_or(0), event.total.unwrap_or(0));
        let got = bytes.saturating_sub(self.bytes);
        let counts = total > 0 && self.total > 0;
        (self.bytes, self.total) = (bytes, total);
        if total == 0 || self.began.is_none() {
            self.began = event.total.map(|_| (Instant::now(), bytes));
        }
        if counts { got } else { 0 }
    }

    /// Bytes a second.
    pub(super) fn rate(&self) -> u64 {
        self.began.map_or(0, |(at, bytes)| {
            let seconds = at.elapsed().as_secs().max(1);
            self.bytes.saturating_sub(bytes) / seconds
        })
    }
}

impl Daemon {
    /// Ends downloads that the server no longer wants, and those of an agent that has died meanwhile: it is started
    /// first, and the download goes on after that where it was.
    pub(super) fn withdraw_acts(&mut self) {
        for (name, act) in self.acts.iter_mut() {
            let task = &act.attempt.task;
            let Step::Install(release) = &task.step else {
                continue;
            };
            let is_wanted = self.roster.wants(name, release, &task.place);
            let next = self.roster.next_task(name, self.clock.now());
            let must_start = self.roster.is_down(name)
                && next.is_some_and(|task| matches!(task.step, Step::Start(_)));
            if (!is_wanted || must_start) && !act.is_withdrawn {
                act.is_withdrawn = true;
                act.child.end("it is not wanted now".to_owned());
            }
        }
    }

    /// Starts what is to be done next: one act an agent, one switch at a time, and no more acts than a host bears;
    /// those that bring an agent up or down before those that fetch. An act looks again before it acts, so what was
    /// seen may be some seconds old.
    pub(super) fn start_acts(&mut self) {
        if !self.has_asked {
            return;
        }
        let now = self.clock.now();
        let acts = self.errand != Errand::Plan;
        let mut fetches = Vec::new();
        for name in self.roster.names() {
            if self.acts.get(&name).is_some() || self.is_stuck(&name) {
                continue;
            }
            if self.roster.lacks_a_look(&name) {
                self.next_beat = self.next_beat.min(Instant::now() + REPORT_SOON);
            }
            match self.roster.next_task(&name, now).filter(|_| acts) {
                Some(task) if matches!(task.step, Step::Install(_) | Step::Prune(_)) => {
                    fetches.push((name, task));
                }
                Some(task) => self.start_in_turn(name, task),
                None => {}
            }
        }
        for (name, task) in fetches {
            self.start_in_turn(name, task);
        }
    }

    fn start_in_turn(&mut self, name: AgentName, task: Task) {
        let is_switch = |task: &Task| matches!(task.step, Step::Switch { .. });
        let is_turn = |act: &Act| is_switch(&act.attempt.task);
        // One that cannot be ended keeps its agent from everything else, and nobody else from anything.
        let acts = || self.acts.values().filter(|act| !act.child.is_lost);
        let waits = is_switch(&task) && acts().any(is_turn);
        if !waits && acts().count() < ACTS_AT_ONCE {
            self.start_act(name, task);
        }
    }

    fn start_act(&mut self, name: AgentName, task: Task) {
        let step = format!("{name}: {task}");
        if self.said.is_news(&format!("{name} step"), &step) {
            log::info(format_args!("{step}"));
        }
        self.roster.begin(&name, &task);
        self.save();
        let there = self.roster.elsewhere(&name, &task.place);
        let by_sudo = self.sudo().is_some();
        let role = Role::new(&self.run_user, &task.place, there.as_ref(), by_sudo);
        let by_sudo = role.by_sudo;
        let strays = self.roster.strays(&name, &task.place);
        let starts = self
            .roster
            .desired(&name)
            .is_some_and(|d| d.cmd == Cmd::Start);
        let leaves = role.moving && starts && matches!(task.step, Step::Stop(_));
        let mut job = ActJob::new(&name, &task, strays, role, self.config.log_level.name());
        job.leaves = leaves;
        let command = self.program.command("act", self.sudo().filter(|_| by_sudo));
        let patience = patience(&task.step);
        let child = command.and_then(|command| Child::spawn(&command, &mut job, patience, by_sudo));
        let mut attempt = Attempt {
            entry: self.roster.entry(&name),
            name,
            task,
            failure: None,
            seen: None,
        };
        match child {
            Ok(child) => {
                let act = Act {
                    child,
                    is_withdrawn: false,
                    phase: String::new(),
                    progress: Progress::default(),
                    is_done: false,
                    attempt,
                };
                self.acts.insert(act.attempt.name.clone(), act);
            }
            Err(error) => {
                attempt.failure = Some(unfinished(&attempt.task, &error.to_string()));
                self.act_ended(attempt);
            }
        }
    }

    /// Through which program children become other users; none where we are root.
    pub(super) fn sudo(&self) -> Option<&str> {
        (sys::effective_uid() != 0).then_some(self.config.sudo.as_str())
    }

    pub(super) fn tend_acts(&mut self) {
        let now = Instant::now();
        let mut ended = Vec::new();
        let mut is_news = false;
        for (name, act) in self.acts.iter_mut() {
            let (events, end) = act.child.tend(now);
            for mut event in events {
                self.counts.downloaded_bytes += act.progress.note(&event);
                is_news = true;
                act.phase = event.phase.take().unwrap_or_default();
                if event.what == What::Done {
                    act.is_done = true;
                    act.attempt.end(event);
                }
            }
            ended.extend(end.map(|why| (name.clone(), why)));
        }
        if is_news && self.errand != Errand::Serve {
            self.show_progress();
        }
        for (name, why) in ended {
            let Some(mut act) = self.acts.remove(&name) else {
                continue;
            };
            if !act.is_done {
                let task = &act.attempt.task;
                if act.is_withdrawn {
                    log::info(format_args!("{name}: {}: put off", task.step));
                    continue;
                }
                act.attempt.failure = Some(unfinished(task, &why));
            }
            self.act_ended(act.attempt);
        }
    }

    /// For who watches a round on a terminal.
    fn show_progress(&self) {
        let mut words = String::new();
        for agent in self.status().agents {
            if !agent.phase.is_empty() {
                let _ = write!(words, "{}: {} ", agent.name, show::progress(&agent));
            }
        }
        log::transient(&log::brief(&words, 79));
    }

    fn act_ended(&mut self, attempt: Attempt) {
        if let Some(seen) = &attempt.seen {
            self.note_stuck(seen);
        }
        let Attempt { name, task, .. } = &attempt;
        self.acted.insert(name.clone(), Instant::now());
        self.between.remove(name);
        let desired = self.roster.desired(name);
        let is_to_run = desired.is_some_and(|desired| desired.cmd == Cmd::Start);
        if is_to_run && matches!(task.step, Step::Stop(_)) {
            self.between.insert(name.clone(), ());
        }
        self.counts.count(task, attempt.failure.as_ref());
        // What is in force now is not kept from whoever asks.
        self.published.at = None;
        if self.tell(name, task, attempt.failure.as_ref()) || attempt.seen.is_none() {
            self.is_report_due = true;
            self.next_beat = self.next_beat.min(Instant::now() + REPORT_SOON);
        }
        let interval = self.config.interval;
        self.roster.finish(attempt, self.clock.now(), interval);
    }

    /// Logs the end of a task; false when it is the same failure as before.
    fn tell(&mut self, name: &AgentName, task: &Task, failure: Option<&Failure>) -> bool {
        let subject = format!("{name} error");
        match failure {
            None => {
                self.said.forget(&subject);
                self.said.forget(&format!("{name} step"));
                log::info(format_args!("{name}: {}: done", task.step));
                true
            }
            Some(failure) => {
                let error = format!("{name}: {}", failure.error);
                let is_news = self.said.is_news(&subject, &error);
                if is_news {
                    log::warn(format_args!("{error}"));
                } else {
                    log::debug(format_args!("{name}: again: {}", failure.error));
                }
                is_news
            }
        }
    }

    /// Starts, beyond our own end, what was stopped as one user and not yet started as another.
    pub(super) fn finish_moves(&mut self) {
        for (name, ()) in std::mem::take(&mut self.between).iter_mut() {
            if self.acts.get(name).is_none()
                && let Some(task) = self.roster.next_task(name, self.clock.now())
            {
                self.start_act(name.clone(), task);
            }
            if let Some(act) = self.acts.get_mut(name) {
                act.child.critical = true;
            }
        }
    }
}

/// The failure of a child that ended without an outcome: the host's, since its version had no say in it.
fn unfinished(task: &Task, why: &str) -> Failure {
    Failure {
        fault: Fault::Host,
        error: format!("cannot {task}: {why}"),
    }
}

/// How long a step may take and be silent. A step that calls scripts keeps their deadlines itself; this is for the
/// case that it cannot.
fn patience(step: &Step) -> Patience {
    let whole = |seconds| Patience {
        whole: Duration::from_secs(seconds),
        silent: None,
        longest_event: LONGEST_ACT_EVENT,
    };
    match step {
        Step::Install(_) => Patience {
            whole: Duration::from_secs(2 * 3600),
            silent: Some(Duration::from_secs(60)),
            longest_event: LONGEST_ACT_EVENT,
        },
        Step::Switch { .. } => whole(900),
        Step::Start(_) | Step::Stop(_) => whole(300),
        Step::Prune(_) => whole(600),
    }
}

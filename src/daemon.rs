//! The poll loop: children, deadlines, signals, timers. It plans, spawns and records, and never itself resolves a
//! name, talks to another host, or touches an agent's directory.
#![expect(clippy::disallowed_methods, reason = "the loop that timers drive")]

use std::fmt::Write;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nanorand::{Rng, WyRand};

use crate::children::{Child, OwnProgram, Patience};
use crate::config::{Config, Source};
use crate::digest::Digest;
use crate::endpoint::Endpoint;
use crate::error::{At, Result};
use crate::job::{ActJob, BeatJob, Event, Role, SeenAgent, VERSION, What};
use crate::log;
use crate::model::{AgentName, Cmd, Failure, Fault, Place, Step, Task};
use crate::named::Named;
use crate::overrides::{self, Overrides};
use crate::pages::{self, Facts};
use crate::report::{self, BeatStatus, Counts, Status};
use crate::roster::{Attempt, Roster};
use crate::said::Said;
use crate::schedule;
use crate::show;
use crate::sys::{self, Awaited, READABLE, Signals};
use crate::user;

const BEAT_PATIENCE: Patience = Patience {
    whole: Duration::from_secs(60),
    silent: None,
    // Of 10,000 agents.
    longest_event: 8 << 20,
};
/// An act reports one agent, at two places at most, in 20 KB or so. It may belong to a hostile user.
const LONGEST_ACT_EVENT: usize = 64 << 10;
/// A finished transition is reported after this, together with others that end at the same time.
const REPORT_SOON: Duration = Duration::from_secs(1);
/// A host of hundreds of agents starts them in turns; more at once would starve the heartbeat.
const ACTS_AT_ONCE: usize = 16;
/// Told to stop, we are gone within 2 s; children that have not ended by then are killed.
const STOP_PATIENCE: Duration = Duration::from_millis(1700);
/// The longest sleep; only a bound on what a mistake in the timers could cost.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);

/// The status file is written at most so often.
const PUBLISH_PAUSE: Duration = Duration::from_secs(1);

/// What a daemon is started for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Errand {
    /// To keep the host as it is desired.
    Serve,
    /// One round, in the foreground, after the wish of the server or after this one.
    Once(Option<String>),
    /// To see what would be done; it changes nothing.
    Plan,
}

/// What came of an errand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    Nothing,
    Changes,
    Failed,
}

pub struct Daemon {
    errand: Errand,
    source: Source,
    config: Config,
    program: OwnProgram,
    signals: Signals,
    clock: Clock,
    random: WyRand,
    run_user: String,
    roster: Roster,
    beat: Option<Box<Beat>>,
    acts: Named<Act>,
    /// When the last act of an agent ended: older looks at it are stale.
    acted: Named<Instant>,
    /// At which something hangs that not even KILL ends. Whatever were begun there would only join it.
    stuck: Vec<SeenAgent>,
    /// Stopped as one user and not yet started as another: not to be left like this.
    between: Named<()>,
    /// A saved wish may be out of date: nothing is done before the server was asked once.
    has_asked: bool,
    next_beat: Instant,
    /// Before this the server is left in peace.
    next_post: Instant,
    /// The next beat posts all the same, whatever comes of one that is under way: an operator wants it.
    is_wanted: bool,
    failed_posts: u32,
    said: Said,
    /// A finished step was not reported yet.
    is_report_due: bool,
    counts: Counts,
    heartbeat: BeatStatus,
    since: u64,
    published: Published,
    endpoint: Endpoint,
}

/// What the status file says.
#[derive(Default)]
struct Published {
    text: String,
    at: Option<Instant>,
    /// Nothing can have happened since.
    is_fresh: bool,
}

struct Beat {
    child: Child,
    posts: bool,
    /// The answer came, or the reason why there is none.
    is_settled: bool,
}

struct Act {
    child: Child,
    attempt: Attempt,
    /// Ended by us for something more important; not a failure.
    is_withdrawn: bool,
    phase: String,
    progress: Progress,
    /// The child has told how it ended.
    is_done: bool,
}

/// How far a download is.
#[derive(Default)]
struct Progress {
    bytes: u64,
    total: u64,
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
    fn rate(&self) -> u64 {
        self.began.map_or(0, |(at, bytes)| {
            let seconds = at.elapsed().as_secs().max(1);
            self.bytes.saturating_sub(bytes) / seconds
        })
    }
}

/// Wall-clock seconds that no jump of the wall clock changes: read once, then counted on.
struct Clock {
    wall: u64,
    read_at: Instant,
}

impl Clock {
    fn new() -> Self {
        Self {
            wall: sys::unix_now(),
            read_at: Instant::now(),
        }
    }

    fn now(&self) -> u64 {
        self.at(Instant::now())
    }

    fn at(&self, moment: Instant) -> u64 {
        self.wall + moment.saturating_duration_since(self.read_at).as_secs()
    }
}

impl Daemon {
    /// From this moment HUP and USR1 end nobody: to be called before anybody can learn our pid.
    pub fn catch_signals() -> Result<Signals> {
        Signals::new(&[
            libc::SIGCHLD,
            libc::SIGHUP,
            libc::SIGUSR1,
            libc::SIGTERM,
            libc::SIGINT,
        ])
        .at("catch", "signals")
    }

    pub fn new(source: Source, config: Config, signals: Signals, errand: Errand) -> Result<Self> {
        let clock = Clock::new();
        let mut random = WyRand::new_seed(seed());
        let now = Instant::now();
        let run_user = user::own_name();
        let mut roster = Roster::load(&source.own_dir, &run_user, clock.now());
        let mut heartbeat = BeatStatus::default();
        if let Some(status) = report::load(&source.own_dir) {
            roster.recall(&status);
            heartbeat.answered = status.heartbeat.answered;
        }
        let mut first = Duration::ZERO;
        match errand {
            Errand::Plan => {}
            Errand::Once(_) => roster.tidy(),
            Errand::Serve => {
                roster.tidy();
                first = schedule::first_beat(config.interval, random.generate());
            }
        }
        let program = OwnProgram::find()?;
        Ok(Self {
            errand,
            next_beat: now + first,
            next_post: now,
            is_wanted: false,
            program,
            run_user,
            source,
            config,
            signals,
            clock,
            random,
            roster,
            beat: None,
            acts: Named::default(),
            acted: Named::default(),
            stuck: Vec::new(),
            between: Named::default(),
            has_asked: false,
            failed_posts: 0,
            said: Said::default(),
            is_report_due: false,
            counts: Counts::default(),
            heartbeat,
            since: sys::unix_now(),
            published: Published::default(),
            endpoint: Endpoint::default(),
        })
    }

    /// Runs until TERM or INT, or until the errand is done.
    pub fn run(&mut self) {
        log::info(format_args!(
            "ops-updater {VERSION} ({}) as {}, server {}, every {} s",
            crate::install::ARCH,
            self.run_user,
            self.config.server,
            self.config.interval.as_secs()
        ));
        for warning in std::mem::take(&mut self.config.warnings) {
            log::warn(format_args!("{}: {warning}", self.source.file.display()));
        }
        self.listen();
        loop {
            self.start_acts();
            if self.is_done() {
                self.save();
                self.publish_last();
                return;
            }
            if Instant::now() >= self.next_beat && self.beat.is_none() {
                self.start_beat();
            }
            self.save();
            self.publish();
            sys::wait_for(&self.awaited(), self.sleep());
            self.published.is_fresh = false;
            for signal in self.signals.take() {
                match signal {
                    libc::SIGTERM | libc::SIGINT => return self.stop(),
                    libc::SIGHUP => drop(self.reload()),
                    libc::SIGUSR1 => {
                        self.heed_operator();
                        self.next_beat = Instant::now();
                        self.is_wanted = true;
                    }
                    _ => {}
                }
            }
            self.tend_beat();
            self.tend_acts();
            self.tend_endpoint();
        }
    }

    fn awaited(&self) -> Vec<Awaited> {
        let mut awaited = vec![(self.signals.fd(), READABLE)];
        let mut add = |child: &Child| {
            if let Some(fd) = child.fd() {
                awaited.push((fd, READABLE));
            }
        };
        if let Some(beat) = &self.beat {
            add(&beat.child);
        }
        for act in self.acts.values() {
            add(&act.child);
        }
        self.endpoint.add_awaited(Instant::now(), &mut awaited);
        awaited
    }

    /// Where the settings say. What cannot be had there is no reason to stop: each heartbeat tries it again.
    fn listen(&mut self) {
        if self.errand != Errand::Serve {
            return;
        }
        let at = &self.config.http.listen;
        match self.endpoint.listen(self.config.listen).at("listen on", at) {
            Ok(false) => {}
            Ok(true) => {
                self.said.forget("http");
                log::info(format_args!("answers HTTP on {at}"));
            }
            Err(error) => {
                let error = error.to_string();
                if self.said.is_news("http", &error) {
                    log::error(format_args!("{error}; tried again with each heartbeat"));
                }
            }
        }
    }

    fn tend_endpoint(&mut self) {
        // The answer to a request may be new settings, and these change all the rest of us.
        let mut endpoint = std::mem::take(&mut self.endpoint);
        let mut status = None;
        endpoint.tend(Instant::now(), &mut |request, body| {
            let refusal = if pages::asks_to_reload(request) {
                self.reload().err()
            } else {
                None
            };
            let mut facts = Facts {
                // Once for all who ask in this turn: it costs as much as there are agents.
                status: status.get_or_insert_with(|| self.status()),
                config: &self.config,
                own_dir: &self.source.own_dir,
                now: self.clock.now(),
            };
            pages::answer(request, refusal.as_ref(), &mut facts, body)
        });
        self.endpoint = endpoint;
        if !self.endpoint.is_meant_for(self.config.listen) {
            self.listen();
        }
    }

    /// The time until the next timer or deadline.
    fn sleep(&self) -> Duration {
        let now = Instant::now();
        let wall = self.clock.now();
        let mut next = match &self.beat {
            Some(beat) => beat.child.deadline(),
            None => self.next_beat,
        };
        if let Some(retry) = self.roster.next_try(wall) {
            next = next.min(now + Duration::from_secs(retry - wall));
        }
        for act in self.acts.values() {
            next = next.min(act.child.deadline());
        }
        if let Some(at) = self.published.at.filter(|_| !self.published.is_fresh) {
            next = next.min(at + PUBLISH_PAUSE);
        }
        if let Some(at) = self.endpoint.deadline(now) {
            next = next.min(at);
        }
        next.saturating_duration_since(now).min(LONGEST_SLEEP)
    }

    /// A plan is done when everybody who may be acted on was looked at, a round when there is nothing more to do and
    /// what was done is reported.
    fn is_done(&self) -> bool {
        if self.errand == Errand::Serve || !self.has_asked || self.beat.is_some() {
            return false;
        }
        if matches!(self.errand, Errand::Once(Some(_))) && self.failed_posts > 0 {
            return true;
        }
        let now = self.clock.now();
        let is_open = |name: &AgentName| {
            let is_blind = self.roster.lacks_a_look(name) && !self.is_stuck(name);
            is_blind || self.errand != Errand::Plan && self.roster.next_task(name, now).is_some()
        };
        let is_idle = self.acts.values().next().is_none() && !self.is_report_due;
        is_idle && !self.roster.names().iter().any(is_open)
    }

    /// What came of it, for the exit code of a round.
    pub fn outcome(&self) -> Outcome {
        let counts = &self.counts;
        let done = [
            counts.installs,
            counts.switches,
            counts.starts,
            counts.stops,
        ];
        if counts.host_failures + counts.version_failures + counts.heartbeat_failures > 0 {
            Outcome::Failed
        } else if done.iter().any(|count| *count > 0) {
            Outcome::Changes
        } else {
            Outcome::Nothing
        }
    }

    /// All steps that are pending, a line each, and why there are none for an agent that is not as it should be.
    pub fn pending(&self) -> String {
        let now = self.clock.now();
        let mut lines = String::new();
        for agent in self.roster.statuses(now) {
            let name = AgentName::parse(&agent.name);
            let tasks = name.and_then(|name| self.roster.tasks(&name, now));
            let tasks = tasks.unwrap_or_default();
            for task in &tasks {
                let _ = writeln!(lines, "{}: {task}", agent.name);
            }
            if tasks.is_empty() && !agent.converged {
                let _ = write!(lines, "{}: nothing now, ", agent.name);
                let _ = if !self.roster.hold().is_empty() {
                    write!(lines, "this host is held")
                } else if agent.retry_at > now {
                    write!(lines, "next try in {}", show::span(agent.retry_at - now))
                } else {
                    write!(lines, "it is {}", agent.state)
                };
                if !agent.error.is_empty() {
                    lines.push_str(", after: ");
                    lines.push_str(&agent.error);
                }
                lines.push('\n');
            }
        }
        lines.truncate(lines.trim_end().len());
        lines
    }

    /// Follows what the operator's commands left on disk.
    fn heed_operator(&mut self) {
        let own_dir = &self.source.own_dir;
        self.roster.heed(Overrides::load(own_dir));
        if self.errand != Errand::Plan {
            for name in overrides::take_retries(own_dir) {
                self.roster.retry(&name);
            }
        }
        self.withdraw_acts();
    }

    pub fn status(&self) -> Status {
        let mut agents = self.roster.statuses(self.clock.now());
        for agent in &mut agents {
            let act = AgentName::parse(&agent.name).and_then(|name| self.acts.get(&name));
            if let Some(act) = act {
                agent.phase.clone_from(&act.phase);
                agent.bytes = act.progress.bytes;
                agent.total = act.progress.total;
                agent.rate = act.progress.rate();
            }
        }
        let mut heartbeat = self.heartbeat.clone();
        heartbeat.failures = self.failed_posts;
        heartbeat.next = self.clock.at(self.next_beat);
        Status {
            version: VERSION.to_owned(),
            arch: crate::install::ARCH.to_owned(),
            hostname: self.hostname(),
            pid: std::process::id(),
            since: self.since,
            server: self.config.server.clone(),
            interval: self.config.interval.as_secs(),
            hold: self.roster.hold().to_owned(),
            heartbeat,
            agents,
            refused: self.roster.refusals(),
            counts: self.counts.clone(),
        }
    }

    /// Writes the status file, if there is news and the last one is old enough.
    fn publish(&mut self) {
        let last = self.published.at;
        let is_early = last.is_some_and(|at| at.elapsed() < PUBLISH_PAUSE);
        if !self.published.is_fresh && !is_early {
            self.publish_last();
        }
    }

    fn publish_last(&mut self) {
        if self.errand == Errand::Plan {
            return;
        }
        self.published.is_fresh = true;
        self.published.at = Some(Instant::now());
        let text = crate::fields::write(&mut self.status());
        if text != self.published.text {
            match report::save(&self.source.own_dir, &text) {
                Ok(()) => self.published.text = text,
                Err(error) => log::debug(format_args!("{error}")),
            }
        }
    }

    fn start_beat(&mut self) {
        self.heed_operator();
        self.listen();
        let now = Instant::now();
        self.next_beat = now + schedule::next_beat(self.config.interval, self.random.generate());
        let wish = self.wish();
        let is_time = std::mem::take(&mut self.is_wanted) || now >= self.next_post;
        // Whoever applies a wish of their own has nobody to report to.
        let posts = is_time && (wish.is_some() || !self.config.url.is_empty());
        self.is_report_due = false;
        if posts {
            self.heartbeat.last = self.clock.now();
        }
        let lives = |seen: &SeenAgent| seen.stuck().is_some_and(sys::lives);
        self.stuck.retain(lives);
        let acts = &self.acts;
        let phase = |name: &AgentName| acts.get(name).map(|act| act.phase.clone());
        let mut job = BeatJob {
            made_by: VERSION.to_owned(),
            url: posts
                .then(|| self.config.url.clone())
                .filter(|url| !url.is_empty()),
            wish,
            hold: self.roster.hold().to_owned(),
            hostname: self.hostname(),
            ip: self.config.ip.clone(),
            run_user: self.run_user.clone(),
            sudo: self.sudo().unwrap_or_default().to_owned(),
            own_dir: self.source.own_dir.to_string_lossy().into_owned(),
            log_level: self.config.log_level.name().to_owned(),
            errors: self.roster.refusals(),
            agents: self.roster.reports(|name| phase(name).unwrap_or_default()),
            stuck: self.stuck.clone(),
        };
        let command = self.program.command("beat", None);
        match command.and_then(|command| Child::spawn(&command, &mut job, BEAT_PATIENCE, false)) {
            Ok(child) => {
                self.beat = Some(Box::new(Beat {
                    child,
                    posts,
                    is_settled: false,
                }));
            }
            Err(error) => self.beat_failed(&error.to_string(), None),
        }
    }

    /// As heartbeats report it.
    fn hostname(&self) -> String {
        match self.config.hostname.as_str() {
            "" => sys::hostname().unwrap_or_default(),
            name => name.to_owned(),
        }
    }

    /// Told to the first beat alone.
    fn wish(&self) -> Option<String> {
        match &self.errand {
            Errand::Once(wish) if !self.has_asked => wish.clone(),
            Errand::Once(_) | Errand::Serve | Errand::Plan => None,
        }
    }

    fn tend_beat(&mut self) {
        let Some(mut beat) = self.beat.take() else {
            return;
        };
        let (events, ended) = beat.child.tend(Instant::now());
        for event in events {
            self.beat_event(&mut beat, event);
        }
        match ended {
            None => self.beat = Some(beat),
            Some(why) if beat.posts && !beat.is_settled => {
                let url = &self.config.url;
                self.beat_failed(&format!("cannot beat to {url}: {why}"), None);
            }
            Some(_) => {}
        }
    }

    fn beat_event(&mut self, beat: &mut Beat, event: Event) {
        let what = event.what;
        if what == What::Answered {
            let agents = event.agents.unwrap_or_default();
            self.roster
                .accept(agents, event.refused.unwrap_or_default());
            self.forget_unnamed();
        }
        for seen in event.seen.unwrap_or_default() {
            let is_fresh = self
                .acted
                .get(&seen.name)
                .is_none_or(|at| *at < beat.child.started);
            self.tell_blindness(&seen);
            self.note_stuck(&seen);
            // An install touches nothing that runs, so a look beside it counts.
            let act = self.acts.get(&seen.name).map(|act| &act.attempt.task.step);
            if is_fresh && matches!(act, None | Some(Step::Install(_))) {
                self.roster.observe(seen, self.clock.now());
            }
        }
        self.withdraw_acts();
        match what {
            What::Answered => {
                beat.is_settled = true;
                self.has_asked = true;
                self.beat_answered();
            }
            What::Refused => {
                beat.is_settled = true;
                let error = event.error.unwrap_or_default();
                self.beat_failed(&error, event.retry_after);
            }
            What::Phase | What::Critical | What::Observed | What::Done => {}
        }
    }

    /// An agent that may run where nobody can look is left alone until somebody can; the log says why nothing happens.
    fn tell_blindness(&mut self, seen: &SeenAgent) {
        let subject = format!("{} sight", seen.name);
        match seen.there.as_ref().filter(|there| there.is_unseen()) {
            Some(there) => {
                let Place { work_dir, run_user } = &there.place;
                let blindness = format!(
                    "{}: cannot look at it in {work_dir} as {run_user}, so it is not moved: {}",
                    seen.name, there.status
                );
                if self.said.is_news(&subject, &blindness) {
                    log::warn(format_args!("{blindness}"));
                }
            }
            None => {
                self.said.forget(&subject);
            }
        }
    }

    fn is_stuck(&self, name: &AgentName) -> bool {
        self.stuck.iter().any(|seen| seen.name == *name)
    }

    fn note_stuck(&mut self, seen: &SeenAgent) {
        if let Some(trace) = seen.stuck()
            && !self.is_stuck(&seen.name)
        {
            log::warn(format_args!(
                "{}: a process that cannot be killed, on a disk that hangs? Nothing is begun until it is gone: {trace}",
                seen.name
            ));
            self.stuck.push(seen.clone());
        }
    }

    fn beat_answered(&mut self) {
        self.failed_posts = 0;
        self.counts.heartbeats += 1;
        self.heartbeat.answered = self.clock.now();
        self.heartbeat.error.clear();
        self.next_post = Instant::now();
        if self.said.forget("heartbeat") {
            log::info(format_args!("the server answers again"));
        }
    }

    fn beat_failed(&mut self, error: &str, retry_after: Option<u64>) {
        self.has_asked = true;
        self.failed_posts = self.failed_posts.saturating_add(1);
        self.counts.heartbeat_failures += 1;
        error.clone_into(&mut self.heartbeat.error);
        let random = self.random.generate();
        let mut pause = schedule::beat_backoff(self.config.interval, self.failed_posts, random);
        if let Some(seconds) = retry_after {
            let asked = Duration::from_secs(seconds).min(schedule::LONGEST_RETRY_AFTER);
            pause = pause.max(asked);
        }
        self.next_post = Instant::now() + pause;
        if self.said.is_news("heartbeat", error) {
            log::warn(format_args!(
                "{error}; the last desired state stays in force, asking again in {} s or more",
                pause.as_secs()
            ));
        }
    }

    fn forget_unnamed(&mut self) {
        let is_named = |name: &AgentName| self.roster.desired(name).is_some();
        self.acted.retain(|name, _| is_named(name));
        self.stuck.retain(|seen| is_named(&seen.name));
        self.said.retain(|subject| match subject.split_once(' ') {
            Some((name, _)) => AgentName::parse(name).is_some_and(|name| is_named(&name)),
            None => true,
        });
    }

    /// Ends downloads that the server no longer wants, and those of an agent that has died meanwhile: it is started
    /// first, and the download goes on after that where it was.
    fn withdraw_acts(&mut self) {
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
    fn start_acts(&mut self) {
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
    fn sudo(&self) -> Option<&str> {
        (sys::effective_uid() != 0).then_some(self.config.sudo.as_str())
    }

    fn tend_acts(&mut self) {
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

    fn save(&mut self) {
        if self.errand == Errand::Plan {
            return;
        }
        match self.roster.save() {
            Ok(()) => {
                self.said.forget("ledger");
            }
            Err(error) => {
                let error = error.to_string();
                if self.said.is_news("ledger", &error) {
                    log::error(format_args!("{error}; retry counts are kept in memory"));
                }
            }
        }
    }

    fn reload(&mut self) -> Result<()> {
        let config = match self.source.load() {
            Ok(config) => config,
            Err(error) => {
                log::error(format_args!("{error}; the settings stay as they were"));
                return Err(error);
            }
        };
        for warning in &config.warnings {
            log::warn(format_args!("{}: {warning}", self.source.file.display()));
        }
        log::set_level(config.log_level);
        log::set_limit(config.log_limit);
        log::info(format_args!(
            "settings read again: server {}, every {} s",
            config.server,
            config.interval.as_secs()
        ));
        self.config = config;
        let now = Instant::now();
        let first = schedule::first_beat(self.config.interval, self.random.generate());
        self.next_beat = self.next_beat.min(now + first);
        self.is_wanted = true;
        self.failed_posts = 0;
        Ok(())
    }

    /// Starts, beyond our own end, what was stopped as one user and not yet started as another.
    fn finish_moves(&mut self) {
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

    /// Ends the children, save one that is between two versions of its agent: that one finishes by itself.
    fn stop(&mut self) {
        self.endpoint = Endpoint::default();
        self.finish_moves();
        let give_up = Instant::now() + STOP_PATIENCE;
        if let Some(beat) = &mut self.beat {
            beat.is_settled = true;
            beat.child.end("the updater stops".to_owned());
        }
        for (_, act) in self.acts.iter_mut() {
            if !act.child.critical {
                act.is_withdrawn = true;
                act.child.end("the updater stops".to_owned());
            }
        }
        loop {
            self.tend_beat();
            self.tend_acts();
            self.finish_moves();
            // What is stopped only to be started elsewhere is started there, if there is time for it.
            let is_awaited =
                |act: &Act| !act.child.critical || matches!(act.attempt.task.step, Step::Stop(_));
            let waits = self.beat.is_some() || self.acts.values().any(is_awaited);
            let left = give_up.saturating_duration_since(Instant::now());
            if !waits || left.is_zero() {
                break;
            }
            sys::wait_readable(self.signals.fd(), left);
            self.signals.take();
        }
        if let Some(beat) = &mut self.beat {
            beat.child.kill();
        }
        for (_, act) in self.acts.iter_mut() {
            if !act.child.critical {
                act.child.kill();
            }
        }
        self.save();
        self.publish_last();
        log::info(format_args!("stopped; the agents run on"));
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

/// Not the crate's own seed, which is the same on every host in early boot: what jitter exists to prevent.
fn seed() -> u64 {
    let mut digest = Digest::new();
    if let Ok(mut source) = std::fs::File::open("/dev/urandom") {
        let mut random = [0; 16];
        if std::io::Read::read_exact(&mut source, &mut random).is_ok() {
            digest.add(&random);
        }
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or_default();
    digest.add(&now.as_secs().to_le_bytes());
    digest.add(&now.subsec_nanos().to_le_bytes());
    digest.add(&std::process::id().to_le_bytes());
    digest.add(sys::hostname().unwrap_or_default().as_bytes());
    digest
        .bytes()
        .iter()
        .fold(0, |seed, byte| seed << 8 | u64::from(*byte))
}

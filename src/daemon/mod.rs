//! The poll loop: children, deadlines, signals, timers. It plans, spawns and records. It never resolves a name, never
//! connects to another host, and never touches an agent's directory.
#![expect(clippy::disallowed_methods, reason = "the loop that timers drive")]

/// A child process and its deadline.
pub mod child;
/// The clock of the daemon.
mod clock;
/// What follows when the host's clock is set, or the host sleeps.
mod dates;
/// The HTTP endpoint of the daemon.
mod endpoint;
/// What a heartbeat brings: an answer, or the reason why there is none.
mod heartbeats;
/// Which steps wait for which.
mod lanes;
/// Modes other than to serve.
mod mode;
/// What the daemon is composed of, one struct a subject.
mod parts;
/// The progress of downloads.
mod progress;
/// The status document and its file.
mod publish;
/// When agents are checked and the server is asked, and what the checks find.
mod rounds;
/// The orderly end.
mod shutdown;
/// The agents of this host, and the next task of each.
pub mod state;
/// Which step starts when, and what its end means.
mod workers;

use std::time::{Duration, Instant};

use nanorand::{Rng, WyRand};

use self::clock::Clock;
use self::parts::{Heartbeats, Identity, PUBLISH_PAUSE, Published, Workers};
pub use self::parts::{Mode, Outcome};
use crate::build_info::VERSION;
use crate::daemon::child::Child;
use crate::daemon::state::State;
use crate::error::{At, Result};
use crate::http::metrics::Failures;
use crate::http::server::Endpoint;
use crate::log;
use crate::log::on_change::{OnChange, Subject};
use crate::os::fd::{self, Interest, READABLE};
use crate::os::own_program::OwnProgram;
use crate::os::signals::Signals;
use crate::os::{process, random, user};
use crate::plan::schedule;
use crate::protocol::status::Counts;
use crate::store::config::{Config, Source};
use crate::store::identity;
use crate::store::overrides::{self, Overrides};
use crate::store::reach;
use crate::store::status;

/// A finished transition is reported after this time, together with others that end meanwhile.
const REPORT_SOON: Duration = Duration::from_secs(1);
/// The longest sleep. Timers stand still while the host sleeps, and no event says that somebody has set its clock.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

pub struct Daemon {
    mode: Mode,
    identity: Identity,
    config: Box<Config>,
    signals: Signals,
    clock: Clock,
    random: WyRand,
    state: State,
    heartbeats: Heartbeats,
    workers: Workers,
    /// The last message of each subject that is logged only when it changes.
    on_change: OnChange,
    counts: Counts,
    /// The failed ones of them, by step.
    failures: Failures,
    published: Published,
    endpoint: Endpoint,
}

impl Daemon {
    /// Catches the signals. It must be called before anybody can learn our pid, because HUP and USR1 end a process that
    /// does not catch them.
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

    pub fn new(
        source: Source,
        config: Box<Config>,
        signals: Signals,
        mode: Mode,
    ) -> Result<Box<Self>> {
        let program = OwnProgram::find()?;
        let clock = Clock::new();
        let mut random = WyRand::new_seed(random::seed());
        let now = Instant::now();
        let run_user = user::own_name();
        let mut state = State::load(&source.own_dir, &run_user, clock.now());
        state.refuses_downgrades = !config.allow_downgrade;
        state.takes_turns = mode.takes_turns(&config);
        let mut first = Duration::ZERO;
        if mode != Mode::Plan {
            state.tidy();
        }
        if mode == Mode::Serve {
            first = schedule::first_heartbeat(config.interval, random.generate());
        }
        let mut heartbeats = Heartbeats::new(now, first);
        if config.check_interval >= config.interval {
            heartbeats.next_check = heartbeats.next_post;
        }
        if let Some(status) = status::load(&source.own_dir) {
            state.recall(&status);
            heartbeats.status.answered = status.heartbeat.answered;
        }
        let identity = Identity {
            updater: identity::of_daemon(&source.own_dir, mode != Mode::Plan),
            source,
            program,
            run_user,
            since: clock.now(),
        };
        Ok(Box::new(Self {
            mode,
            identity,
            config,
            signals,
            clock,
            random,
            state,
            heartbeats,
            workers: Workers::default(),
            on_change: OnChange::default(),
            counts: Counts::default(),
            failures: Failures::default(),
            published: Published::default(),
            endpoint: Endpoint::default(),
        }))
    }

    /// Runs until TERM or INT, or until the mode is done.
    pub fn run(&mut self) {
        self.log_start();
        self.listen();
        loop {
            self.start_workers();
            if self.is_done() {
                self.save();
                self.publish_last();
                return;
            }
            let next = self.heartbeats.next_round();
            if next.is_some_and(|at| Instant::now() >= at) {
                self.start_round();
            }
            self.save();
            self.publish();
            fd::wait_for(&self.awaited(), self.sleep());
            self.published.is_fresh = false;
            self.follow_clock();
            if self.follow_signals() {
                return self.stop();
            }
            self.tend_rounds();
            self.tend_workers();
            self.reap_orphans();
            self.tend_endpoint();
        }
    }

    fn log_start(&mut self) {
        log::info(format_args!(
            "ops-updater {VERSION} ({}) as {}, server {}, every {} s",
            crate::build_info::ARCH,
            self.identity.run_user,
            self.config.server,
            self.config.interval.as_secs()
        ));
        for warning in std::mem::take(&mut self.config.warnings) {
            log::warn(format_args!(
                "{}: {warning}",
                self.identity.source.file.display()
            ));
        }
        if let Some(lack) = process::without_proc() {
            log::warn(format_args!("{lack}"));
        }
        self.warn_of_network();
    }

    /// Warns of what keeps every heartbeat from being sent. The agents are kept running all the same.
    fn warn_of_network(&self) {
        if let Err(error) = reach::check(&self.config) {
            log::warn(format_args!("{error}"));
        }
    }

    /// Does what the signals ask for. Returns true if one of them asks the daemon to end.
    fn follow_signals(&mut self) -> bool {
        for signal in self.signals.take() {
            match signal {
                libc::SIGTERM | libc::SIGINT => return true,
                libc::SIGHUP => drop(self.reload()),
                libc::SIGUSR1 => {
                    self.follow_operator();
                    self.heartbeats.next_post = Instant::now();
                    self.heartbeats.is_wanted = true;
                }
                _ => {}
            }
        }
        false
    }

    fn awaited(&self) -> Vec<Interest> {
        let mut awaited = vec![(self.signals.fd(), READABLE)];
        let mut add = |child: &Child| {
            if let Some(fd) = child.fd() {
                awaited.push((fd, READABLE));
            }
        };
        for round in &self.heartbeats.running {
            add(&round.child);
        }
        for worker in &self.workers.running {
            add(&worker.child);
        }
        self.endpoint.add_awaited(Instant::now(), &mut awaited);
        awaited
    }

    /// Returns the time until the next timer or deadline.
    fn sleep(&self) -> Duration {
        let now = Instant::now();
        let wall = self.clock.now();
        let mut next = self.heartbeats.next_round().unwrap_or(now + LONGEST_SLEEP);
        for round in &self.heartbeats.running {
            next = next.min(round.child.deadline());
        }
        if let Some(retry) = self.state.next_try(wall) {
            next = next.min(now + Duration::from_secs(retry - wall));
        }
        for worker in &self.workers.running {
            next = next.min(worker.child.deadline());
        }
        if let Some(at) = self.workers.next_turn {
            next = next.min(at);
        }
        if let Some(at) = self.published.at.filter(|_| !self.published.is_fresh) {
            next = next.min(at + PUBLISH_PAUSE);
        }
        if let Some(at) = self.endpoint.deadline(now) {
            next = next.min(at);
        }
        next.saturating_duration_since(now).min(LONGEST_SLEEP)
    }

    /// Follows the overrides and retries that the operator's commands left on disk.
    fn follow_operator(&mut self) {
        let own_dir = &self.identity.source.own_dir;
        self.state.set_overrides(Overrides::load(own_dir));
        if self.mode != Mode::Plan {
            for name in overrides::take_retries(own_dir) {
                self.state.retry(&name);
            }
        }
        self.withdraw_installs();
    }

    fn save(&mut self) {
        if self.mode == Mode::Plan {
            return;
        }
        match self.state.save() {
            Ok(()) => {
                self.on_change.clear(&Subject::Ledger);
            }
            Err(error) => {
                let error = error.to_string();
                if self.on_change.record(Subject::Ledger, &error) {
                    log::error(format_args!("{error}; retry counts are kept in memory"));
                }
            }
        }
    }

    fn reload(&mut self) -> Result<()> {
        let config = match self.identity.source.load() {
            Ok(config) => config,
            Err(error) => {
                log::error(format_args!("{error}; the settings stay as they were"));
                return Err(error);
            }
        };
        for warning in &config.warnings {
            log::warn(format_args!(
                "{}: {warning}",
                self.identity.source.file.display()
            ));
        }
        log::set_level(config.log_level);
        log::set_limit(config.log_limit);
        log::form::set_json(config.log_json);
        log::info(format_args!(
            "settings read again: server {}, every {} s",
            config.server,
            config.interval.as_secs()
        ));
        self.state.refuses_downgrades = !config.allow_downgrade;
        self.state.takes_turns = self.mode.takes_turns(&config);
        self.config = config;
        self.warn_of_network();
        let now = Instant::now();
        let first = schedule::first_heartbeat(self.config.interval, self.random.generate());
        self.heartbeats.next_post = self.heartbeats.next_post.min(now + first);
        self.heartbeats.check_by(now + self.check_pause(first));
        self.heartbeats.is_wanted = true;
        self.heartbeats.failures = 0;
        Ok(())
    }
}

//! The poll loop: children, deadlines, signals, timers. It plans, spawns and records, and never itself resolves a
//! name, talks to another host, or touches an agent's directory.
#![expect(clippy::disallowed_methods, reason = "the loop that timers drive")]

mod acts;
mod beats;
mod errand;
mod publish;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nanorand::{Rng, WyRand};

use self::acts::Act;
use self::beats::Beat;
pub use self::errand::{Errand, Outcome};
use self::publish::{PUBLISH_PAUSE, Published};
use crate::children::{Child, OwnProgram};
use crate::config::{Config, Source};
use crate::digest::Digest;
use crate::endpoint::Endpoint;
use crate::error::{At, Result};
use crate::job::{SeenAgent, VERSION};
use crate::log;
use crate::model::Step;
use crate::named::Named;
use crate::overrides::{self, Overrides};
use crate::pages::{self, Facts};
use crate::report::{self, BeatStatus, Counts};
use crate::roster::Roster;
use crate::said::Said;
use crate::schedule;
use crate::sys::{self, Awaited, READABLE, Signals};
use crate::user;

/// A finished transition is reported after this, together with others that end at the same time.
const REPORT_SOON: Duration = Duration::from_secs(1);
/// Told to stop, we are gone within 2 s; children that have not ended by then are killed.
const STOP_PATIENCE: Duration = Duration::from_millis(1700);
/// The longest sleep; only a bound on what a mistake in the timers could cost.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);

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

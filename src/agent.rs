//! An agent at one place, driven through its `control` script: looked at, stopped, started and watched. Knows when a
//! start is a good start; not why it was asked for.
#![expect(clippy::disallowed_methods, reason = "waiting for an agent takes time")]

use std::cell::OnceCell;
use std::time::{Duration, Instant};

use crate::control::{self, Answer, Running, Verb};
use crate::error::{Error, Result};
use crate::log;
use crate::model::{AgentName, Failure, Fault, Site, State, Version};
use crate::observe::{self, Paths, Target};
use crate::spawn;
use crate::sys::Signals;

/// After start the agent must say started within this…
const START_PATIENCE: Duration = Duration::from_secs(60);
/// …and keep saying so for this; so many misses in a row fail it.
const PROBATION: Duration = Duration::from_secs(5);
const MISSES: u32 = 2;
/// After stop the agent must say stopped within this.
const STOP_PATIENCE: Duration = Duration::from_secs(30);
/// The pause between two looks grows between these.
const LOOK_FIRST: Duration = Duration::from_millis(50);
const LOOK_LAST: Duration = Duration::from_secs(1);

pub struct Agent<'a> {
    target: Target,
    signals: &'a Signals,
    /// The trace of a script that not even KILL has ended.
    stuck: OnceCell<String>,
}

impl<'a> Agent<'a> {
    pub fn new(target: Target, signals: &'a Signals) -> Self {
        Self {
            target,
            signals,
            stuck: OnceCell::new(),
        }
    }

    pub fn name(&self) -> &AgentName {
        &self.target.name
    }

    pub fn paths(&self) -> &Paths {
        &self.target.paths
    }

    pub fn look(&self) -> Site {
        let mut site = observe::site(&self.target, self.signals);
        if let Some(stuck) = self.stuck.get() {
            site.stuck.clone_from(stuck);
        }
        site
    }

    pub fn state(&self) -> State {
        self.look().state
    }

    pub fn on_disk(&self) -> Site {
        observe::on_disk(&self.target)
    }

    /// Stops what is in force, unless it says itself that it is down: a word that nobody knows may mean that it runs.
    pub fn halt(&self) -> Result<()> {
        match self.state() {
            State::Absent | State::Stopped => Ok(()),
            State::Started | State::Other | State::Silent | State::Unasked => self.halt_anyway(),
        }
    }

    /// Calls `control stop` whatever the agent says of itself, and sees that it is down.
    pub fn halt_anyway(&self) -> Result<()> {
        let Some(current) = self.paths().in_force()? else {
            return Ok(());
        };
        let answer = self.call(&current, Verb::Stop)?;
        let begun = Instant::now();
        let mut pause = LOOK_FIRST;
        loop {
            match self.state() {
                State::Absent | State::Stopped | State::Other => return Ok(()),
                State::Silent if answer.succeeded() => return Ok(()),
                State::Started | State::Silent | State::Unasked => {}
            }
            if begun.elapsed() >= STOP_PATIENCE || !answer.succeeded() {
                return Err(Error::new("stop", current.as_str(), answer.complaint()));
            }
            rest(&mut pause);
        }
    }

    /// Starts a version and watches it. The failure says what it did instead; it is the host's where the script could
    /// not even be run for want of something.
    pub fn launch(&self, version: &Version) -> std::result::Result<(), Failure> {
        let answer = self.call(version, Verb::Start).map_err(|error| Failure {
            fault: if error.is_of_the_host() {
                Fault::Host
            } else {
                Fault::Version
            },
            error: error.to_string(),
        })?;
        let watched = self.watch(version, !answer.succeeded());
        watched.map_err(|mut failure| {
            if !answer.succeeded() {
                failure.error = format!("{}: {}", failure.error, answer.complaint());
            }
            failure
        })
    }

    /// Sees the agent say started, and keep saying so. One whose start script `failed` gets no patience.
    pub fn watch(&self, version: &Version, failed: bool) -> std::result::Result<(), Failure> {
        let begun = Instant::now();
        let mut since: Option<Instant> = None;
        let mut misses = 0;
        let mut pause = LOOK_FIRST;
        loop {
            let site = self.look();
            let is_late = begun.elapsed() >= START_PATIENCE;
            if site.state == State::Started {
                misses = 0;
                if since.get_or_insert_with(Instant::now).elapsed() >= PROBATION {
                    return Ok(());
                }
            } else if site.state != State::Unasked {
                misses += 1;
                let has_failed = misses >= MISSES && (since.is_some() || failed);
                if has_failed || since.is_none() && is_late {
                    return Err(unwell(version, since.is_some(), &site.status));
                }
            } else if is_late {
                return Err(Failure {
                    fault: Fault::Host,
                    error: format!("cannot ask how {version} is: {}", site.status),
                });
            }
            rest(&mut pause);
        }
    }

    fn call(&self, version: &Version, verb: Verb) -> Result<Answer> {
        let dir = self.paths().version(version);
        // A disk that takes no notes of ours is no reason to leave an agent down.
        let output = control::output_file(&self.paths().control_output()).or_else(|error| {
            log::warn(format_args!("{}: {error}", self.target.name));
            spawn::nothing()
        })?;
        let running = Running::begin(&self.paths().control_pid()).ok();
        let _term = self.signals.catch_term();
        let call = control::spawn(&dir, verb, output, running.as_ref().map(Running::file))?;
        let answer = control::finish_one(call, self.signals)?;
        if !answer.stuck.is_empty() {
            // The first of several says enough.
            let _ = self.stuck.set(answer.stuck.clone());
        }
        Ok(answer)
    }
}

fn unwell(version: &Version, had_started: bool, says: &str) -> Failure {
    let probation = PROBATION.as_secs();
    let error = if had_started {
        format!(
            "{version} did not stay started ({MISSES} misses in {probation} s), it says {says:?}"
        )
    } else {
        format!("{version} did not start, it says {says:?}")
    };
    let fault = Fault::Version;
    Failure { fault, error }
}

fn rest(pause: &mut Duration) {
    std::thread::sleep(*pause);
    *pause = (*pause * 3 / 2).min(LOOK_LAST);
}

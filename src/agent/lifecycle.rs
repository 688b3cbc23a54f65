//! Checks, stops, starts and watches one agent at one location through its `control` script. Knows when a start has
//! succeeded, not why it was wanted.
#![expect(clippy::disallowed_methods, reason = "waiting for an agent takes time")]

use std::cell::{Cell, OnceCell};
use std::ffi::OsStr;
use std::time::{Duration, Instant};

use crate::agent::leftovers::{self, End};
use crate::agent::observe::{self, Depth};
use crate::agent::paths::{Paths, Target};
use crate::agent::script::{self, Verb};
use crate::agent::script_lock::ScriptLock;
use crate::agent::script_output::{self, ScriptOutput};
use crate::error::{Error, Result};
use crate::log;
use crate::model::{AgentName, AgentState, Failure, Fault, Observed, Outcome, Updater, Version};
use crate::os::signals::Signals;
use crate::os::spawn;

/// After `control start` the agent must report started within this…
const START_PATIENCE: Duration = Duration::from_secs(60);
/// …and keep reporting it for this long. So many misses in a row fail the start.
const PROBATION: Duration = Duration::from_secs(5);
const MISSES: u32 = 2;
/// After `control stop` the agent must report stopped within this.
const STOP_PATIENCE: Duration = Duration::from_secs(30);
/// A start that fails within this time after a stop is tried once more…
const AFTER_STOP: Duration = Duration::from_secs(10);
/// …but not before this, which the original updater let pass between a stop and a start. Then a helper of the agent has ended.
const SECOND_START: Duration = Duration::from_secs(3);
/// The pauses between two checks grow between these.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

pub struct Agent<'a> {
    target: Target,
    signals: &'a Signals,
    /// Names the process of a script that not even KILL has ended.
    stuck: OnceCell<String>,
    /// When its last stop ended.
    stopped_at: Cell<Option<Instant>>,
    has_started: Cell<bool>,
    /// The output of a start that failed was kept. A start on the way back must not replace it.
    has_kept_output: Cell<bool>,
}

impl<'a> Agent<'a> {
    pub fn new(target: Target, signals: &'a Signals) -> Self {
        Self {
            target,
            signals,
            stuck: OnceCell::new(),
            stopped_at: Cell::new(None),
            has_started: Cell::new(false),
            has_kept_output: Cell::new(false),
        }
    }

    pub fn name(&self) -> &AgentName {
        &self.target.name
    }

    pub fn paths(&self) -> &Paths {
        &self.target.paths
    }

    /// Returns the path of its directory.
    pub fn path(&self) -> &OsStr {
        self.paths().agent.as_os_str()
    }

    pub fn updater(&self) -> &Updater {
        &self.target.updater
    }

    /// Whether `control start` was called.
    pub fn has_started(&self) -> bool {
        self.has_started.get()
    }

    /// Reads what is on disk, and asks the agent for its status.
    pub fn check(&self) -> Observed {
        self.check_to(Depth::Status)
    }

    /// Does the same, and finds a process that runs although the agent says that it is stopped.
    pub fn check_processes(&self) -> Observed {
        self.check_to(Depth::Processes)
    }

    fn check_to(&self, depth: Depth) -> Observed {
        let mut observed = observe::check(&self.target, depth, self.signals);
        if let Some(stuck) = self.stuck.get() {
            observed.stuck.clone_from(stuck);
        }
        observed
    }

    pub fn state(&self) -> AgentState {
        self.check().state
    }

    pub fn on_disk(&self) -> Observed {
        observe::on_disk(&self.target)
    }

    /// Returns the same, or the error why it cannot be read now.
    pub fn look(&self) -> Result<Observed> {
        observe::look(&self.target)
    }

    /// Stops the version in force, and returns when it is gone. Does not call `control stop` if the agent reports that it is
    /// stopped. An unknown word may mean that it runs.
    pub fn stop(&self) -> Result<()> {
        match self.state() {
            AgentState::NotInstalled | AgentState::Stopped => match self.paths().in_force()? {
                Some(current) => self.end_leftovers(&current),
                None => Ok(()),
            },
            AgentState::Started
            | AgentState::Unrecognized
            | AgentState::NoAnswer
            | AgentState::NotAsked => self.stop_anyway(),
        }
    }

    /// Calls `control stop` whatever the agent reports, and returns when it is gone.
    pub fn stop_anyway(&self) -> Result<()> {
        let Some(current) = self.paths().in_force()? else {
            return Ok(());
        };
        self.stop_by_script(&current)?;
        self.end_leftovers(&current)?;
        self.note_stop();
        Ok(())
    }

    /// Waits until no process of this version is left. The agent itself has said that it is stopped, or nobody can ask it.
    fn end_leftovers(&self, version: &Version) -> Result<()> {
        self.end_leftovers_if(version, &|| false).map(drop)
    }

    /// The same before a start. An operator may just be restarting the agent, or its `control` was wrong for a moment: if the
    /// agent says after the wait that it is started, it is left. Returns whether it is.
    pub fn end_leftovers_unless_back(&self, version: &Version) -> Result<bool> {
        self.end_leftovers_if(version, &|| self.state() == AgentState::Started)
    }

    fn end_leftovers_if(&self, version: &Version, is_back: &dyn Fn() -> bool) -> Result<bool> {
        let end = leftovers::end(self.name(), self.paths(), version, is_back)?;
        if end == End::Ended {
            self.note_stop();
        }
        Ok(end == End::Back)
    }

    /// Notes that the agent was stopped just now, here or at another location.
    pub fn note_stop(&self) {
        self.stopped_at.set(Some(Instant::now()));
    }

    /// Calls `control stop`, and waits until the agent says that it is stopped.
    fn stop_by_script(&self, current: &Version) -> Result<()> {
        let output = self.call(current, Verb::Stop)?;
        let stop_called = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            match self.state() {
                AgentState::NotInstalled | AgentState::Stopped | AgentState::Unrecognized => {
                    return Ok(());
                }
                AgentState::NoAnswer if output.succeeded() => return Ok(()),
                AgentState::Started | AgentState::NoAnswer | AgentState::NotAsked => {}
            }
            if stop_called.elapsed() >= STOP_PATIENCE || !output.succeeded() {
                return Err(Error::new("stop", current.as_str(), output.complaint()));
            }
            sleep_longer(&mut pause);
        }
    }

    /// Starts the version in force and watches it. If that fails right after a stop, something of what was stopped may still
    /// have been in its way: it is stopped and started once more before it is blamed.
    pub fn start_and_watch(&self, version: &Version) -> Outcome {
        let started = self.start_patiently(version);
        started.map_err(|mut failure| {
            let kept = self.paths().failed_output();
            if !self.has_kept_output.replace(true)
                && script_output::keep(&self.paths().control_output(), &kept)
            {
                failure.error = format!("{}; its output is in {}", failure.error, kept.display());
            }
            failure
        })
    }

    fn start_patiently(&self, version: &Version) -> Outcome {
        let started = self.start_once(version);
        let stopped_at = self.stopped_at.take();
        match (started, stopped_at) {
            (Err(failure), Some(at))
                if failure.fault == Fault::Version && at.elapsed() < AFTER_STOP =>
            {
                log::info(format_args!(
                    "{}: {}; a stop had just ended, so it is started once more",
                    self.name(),
                    failure.error
                ));
                if let Err(error) = self.stop_anyway() {
                    log::warn(format_args!("{}: {error}", self.name()));
                    return Err(failure);
                }
                std::thread::sleep(SECOND_START.saturating_sub(at.elapsed()));
                self.start_once(version)
            }
            (started, _) => started,
        }
    }

    /// Starts a version and watches it.
    ///
    /// The failure blames the host if the script could not be run because the host lacked something.
    fn start_once(&self, version: &Version) -> Outcome {
        let output = self.call(version, Verb::Start).map_err(|error| {
            let fault = if error.is_host_fault() {
                Fault::Host
            } else {
                Fault::Version
            };
            let error = error.to_string();
            Box::new(Failure { fault, error })
        })?;
        self.has_started.set(true);
        let watched = self.watch(version, !output.succeeded());
        watched.map_err(|mut failure| {
            if !output.succeeded() {
                failure.error = format!("{}: {}", failure.error, output.complaint());
            }
            failure
        })
    }

    /// Waits until the agent reports started and has kept reporting it for `PROBATION`.
    ///
    /// If its start script has failed, two misses end the wait even before the first `started`.
    pub fn watch(&self, version: &Version, script_failed: bool) -> Outcome {
        let watch_began = Instant::now();
        let mut started_since: Option<Instant> = None;
        let mut misses = 0;
        let mut pause = FIRST_PAUSE;
        loop {
            let observed = self.check();
            let is_late = watch_began.elapsed() >= START_PATIENCE;
            if observed.state == AgentState::Started {
                misses = 0;
                let since = started_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= PROBATION {
                    return Ok(());
                }
            } else if observed.state != AgentState::NotAsked {
                misses += 1;
                let had_started = started_since.is_some();
                let has_failed = misses >= MISSES && (had_started || script_failed);
                if has_failed || !had_started && is_late {
                    let failure = not_started(version, had_started, &observed.status);
                    return Err(Box::new(failure));
                }
            } else if is_late {
                return Err(Box::new(Failure {
                    fault: Fault::Host,
                    error: format!("cannot ask {version} for its status: {}", observed.status),
                }));
            }
            sleep_longer(&mut pause);
        }
    }

    fn call(&self, version: &Version, verb: Verb) -> Result<ScriptOutput> {
        // The agent is started and stopped even if the disk takes no output.
        let output = script_output::open_named(&self.paths().control_output());
        let output = output.or_else(|error| {
            log::warn(format_args!("{}: {error}", self.target.name));
            spawn::dev_null()
        })?;
        let lock = ScriptLock::create(&self.paths().control_pid()).ok();
        let _term = self.signals.catch_term();
        let run = script::spawn(
            self.paths(),
            version,
            verb,
            output,
            lock.as_ref().map(ScriptLock::file),
        )?;
        let output = script::wait_for(run, self.signals);
        if !output.stuck.is_empty() {
            // Only the first one is kept.
            let _ = self.stuck.set(output.stuck.clone());
        }
        Ok(output)
    }
}

fn not_started(version: &Version, had_started: bool, status: &str) -> Failure {
    let probation = PROBATION.as_secs();
    let error = if had_started {
        format!(
            "{version} did not stay started ({MISSES} misses in {probation} s), its status is {status:?}"
        )
    } else {
        format!("{version} did not start, its status is {status:?}")
    };
    let fault = Fault::Version;
    Failure { fault, error }
}

fn sleep_longer(pause: &mut Duration) {
    std::thread::sleep(*pause);
    *pause = (*pause * 3 / 2).min(LONGEST_PAUSE);
}

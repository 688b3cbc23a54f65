//! Runs an agent's `control` script, or a check of an agent, in a session of its own and with a deadline. Never decides
//! what the output means.
#![expect(clippy::disallowed_methods, reason = "a control script is a process")]

use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use crate::agent::paths::Paths;
use crate::agent::script_fault;
use crate::agent::script_output::{self, Ending, ScriptOutput};
use crate::error::{At, Error, Result};
use crate::model::Version;
use crate::os::command::Command;
use crate::os::signals::Signals;
use crate::os::spawn::{self, Process};
use crate::os::walk::{self, Missing};
use crate::os::{fd, process};

/// Past its deadline a script's process group gets TERM, and KILL after this.
const TERM_GRACE: Duration = Duration::from_secs(5);
/// The same when this process itself got TERM: it has 2 s until its own end.
const HURRIED_GRACE: Duration = Duration::from_secs(1);
/// A check ends its own script within `HURRIED_GRACE`, and needs a little more for itself.
const CHECK_GRACE: Duration = Duration::from_millis(1300);
/// A process that still lives this long after KILL hangs in the kernel, as on a dead disk. It is left alone.
const KILL_GRACE: Duration = Duration::from_secs(1);
/// The longest time between the start of a script and its KILL.
pub(super) const LONGEST_RUN: Duration = Verb::Start.deadline().saturating_add(TERM_GRACE);
/// How often deadlines and the length of the output are checked. SIGCHLD reports the end of a script at once.
const TICK: Duration = Duration::from_millis(50);
/// "Text file busy" comes from another process between its fork and its exec, and passes within moments.
const BUSY_RETRIES: u32 = 20;
const BUSY_PAUSE: Duration = Duration::from_millis(25);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    Start,
    Stop,
    Status,
}

impl Verb {
    fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Status => "status",
        }
    }

    /// Names the script in error messages.
    fn label(self) -> &'static str {
        match self {
            Self::Start => "control start",
            Self::Stop => "control stop",
            Self::Status => "control status",
        }
    }

    const fn deadline(self) -> Duration {
        match self {
            Self::Start => Duration::from_secs(60),
            Self::Stop => Duration::from_secs(30),
            Self::Status => Duration::from_secs(10),
        }
    }
}

/// One running script or check.
pub struct ScriptRun {
    process: Process,
    deadline: Instant,
    /// The time from TERM to KILL past the deadline…
    grace: Duration,
    /// …and when this process itself is to end.
    hurried_grace: Duration,
    /// When it gets KILL, once it has got TERM.
    kill_at: Option<Instant>,
    /// Its group got KILL, which no process of it can survive or pass on.
    is_killed: bool,
    is_over: bool,
    output: ScriptOutput,
}

/// Starts `./control <verb>` in the directory of a version, as the original updater did. Its output is appended to
/// `output`, its pid is written to `pid_file`.
///
/// The child enters the directory by the descriptor that was checked, so that it runs what was checked.
pub fn spawn(
    paths: &Paths,
    version: &Version,
    verb: Verb,
    output: File,
    pid_file: Option<&File>,
) -> Result<ScriptRun> {
    let dir = paths.version(version);
    let program = dir.join("control");
    let dir = walk::open(&dir, paths.trusted, Missing::GiveUp)?;
    let missing = || io::Error::from_raw_os_error(libc::ENOENT);
    let dir = dir.ok_or_else(missing).at("run", &program)?;
    let mut command = Command::new("./control");
    command.arg(verb.word()).stdin(spawn::dev_null()?);
    command.start_in(dir);
    let process = pid_file
        .map_or(Ok(()), |file| command.record_pid(file).map(drop))
        .and_then(|()| start(&mut command, &output))
        .map_err(|error| {
            let hint = script_fault::hint(&error, &program);
            let error = Error::new("run", &program, error);
            match hint {
                Some(hint) => error.with_hint(&hint),
                None => error,
            }
        })?;
    let output = ScriptOutput::new(verb.label(), verb.deadline(), output);
    Ok(ScriptRun::new(process, verb.deadline(), output))
}

/// Starts a check by another run of this program, which is `command`.
pub fn spawn_check(mut command: Command, stdin: File, patience: Duration) -> Result<ScriptRun> {
    let output = script_output::create_nameless()?;
    command.stdin(stdin);
    let process = start(&mut command, &output).at("run", command.program())?;
    let output = ScriptOutput::new("the check as its user", patience, output);
    Ok(ScriptRun::of_check(process, patience, output))
}

/// Starts a check by a fork of this process.
pub fn fork_check(check: &dyn Fn(), patience: Duration) -> Result<ScriptRun> {
    let output = script_output::create_nameless()?;
    let process = Process::fork(check, &spawn::dev_null()?, &output).at("start", "a check")?;
    let output = ScriptOutput::new("the check", patience, output);
    Ok(ScriptRun::of_check(process, patience, output))
}

/// Starts the command in a session of its own. Everything that it prints goes to `output`.
fn start(command: &mut Command, output: &File) -> io::Result<Process> {
    command.lead_session();
    command
        .stdout(output.try_clone()?)
        .stderr(output.try_clone()?);
    for _ in 0..BUSY_RETRIES {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(BUSY_PAUSE);
            }
            done => return done,
        }
    }
    command.spawn()
}

/// Asks a version for its status.
pub fn status(paths: &Paths, version: &Version, signals: &Signals) -> Result<ScriptOutput> {
    let _term = signals.catch_term();
    let output = script_output::create_nameless()?;
    let run = spawn(paths, version, Verb::Status, output, None)?;
    Ok(wait_for(run, signals))
}

/// Waits for one script. See `attend`.
pub fn wait_for(mut run: ScriptRun, signals: &Signals) -> ScriptOutput {
    attend(std::slice::from_mut(&mut run), signals, None);
    run.output
}

/// Waits for all scripts side by side. See `attend`.
pub fn wait_for_all(mut runs: Vec<ScriptRun>, signals: &Signals) -> Vec<ScriptOutput> {
    attend(&mut runs, signals, None);
    let mut outputs = Vec::new();
    for run in runs {
        outputs.push(run.output);
    }
    outputs
}

/// Waits until all scripts have ended, but not beyond `until`, and keeps their deadlines.
///
/// A TERM that reaches this process, and is caught, ends the scripts and then this process.
pub fn attend(runs: &mut [ScriptRun], signals: &Signals, until: Option<Instant>) {
    let mut is_ending = false;
    while runs.iter().any(|run| !run.is_over) {
        if !is_ending && until.is_some_and(|until| Instant::now() >= until) {
            return;
        }
        fd::wait_readable(signals.fd(), TICK);
        let must_end = signals.take().contains(&libc::SIGTERM) || signals.is_orphaned();
        if must_end && !is_ending {
            is_ending = true;
            for run in runs.iter_mut() {
                run.hurry();
            }
        }
        for run in runs.iter_mut() {
            run.check();
        }
    }
    if is_ending {
        std::process::exit(1);
    }
}

impl ScriptRun {
    fn new(process: Process, patience: Duration, output: ScriptOutput) -> Self {
        Self {
            process,
            deadline: Instant::now() + patience,
            grace: TERM_GRACE,
            hurried_grace: HURRIED_GRACE,
            kill_at: None,
            is_killed: false,
            is_over: false,
            output,
        }
    }

    /// Returns the output of a script that has ended.
    pub fn output(&self) -> Option<&ScriptOutput> {
        self.is_over.then_some(&self.output)
    }

    fn of_check(process: Process, patience: Duration, output: ScriptOutput) -> Self {
        Self {
            grace: CHECK_GRACE,
            hurried_grace: CHECK_GRACE,
            ..Self::new(process, patience, output)
        }
    }

    /// Sends TERM now, because this process itself is to end.
    fn hurry(&mut self) {
        if !self.is_over && !self.is_killed {
            process::signal_group(self.process.id(), libc::SIGTERM);
            self.kill_at = Some(Instant::now() + self.hurried_grace);
        }
    }

    /// Checks once whether it has ended, is overdue, or has printed too much.
    fn check(&mut self) {
        if self.is_over {
            return;
        }
        self.output.cut_if_too_long();
        match self.process.try_wait() {
            Ok(Some(status)) if self.kill_at.is_none() => {
                self.process.reap();
                self.is_over = true;
                self.output.ending = Ending::from(status);
            }
            Ok(None) => self.check_deadline(),
            // A script that obeyed TERM may have left processes of its own.
            Ok(Some(_)) => self.kill_group(),
            // The child is lost: it must not be waited for, and its number may be that of another group.
            Err(_) => {
                self.is_killed = true;
                self.kill_group();
            }
        }
    }

    fn check_deadline(&mut self) {
        let now = Instant::now();
        match self.kill_at {
            None if now >= self.deadline => {
                process::signal_group(self.process.id(), libc::SIGTERM);
                self.kill_at = Some(now + self.grace);
            }
            Some(kill_at) if now >= kill_at => self.kill_group(),
            None | Some(_) => {}
        }
    }

    /// Kills the whole process group once, and waits at each check until it is empty or `KILL_GRACE` has passed. Its number is
    /// given up only then: until its leader is reaped, no other group can have it.
    fn kill_group(&mut self) {
        let now = Instant::now();
        let first_kill = self.kill_at.map_or(now, |at| at.min(now));
        self.kill_at = Some(first_kill);
        if !self.is_killed {
            process::signal_group(self.process.id(), libc::SIGKILL);
            self.is_killed = true;
        }
        self.process.reap();
        if !process::has_group(self.process.id()) {
            self.is_over = true;
        } else if now >= first_kill + KILL_GRACE {
            self.output.stuck = process::living_member(self.process.id());
            self.is_over = true;
        }
    }
}

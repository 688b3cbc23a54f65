//! Runs an agent's `control` script: own session, a deadline per verb, output to a file and never a pipe, so that
//! an agent which keeps its stdout open hangs nobody. Decides nothing about what the answer means.
#![expect(clippy::disallowed_methods, reason = "a control script is a process")]

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::children::Command;
use crate::disk;
use crate::error::{At, Result};
use crate::log;
use crate::spawn::{self, Leads, Process, Spawn, Status};
use crate::sys::{self, Signals};

/// Past its deadline a script's group gets TERM, and KILL after this.
const TERM_GRACE: Duration = Duration::from_secs(5);
/// The same when we ourselves are told to end, which takes 2 s at most.
const HURRIED_GRACE: Duration = Duration::from_secs(1);
/// A look ends its own script in that time; it gets a little more for itself.
const LOOK_GRACE: Duration = Duration::from_millis(1300);
/// What still lives so long after KILL hangs in the kernel, on a disk that does not answer, and is left to its fate.
const KILL_GRACE: Duration = Duration::from_secs(1);
/// Output beyond this is cut off while we wait and at every look.
pub const OUTPUT_LIMIT: u64 = 1 << 20;
/// How often a flood is looked for while a script runs; its end is told by SIGCHLD at once.
const LOOK: Duration = Duration::from_millis(50);
/// An answer is a word or two; what an error message quotes is its end.
const ANSWER_LIMIT: u64 = 4096;
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
    pub fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Status => "status",
        }
    }

    pub fn deadline(self) -> Duration {
        match self {
            Self::Start => Duration::from_secs(60),
            Self::Stop => Duration::from_secs(30),
            Self::Status => Duration::from_secs(10),
        }
    }
}

/// How a script ended.
#[derive(Debug)]
pub enum Ending {
    Exited(i32),
    Killed(i32),
    /// It did not end by itself in time.
    Overdue,
}

/// One running script.
pub struct Call {
    grace: Duration,
    hurried: Duration,
    process: Process,
    deadline: Instant,
    /// When it gets KILL, once it has got TERM.
    kill_at: Option<Instant>,
    is_over: bool,
    /// What there is of it so far.
    answer: Answer,
}

/// What a script did and said.
pub struct Answer {
    /// What ran, for an error message.
    label: &'static str,
    patience: Duration,
    pub ending: Ending,
    /// The trace of what did not end at all; else empty.
    pub stuck: String,
    /// Its first words, kept before a flood was cut off.
    first_words: Option<String>,
    output: File,
}

/// Starts `<dir>/control <verb>` with its output going to the end of `output`.
pub fn spawn(dir: &Path, verb: Verb, output: File, pid_file: Option<&File>) -> Result<Call> {
    let program = dir.join("control");
    let nothing = spawn::nothing()?;
    let control = Spawn {
        program: program.as_os_str(),
        words: &[program.as_os_str(), OsStr::new(verb.word())],
        env: &[],
        dir: Some(dir),
        stdio: [nothing.as_fd(), output.as_fd(), output.as_fd()],
        leads: Leads::Session,
        pid_file,
    };
    let process = unless_busy(|| control.spawn()).at("run", &program)?;
    let label = match verb {
        Verb::Start => "control start",
        Verb::Stop => "control stop",
        Verb::Status => "control status",
    };
    Ok(Call::new(label, verb.deadline(), process, output))
}

/// The same for a look by a program of ours.
pub fn spawn_look(command: &Command, stdin: &File, patience: Duration) -> Result<Call> {
    let output = nameless_output()?;
    let given = [stdin.as_fd(), output.as_fd(), output.as_fd()];
    let process = unless_busy(|| command.spawn(Leads::Session, given));
    let process = process.at("run", command.name())?;
    Ok(Call::look_by(
        process,
        "the look as its user",
        patience,
        output,
    ))
}

/// The same for a look by a copy of this process.
pub fn copy_look(look: &dyn Fn(), patience: Duration) -> Result<Call> {
    let output = nameless_output()?;
    let nothing = spawn::nothing()?;
    let given = [nothing.as_fd(), output.as_fd(), output.as_fd()];
    let process = spawn::copy(look, given).at("begin", "a look")?;
    Ok(Call::look_by(process, "the look at it", patience, output))
}

fn unless_busy(spawn: impl Fn() -> io::Result<Process>) -> io::Result<Process> {
    for _ in 0..BUSY_RETRIES {
        match spawn() {
            Err(error) if error.raw_os_error() == Some(libc::ETXTBSY) => {
                std::thread::sleep(BUSY_PAUSE);
            }
            done => return done,
        }
    }
    spawn()
}

/// Waits for all of them side by side.
pub fn finish(mut calls: Vec<Call>, signals: &Signals) -> Vec<Answer> {
    attend(&mut calls, signals, None);
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.answer);
    }
    answers
}

/// The same, but not beyond that moment. A TERM that reaches us, and is caught, ends their groups and this process.
pub fn attend(calls: &mut [Call], signals: &Signals, until: Option<Instant>) {
    let mut ending = false;
    while calls.iter().any(|call| !call.is_over) {
        if !ending && until.is_some_and(|until| Instant::now() >= until) {
            return;
        }
        sys::wait_readable(signals.fd(), LOOK);
        let is_told = signals.take().contains(&libc::SIGTERM) || signals.is_deserted();
        if is_told && !ending {
            ending = true;
            for call in calls.iter_mut() {
                call.hurry();
            }
        }
        for call in calls.iter_mut() {
            call.look();
        }
    }
    if ending {
        sys::exit(1);
    }
}

impl Call {
    fn new(label: &'static str, patience: Duration, process: Process, output: File) -> Self {
        let answer = Answer {
            label,
            patience,
            ending: Ending::Overdue,
            stuck: String::new(),
            first_words: None,
            output,
        };
        Self {
            grace: TERM_GRACE,
            hurried: HURRIED_GRACE,
            process,
            deadline: Instant::now() + patience,
            kill_at: None,
            is_over: false,
            answer,
        }
    }

    fn look_by(process: Process, label: &'static str, patience: Duration, output: File) -> Self {
        let mut call = Self::new(label, patience, process, output);
        call.grace = LOOK_GRACE;
        call.hurried = LOOK_GRACE;
        call
    }

    fn hurry(&mut self) {
        if !self.is_over {
            self.process.signal_group(libc::SIGTERM);
            self.kill_at = Some(Instant::now() + self.hurried);
        }
    }

    /// One look: ended, overdue, or flooding.
    fn look(&mut self) {
        if self.is_over {
            return;
        }
        if is_flooded(&self.answer.output) {
            let first = self.answer.text();
            self.answer.first_words = Some(first);
            trim(&self.answer.output);
        }
        match self.process.try_wait() {
            Ok(Some(status)) if self.kill_at.is_none() => {
                self.is_over = true;
                self.answer.ending = match status {
                    Status::Exited(code) => Ending::Exited(code),
                    Status::Killed(signal) => Ending::Killed(signal),
                };
            }
            Ok(None) => self.watch_deadline(),
            // Its own processes may have outlived the script that obeyed TERM. An error cannot happen while nobody
            // else reaps; a lost child must not be waited for.
            Ok(Some(_)) | Err(_) => self.wipe_out(),
        }
    }

    fn watch_deadline(&mut self) {
        let now = Instant::now();
        match self.kill_at {
            None if now >= self.deadline => {
                self.process.signal_group(libc::SIGTERM);
                self.kill_at = Some(now + self.grace);
            }
            Some(end) if now >= end => self.wipe_out(),
            None | Some(_) => {}
        }
    }

    /// Kills the whole group until nobody is left, or until it is clear that this does not end them.
    fn wipe_out(&mut self) {
        let now = Instant::now();
        let begun = self.kill_at.map_or(now, |at| at.min(now));
        self.kill_at = Some(begun);
        if !self.process.signal_group(libc::SIGKILL) {
            self.is_over = true;
        } else if now >= begun + KILL_GRACE {
            self.answer.stuck = self.process.survivor();
            self.is_over = true;
        }
    }
}

impl Answer {
    pub fn succeeded(&self) -> bool {
        matches!(self.ending, Ending::Exited(0))
    }

    /// All that it printed, up to the limit of an output.
    pub fn whole_text(&self) -> String {
        read(&self.output, 0, OUTPUT_LIMIT)
    }

    /// The beginning of what it printed; bytes that are no text become `?`.
    pub fn text(&mut self) -> String {
        let first = self.first_words.take();
        first.unwrap_or_else(|| read(&self.output, 0, ANSWER_LIMIT))
    }

    /// What went wrong, in one line, with the last line that the script printed.
    pub fn complaint(&self) -> String {
        let label = self.label;
        let what = match self.ending {
            Ending::Exited(code) => format!("{label} exited with {code}"),
            Ending::Killed(signal) => format!("{label} was ended by signal {signal}"),
            Ending::Overdue if !self.stuck.is_empty() => {
                format!("{label} cannot be ended, not even killed: a disk that hangs?")
            }
            Ending::Overdue => format!("{label} did not end within {} s", self.patience.as_secs()),
        };
        let text = self.last_words();
        let last = text.lines().rfind(|line| !line.trim().is_empty());
        match last {
            Some(line) => format!("{what}: {}", log::brief(line, 160)),
            None => what,
        }
    }

    fn last_words(&self) -> String {
        let length = self.output.metadata().map_or(0, |meta| meta.len());
        let from = length.saturating_sub(ANSWER_LIMIT);
        read(&self.output, from, ANSWER_LIMIT)
    }
}

/// An output that cannot be read is an empty answer: not started, and no words to quote.
fn read(output: &File, from: u64, limit: u64) -> String {
    sys::read_text(output, from, limit).unwrap_or_default()
}

/// Empties an output file that has grown past the limit; its writers append, so they go on at the new end.
pub fn trim(output: &File) {
    if is_flooded(output) {
        // Failing means a full or broken disk, which whoever writes next will report.
        let _ = output.set_len(0);
    }
}

fn is_flooded(output: &File) -> bool {
    let meta = output.metadata();
    meta.is_ok_and(|meta| meta.len() > OUTPUT_LIMIT)
}

/// A fresh output file in `dir`, for scripts that start what will go on writing to it.
pub fn output_file(path: &Path) -> Result<File> {
    let flags = libc::O_RDWR | libc::O_APPEND | libc::O_CREAT | libc::O_NOFOLLOW;
    let file = sys::open(path, flags, 0o644).at("open", path)?;
    // What stands in it already is read as words of this script at worst.
    let _ = file.set_len(0);
    Ok(file)
}

/// Asks an agent how it is.
pub fn status(dir: &Path, signals: &Signals) -> Result<Answer> {
    let _term = signals.catch_term();
    let call = spawn(dir, Verb::Status, nameless_output()?, None)?;
    finish_one(call, signals)
}

/// Waits for one that runs alone.
#[allow(clippy::unnecessary_wraps, reason = "so that it fits and_then")]
pub fn finish_one(mut call: Call, signals: &Signals) -> Result<Answer> {
    attend(std::slice::from_mut(&mut call), signals, None);
    Ok(call.answer)
}

fn nameless_output() -> Result<File> {
    let file = sys::nameless_file().at("create", "a file for an answer")?;
    // Writers append, as to a named output file, so that a flood that was cut off leaves no hole.
    sys::set_flag(file.as_raw_fd(), libc::O_APPEND).at("prepare", "a file for an answer")?;
    Ok(file)
}

/// While a start or stop runs, its number stands in this file, written by the script's own process before it begins.
/// Whoever comes after a killed updater waits for that script, and never signals it.
pub struct Running {
    path: PathBuf,
    file: File,
}

impl Running {
    pub fn begin(path: &Path) -> Result<Self> {
        Ok(Self {
            file: disk::create(path)?,
            path: path.to_owned(),
        })
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    /// Waits, as long as any script may take, until a script that an earlier updater left running has ended.
    pub fn wait_for_earlier(path: &Path) {
        let Ok(text) = disk::read_small(path, 32) else {
            return;
        };
        let pid = text.trim().parse().unwrap_or(0);
        let longest = Verb::Start.deadline() + TERM_GRACE;
        let age = std::fs::metadata(path).and_then(|meta| meta.modified());
        let is_old = age.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > longest));
        let give_up = Instant::now() + if is_old { Duration::ZERO } else { longest };
        let mut pause = Duration::from_millis(20);
        while sys::leads_session(pid) && Instant::now() < give_up {
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(500));
        }
        // Gone already is as good as removed.
        let _ = std::fs::remove_file(path);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A file that stays behind costs the next step one look at a process that is gone.
        let _ = std::fs::remove_file(&self.path);
    }
}

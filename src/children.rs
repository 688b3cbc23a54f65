//! The daemon's children: this binary again, each the leader of a process group, with a job on stdin, one pipe for
//! events and words, and a deadline. Knows how to run and end one, not what for.
#![expect(
    clippy::disallowed_methods,
    reason = "children are processes with deadlines"
)]

use std::ffi::{CStr, OsStr};
use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::disk;
use crate::error::{At, Error, Result};
use crate::fields::Field;
use crate::job::{self, Event, What};
use crate::log;
use crate::spawn::{Leads, Process, Spawn, Status};
use crate::sys;

/// After TERM a child has this long to end its script and itself; then its group gets KILL.
const KILL_AFTER: Duration = Duration::from_secs(5);
const CHUNK: usize = 4096;
/// One that prints without end is listened to for so many chunks, and then others are.
const CHUNKS_AT_ONCE: u32 = 16;
/// What a pipe can hold, 1 MiB: whoever has inherited it may go on printing after the child has ended.
const LAST_CHUNKS: u32 = 256;

/// How long a child may live, how long it may be silent, and how many bytes its longest event may have: one that sends
/// a longer line is broken.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    pub whole: Duration,
    pub silent: Option<Duration>,
    pub longest_event: usize,
}

/// With it set, minreq would start a thread for every request.
const ENVIRONMENT: &[&CStr] = &[c"MINREQ_TIMEOUT"];

/// What starts a child, as `OwnProgram` gives it out.
pub struct Command<'a> {
    program: &'a OsStr,
    words: Vec<&'a OsStr>,
}

/// The program that children run: this very file, even after another one took its name.
pub struct OwnProgram {
    path: PathBuf,
    identity: Option<(u64, u64)>,
}

impl OwnProgram {
    pub fn find() -> Result<Self> {
        let path = sys::own_program().at("find", "the program's own file")?;
        let identity = identity(&path);
        Ok(Self { path, identity })
    }

    fn path(&self) -> &Path {
        let now = identity(&self.path);
        if cfg!(target_os = "linux") && (now.is_none() || now != self.identity) {
            return Path::new("/proc/self/exe");
        }
        &self.path
    }

    /// The command for a child; through `sudo` where there is one to go through. Fails when others than the owner
    /// could put a program of their own in the place of ours, which sudo would then run as root.
    pub fn command<'a>(&'a self, role: &'a str, sudo: Option<&'a str>) -> Result<Command<'a>> {
        let role = OsStr::new(role);
        Ok(match sudo.map(OsStr::new) {
            None => Command {
                program: self.path().as_os_str(),
                words: vec![OsStr::new("ops-updater"), role],
            },
            Some(sudo) => {
                self.check_nobody_else_writes()?;
                let path = self.path.as_os_str();
                Command {
                    program: sudo,
                    words: vec![sudo, OsStr::new("-n"), OsStr::new("--"), path, role],
                }
            }
        })
    }

    fn check_nobody_else_writes(&self) -> Result<()> {
        for path in [&self.path, disk::parent(&self.path)] {
            let meta = std::fs::metadata(path).at("look at", path)?;
            let refuse = |cause: &str| Err(Error::new("run through sudo", path, cause));
            if meta.mode() & 0o022 != 0 {
                return refuse("others than its owner can write it; chmod go-w it");
            }
            if ![0, sys::effective_uid()].contains(&meta.uid()) {
                return refuse("it belongs to another user; chown it to root");
            }
        }
        Ok(())
    }
}

impl Command<'_> {
    pub fn spawn(&self, leads: Leads, stdio: [BorrowedFd; 3]) -> io::Result<Process> {
        let spawn = Spawn {
            program: self.program,
            words: &self.words,
            env: ENVIRONMENT,
            dir: None,
            stdio,
            leads,
            pid_file: None,
        };
        spawn.spawn()
    }

    /// For an error message.
    pub fn name(&self) -> &OsStr {
        self.program
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    Some(disk::identity(&std::fs::metadata(path).ok()?))
}

pub struct Child {
    process: Process,
    /// None once it was closed on a child that cannot be signalled.
    pipe: Option<PipeReader>,
    by_sudo: bool,
    buffer: Vec<u8>,
    /// The last line that was no event: a panic, a refusal of the loader.
    words: String,
    patience: Patience,
    pub started: Instant,
    last_sign: Instant,
    kill_at: Option<Instant>,
    overdue: Option<String>,
    /// It got KILL. If it still lives it hangs in the kernel, on a disk that does not answer.
    pub is_lost: bool,
    /// Must be let finish: its agent is between two versions.
    pub critical: bool,
}

impl Child {
    pub fn spawn(
        command: &Command,
        job: &mut dyn Field,
        patience: Patience,
        by_sudo: bool,
    ) -> Result<Self> {
        let stdin = job::to_stdin(job).at("hand over", "a job")?;
        let begin = || {
            let (pipe, writer) = io::pipe()?;
            sys::set_nonblocking(pipe.as_raw_fd())?;
            let given = [stdin.as_fd(), writer.as_fd(), writer.as_fd()];
            Ok::<_, io::Error>((command.spawn(Leads::Group, given)?, pipe))
        };
        let (process, pipe) = begin().at("run", command.name())?;
        let now = Instant::now();
        Ok(Self {
            process,
            pipe: Some(pipe),
            by_sudo,
            buffer: Vec::new(),
            words: String::new(),
            patience,
            started: now,
            last_sign: now,
            kill_at: None,
            overdue: None,
            is_lost: false,
            critical: false,
        })
    }

    pub fn fd(&self) -> Option<RawFd> {
        self.pipe.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// The events that have come, out of so many chunks; other lines go to the log.
    fn pump(&mut self, chunks: u32) -> Vec<Event> {
        let mut chunk = [0; CHUNK];
        let mut events = Vec::new();
        for _ in 0..chunks {
            let pipe = self.pipe.as_mut();
            let got = pipe.map_or(0, |pipe| pipe.read(&mut chunk).unwrap_or(0));
            if got == 0 {
                break;
            }
            for piece in chunk[..got].split_inclusive(|byte| *byte == b'\n') {
                events.extend(self.piece(piece));
            }
        }
        if !events.is_empty() {
            self.last_sign = Instant::now();
        }
        events
    }

    /// A part of a line, which may be its end.
    fn piece(&mut self, piece: &[u8]) -> Option<Event> {
        self.buffer.extend_from_slice(piece);
        if self.buffer.ends_with(b"\n") {
            let line = std::mem::take(&mut self.buffer);
            return self.line(String::from_utf8_lossy(&line).trim_end());
        }
        if self.buffer.len() > self.patience.longest_event {
            self.buffer = Vec::new();
            self.end("it sent a line without end".to_owned());
        }
        None
    }

    fn line(&mut self, line: &str) -> Option<Event> {
        if let Some(event) = Event::parse(line) {
            self.critical |= event.what == What::Critical;
            return Some(event);
        }
        // What it ran out of memory for is told first, and a backtrace after it.
        if !line.starts_with("note: ") && !log::holds(&self.words, "memory allocation") {
            self.words = log::brief(line, 300);
        }
        if !log::pass_on(line) && !line.is_empty() {
            log::debug(format_args!("a child says: {line}"));
        }
        None
    }

    /// Keeps its deadline, and gives the events that have come and, once it has ended, why.
    pub fn tend(&mut self, now: Instant) -> (Vec<Event>, Option<String>) {
        self.keep_deadline(now);
        let ended = self.process.try_wait();
        // Of a child that has ended everything is in the pipe now, its last words among it.
        let is_running = matches!(ended, Ok(None));
        let events = self.pump(if is_running {
            CHUNKS_AT_ONCE
        } else {
            LAST_CHUNKS
        });
        let why = match ended {
            Ok(status) => status.map(|status| self.explain(status)),
            Err(error) => Some(error.to_string()),
        };
        (events, why)
    }

    fn explain(&self, status: Status) -> String {
        if status == Status::Exited(0) {
            return "it ended without a word".to_owned();
        }
        let mut why = match (&self.overdue, status) {
            (Some(overdue), _) => overdue.clone(),
            (None, Status::Killed(libc::SIGABRT))
                if log::holds(&self.words, "memory allocation") =>
            {
                "it needed more memory than any honest answer or archive does".to_owned()
            }
            (None, Status::Killed(libc::SIGALRM)) => "it made no progress".to_owned(),
            (None, Status::Killed(signal)) => format!("ended by signal {signal}"),
            (None, Status::Exited(code)) => format!("ended with code {code}"),
        };
        if self.by_sudo && self.words.starts_with("sudo: ") {
            why = format!(
                "{}; see \"Users\" in the README for the sudoers line",
                self.words
            );
        } else if !self.words.is_empty() && self.overdue.is_none() {
            why = format!("{why}: {}", self.words);
        }
        why
    }

    /// Asks it to end itself and its script; told why, if it was not us who wanted so.
    pub fn end(&mut self, why: String) {
        if self.kill_at.is_none() {
            self.overdue = Some(why);
            self.kill_at = Some(Instant::now() + KILL_AFTER);
            self.process.signal_group(libc::SIGTERM);
            if self.by_sudo {
                // Where the signal does not reach it, for it is another user's: it lives by this pipe.
                self.pipe = None;
            }
        }
    }

    /// One that came through sudo ends by itself once the pipe is closed.
    pub fn kill(&mut self) {
        if self.by_sudo {
            return;
        }
        self.process.signal_group(libc::SIGKILL);
        // Killed is as good as gone, unless a dead disk holds it; then nobody can wait for it.
        let give_up = Instant::now() + Duration::from_millis(200);
        while matches!(self.process.try_wait(), Ok(None)) && Instant::now() < give_up {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The moment at which `keep_deadline` has something to do.
    pub fn deadline(&self) -> Instant {
        let whole = self.started + self.patience.whole;
        let silent = self.patience.silent.map(|silent| self.last_sign + silent);
        self.kill_at
            .unwrap_or(silent.map_or(whole, |silent| whole.min(silent)))
    }

    fn keep_deadline(&mut self, now: Instant) {
        if now < self.deadline() {
            return;
        }
        if self.kill_at.is_some() {
            self.process.signal_group(libc::SIGKILL);
            self.is_lost = true;
            // Not again at once, should even KILL take its time.
            self.kill_at = Some(now + KILL_AFTER);
            return;
        }
        let why = if now >= self.started + self.patience.whole {
            format!("not done within {} s", self.patience.whole.as_secs())
        } else {
            let silent = self.patience.silent.unwrap_or_default();
            format!("no progress for {} s", silent.as_secs())
        };
        self.end(why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A child that is this script.
    fn child(script: &str) -> Child {
        let words = ["sh", "-c", script].map(OsStr::new).to_vec();
        let program = words[0];
        let patience = Patience {
            whole: Duration::from_secs(60),
            silent: None,
            longest_event: 100,
        };
        let command = Command { program, words };
        Child::spawn(&command, &mut String::new(), patience, false).expect("a shell")
    }

    /// Everything it says until it has ended, and why it did.
    fn heard(mut child: Child) -> (Vec<Event>, String) {
        let mut heard = Vec::new();
        loop {
            let (events, end) = child.tend(Instant::now());
            heard.extend(events);
            if let Some(end) = end {
                return (heard, end);
            }
            let fd = child.fd().expect("it is open");
            sys::wait_readable(fd, Duration::from_millis(10));
        }
    }

    fn event(what: What) -> String {
        let mut what = Event {
            what,
            ..Event::default()
        };
        crate::fields::write(&mut what)
    }

    #[test]
    fn one_that_prints_without_end_does_not_keep_the_daemon_from_its_other_work() {
        for script in ["yes ''", "yes '{'", "yes | tr -d '\\n'"] {
            let mut child = child(script);
            for _ in 0..10 {
                let fd = child.fd().expect("it is open");
                sys::wait_readable(fd, Duration::from_secs(10));
                child.tend(Instant::now());
            }
            child.kill();
        }
    }

    #[test]
    fn events_are_taken_one_a_line_however_many_come_at_once() {
        let phase = event(What::Phase);
        let script = format!("yes '{phase}' | head -n 3000; echo words; printf '{phase}'");
        let mut child = child(&script);
        child.patience.longest_event = phase.len();
        let (events, why) = heard(child);
        assert_eq!(events.len(), 3000);
        assert_eq!(why, "it ended without a word");
    }

    #[test]
    fn a_line_longer_than_any_event_ends_the_child() {
        let script = "printf %0101d 0; sleep 60 & wait";
        let (events, why) = heard(child(script));
        assert!(events.is_empty());
        assert_eq!(why, "it sent a line without end");
    }
}

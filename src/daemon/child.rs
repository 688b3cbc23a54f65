//! A child of the daemon: this binary again, the leader of its own process group, with a job on stdin, one pipe for its
//! events and messages, and a deadline. Knows how to run and end a child, not what it is for.
#![expect(
    clippy::disallowed_methods,
    reason = "children are processes with deadlines"
)]

use std::fs::File;
use std::io::{self, PipeReader, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use miniserde::Serialize;

use crate::error::{At, Result};
use crate::log;
use crate::net::rate;
use crate::os::command::Command;
use crate::os::spawn::Process;
use crate::os::{fd, process};
use crate::protocol::event::{Event, What};
use crate::protocol::job;
use crate::text;

/// After TERM a child has this time to end its script and itself. Then its group gets KILL.
const KILL_AFTER: Duration = Duration::from_secs(5);
/// How std begins its message when an allocation fails.
const OUT_OF_MEMORY: &str = "memory allocation";
const CHUNK: usize = 4096;
/// The chunks that are read from one child before the others have their turn.
const CHUNKS_AT_ONCE: u32 = 16;
/// The chunks that are read after the end of a child: 1 MiB, which a pipe can hold. A process that inherited the pipe may
/// go on printing.
const LAST_CHUNKS: u32 = 256;

/// The limits of a child: how long it may live, how long it may be silent, and the bytes of its longest event. A child
/// that sends a longer line is ended.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    pub whole: Duration,
    pub silent: Option<Duration>,
    pub longest_event: usize,
}

pub struct Child {
    process: Process,
    /// Its stdin.
    job: File,
    /// None: it was closed to end a child that cannot be signalled.
    pipe: Option<PipeReader>,
    by_sudo: bool,
    buffer: Vec<u8>,
    /// The last line that was no event, such as a panic or an error of the loader.
    words: String,
    patience: Patience,
    started: Instant,
    last_sign: Instant,
    kill_at: Option<Instant>,
    overdue: Option<String>,
    /// It got KILL. If it still lives, it hangs in the kernel, as on a disk that does not answer.
    pub is_lost: bool,
    /// It must not be ended: its agent is between two versions.
    pub critical: bool,
}

impl Child {
    pub fn spawn(
        mut command: Command,
        job: &dyn Serialize,
        patience: Patience,
        by_sudo: bool,
    ) -> Result<Self> {
        let job = job::to_stdin(job).at("hand over", "a job")?;
        let mut begin = || {
            let (pipe, writer) = io::pipe()?;
            fd::set_nonblocking(pipe.as_raw_fd())?;
            command
                .lead_group()
                .stdin(job.try_clone()?)
                .stdout(writer.try_clone()?)
                .stderr(writer);
            Ok::<_, io::Error>((command.spawn()?, pipe))
        };
        let (process, pipe) = begin().at("run", command.program())?;
        let now = Instant::now();
        Ok(Self {
            process,
            job,
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

    /// Lets the child download this many bytes per second from now on.
    pub fn grant(&self, share: u64) -> io::Result<()> {
        rate::grant(&self.job, share)
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub fn fd(&self) -> Option<RawFd> {
        self.pipe.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// Reads at most this many chunks and returns their events. Other lines go to the log.
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
                if let Some(event) = self.piece(piece) {
                    events.push(event);
                }
            }
        }
        if !events.is_empty() {
            self.last_sign = Instant::now();
        }
        events
    }

    /// Takes a part of a line, and returns the event if the line is complete.
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
        // An allocation failure is printed first, and a backtrace after it.
        if !line.starts_with("note: ") && !self.words.starts_with(OUT_OF_MEMORY) {
            self.words = text::brief(line, 300);
        }
        if !log::pass_on(line) && !line.is_empty() {
            log::debug(format_args!("a child prints: {line}"));
        }
        None
    }

    /// Keeps the deadline. Returns the events that have come and, if the child has ended, the reason.
    pub fn tend(&mut self, now: Instant) -> (Vec<Event>, Option<String>) {
        self.keep_deadline(now);
        let ended = self.process.try_wait();
        // Everything that an ended child printed is in the pipe now.
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

    fn explain(&self, status: ExitStatus) -> String {
        if status.success() {
            return "it ended without a word".to_owned();
        }
        let mut why = match (&self.overdue, status.signal()) {
            (Some(overdue), _) => overdue.clone(),
            (None, Some(libc::SIGABRT)) if self.words.starts_with(OUT_OF_MEMORY) => {
                "it needed more memory than any honest answer or archive does".to_owned()
            }
            (None, Some(libc::SIGALRM)) => "it made no progress".to_owned(),
            (None, Some(signal)) => format!("ended by signal {signal}"),
            (None, None) => format!("ended with code {}", status.code().unwrap_or_default()),
        };
        if self.by_sudo && self.words.starts_with("sudo: ") {
            why = format!("{}; see docs/USERS.md for the sudoers line", self.words);
        } else if !self.words.is_empty() && self.overdue.is_none() {
            why = format!("{why}: {}", self.words);
        }
        why
    }

    /// Asks the child to end itself and its script. `why` becomes the reason of its end.
    pub fn end(&mut self, why: String) {
        if self.kill_at.is_none() {
            self.overdue = Some(why);
            self.kill_at = Some(Instant::now() + KILL_AFTER);
            process::signal_group(self.process.id(), libc::SIGTERM);
            if self.by_sudo {
                // The signal may not reach the process of another user, but that ends when this pipe is closed.
                self.pipe = None;
            }
        }
    }

    /// Kills the group. A child that came through sudo ends by itself when the pipe is closed.
    pub fn kill(&mut self) {
        if self.by_sudo {
            return;
        }
        process::signal_group(self.process.id(), libc::SIGKILL);
        // On a dead disk not even KILL ends a process, so the wait is short.
        let give_up = Instant::now() + Duration::from_millis(200);
        while matches!(self.process.try_wait(), Ok(None)) && Instant::now() < give_up {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Lets the child be silent for this time from its last event on.
    pub fn may_be_silent(&mut self, silent: Duration) {
        self.patience.silent = Some(silent);
    }

    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started)
    }

    /// Returns the time at which `keep_deadline` has something to do.
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
            process::signal_group(self.process.id(), libc::SIGKILL);
            self.is_lost = true;
            // KILL may take its time, so it is not repeated at once.
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

    /// Returns a child that runs this script.
    fn child(script: &str) -> Child {
        let mut command = Command::new("sh");
        command.args(&["-c", script]);
        let patience = Patience {
            whole: Duration::from_secs(60),
            silent: None,
            longest_event: 100,
        };
        Child::spawn(command, &String::new(), patience, false).expect("a shell")
    }

    /// Returns all events of the child, and the reason of its end.
    fn heard(mut child: Child) -> (Vec<Event>, String) {
        let mut heard = Vec::new();
        loop {
            let (events, end) = child.tend(Instant::now());
            heard.extend(events);
            if let Some(end) = end {
                return (heard, end);
            }
            let fd = child.fd().expect("it is open");
            fd::wait_readable(fd, Duration::from_millis(10));
        }
    }

    fn event(what: What) -> String {
        let event = Event {
            what,
            ..Event::default()
        };
        crate::json::to_string(&event)
    }

    #[test]
    fn a_child_that_prints_without_end_does_not_block_the_daemon() {
        for script in ["yes ''", "yes '{'", "yes | tr -d '\\n'"] {
            let mut child = child(script);
            for _ in 0..10 {
                let fd = child.fd().expect("it is open");
                fd::wait_readable(fd, Duration::from_secs(10));
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

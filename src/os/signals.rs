//! Signals as bytes of a pipe, and which signals are blocked.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};

use super::call::errno_location;
use super::fd::{is_stdout_closed, set_nonblocking};

/// The descriptor that the signal handler writes to; -1 before `Signals::new`.
static SIGNAL_PIPE: AtomicI32 = AtomicI32::new(-1);

/// Signals turned into bytes of a pipe, so that one `poll` waits for everything (the self-pipe of D. J. Bernstein).
pub struct Signals {
    reader: io::PipeReader,
    _writer: io::PipeWriter,
    ignores_term: Cell<bool>,
    ends_with_stdout: Cell<bool>,
}

/// While it exists, SIGTERM is a byte of the pipe and does not end the process.
pub struct TermCaught<'a>(&'a Signals);

impl Drop for TermCaught<'_> {
    fn drop(&mut self) {
        if !self.0.ignores_term.get() {
            set_action(libc::SIGTERM, libc::SIG_DFL);
        }
    }
}

impl Signals {
    /// Creates the pipe and catches these signals. A process can have only one: the handler knows one pipe.
    pub fn new(wanted: &[i32]) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        set_nonblocking(reader.as_raw_fd())?;
        set_nonblocking(writer.as_raw_fd())?;
        SIGNAL_PIPE.store(writer.as_raw_fd(), Ordering::Relaxed);
        for signal in wanted {
            catch(*signal);
        }
        Ok(Self {
            reader,
            _writer: writer,
            ignores_term: Cell::new(false),
            ends_with_stdout: Cell::new(false),
        })
    }

    /// Catches SIGTERM while child processes must be ended before this one.
    pub fn catch_term(&self) -> TermCaught<'_> {
        if !self.ignores_term.get() {
            catch(libc::SIGTERM);
        }
        TermCaught(self)
    }

    /// Ignores SIGTERM from now on.
    pub fn ignore_term(&self) {
        self.ignores_term.set(true);
        set_action(libc::SIGTERM, libc::SIG_IGN);
    }

    /// Makes the end of the reader of stdout count as SIGTERM. For a worker that runs through sudo: the daemon has another
    /// user and cannot signal it.
    pub fn end_with_stdout(&self) {
        self.ends_with_stdout.set(true);
    }

    /// Returns whether the reader of stdout is gone and that counts as SIGTERM.
    pub fn is_orphaned(&self) -> bool {
        !self.ignores_term.get() && self.ends_with_stdout.get() && is_stdout_closed()
    }

    pub fn fd(&self) -> RawFd {
        self.reader.as_raw_fd()
    }

    /// Returns the numbers of the signals that arrived since the last call.
    pub fn take(&self) -> Vec<i32> {
        let mut bytes = [0; 64];
        let got = io::Read::read(&mut &self.reader, &mut bytes).unwrap_or(0);
        bytes[..got].iter().map(|byte| i32::from(*byte)).collect()
    }
}

extern "C" fn write_to_pipe(signal: i32) {
    let byte = u8::try_from(signal).unwrap_or(0);
    // SAFETY: write(2) is async-signal-safe, and the buffer is on this stack. errno is restored because the interrupted code
    // may be about to read it.
    unsafe {
        let errno = errno_location();
        let saved = *errno;
        libc::write(
            SIGNAL_PIPE.load(Ordering::Relaxed),
            (&raw const byte).cast(),
            1,
        );
        *errno = saved;
    }
}

/// Makes the signal a byte of the `Signals` pipe from now on.
fn catch(signal: i32) {
    set_action(signal, write_to_pipe as *const () as libc::sighandler_t);
}

fn set_action(signal: i32, handler: libc::sighandler_t) {
    // SAFETY: a zeroed sigaction is valid. The handler is SIG_DFL, SIG_IGN or `write_to_pipe`, which calls only async-signal-safe
    // functions. The kernel rejects an invalid signal number.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = libc::SA_RESTART;
        libc::sigaction(signal, &raw const action, std::ptr::null_mut());
    }
}

/// Unblocks all signals. The parent may have blocked some, SIGTERM must arrive, and agents inherit the mask.
pub fn unblock_signals() {
    // SAFETY: sigemptyset fills the set it is given, and sigprocmask reads it.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Blocks all signals until `unblock_signals`.
pub fn block_signals() {
    // SAFETY: sigfillset fills the set it is given, and sigprocmask reads it.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut());
    }
}

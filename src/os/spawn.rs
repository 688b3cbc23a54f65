//! Child processes: a fork that goes on in this program or becomes another, and what the end of a child says. Decides nothing.
#![allow(unsafe_code)]
#![expect(clippy::disallowed_methods, reason = "it opens /dev/null")]

use std::fs::File;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;

use super::{call, fd, signals};
use crate::error::{At, Result};

/// Opens /dev/null, as input and output of a child.
pub fn dev_null() -> Result<File> {
    let path = Path::new("/dev/null");
    let options = File::options().read(true).write(true).open(path);
    options.at("open", path)
}

/// Restores the default actions and unblocks all signals, in a new child in which all are blocked.
pub(super) fn reset_signals() {
    #[cfg(target_os = "linux")]
    for signal in 1..=64 {
        // A struct of the kernel is 20 or 32 bytes: the action, 0 for the default one, flags, the address of code to return by,
        // and a set of signals, whose size in bytes is the last argument.
        let default = [0_u64; 4];
        // SAFETY: the kernel only reads the struct, which is no longer than the array. The default action runs no code of this
        // program. The C libraries refuse this for the real-time signals that they use themselves, and this process uses
        // none. The call fails for signals that cannot be changed.
        unsafe {
            let none = std::ptr::null_mut::<u64>();
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                none,
                8_usize,
            );
        }
    }
    #[cfg(not(target_os = "linux"))]
    for signal in 1..32 {
        // SAFETY: the default action runs no code of this program. The call fails for signals that cannot be changed.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    signals::unblock_signals();
}

/// A child process, started or forked. The child continues if this is dropped.
pub struct Process {
    pid: libc::pid_t,
    /// How it ended. It is not reaped before `reap` or the drop: until then no other process or group has its number, so its
    /// group can be signalled.
    status: Option<ExitStatus>,
    is_reaped: bool,
}

impl Drop for Process {
    fn drop(&mut self) {
        self.reap();
    }
}

impl Process {
    /// Forks a child that leads a session, calls `work` and ends with code 0.
    ///
    /// A hidden subcommand could not replace it: a worker that has become another user may not be permitted to execute this
    /// binary (mode 0700, a directory that only root can enter), but must check its agent. It is sound only because this
    /// process has one thread.
    pub fn fork(work: &dyn Fn(), stdin: &File, output: &File) -> io::Result<Self> {
        Self::fork_with(|| {
            if begin_fork(stdin, output).is_ok() {
                work();
            }
        })
    }

    /// Forks a child that calls `work`, with all signals blocked, and ends.
    pub(super) fn fork_with(work: impl FnOnce()) -> io::Result<Self> {
        // The child inherits the mask. Otherwise a signal would run the handler in the child, and the handler writes to a
        // pipe that parent and child share.
        signals::block_signals();
        // SAFETY: no other thread exists that could hold a lock, so the child can do all that this process can.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            work();
            // SAFETY: _exit(2) touches no memory, and skips what only the parent must do at its end.
            unsafe { libc::_exit(0) };
        }
        let forked = call::check(pid);
        signals::unblock_signals();
        forked.map(|()| Self {
            pid,
            status: None,
            is_reaped: false,
        })
    }

    /// Returns none while the child runs. Does not reap it.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.status.is_none() {
            let (who, status) = ended_child(libc::P_PID, self.pid, libc::WNOHANG)?;
            self.status = (who == self.pid).then_some(status);
        }
        Ok(self.status)
    }

    /// Waits until the child has ended. Does not reap it.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        loop {
            match ended_child(libc::P_PID, self.pid, 0) {
                Ok((_, status)) => {
                    self.status = Some(status);
                    return Ok(status);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Ends the child and waits until it has ended.
    pub fn kill(&mut self) -> io::Result<ExitStatus> {
        if !self.is_reaped {
            // SAFETY: kill(2) touches no memory, and no other process has the number before it is reaped.
            unsafe { libc::kill(self.pid, libc::SIGKILL) };
        }
        self.wait()
    }

    /// Gives up the number of a child that has ended. Its group must not be signalled after that.
    pub fn reap(&mut self) {
        if !self.is_reaped {
            // SAFETY: waitpid(2) may be given no integer to fill. With WNOHANG it does not wait for a child that runs.
            let waited = unsafe { libc::waitpid(self.pid, std::ptr::null_mut(), libc::WNOHANG) };
            self.is_reaped = waited == self.pid;
        }
    }

    /// Returns the pid, which is also the number of its process group.
    pub fn id(&self) -> u32 {
        self.pid.cast_unsigned()
    }
}

/// Returns the pid of a child that has ended, and how it ended. Does not reap it. If `flag` is `WNOHANG`, it does not wait,
/// and returns 0 if there is none.
fn ended_child(
    kind: libc::idtype_t,
    pid: libc::pid_t,
    flag: i32,
) -> io::Result<(libc::pid_t, ExitStatus)> {
    let flags = libc::WEXITED | libc::WNOWAIT | flag;
    let pid = libc::id_t::from(pid.cast_unsigned());
    // SAFETY: waitid(2) fills the struct it is given, whose fields for a child are then valid; zeroed, they are those of no
    // child.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        call::check(libc::waitid(kind, pid, &raw mut info, flags))?;
        Ok((info.si_pid(), status(info.si_code, info.si_status())))
    }
}

/// Reaps children that have ended and that this process did not start. The first process of a container gets the orphans of
/// all others, and so does a subreaper; a process that was started by exec has the children of the program before.
///
/// One of `ours` that has ended is left to its owner. It hides the others until then, so call this after `ours` were asked.
pub fn reap_orphans(ours: &[u32]) {
    // More of them, as from a program that forks without end, have to wait for the next call.
    for _ in 0..1000 {
        let Ok((pid @ 1.., _)) = ended_child(libc::P_ALL, 0, libc::WNOHANG) else {
            return;
        };
        if ours.contains(&pid.cast_unsigned()) {
            return;
        }
        // SAFETY: waitpid(2) may be given no integer to fill.
        unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::WNOHANG) };
    }
}

/// Returns the status that waitpid(2) gives for what waitid(2) found.
fn status(code: i32, value: i32) -> ExitStatus {
    ExitStatus::from_raw(match code {
        libc::CLD_EXITED => value << 8,
        libc::CLD_DUMPED => value | 0x80,
        _ => value,
    })
}

fn begin_fork(stdin: &File, output: &File) -> io::Result<()> {
    fd::duplicate(stdin, libc::STDIN_FILENO)?;
    fd::duplicate(output, libc::STDOUT_FILENO)?;
    fd::duplicate(output, libc::STDERR_FILENO)?;
    // SAFETY: setsid(2) touches no memory.
    call::check(unsafe { libc::setsid() })?;
    reset_signals();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{files, process};
    use super::*;

    #[test]
    fn a_fork_works_in_its_own_session_and_ends() {
        let output = files::nameless_file().expect("it is made");
        let dev_null = dev_null().expect("it opens");
        let work = || {
            let is_leader = process::leads_session(std::process::id());
            // stdout of the fork is the file `output`.
            let output: &[u8] = if is_leader { b"leader" } else { b"member" };
            // SAFETY: pointer and length are those of a literal.
            unsafe { libc::write(libc::STDOUT_FILENO, output.as_ptr().cast(), output.len()) };
        };
        let mut process = Process::fork(&work, &dev_null, &output).expect("it begins");
        assert_eq!(process.wait().expect("it is ours").code(), Some(0));
        let text = files::read_text(&output, 0, 65_536).expect("it is read");
        assert_eq!(text, "leader");
    }
}

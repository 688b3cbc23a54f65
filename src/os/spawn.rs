//! What std's `Command` lacks: a child inherits no signal handler and no blocked signal, can lead a session, can write its pid
//! to a file before its program starts, and keeps its number until it is reaped. Also a fork without exec. Decides nothing.
#![allow(unsafe_code)]
#![expect(clippy::disallowed_methods, reason = "it starts processes")]

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus};

use super::{call, environment, fd, limits, signals};
use crate::error::{At, Result};

/// Returns a command whose child inherits no handler and no blocked signal. Start it with `spawn`.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    let reset = || {
        reset_signals();
        Ok(())
    };
    // SAFETY: the closure calls signal(2) and sigprocmask(2), which are async-signal-safe, and uses only its own stack.
    unsafe { command.pre_exec(reset) };
    command
}

/// Starts what `command` returned. Returns when the program has started, or the error why it has not.
///
/// Not `Command::spawn`: it takes an error while it waits for the program for a success, its `Child` can be reaped by
/// accident while its group is signalled, and a second way to fork is 7 KB of code.
pub fn spawn(command: &mut Command) -> io::Result<Process> {
    // Both ends close when the program starts, and only a failure is written to it.
    let (mut failure, mut report) = io::pipe()?;
    let mut process = Process::fork_with(|| {
        let errno = command.exec().raw_os_error().unwrap_or(libc::EINVAL);
        let _ = report.write_all(&errno.to_ne_bytes());
    })?;
    drop(report);
    let mut errno = [0; 4];
    match failure.read_exact(&mut errno) {
        Err(end) if end.kind() == io::ErrorKind::UnexpectedEof => Ok(process),
        Err(error) => Err(error),
        Ok(()) => {
            process.wait()?;
            Err(io::Error::from_raw_os_error(i32::from_ne_bytes(errno)))
        }
    }
}

/// Makes the child the leader of a session and of a process group.
pub fn lead_session(command: &mut Command) {
    let lead = || {
        // SAFETY: setsid(2) touches no memory.
        call::check(unsafe { libc::setsid() })
    };
    // SAFETY: setsid(2) is async-signal-safe, and an error made from errno does not allocate.
    unsafe { command.pre_exec(lead) };
}

/// Makes the child start in this directory, wherever its path leads by then.
pub fn start_in(command: &mut Command, dir: File) {
    let enter = move || {
        // SAFETY: fchdir(2) takes an open descriptor and touches no memory.
        call::check(unsafe { libc::fchdir(dir.as_raw_fd()) })
    };
    // SAFETY: fchdir(2) is async-signal-safe, and an error made from errno does not allocate.
    unsafe { command.pre_exec(enter) };
}

/// Gives the child these variables and no others. `Command` could do it too, with maps of variables that are 9 KB of code.
pub fn set_environment(command: &mut Command, variables: &'static [(&str, &str)]) {
    let replace = || environment::replace_environment(variables);
    // SAFETY: the child may allocate: it is the copy of a process with one thread, so no other thread holds a lock of libc.
    unsafe { command.pre_exec(replace) };
}

/// Lets the child inherit an open file under the number that it has here.
pub fn keep_open(command: &mut Command, file: RawFd) {
    let keep = move || fd::open_on_exec(file);
    // SAFETY: fcntl(2) is async-signal-safe, and an error made from errno does not allocate.
    unsafe { command.pre_exec(keep) };
}

/// Gives the child this soft limit of its address space in place of ours, as far as the hard limit allows it.
pub fn limit_memory(command: &mut Command, bytes: u64) {
    let set = move || limits::replace_memory_limit(bytes);
    // SAFETY: getrlimit(2) and setrlimit(2) are async-signal-safe, and an error made from errno does not allocate.
    unsafe { command.pre_exec(set) };
}

/// Makes the child write its pid to the file before its program starts, so that it never runs without a record.
pub fn record_pid(command: &mut Command, pid_file: &File) -> io::Result<()> {
    let mut pid_file = pid_file.try_clone()?;
    let record = move || {
        // If the command is started again after it was busy, the pid of the first child is there. The child runs even if its
        // pid cannot be written.
        let emptied = pid_file.set_len(0).and_then(|()| pid_file.rewind());
        let _ = emptied.and_then(|()| write!(pid_file, "{}", std::process::id()));
        Ok(())
    };
    // SAFETY: ftruncate(2), lseek(2), getpid(2) and write(2) are async-signal-safe. A `File` has neither buffer nor lock, and
    // formatting an integer uses only the stack.
    unsafe { command.pre_exec(record) };
    Ok(())
}

/// Opens /dev/null, as input and output of a child.
pub fn dev_null() -> Result<File> {
    let path = Path::new("/dev/null");
    let options = File::options().read(true).write(true).open(path);
    options.at("open", path)
}

/// Restores the default actions and unblocks all signals, in a new child in which all are blocked.
fn reset_signals() {
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
    fn fork_with(work: impl FnOnce()) -> io::Result<Self> {
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

    /// Runs the program and returns how it ended and what it printed.
    #[cfg(target_os = "linux")]
    fn run(words: &[&str], prepare: impl Fn(&mut Command)) -> (ExitStatus, String) {
        let output = files::nameless_file().expect("it is made");
        let mut command = command(words[0]);
        command
            .args(&words[1..])
            .stdin(dev_null().expect("it opens"))
            .stdout(output.try_clone().expect("it is copied"))
            .stderr(output.try_clone().expect("it is copied"));
        prepare(&mut command);
        let mut child = spawn(&mut command).expect("it runs");
        let status = child.wait().expect("it is ours");
        (status, text_of(&output))
    }

    fn text_of(output: &File) -> String {
        files::read_text(output, 0, 65_536).expect("it is read")
    }

    fn wait(process: &mut Process) -> ExitStatus {
        loop {
            if let Some(status) = process.try_wait().expect("it is ours") {
                return status;
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_child_inherits_no_descriptor_and_no_signal() {
        // As the program does at its start.
        fd::close_inherited_on_exec();
        let _ours = dev_null().expect("it opens");
        // The fourth is the directory that ls reads.
        let (_, text) = run(&["ls", "/proc/self/fd"], lead_session);
        assert_eq!(text, "0\n1\n2\n3\n");
        // SIGPIPE, which std ignores in this process, among them.
        let (_, text) = run(&["grep", "^Sig[BI]", "/proc/self/status"], |_| ());
        for line in text.lines() {
            let mask = line.split('\t').nth(1).unwrap_or_default();
            let mask = u64::from_str_radix(mask, 16).expect("a mask");
            // qemu keeps signal 32 for itself. The integration tests check it, where no emulator runs.
            assert_eq!(mask & !(1 << 31), 0, "{line}");
        }
        assert_eq!(text.lines().count(), 2);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_child_leads_a_session_if_requested() {
        let stat = ["sh", "-c", "echo $$; cut -d ' ' -f 5,6 /proc/$$/stat"];
        let led = |prepare: fn(&mut Command)| {
            let (_, text) = run(&stat, prepare);
            let numbers: Vec<u32> = text.split_whitespace().flat_map(str::parse).collect();
            let [pid, group, session] = numbers[..] else {
                panic!("{text}");
            };
            (pid == group, pid == session)
        };
        assert_eq!(led(|_| ()), (false, false));
        assert_eq!(led(lead_session), (true, true));
    }

    #[test]
    fn a_pid_is_written_before_the_program_starts_and_its_whole_group_can_be_signalled() {
        let pid_file = files::nameless_file().expect("it is made");
        let mut command = command("sh");
        command.args(["-c", "sleep 60 & wait"]);
        lead_session(&mut command);
        record_pid(&mut command, &pid_file).expect("the file is copied");
        let mut process = spawn(&mut command).expect("it runs");
        assert_eq!(text_of(&pid_file), process.id().to_string());
        assert_eq!(process.try_wait().expect("it is ours"), None);
        assert!(process::signal_group(process.id(), libc::SIGTERM));
        for _ in 0..2 {
            assert_eq!(wait(&mut process).signal(), Some(libc::SIGTERM));
        }
    }

    #[test]
    fn a_child_that_has_ended_keeps_its_number_until_it_is_reaped() {
        let started = spawn(command("sh").args(["-c", "exit 3"]));
        let mut process = started.expect("it runs");
        assert_eq!(wait(&mut process).code(), Some(3));
        let pid = process.id();
        let exists = || process::Handle::open(pid).signal(0).is_ok();
        assert!(exists());
        process.reap();
        assert!(!exists());
        assert_eq!(wait(&mut process).code(), Some(3));
    }

    #[test]
    fn a_command_that_is_started_again_leaves_one_pid() {
        let pid_file = files::nameless_file().expect("it is made");
        let mut command = command("true");
        record_pid(&mut command, &pid_file).expect("the file is copied");
        for _ in 0..2 {
            let mut child = spawn(&mut command).expect("it runs");
            child.wait().expect("it is ours");
            assert_eq!(text_of(&pid_file), child.id().to_string());
        }
    }

    #[test]
    fn a_program_that_cannot_run_leaves_no_child_and_returns_the_cause() {
        for (program, errno) in [
            ("/no/such/file", libc::ENOENT),
            ("no-such-tool", libc::ENOENT),
            ("/etc/passwd", libc::EACCES),
        ] {
            let mut command = command(program);
            lead_session(&mut command);
            let error = spawn(&mut command).err().expect("it cannot run");
            assert_eq!(error.raw_os_error(), Some(errno), "{program}");
        }
    }

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
        assert_eq!(wait(&mut process).code(), Some(0));
        assert_eq!(text_of(&output), "leader");
    }
}

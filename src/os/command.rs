//! A program that a child becomes: its arguments, its streams, and what the child does before.
//!
//! Not std's `Command`: its closures must not allocate, because it cannot know that this process has one thread; it gives up the
//! number of a child that has ended; and its other ways to fork, and its maps of variables, are 24 KB of code.
#![allow(unsafe_code)]

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use super::call::{c_string, check};
use super::spawn::{Process, reset_signals};
use super::{environment, fd, limits};

/// What a child does before it becomes the program. It may do whatever this process may.
type Step = Box<dyn Fn() -> io::Result<()>>;

pub struct Command {
    program: OsString,
    /// The name under which the program is started, and its arguments.
    words: Vec<OsString>,
    /// In the order in which they are done.
    steps: Vec<Step>,
}

impl Command {
    /// `program` is a path, or a name that is searched for in `PATH`.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let program = program.as_ref().to_owned();
        Self {
            words: vec![program.clone()],
            program,
            steps: Vec::new(),
        }
    }

    pub fn program(&self) -> &OsStr {
        &self.program
    }

    /// Starts the program under another name than its path.
    pub fn name(&mut self, name: &str) {
        self.words[0] = name.into();
    }

    pub fn arg(&mut self, word: impl AsRef<OsStr>) -> &mut Self {
        self.words.push(word.as_ref().to_owned());
        self
    }

    pub fn args(&mut self, words: &[&str]) -> &mut Self {
        for word in words {
            self.words.push(word.into());
        }
        self
    }

    pub fn stdin(&mut self, file: impl Into<OwnedFd>) -> &mut Self {
        self.stream(libc::STDIN_FILENO, file.into())
    }

    pub fn stdout(&mut self, file: impl Into<OwnedFd>) -> &mut Self {
        self.stream(libc::STDOUT_FILENO, file.into())
    }

    pub fn stderr(&mut self, file: impl Into<OwnedFd>) -> &mut Self {
        self.stream(libc::STDERR_FILENO, file.into())
    }

    fn stream(&mut self, number: RawFd, file: OwnedFd) -> &mut Self {
        self.before(move || fd::duplicate(&file, number))
    }

    /// Makes the child the leader of a process group.
    pub fn lead_group(&mut self) -> &mut Self {
        // SAFETY: setpgid(2) takes integers only.
        self.before(|| check(unsafe { libc::setpgid(0, 0) }))
    }

    /// Makes the child the leader of a session and of a process group.
    pub fn lead_session(&mut self) -> &mut Self {
        // SAFETY: setsid(2) touches no memory.
        self.before(|| check(unsafe { libc::setsid() }))
    }

    /// Makes the child start in this directory, wherever its path leads by then.
    pub fn start_in(&mut self, dir: File) -> &mut Self {
        // SAFETY: fchdir(2) takes an open descriptor and touches no memory.
        self.before(move || check(unsafe { libc::fchdir(dir.as_raw_fd()) }))
    }

    /// Gives the child these variables and no others.
    pub fn environment(&mut self, variables: &'static [(&str, &str)]) -> &mut Self {
        self.before(|| environment::replace_environment(variables))
    }

    /// Lets the child inherit an open file under the number that it has here.
    pub fn keep_open(&mut self, file: RawFd) -> &mut Self {
        self.before(move || fd::open_on_exec(file))
    }

    /// Gives the child this soft limit of its address space in place of ours, as far as the hard limit allows it.
    pub fn limit_memory(&mut self, bytes: u64) -> &mut Self {
        self.before(move || limits::replace_memory_limit(bytes))
    }

    /// Makes the child write its pid to the file before its program starts, so that it never runs without a record. The child
    /// runs even if its pid cannot be written.
    pub fn record_pid(&mut self, pid_file: &File) -> io::Result<&mut Self> {
        let pid_file = pid_file.try_clone()?;
        Ok(self.before(move || {
            let mut file = &pid_file;
            // If the command is started again after it was busy, the pid of the first child is there.
            let emptied = file.set_len(0).and_then(|()| file.rewind());
            let _ = emptied.and_then(|()| write!(file, "{}", std::process::id()));
            Ok(())
        }))
    }

    fn before(&mut self, step: impl Fn() -> io::Result<()> + 'static) -> &mut Self {
        self.steps.push(Box::new(step));
        self
    }

    /// Starts a child, which inherits no signal handler and no blocked signal. Returns when the program has started, or the
    /// error why it has not.
    pub fn spawn(&self) -> io::Result<Process> {
        let program = c_string(&self.program)?;
        let mut words = Vec::new();
        for word in &self.words {
            words.push(c_string(word)?);
        }
        // Both ends close when the program starts, and only a failure is written to it.
        let (mut failure, mut report) = io::pipe()?;
        let mut process = Process::fork_with(|| {
            let errno = self.become_program(&program, &words).raw_os_error();
            let _ = report.write_all(&errno.unwrap_or(libc::EINVAL).to_ne_bytes());
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

    /// In the child. Returns only if it fails.
    fn become_program(&self, program: &CString, words: &[CString]) -> io::Error {
        for step in &self.steps {
            if let Err(error) = step() {
                return error;
            }
        }
        reset_signals();
        let mut pointers: Vec<_> = words.iter().map(|word| word.as_ptr()).collect();
        pointers.push(std::ptr::null());
        // SAFETY: the texts are NUL-terminated, their list ends with NULL, and all of them live until the call has failed.
        unsafe { libc::execvp(program.as_ptr(), pointers.as_ptr()) };
        io::Error::last_os_error()
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_os = "linux")]
    use super::super::spawn::dev_null;
    use super::super::{files, process};
    use super::*;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    /// Runs the program and returns how it ended and what it printed.
    #[cfg(target_os = "linux")]
    fn run(words: &[&str], prepare: impl Fn(&mut Command)) -> (ExitStatus, String) {
        let output = files::nameless_file().expect("it is made");
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .stdin(dev_null().expect("it opens"))
            .stdout(output.try_clone().expect("it is copied"))
            .stderr(output.try_clone().expect("it is copied"));
        prepare(&mut command);
        let mut child = command.spawn().expect("it runs");
        let status = child.wait().expect("it is ours");
        (status, text_of(&output))
    }

    fn text_of(output: &File) -> String {
        files::read_text(output, 0, 65_536).expect("it is read")
    }

    fn wait(process: &mut Process) -> ExitStatus {
        process.wait().expect("it is ours")
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_child_inherits_no_descriptor_and_no_signal() {
        // As the program does at its start.
        fd::close_inherited_on_exec();
        let _ours = dev_null().expect("it opens");
        // The fourth is the directory that ls reads.
        let (_, text) = run(&["ls", "/proc/self/fd"], |command| {
            command.lead_session();
        });
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
        assert_eq!(
            led(|command| {
                command.lead_session();
            }),
            (true, true)
        );
    }

    #[test]
    fn a_pid_is_written_before_the_program_starts_and_its_whole_group_can_be_signalled() {
        let pid_file = files::nameless_file().expect("it is made");
        let mut command = Command::new("sh");
        command.args(&["-c", "sleep 60 & wait"]);
        command.lead_session();
        command.record_pid(&pid_file).expect("the file is copied");
        let mut process = command.spawn().expect("it runs");
        assert_eq!(text_of(&pid_file), process.id().to_string());
        assert_eq!(process.try_wait().expect("it is ours"), None);
        assert!(process::signal_group(process.id(), libc::SIGTERM));
        for _ in 0..2 {
            assert_eq!(wait(&mut process).signal(), Some(libc::SIGTERM));
        }
    }

    #[test]
    fn a_child_that_has_ended_keeps_its_number_until_it_is_reaped() {
        let started = Command::new("sh").args(&["-c", "exit 3"]).spawn();
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
        let mut command = Command::new("true");
        command.record_pid(&pid_file).expect("the file is copied");
        for _ in 0..2 {
            let mut child = command.spawn().expect("it runs");
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
            let mut command = Command::new(program);
            command.lead_session();
            let error = command.spawn().err().expect("it cannot run");
            assert_eq!(error.raw_os_error(), Some(errno), "{program}");
        }
    }
}

//! Starts programs: fork, a few system calls, exec. std's `Command` does the same for 35,000 bytes more (amd64): it holds
//! the environment in two B-trees, and brings `posix_spawn`, pidfds and pipes, of which nothing here has need.
//! The only place that forks. It decides nothing: what runs, where and how, is its caller's word.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, OsStr, c_char, c_int};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::path::Path;
use std::ptr::null;

use crate::error::{At, Result};
use crate::sys;

/// A program that is to run. Of what is open here it gets `stdio` and nothing else, of signals no trace.
pub struct Spawn<'a> {
    /// Looked for in the PATH that it will find in its environment, unless there is a slash in it.
    pub program: &'a OsStr,
    /// Its own name, then its arguments.
    pub words: &'a [&'a OsStr],
    /// How its environment differs from ours: `NAME=value`, or just `NAME` for what it must not find.
    pub env: &'a [&'a CStr],
    pub dir: Option<&'a Path>,
    pub stdio: [BorrowedFd<'a>; 3],
    pub leads: Leads,
    /// Where it writes its number before the program begins: no moment in which it runs unrecorded.
    pub pid_file: Option<&'a File>,
}

/// Of what the new process is the leader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Leads {
    Nothing,
    Group,
    Session,
}

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    Exited(i32),
    /// By this signal.
    Killed(i32),
}

/// A child that was started. Dropped, it runs on.
pub struct Process {
    pid: libc::pid_t,
    /// Once it was reaped, its number may be another's.
    status: Option<Status>,
}

impl Spawn<'_> {
    /// Returns when the program has begun, or with the reason for which it did not.
    pub fn spawn(&self) -> io::Result<Process> {
        let program = sys::c_string(self.program)?;
        let dir = match self.dir {
            Some(dir) => Some(sys::c_string(dir.as_os_str())?),
            None => None,
        };
        let mut words = Vec::new();
        for word in self.words {
            words.push(sys::c_string(word)?);
        }
        let (mut failure, reporter) = io::pipe()?;
        let child = Unborn {
            work: None,
            argv: pointers(&words),
            program,
            envp: self.environment(),
            dir,
            stdio: self.stdio.map(|fd| fd.as_raw_fd()),
            leads: self.leads,
            pid_file: self.pid_file.map(AsRawFd::as_raw_fd),
            reporter: reporter.as_raw_fd(),
        };
        let mut process = Process {
            pid: child.fork()?,
            status: None,
        };
        // Exec closes the pipe; until then we wait, so that whoever signals the child's group finds it.
        drop(reporter);
        let mut errno = [0; size_of::<c_int>()];
        if failure.read(&mut errno).is_ok_and(|got| got > 0) {
            process.wait(0)?;
            return Err(io::Error::from_raw_os_error(c_int::from_ne_bytes(errno)));
        }
        Ok(process)
    }

    /// Our environment with the differences, as pointers to strings that stay where they are.
    fn environment(&self) -> Vec<*const c_char> {
        let mut entries = Vec::new();
        // SAFETY: a list of NUL-terminated strings that ends with NULL, and there is no other thread to change it.
        unsafe {
            let mut next = *sys::environ();
            while !next.is_null() && !(*next).is_null() {
                let name = name(CStr::from_ptr(*next));
                if self.env.iter().all(|ours| self::name(ours) != name) {
                    entries.push(*next);
                }
                next = next.add(1);
            }
        }
        let set = self
            .env
            .iter()
            .filter(|ours| ours.to_bytes().contains(&b'='));
        entries.extend(set.map(|ours| ours.as_ptr()));
        entries.push(null());
        entries
    }
}

/// Begins a copy of this process, in a session of its own, that does this work and ends. With no program to wait for,
/// it returns at once.
pub fn copy(work: &dyn Fn(), stdio: [BorrowedFd; 3]) -> io::Result<Process> {
    let child = Unborn {
        work: Some(work),
        program: CString::default(),
        argv: Vec::new(),
        envp: Vec::new(),
        dir: None,
        stdio: stdio.map(|fd| fd.as_raw_fd()),
        leads: Leads::Session,
        pid_file: None,
        reporter: NOBODY,
    };
    Ok(Process {
        pid: child.fork()?,
        status: None,
    })
}

/// What has nothing to say, and whom nobody hears.
pub fn nothing() -> Result<File> {
    let path = Path::new("/dev/null");
    sys::open(path, libc::O_RDWR, 0).at("open", path)
}

fn name(entry: &CStr) -> &[u8] {
    let bytes = entry.to_bytes();
    let end = bytes.iter().position(|byte| *byte == b'=');
    &bytes[..end.unwrap_or(bytes.len())]
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    let mut pointers: Vec<_> = strings.iter().map(|string| string.as_ptr()).collect();
    pointers.push(null());
    pointers
}

/// In the place of a descriptor: there is none.
const NOBODY: RawFd = -1;

/// What the child needs between fork and exec, where memory can no longer be asked for.
struct Unborn<'a> {
    /// What a copy does in the place of exec. There is one thread here, so that it may do whatever we may.
    work: Option<&'a dyn Fn()>,
    program: CString,
    argv: Vec<*const c_char>,
    envp: Vec<*const c_char>,
    dir: Option<CString>,
    stdio: [RawFd; 3],
    leads: Leads,
    pid_file: Option<RawFd>,
    reporter: RawFd,
}

impl Unborn<'_> {
    /// The number of the new process, which goes on in `exec`.
    fn fork(&self) -> io::Result<libc::pid_t> {
        // A signal that comes in between must not run our handler in the child: it writes to our pipe.
        sys::block_signals();
        // SAFETY: there is no other thread that could hold a lock; up to exec the child makes async-signal-safe calls
        // only, on what is in `self`, and it never returns.
        let forked = match unsafe { libc::fork() } {
            0 => unsafe { self.exec() },
            -1 => Err(io::Error::last_os_error()),
            pid => Ok(pid),
        };
        sys::unblock_signals();
        forked
    }

    /// # Safety
    /// Only in a child that was forked a moment ago, with all signals blocked.
    unsafe fn exec(&self) -> ! {
        // SAFETY: the pointers lead to strings and lists that `self` or its maker holds; the rest takes integers.
        unsafe {
            if self.prepare() {
                if let Some(work) = self.work {
                    work();
                    libc::_exit(0)
                }
                *sys::environ() = self.envp.as_ptr();
                libc::execvp(self.program.as_ptr(), self.argv.as_ptr());
            }
            let errno = sys::errno();
            libc::write(self.reporter, (&raw const errno).cast(), size_of::<c_int>());
            libc::_exit(1)
        }
    }

    /// False when a call failed, with errno saying why.
    unsafe fn prepare(&self) -> bool {
        // SAFETY: as in `exec`.
        unsafe {
            // None of ours is below 3, where one would overwrite another.
            for (target, fd) in (0..).zip(self.stdio) {
                while libc::dup2(fd, target) == -1 {
                    if sys::errno() != libc::EINTR {
                        return false;
                    }
                }
            }
            if let Some(dir) = &self.dir
                && libc::chdir(dir.as_ptr()) == -1
            {
                return false;
            }
            let led = match self.leads {
                Leads::Nothing => 0,
                Leads::Group => libc::setpgid(0, 0),
                Leads::Session => libc::setsid(),
            };
            if led == -1 {
                return false;
            }
            for signal in 1..32 {
                libc::signal(signal, libc::SIG_DFL);
            }
            if let Some(fd) = self.pid_file {
                write_pid(fd);
            }
            sys::unblock_signals();
            true
        }
    }
}

/// Writes this process's number in decimal; only stack and write(2), for it runs between fork and exec.
fn write_pid(fd: RawFd) {
    let mut text = [0_u8; 10];
    // SAFETY: getpid(2) touches no memory.
    let mut rest = unsafe { libc::getpid() }.unsigned_abs();
    let mut start = text.len();
    while start > 0 {
        start -= 1;
        text[start] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    let digits = &text[start..];
    // SAFETY: the pointer and the length are those of a live array.
    unsafe {
        libc::write(fd, digits.as_ptr().cast(), digits.len());
    }
}

impl Process {
    /// False where nobody is left of the group.
    pub fn signal_group(&self, signal: i32) -> bool {
        sys::signal_group(self.pid, signal)
    }

    /// The trace of somebody who is left of the group: see `sys::lives`.
    pub fn survivor(&self) -> String {
        sys::survivor(self.pid)
    }

    /// None while it runs.
    pub fn try_wait(&mut self) -> io::Result<Option<Status>> {
        self.wait(libc::WNOHANG)
    }

    /// Ends it, and only it, at once.
    pub fn kill(&mut self) -> io::Result<()> {
        if self.status.is_some() {
            return Ok(());
        }
        // SAFETY: kill(2) touches no memory, and a child that was not reaped keeps its number.
        sys::check(unsafe { libc::kill(self.pid, libc::SIGKILL) })?;
        self.wait(0).map(|_| ())
    }

    fn wait(&mut self, options: c_int) -> io::Result<Option<Status>> {
        let mut raw = 0;
        while self.status.is_none() {
            // SAFETY: waitpid fills the integer it is given.
            match unsafe { libc::waitpid(self.pid, &raw mut raw, options) } {
                0 => return Ok(None),
                -1 if sys::errno() == libc::EINTR => {}
                -1 => return Err(io::Error::last_os_error()),
                _ if libc::WIFSIGNALED(raw) => {
                    self.status = Some(Status::Killed(libc::WTERMSIG(raw)));
                }
                _ => self.status = Some(Status::Exited(libc::WEXITSTATUS(raw))),
            }
        }
        Ok(self.status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    const PATH: &CStr = c"PATH=/usr/bin:/bin";

    /// What runs these words, with its output going to `output`.
    fn begin(words: &[&str], output: &File, change: fn(&mut Spawn)) -> io::Result<Process> {
        let nothing = nothing().expect("it opens");
        let words: Vec<&OsStr> = words.iter().map(OsStr::new).collect();
        let mut spawn = Spawn {
            program: words[0],
            words: &words,
            env: &[PATH],
            dir: None,
            stdio: [nothing.as_fd(), output.as_fd(), output.as_fd()],
            leads: Leads::Nothing,
            pid_file: None,
        };
        change(&mut spawn);
        spawn.spawn()
    }

    /// How it ended, and what it printed.
    fn run(words: &[&str], change: fn(&mut Spawn)) -> (Status, String) {
        let output = sys::nameless_file().expect("it is made");
        let mut process = begin(words, &output, change).expect("it runs");
        let status = process.wait(0).expect("it is ours").expect("it has ended");
        let text = sys::read_text(&output, 0, 65_536).expect("it is read");
        (status, text)
    }

    fn errno(words: &[&str], change: fn(&mut Spawn)) -> Option<i32> {
        let output = sys::nameless_file().expect("it is made");
        let failed = begin(words, &output, change).err();
        failed.and_then(|error| error.raw_os_error())
    }

    #[test]
    fn what_cannot_run_says_why() {
        assert_eq!(errno(&["/no/such/file"], |_| ()), Some(libc::ENOENT));
        assert_eq!(errno(&["no-such-tool"], |_| ()), Some(libc::ENOENT));
        assert_eq!(errno(&["/etc/passwd"], |_| ()), Some(libc::EACCES));
        let no_dir = |spawn: &mut Spawn| spawn.dir = Some(Path::new("/no/such/dir"));
        assert_eq!(errno(&["true"], no_dir), Some(libc::ENOENT));
        let nul = begin(&["tr\0ue"], &nothing().expect("it opens"), |_| ());
        assert!(nul.is_err());
    }

    #[test]
    fn how_it_ended_is_told_again_and_again() {
        let shell = |script| run(&["sh", "-c", script], |_| ()).0;
        assert_eq!(shell("exit 0"), Status::Exited(0));
        assert_eq!(shell("exit 213"), Status::Exited(213));
        assert_eq!(shell("kill -9 $$"), Status::Killed(9));
        let output = nothing().expect("it opens");
        let mut process = begin(&["sleep", "60"], &output, |_| ()).expect("it runs");
        assert_eq!(process.try_wait().expect("it is ours"), None);
        for _ in 0..2 {
            process.kill().expect("it is ours");
            let ended = process.try_wait().expect("it is ours");
            assert_eq!(ended, Some(Status::Killed(9)));
        }
    }

    #[test]
    fn its_environment_is_ours_with_the_differences() {
        let differ: fn(&mut Spawn) = |spawn| {
            spawn.env = &[PATH, c"CARGO_PKG_NAME", c"LC_ALL=a=b", c"HOME="];
        };
        let (_, text) = run(&["env"], differ);
        let mut got: Vec<&str> = text.lines().collect();
        let changed = ["PATH", "CARGO_PKG_NAME", "LC_ALL", "HOME"];
        // cargo sets one of these on macOS, which takes them from programs of its own, such as env.
        got.retain(|line| !line.starts_with("DYLD_"));
        let ours = std::env::vars()
            .filter(|(name, _)| !changed.contains(&name.as_str()) && !name.starts_with("DYLD_"));
        let ours: Vec<String> = ours
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let ours = ours.join("\n");
        let mut want: Vec<&str> = ours.lines().collect();
        want.extend(["PATH=/usr/bin:/bin", "LC_ALL=a=b", "HOME="]);
        got.sort_unstable();
        want.sort_unstable();
        assert_eq!(got, want);
    }

    #[test]
    fn it_runs_where_it_is_told_and_under_the_name_it_is_told() {
        let there: fn(&mut Spawn) = |spawn| {
            spawn.program = OsStr::new("/bin/sh");
            spawn.dir = Some(Path::new("/"));
        };
        let (_, text) = run(&["another", "-c", "pwd; echo $0 $1", "zero", "o ne"], there);
        assert_eq!(text, "/\nzero o ne\n");
        let (_, text) = run(&["another", "-c", "no-such-tool"], there);
        assert!(text.starts_with("another: "), "{text}");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn no_descriptor_and_no_signal_of_ours_is_left_in_it() {
        // As `main` does, for what this process was born with.
        sys::close_inherited_on_exec();
        let _ours = nothing().expect("it opens");
        // The fourth is what ls itself reads.
        assert_eq!(run(&["ls", "/proc/self/fd"], |_| ()).1, "0\n1\n2\n3\n");
        // SIGPIPE, which std ignores in this process, among them.
        let (_, text) = run(&["grep", "^Sig[BI]", "/proc/self/status"], |_| ());
        for line in text.lines() {
            let mask = line.split('\t').nth(1).unwrap_or_default();
            let mask = u64::from_str_radix(mask, 16).expect("a mask");
            assert_eq!(mask & 0x7fff_ffff, 0, "{line}");
        }
        assert_eq!(text.lines().count(), 2);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn it_leads_what_it_is_told() {
        let stat = ["sh", "-c", "echo $$; cut -d ' ' -f 5,6 /proc/$$/stat"];
        let told = |change| {
            let (_, text) = run(&stat, change);
            let numbers: Vec<u32> = text.split_whitespace().flat_map(str::parse).collect();
            let [pid, group, session] = numbers[..] else {
                panic!("{text}");
            };
            (pid == group, pid == session)
        };
        assert_eq!(told(|_| ()), (false, false));
        assert_eq!(told(|spawn| spawn.leads = Leads::Group), (true, false));
        assert_eq!(told(|spawn| spawn.leads = Leads::Session), (true, true));
    }

    #[test]
    fn its_number_is_on_file_and_its_whole_group_can_be_signalled() {
        let output = sys::nameless_file().expect("it is made");
        let pid_file = sys::nameless_file().expect("it is made");
        let nothing = nothing().expect("it opens");
        let spawn = Spawn {
            program: OsStr::new("sh"),
            words: &["sh", "-c", "sleep 60 & wait"].map(OsStr::new),
            env: &[],
            dir: None,
            stdio: [nothing.as_fd(), output.as_fd(), output.as_fd()],
            leads: Leads::Session,
            pid_file: Some(&pid_file),
        };
        let mut process = spawn.spawn().expect("it runs");
        let written = sys::read_text(&pid_file, 0, 32).expect("it is read");
        assert_eq!(written, process.pid.to_string());
        process.signal_group(libc::SIGTERM);
        let ended = process.wait(0).expect("it is ours");
        assert_eq!(ended, Some(Status::Killed(libc::SIGTERM)));
    }
}

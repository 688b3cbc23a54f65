//! Runs the updater under ptrace(2). Each of its processes stops before and after each system call, where a test may
//! observe, kill, or make the call fail. Control scripts are detached at their exec and run untraced.
//! It knows the registers of 64-bit x86 only. The binary under test needs no code for it.
#![expect(
    unsafe_code,
    reason = "ptrace and waitpid are system calls without a safe word in std"
)]

use super::host::Host;
use super::platform::skipped;
use super::tracee::{hide_vdso, registers, set_registers};
use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Constants of `PTRACE_*`. The libc crate has them for some C libraries only.
const SYSCALL: libc::c_uint = 24;
const DETACH: libc::c_uint = 17;
const SET_OPTIONS: libc::c_uint = 0x4200;
const EVENT_EXEC: i32 = 4;
/// TRACESYSGOOD, FORK, VFORK, CLONE, EXEC and EXITKILL: marks the stops of system calls, follows forks and execs, and
/// kills all tracees if the tracer dies.
const OPTIONS: libc::c_long = 1 | 2 | 4 | 8 | 16 | (1 << 20);
const SYSCALL_STOP: i32 = libc::SIGTRAP | 0x80;

/// One system call of one process, before it is made.
#[derive(Clone, Debug)]
pub struct Call {
    pub pid: i32,
    /// `daemon`, `beat` or `act`. A `'` after it marks a fork that has not yet called exec.
    pub role: String,
    pub nr: i64,
    pub args: [u64; 6],
}

/// What happens to the stopped process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Go,
    /// The call is not made and returns this errno.
    Fail(i32),
    /// This process gets KILL.
    KillOne,
    /// All processes of the updater get KILL at the same moment.
    KillAll,
}

/// Is called for each stop, in the order in which the kernel stopped the processes.
pub trait Watch {
    /// Called before a call is made. `Go` lets it be made unchanged.
    fn enter(&mut self, call: &Call) -> Verdict;
    /// Called after it was made. `result` is the kernel's: minus errno on failure.
    fn leave(&mut self, call: &Call, result: i64) -> Verdict;
}

/// Whether this machine can trace this binary. If not, prints that the test is skipped.
pub fn is_possible(binary: &Path) -> bool {
    let head = fs::read(binary).unwrap_or_default();
    let is_amd64 = head.get(18) == Some(&62) && head.get(4) == Some(&2);
    let can = cfg!(target_arch = "x86_64") && is_amd64;
    if !can {
        skipped("only a 64-bit x86 binary can be traced here");
    }
    can
}

struct Process {
    role: String,
    /// The call that the process is in.
    inside: Option<Call>,
    fails_with: Option<i32>,
}

struct Tracer<'a> {
    program: PathBuf,
    processes: HashMap<i32, Process>,
    watch: &'a mut dyn Watch,
    /// All processes run on untraced, because the moment of the test has passed.
    lets_go: bool,
    keeps_clock: bool,
}

/// A daemon that runs under trace.
pub struct Traced<W> {
    pub pid: u32,
    thread: JoinHandle<W>,
}

impl Host {
    /// Starts the daemon as the child of a tracer. The host does not know it: end it with `Traced::end`.
    pub fn start_traced<W: Watch + Send + 'static>(&self, own_clock: bool, watch: W) -> Traced<W> {
        let mut command = self.command();
        self.log_into_file(&mut command);
        Traced::start(command, own_clock, watch)
    }
}

impl<W: Watch + Send + 'static> Traced<W> {
    /// Runs the command until it and all its children of the same program have ended. With `own_clock` they ask the
    /// kernel for the time by system calls.
    pub fn start(mut command: Command, own_clock: bool, mut watch: W) -> Self {
        // SAFETY: ptrace is async-signal-safe, and exec follows.
        unsafe {
            command.pre_exec(|| check(libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0)));
        }
        let (tell, told) = channel();
        // Only the thread that started a tracee can wait for its stops.
        let thread = std::thread::spawn(move || {
            // The loop below reaps the daemon by its pid, so the handle is not needed.
            let root = command.spawn().expect("the binary runs").id();
            let _ = tell.send(root);
            let mut tracer = Tracer {
                program: super::platform::binary(),
                processes: HashMap::new(),
                watch: &mut watch,
                lets_go: false,
                keeps_clock: !own_clock,
            };
            tracer.adopt(i32::try_from(root).expect("a pid"), "daemon");
            tracer.follow();
            watch
        });
        let pid = told.recv().expect("the tracer sends the pid");
        Self { pid, thread }
    }

    /// Whether the daemon has ended. Its children may still run.
    pub fn has_ended(&self) -> bool {
        !super::procs::alive(self.pid)
    }

    /// Ends the daemon with TERM, and after 10 s with KILL.
    pub fn end(self) -> W {
        if !self.has_ended() {
            super::procs::signal(self.pid, libc::SIGTERM);
        }
        let begun = Instant::now();
        while !self.thread.is_finished() {
            if begun.elapsed() > Duration::from_secs(10) {
                super::procs::signal(self.pid, libc::SIGKILL);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.thread.join().expect("the tracer did not panic")
    }
}

fn check(returned: libc::c_long) -> io::Result<()> {
    if returned < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn request(what: libc::c_uint, pid: i32, data: libc::c_long) {
    // SAFETY: none of these requests writes to our memory. A request for a process that was killed meanwhile fails.
    unsafe {
        libc::ptrace(what, pid, 0, data);
    }
}

impl Tracer<'_> {
    fn adopt(&mut self, pid: i32, role: &str) {
        let process = Process {
            role: role.to_owned(),
            inside: None,
            fails_with: None,
        };
        self.processes.insert(pid, process);
    }

    fn follow(&mut self) {
        loop {
            let mut status = 0;
            // SAFETY: waitpid only fills the integer. It waits for children and tracees of this thread.
            let pid =
                unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::__WNOTHREAD) };
            if pid < 0 {
                return;
            }
            if libc::WIFSTOPPED(status) {
                self.stopped(pid, status);
            } else {
                self.processes.remove(&pid);
            }
        }
    }

    fn stopped(&mut self, pid: i32, status: i32) {
        if !self.processes.contains_key(&pid) {
            // A new child may stop before the event of its parent arrives.
            let parent =
                super::procs::parent(pid.unsigned_abs()).and_then(|p| i32::try_from(p).ok());
            let role = parent.and_then(|parent| self.processes.get(&parent));
            let role = role.map_or("?'".to_owned(), |parent| format!("{}'", parent.role));
            self.adopt(pid, &role);
            return self.resume(pid, 0);
        }
        let signal = libc::WSTOPSIG(status);
        match (signal, status >> 16) {
            (SYSCALL_STOP, _) => self.at_call(pid),
            (libc::SIGTRAP, EVENT_EXEC) => self.at_exec(pid),
            // The first stop of the first process, and all other events.
            (libc::SIGTRAP, _) => {
                request(SET_OPTIONS, pid, OPTIONS);
                if status >> 16 == 0 && !self.keeps_clock {
                    hide_vdso(pid);
                }
                self.resume(pid, 0);
            }
            (libc::SIGSTOP, _) => self.resume(pid, 0),
            _ => self.resume(pid, signal),
        }
    }

    /// Detaches a process that has become another program.
    fn at_exec(&mut self, pid: i32) {
        if let Some(process) = self.processes.get_mut(&pid)
            && let Some(call) = process.inside.take()
        {
            let verdict = self.watch.leave(&call, 0);
            if self.kill(pid, verdict) {
                return;
            }
        }
        let exe = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        if exe != self.program {
            self.processes.remove(&pid);
            return request(DETACH, pid, 0);
        }
        if !self.keeps_clock {
            hide_vdso(pid);
        }
        let words = super::procs::args(pid.unsigned_abs());
        let role = words.last().cloned().unwrap_or_default();
        self.adopt(pid, &role);
        // The exec has still to return. The watch has been told already, so that stop belongs to a call that it ignores.
        let exec = Call {
            pid,
            role,
            nr: -1,
            args: [0; 6],
        };
        self.processes
            .entry(pid)
            .and_modify(|process| process.inside = Some(exec));
        self.resume(pid, 0);
    }

    fn at_call(&mut self, pid: i32) {
        let Some(mut regs) = registers(pid) else {
            return self.resume(pid, 0);
        };
        let Some(process) = self.processes.get_mut(&pid) else {
            return;
        };
        let verdict = if let Some(call) = process.inside.take() {
            if let Some(errno) = process.fails_with.take() {
                regs.rax = i64::from(-errno).cast_unsigned();
                set_registers(pid, &regs);
            }
            self.watch.leave(&call, regs.rax.cast_signed())
        } else {
            let call = Call {
                pid,
                role: process.role.clone(),
                nr: regs.orig_rax.cast_signed(),
                args: [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9],
            };
            let verdict = self.watch.enter(&call);
            if let Verdict::Fail(errno) = verdict {
                // The kernel has no call with this number and does nothing.
                regs.orig_rax = u64::MAX;
                set_registers(pid, &regs);
                process.fails_with = Some(errno);
            }
            process.inside = Some(call);
            verdict
        };
        if !self.kill(pid, verdict) {
            self.resume(pid, 0);
        }
    }

    /// Returns true if the process was killed. A call that it was about to make is then not made.
    fn kill(&mut self, pid: i32, verdict: Verdict) -> bool {
        let victims: Vec<i32> = match verdict {
            Verdict::Go | Verdict::Fail(_) => return false,
            Verdict::KillOne => vec![pid],
            Verdict::KillAll => self.processes.keys().copied().collect(),
        };
        for victim in victims {
            super::procs::signal(victim.unsigned_abs(), libc::SIGKILL);
        }
        self.lets_go = true;
        true
    }

    fn resume(&mut self, pid: i32, signal: i32) {
        let what = if self.lets_go { DETACH } else { SYSCALL };
        request(what, pid, libc::c_long::from(signal));
    }
}

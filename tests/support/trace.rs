//! The updater under ptrace(2): every process of it stops before and after each system call, where a test may look,
//! kill, or let the call fail. Its control scripts are let go at their exec and run untraced.
//! For the 64-bit x86 only, whose registers it knows; the binary under test needs no code for it.
#![expect(
    unsafe_code,
    reason = "ptrace and waitpid are system calls without a safe word in std"
)]

use super::host::Host;
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

/// What libc's headers have as `PTRACE_*`, and its crate for some C libraries only.
const SYSCALL: libc::c_uint = 24;
const DETACH: libc::c_uint = 17;
const SET_OPTIONS: libc::c_uint = 0x4200;
const EVENT_EXEC: i32 = 4;
/// System call stops marked, forks and execs followed, all killed if the tracer dies: TRACESYSGOOD, FORK, VFORK, CLONE,
/// EXEC, EXITKILL.
const OPTIONS: libc::c_long = 1 | 2 | 4 | 8 | 16 | (1 << 20);
const SYSCALL_STOP: i32 = libc::SIGTRAP | 0x80;

/// One system call of one process, as it stands before it is made.
#[derive(Clone, Debug)]
pub struct Call {
    pub pid: i32,
    /// `daemon`, `beat` or `act`; with `'` after it before the program that it forks for has begun.
    pub role: String,
    pub nr: i64,
    pub args: [u64; 6],
}

/// What is to become of the stopped process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Go,
    /// The call is not made, and returns this errno.
    Fail(i32),
    /// KILL for this process.
    KillOne,
    /// KILL for all processes of the updater, in the same moment.
    KillAll,
}

/// Sees each stop. Called in the order in which the kernel stopped the processes.
pub trait Watch {
    /// Before a call is made. After `Go` it is made as it is.
    fn enter(&mut self, call: &Call) -> Verdict;
    /// After it was made. `result` is what the kernel returned: minus errno on failure.
    fn leave(&mut self, call: &Call, result: i64) -> Verdict;
}

/// Whether this machine and this binary can be traced; says so loudly where not.
pub fn is_possible(binary: &Path) -> bool {
    let head = fs::read(binary).unwrap_or_default();
    let is_amd64 = head.get(18) == Some(&62) && head.get(4) == Some(&2);
    let can = cfg!(target_arch = "x86_64") && is_amd64;
    if !can {
        eprintln!("SKIPPED: only a 64-bit x86 binary can be traced here");
    }
    can
}

struct Process {
    role: String,
    /// The call that it is in.
    inside: Option<Call>,
    fails_with: Option<i32>,
}

struct Tracer<'a> {
    program: PathBuf,
    processes: HashMap<i32, Process>,
    watch: &'a mut dyn Watch,
    /// Let everybody run on untraced: what was to be seen was seen.
    lets_go: bool,
    keeps_clock: bool,
}

/// A daemon that runs under trace.
pub struct Traced<W> {
    pub pid: u32,
    thread: JoinHandle<W>,
}

impl Host {
    /// The daemon as the child of a tracer, which this host knows nothing of.
    pub fn start_traced<W: Watch + Send + 'static>(&self, own_clock: bool, watch: W) -> Traced<W> {
        let mut command = self.command();
        self.log_into_file(&mut command);
        Traced::start(command, own_clock, watch)
    }
}

impl<W: Watch + Send + 'static> Traced<W> {
    /// Runs the command until all that it starts of its own kind has ended. With `own_clock` it asks the kernel for the
    /// time by system calls.
    pub fn start(mut command: Command, own_clock: bool, mut watch: W) -> Self {
        // SAFETY: ptrace is async-signal-safe; what follows is the exec.
        unsafe {
            command.pre_exec(|| check(libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0)));
        }
        let (tell, told) = channel();
        // Only the thread that made a tracee may ask for its stops.
        let thread = std::thread::spawn(move || {
            // Reaped by its number below; a handle that waits for it would only be in the way.
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
        let pid = told.recv().expect("the thread tells it");
        Self { pid, thread }
    }

    /// Whether the daemon is gone, though others that it started may live.
    pub fn has_ended(&self) -> bool {
        !super::procs::alive(self.pid)
    }

    /// Sees the daemon end: asked to by TERM, made to after ten seconds.
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
        self.thread.join().expect("the tracer ended well")
    }
}

fn check(returned: libc::c_long) -> io::Result<()> {
    if returned < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn request(what: libc::c_uint, pid: i32, data: libc::c_long) {
    // SAFETY: of these requests none writes to our memory. One for a process that was killed meanwhile fails.
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
            // SAFETY: waitpid fills the integer it is given. Only for children and tracees of this very thread.
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
            // A new child may stop before we hear of it from its parent.
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
            // The first stop of the very first process, and the other events.
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

    /// Whoever became a program other than ours is no longer our business.
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
        // The exec itself has still to return; nobody is told of that a second time.
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
                // No call has this number, so the kernel makes none.
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

    /// True if the process was killed. A call that it was about to make is then not made.
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

//! Other processes by pid: signals to them, what they run, and whether they are alive. Also the alarm of this process.
#![allow(unsafe_code)]
#![expect(clippy::disallowed_methods, reason = "it looks at files of /proc")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::unnecessary_cast,
    reason = "C's types are of other widths on some of our targets"
)]

use std::io;
#[cfg(target_os = "linux")]
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use super::call::{check, errno};
use super::disk;

/// Sends a signal to the process group of `leader`. Returns false if no process of it is left.
pub fn signal_group(leader: u32, signal: i32) -> bool {
    let leader = leader as libc::pid_t;
    // Excludes "every process" (-1) and "my own group" (0).
    // SAFETY: kill(2) touches no memory.
    leader > 1 && (unsafe { libc::kill(-leader, signal) } == 0 || errno() != libc::ESRCH)
}

/// Returns whether a process of the group of `leader` is left, its leader too if that is not reaped.
pub fn has_group(leader: u32) -> bool {
    // Signal 0 only asks, so it does no harm if the number belongs to another group by now.
    signal_group(leader, 0)
}

/// A process that can be signalled though its number may get to another one meanwhile, where the kernel can do that.
pub struct Handle {
    pid: u32,
    #[cfg(target_os = "linux")]
    /// None before Linux 5.3, or where a sandbox forbids it.
    fd: Option<OwnedFd>,
}

impl Handle {
    pub fn open(pid: u32) -> Self {
        Self {
            pid,
            #[cfg(target_os = "linux")]
            // SAFETY: the call takes integers only. The descriptor is checked and has no other owner.
            fd: unsafe {
                let fd = libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) as i32;
                (fd >= 0).then(|| OwnedFd::from_raw_fd(fd))
            },
        }
    }

    pub fn signal(&self, signal: i32) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        if let Some(fd) = &self.fd {
            let (fd, info) = (fd.as_raw_fd(), std::ptr::null::<libc::siginfo_t>());
            // SAFETY: the call takes integers, and no information about the signal.
            let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, info, 0) };
            return check(sent as i32);
        }
        let pid = self.pid as libc::pid_t;
        if pid <= 1 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // SAFETY: kill(2) touches no memory.
        check(unsafe { libc::kill(pid, signal) })
    }
}

/// Returns what is not known of other processes if this host should have /proc and has not, in words; none if it has it.
pub fn without_proc() -> Option<&'static str> {
    let is_there = !cfg!(target_os = "linux") || Path::new("/proc/self").exists();
    (!is_there).then_some("cannot see what an agent leaves running: is /proc mounted?")
}

/// Returns whether the process runs this program, or another build of it: after an update the updater may still run the build
/// before. macOS does not show a process's file without a library of its own; there, and without /proc, the lock alone decides.
pub fn runs_own_program(pid: u32) -> io::Result<bool> {
    if !cfg!(target_os = "linux") || without_proc().is_some() {
        return Ok(true);
    }
    let identity = |exe: &Path| std::fs::metadata(exe).map(|meta| disk::identity(&meta));
    let exe = format!("/proc/{pid}/exe");
    let exe = Path::new(&exe);
    if identity(exe)? == identity(Path::new("/proc/self/exe"))? {
        return Ok(true);
    }
    let file = std::fs::read_link(exe)?;
    // A version may follow, or what the kernel adds when the file was replaced.
    let name = file.file_name().unwrap_or_default().as_encoded_bytes();
    Ok(name.starts_with(b"ops-updater"))
}

/// Returns whether the process leads a session, as every control script does.
pub fn leads_session(pid: u32) -> bool {
    pid > 1 && session(pid) == Some(pid)
}

/// Returns the pid of the leader of the session that the process is in. The leader may have ended.
pub fn session(pid: u32) -> Option<u32> {
    // SAFETY: getsid(2) touches no memory.
    let leader = unsafe { libc::getsid(pid as libc::pid_t) };
    u32::try_from(leader).ok()
}

/// Returns the group of a process and its identity, `<pid> <start time>`, which no later process with this pid has. Returns
/// none if the process is dead, reaped or not, and on systems without /proc.
fn group_and_identity(pid: &str) -> Option<(String, String)> {
    let stat = disk::read_small(Path::new(&format!("/proc/{pid}/stat")), 4096).ok()?;
    // The name in parentheses may contain anything. After it follow state, parent, group, and 17 words later the start
    // time (proc(5)).
    let mut words = stat.rsplit(')').next()?.split(' ').skip(1);
    let is_dead = matches!(words.next()?, "Z" | "X");
    let group = words.nth(1)?.to_owned();
    let started = words.nth(16)?;
    (!is_dead).then(|| (group, format!("{pid} {started}")))
}

/// Returns the identity of a living process of the group, `<pid> <start time>`; empty if there is none.
pub fn living_member(leader: u32) -> String {
    let leader = leader.to_string();
    // A process that /proc does not list is taken for dead: the agent is checked again, as after any check without an answer.
    let Ok(listed) = disk::names(Path::new("/proc")) else {
        return String::new();
    };
    for pid in listed {
        let pid = pid.unwrap_or_default();
        if let Some((group, identity)) = pid.to_str().and_then(group_and_identity)
            && group == leader
        {
            return identity;
        }
    }
    String::new()
}

/// Returns the identity of a living process, `<pid> <start time>`; none on systems without /proc.
pub fn identity(pid: u32) -> Option<String> {
    group_and_identity(&pid.to_string()).map(|(_, identity)| identity)
}

/// Returns whether the process with this identity, from `identity` or `living_member`, is still alive.
pub fn is_alive(identity: &str) -> bool {
    let pid = identity.split(' ').next().unwrap_or_default();
    group_and_identity(pid).is_some_and(|(_, now)| now == identity)
}

/// Returns the identity of this process, `<pid> <start time>`; only the pid on systems without /proc.
pub fn own_identity() -> String {
    let pid = std::process::id().to_string();
    group_and_identity(&pid).map_or(pid, |(_, identity)| identity)
}

/// Returns whether the process with this identity, from `own_identity`, may still be alive. Needs no permission. Where
/// /proc does not show the process, it is alive as long as any process has its pid.
pub fn may_be_alive(identity: &str) -> bool {
    let Some(pid) = identity.split(' ').next() else {
        return false;
    };
    let number = pid.parse::<u32>().map_or(0, u32::cast_signed);
    if number < 1 {
        return false;
    }
    if Path::new(&format!("/proc/{number}/stat")).exists() {
        return is_alive(identity);
    }
    // SAFETY: kill(2) touches no memory, and signal 0 is none.
    unsafe { libc::kill(number, 0) == 0 || errno() == libc::EPERM }
}

/// Ends this process by SIGALRM after this number of seconds, unless called again; 0 cancels it. It is the last resort of
/// a worker whose daemon is gone: nothing else would end it.
pub fn alarm(seconds: u32) {
    // SAFETY: alarm(2) touches no memory.
    unsafe {
        libc::alarm(seconds);
    }
}

//! Processes as /proc shows them, found by the sandbox they belong to, never by name. Linux only.

use super::host::PATIENCE;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Every process that works in the sandbox, was started with it in its arguments, or carries it in its environment.
/// The sandbox's name must not be the beginning of another's.
pub fn in_sandbox(dir: &Path) -> Vec<u32> {
    let needle = dir.as_os_str().as_bytes();
    let own = std::process::id();
    let belongs = |pid: u32| {
        let base = PathBuf::from(format!("/proc/{pid}"));
        let holds = |bytes: Vec<u8>| bytes.windows(needle.len()).any(|window| window == needle);
        cwd(pid).is_some_and(|cwd| cwd.starts_with(dir))
            || fs::read(base.join("cmdline")).is_ok_and(holds)
            || fs::read(base.join("environ")).is_ok_and(holds)
    };
    all()
        .into_iter()
        .filter(|&pid| pid != own && alive(pid) && belongs(pid))
        .collect()
}

pub fn all() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// Where it works, also when that directory is gone.
pub fn cwd(pid: u32) -> Option<PathBuf> {
    let link = fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
    let text = link.to_str()?;
    Some(PathBuf::from(
        text.strip_suffix(" (deleted)").unwrap_or(text),
    ))
}

pub fn args(pid: u32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    text.split_terminator('\0').map(str::to_owned).collect()
}

/// The fields of /proc/<pid>/stat after the name: state first (field 3 of proc(5)).
pub fn stat(pid: u32) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let rest = text.rsplit_once(") ").map_or("", |(_, rest)| rest);
    rest.split_whitespace().map(str::to_owned).collect()
}

/// It exists and is no zombie.
pub fn alive(pid: u32) -> bool {
    stat(pid)
        .first()
        .is_some_and(|state| state != "Z" && state != "X")
}

pub fn parent(pid: u32) -> Option<u32> {
    stat(pid).get(1)?.parse().ok()
}

pub fn session(pid: u32) -> Option<u32> {
    stat(pid).get(3)?.parse().ok()
}

/// A line of /proc/<pid>/status, without its name.
pub fn status(pid: u32, key: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    Some(line.trim().to_owned())
}

/// A size of /proc/<pid>/status such as `VmRSS`, in KB.
pub fn kilobytes(pid: u32, key: &str) -> Option<u64> {
    status(pid, key)?.strip_suffix(" kB")?.trim().parse().ok()
}

pub fn threads(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

/// Sends a signal to one process; false if it is gone.
#[expect(
    unsafe_code,
    reason = "std has no call for it, and a kill(1) for each would be slow"
)]
pub fn signal(pid: u32, signal: i32) -> bool {
    let pid = i32::try_from(pid).expect("a pid");
    // SAFETY: kill takes two numbers and touches no memory.
    unsafe { libc::kill(pid, signal) == 0 }
}

/// Runs a program that was written a moment ago: what another test has forked meanwhile holds it open for writing until
/// it becomes another program, and so long it cannot be run.
pub fn unless_busy<T>(mut run: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let began = Instant::now();
    loop {
        match run() {
            Err(error)
                if error.kind() == io::ErrorKind::ExecutableFileBusy
                    && began.elapsed() < PATIENCE =>
            {
                std::thread::sleep(Duration::from_millis(10));
            }
            done => return done,
        }
    }
}

/// A copy of the binary that can be run from here on, by others too.
pub fn copy_binary(to: &Path) {
    fs::copy(super::platform::binary(), to).expect("a copy of the binary");
    let told = unless_busy(|| super::platform::command(to).arg("-v").output());
    assert!(told.expect("it runs").status.success());
}

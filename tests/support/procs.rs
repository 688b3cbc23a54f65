//! Processes as /proc shows them. They are found by their sandbox, never by name. Linux only.

use super::host::PATIENCE;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Returns every process that has the sandbox in its working directory, its arguments or its environment.
/// The sandbox's name must not be the beginning of another's.
pub fn in_sandbox(dir: &Path) -> Vec<u32> {
    let needle = dir.as_os_str().as_bytes();
    let own = std::process::id();
    let belongs = |pid: u32| {
        let base = PathBuf::from(format!("/proc/{pid}"));
        let holds = |bytes: Vec<u8>| contains(&bytes, needle);
        cwd(pid).is_some_and(|cwd| cwd.starts_with(dir))
            || fs::read(base.join("cmdline")).is_ok_and(holds)
            || fs::read(base.join("environ")).is_ok_and(holds)
    };
    // Asked in this order, because few belong, and the kernel takes its time to write the state of a process.
    all()
        .into_iter()
        .filter(|&pid| pid != own && belongs(pid) && alive(pid))
        .collect()
}

/// Searches with memmem: every test searches the environment of every process at its end, and unoptimized Rust would
/// take as long for it as for the rest of the test.
#[expect(unsafe_code, reason = "std has no call for it")]
fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    // SAFETY: each pointer and length are those of one live slice, and memmem only reads.
    let found = unsafe {
        libc::memmem(
            bytes.as_ptr().cast(),
            bytes.len(),
            needle.as_ptr().cast(),
            needle.len(),
        )
    };
    !found.is_null()
}

pub fn all() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// Returns the working directory of a process, also if that directory is removed.
pub fn cwd(pid: u32) -> Option<PathBuf> {
    let link = fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
    let text = link.to_str()?;
    Some(PathBuf::from(
        text.strip_suffix(" (deleted)").unwrap_or(text),
    ))
}

/// Processes with their working directories.
type Places = Arc<Vec<(u32, PathBuf)>>;

/// Returns the working directory of each process. Reading all of /proc takes 1 to 2 ms, and dozens of tests do it again
/// and again. Callers that come during one reading share the next, which begins after they came.
pub fn places() -> Places {
    static LAST: Mutex<Option<(Instant, Places)>> = Mutex::new(None);
    let asked = Instant::now();
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((begun, found)) = &*last
        && *begun >= asked
    {
        return found.clone();
    }
    let begun = Instant::now();
    let found = all().into_iter().filter_map(|pid| Some((pid, cwd(pid)?)));
    let found = Arc::new(found.collect::<Vec<_>>());
    *last = Some((begun, found.clone()));
    found
}

pub fn args(pid: u32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    text.split_terminator('\0').map(str::to_owned).collect()
}

/// Returns /proc/<pid>/stat after the name, which may contain anything. It is empty if there is no such process.
fn behind_name(pid: u32) -> String {
    let mut text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let name_end = text.rfind(") ").map_or(text.len(), |at| at + 2);
    text.split_off(name_end)
}

/// Returns the fields of /proc/<pid>/stat after the name. The first is the state (field 3 in proc(5)).
pub fn stat(pid: u32) -> Vec<String> {
    let fields = behind_name(pid);
    fields.split_whitespace().map(str::to_owned).collect()
}

/// Returns the letter for the state of a process, such as `Z` for a zombie. None: there is no such process.
pub fn state(pid: u32) -> Option<char> {
    behind_name(pid).chars().next()
}

/// Whether the process exists and is not a zombie.
pub fn alive(pid: u32) -> bool {
    state(pid).is_some_and(|state| state != 'Z' && state != 'X')
}

pub fn parent(pid: u32) -> Option<u32> {
    stat(pid).get(1)?.parse().ok()
}

pub fn session(pid: u32) -> Option<u32> {
    stat(pid).get(3)?.parse().ok()
}

/// Returns a line of /proc/<pid>/status, without its key.
pub fn status(pid: u32, key: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    Some(line.trim().to_owned())
}

/// Returns a size in /proc/<pid>/status such as `VmRSS`, in KB.
pub fn kilobytes(pid: u32, key: &str) -> Option<u64> {
    status(pid, key)?.strip_suffix(" kB")?.trim().parse().ok()
}

pub fn threads(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

/// Sends a signal to one process. Returns false if it is gone.
#[expect(
    unsafe_code,
    reason = "std has no call for it, and a kill(1) for each would be slow"
)]
pub fn signal(pid: u32, signal: i32) -> bool {
    let pid = i32::try_from(pid).expect("a pid");
    // SAFETY: kill takes two numbers and touches no memory.
    unsafe { libc::kill(pid, signal) == 0 }
}

/// Runs a program that was written a moment ago. A child that another test has forked meanwhile holds the file open for
/// writing until its own exec, and until then the program cannot be run.
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

/// Writes a script that is run soon. A child process writes it: a file that this process opened for writing could be held open by
/// the fork of another test, and then it could not be executed.
pub fn write_script(path: &Path, text: &str) {
    let mut writer = Command::new("sh")
        .args(["-c", r#"cat >"$0" && chmod 755 "$0""#])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .expect("sh runs");
    let mut stdin = writer.stdin.take().expect("a pipe");
    stdin.write_all(text.as_bytes()).expect("sh reads");
    drop(stdin);
    assert!(writer.wait().expect("a child of ours").success());
}

/// Makes a copy of the binary and waits until it can be run.
pub fn copy_binary(to: &Path) {
    fs::copy(super::platform::binary(), to).expect("a copy of the binary");
    let told = unless_busy(|| super::platform::command(to).arg("-v").output());
    assert!(told.expect("it runs").status.success());
}

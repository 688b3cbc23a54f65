//! Translates system calls into changes of a disk or of other processes: which file, which change, which program.
//! Reads the memory and the descriptors of a stopped process; see `trace.rs`.

use super::trace::Call;
use super::tracee::{read, text};
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// The change that a call would make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Opening the file makes it if it is missing. With `true` it also empties the file.
    Create(PathBuf, bool),
    Write(PathBuf, Vec<u8>),
    Truncate(PathBuf),
    Chmod(PathBuf),
    /// fsync or a similar call, of a file or a directory.
    Sync(PathBuf),
    /// syncfs of the file system that this file is on.
    SyncAll(PathBuf),
    Rename(PathBuf, PathBuf),
    Exchange(PathBuf, PathBuf),
    Unlink(PathBuf),
    RemoveDir(PathBuf),
    MakeDir(PathBuf),
    Link(PathBuf, PathBuf),
    Symlink(PathBuf),
    /// A line is written to the daemon or to the log.
    Tell,
    /// A program is started: its path and its last argument.
    Spawn(PathBuf, String),
    Signal(i32),
}

impl Change {
    /// Whether the call changes or syncs something on a disk.
    pub fn is_on_disk(&self) -> bool {
        !matches!(self, Self::Tell | Self::Spawn(..) | Self::Signal(_))
    }

    /// Describes the change in words that are the same in every sandbox.
    pub fn words(&self, sandbox: &Path) -> String {
        let name = |path: &PathBuf| {
            let inner = path.strip_prefix(sandbox).unwrap_or(path);
            inner.display().to_string()
        };
        match self {
            Self::Create(path, _) => format!("create {}", name(path)),
            Self::Write(path, _) => format!("write {}", name(path)),
            Self::Truncate(path) => format!("truncate {}", name(path)),
            Self::Chmod(path) => format!("chmod {}", name(path)),
            Self::Sync(path) => format!("sync {}", name(path)),
            Self::SyncAll(path) => format!("syncfs {}", name(path)),
            Self::Rename(from, to) => format!("rename {} {}", name(from), name(to)),
            Self::Exchange(from, to) => format!("exchange {} {}", name(from), name(to)),
            Self::Unlink(path) => format!("unlink {}", name(path)),
            Self::RemoveDir(path) => format!("rmdir {}", name(path)),
            Self::MakeDir(path) => format!("mkdir {}", name(path)),
            Self::Link(from, to) => format!("link {} {}", name(from), name(to)),
            Self::Symlink(path) => format!("symlink {}", name(path)),
            Self::Tell => "tell".to_owned(),
            Self::Spawn(path, word) => {
                let program = path.file_name().unwrap_or_default();
                format!("spawn {} {word}", program.to_string_lossy())
            }
            Self::Signal(signal) => format!("signal {signal}"),
        }
    }
}

/// Returns the change that the call would make. Returns `None` for a call that only reads, or that concerns another part
/// of the system.
pub fn change(call: &Call, sandbox: &Path) -> Option<Change> {
    let found = understood(call)?;
    let is_ours = match &found {
        Change::Tell | Change::Spawn(..) | Change::Signal(_) => true,
        Change::Create(path, _)
        | Change::Write(path, _)
        | Change::Truncate(path)
        | Change::Chmod(path)
        | Change::Sync(path)
        | Change::SyncAll(path)
        | Change::Rename(path, _)
        | Change::Exchange(path, _)
        | Change::Unlink(path)
        | Change::RemoveDir(path)
        | Change::MakeDir(path)
        | Change::Link(path, _)
        | Change::Symlink(path) => path.starts_with(sandbox),
    };
    is_ours.then_some(found)
}

fn understood(call: &Call) -> Option<Change> {
    let arg = call.args;
    let path = |at: usize| place(call.pid, libc::AT_FDCWD, arg[at]);
    let path_at = |fd: usize| place(call.pid, integer(arg[fd]), arg[fd + 1]);
    Some(match call.nr {
        libc::SYS_open => created(path(0), arg[1])?,
        libc::SYS_openat => created(path_at(0), arg[2])?,
        libc::SYS_write | libc::SYS_pwrite64 => {
            write(call, read(call.pid, arg[1], length(arg[2])))?
        }
        libc::SYS_writev => write(call, gathered(call.pid, arg[1], length(arg[2])))?,
        libc::SYS_ftruncate => Change::Truncate(opened(call.pid, arg[0])?),
        libc::SYS_fsync | libc::SYS_fdatasync => Change::Sync(opened(call.pid, arg[0])?),
        libc::SYS_syncfs => Change::SyncAll(opened(call.pid, arg[0])?),
        libc::SYS_fchmod => Change::Chmod(opened(call.pid, arg[0])?),
        libc::SYS_chmod => Change::Chmod(path(0)),
        libc::SYS_fchmodat => Change::Chmod(path_at(0)),
        libc::SYS_rename => Change::Rename(path(0), path(1)),
        libc::SYS_renameat2 if arg[4] & 2 != 0 => Change::Exchange(path_at(0), path_at(2)),
        libc::SYS_renameat | libc::SYS_renameat2 => Change::Rename(path_at(0), path_at(2)),
        libc::SYS_unlink => Change::Unlink(path(0)),
        libc::SYS_rmdir => Change::RemoveDir(path(0)),
        libc::SYS_unlinkat if integer(arg[2]) & libc::AT_REMOVEDIR != 0 => {
            Change::RemoveDir(path_at(0))
        }
        libc::SYS_unlinkat => Change::Unlink(path_at(0)),
        libc::SYS_mkdir => Change::MakeDir(path(0)),
        libc::SYS_mkdirat => Change::MakeDir(path_at(0)),
        libc::SYS_link => Change::Link(path(0), path(1)),
        libc::SYS_linkat => Change::Link(path_at(0), path_at(2)),
        libc::SYS_symlink => Change::Symlink(path(1)),
        libc::SYS_symlinkat => Change::Symlink(place(call.pid, integer(arg[1]), arg[2])),
        libc::SYS_execve => Change::Spawn(path(0), last_word(call.pid, arg[1])),
        libc::SYS_kill => Change::Signal(integer(arg[1])),
        _ => return None,
    })
}

fn created(path: PathBuf, flags: u64) -> Option<Change> {
    let makes = integer(flags) & (libc::O_CREAT | libc::O_TRUNC) != 0;
    makes.then_some(Change::Create(path, integer(flags) & libc::O_TRUNC != 0))
}

fn write(call: &Call, bytes: Vec<u8>) -> Option<Change> {
    let link = fs::read_link(format!("/proc/{}/fd/{}", call.pid, call.args[0])).ok()?;
    if link.as_os_str().as_bytes().starts_with(b"pipe:") {
        // A note of a signal handler and the report of a failed fork go to other descriptors; they are not steps.
        return (call.args[0] < 3).then_some(Change::Tell);
    }
    if call.args[0] == 2 {
        return None;
    }
    opened(call.pid, call.args[0]).map(|path| Change::Write(path, bytes))
}

/// Returns the current path of an open file, or `None` if it has no name or is not a file.
fn opened(pid: i32, fd: u64) -> Option<PathBuf> {
    let path = fs::read_link(format!("/proc/{pid}/fd/{}", integer(fd))).ok()?;
    let is_named = path.is_absolute() && !path.as_os_str().as_bytes().ends_with(b" (deleted)");
    is_named.then_some(path)
}

/// Resolves a name as this process sees it.
fn place(pid: i32, dir: i32, name: u64) -> PathBuf {
    let name = PathBuf::from(OsString::from_vec(text(pid, name)));
    let base = if dir == libc::AT_FDCWD {
        format!("/proc/{pid}/cwd")
    } else {
        format!("/proc/{pid}/fd/{dir}")
    };
    fs::read_link(base).unwrap_or_default().join(name)
}

fn last_word(pid: i32, argv: u64) -> String {
    let mut last = String::new();
    for at in (0..64).map(|word| argv + 8 * word) {
        let word = u64::from_ne_bytes(read(pid, at, 8).try_into().unwrap_or_default());
        if word == 0 {
            break;
        }
        last = String::from_utf8_lossy(&text(pid, word)).into_owned();
    }
    last
}

fn gathered(pid: i32, vector: u64, count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for at in (0..count as u64).map(|index| vector + 16 * index) {
        let pair = read(pid, at, 16);
        let word = |from: usize| {
            let word = pair
                .get(from..from + 8)
                .and_then(|word| word.try_into().ok());
            u64::from_ne_bytes(word.unwrap_or_default())
        };
        bytes.extend(read(pid, word(0), length(word(8))));
    }
    bytes
}

/// Returns the low half of a register, in which an `int` is passed.
#[expect(
    clippy::cast_possible_truncation,
    reason = "it is what the kernel does"
)]
fn integer(word: u64) -> i32 {
    (word as u32).cast_signed()
}

/// Returns the length of a write, limited to more than any single write of the updater.
fn length(word: u64) -> usize {
    usize::try_from(word).unwrap_or(0).min(1 << 20)
}

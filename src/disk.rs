//! Files that survive a power cut: written aside, synced, renamed into view, and the directory synced.
//! Knows nothing of agents.
#![expect(clippy::disallowed_methods, reason = "this is the disk")]

use std::ffi::OsStr;
use std::fs::{self, File, Metadata, TryLockError};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::{At, Error, Result};
use crate::sys::{self, Names};

/// 5 s in all; who asked for a start waits 10 s for it.
const PATIENT_TRIES: u32 = 50;
const PATIENT_PAUSE: Duration = Duration::from_millis(100);

/// Replaces the file in one step: after a crash at any moment it holds the old bytes or the new, whole.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    Staged::write(with_suffix(path, ".tmp"), path, bytes)?.publish()
}

/// Removes what a `write_atomic` of this file left that was cut short; the next one would, but it may be long in coming.
pub fn remove_aside(path: &Path) {
    // Whatever is in the way, the next write tells.
    let _ = fs::remove_file(with_suffix(path, ".tmp"));
}

/// The new bytes of a file, safe on disk aside on the same filesystem and not yet in view. Dropped, they are gone.
pub struct Staged {
    aside: PathBuf,
    path: PathBuf,
}

impl Staged {
    pub fn write(aside: PathBuf, path: &Path, bytes: &[u8]) -> Result<Self> {
        let path = path.to_owned();
        let staged = Self { aside, path };
        write_synced(&staged.aside, bytes)?;
        Ok(staged)
    }

    pub fn publish(self) -> Result<()> {
        rename(&self.aside, &self.path)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Published, it is there no more; after a failure, which is told, it would only be in the way.
        let _ = fs::remove_file(&self.aside);
    }
}

/// Replaces the file in one step, but for a power cut.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let aside = with_suffix(path, ".tmp");
    write_aside(&aside, bytes)?;
    sys::rename(&aside, path).at("rename", &aside)
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    write_aside(path, bytes)?.sync_all().at("sync", path)
}

fn write_aside(path: &Path, bytes: &[u8]) -> Result<File> {
    let mut file = create(path)?;
    file.write_all(bytes).at("write", path)?;
    Ok(file)
}

/// An empty file to be written, in the place of what may be there.
pub fn create(path: &Path) -> Result<File> {
    // A fifo in its place must not make us wait for a reader.
    let special = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC | special;
    sys::open(path, flags, 0o644).at("create", path)
}

/// Renames within one directory or between two of the same filesystem, for good.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    sys::rename(from, to).at("rename", from)?;
    sync_parent(to)?;
    if parent(from).as_os_str() == parent(to).as_os_str() {
        return Ok(());
    }
    sync_parent(from)
}

/// Swaps two directories, for good. Where the filesystem cannot do it in one step, in three, with the third name beside
/// `one`: the caller's next look finds the version missing if the power is cut between, and installs it again.
pub fn exchange(one: &Path, other: &Path) -> Result<()> {
    match sys::exchange(one, other) {
        Ok(()) => {
            sync_parent(one)?;
            sync_parent(other)
        }
        Err(error) if cannot_exchange(&error) => {
            let aside = with_suffix(one, ".gone");
            remove_tree(&aside)?;
            rename(other, &aside)?;
            rename(one, other)?;
            rename(&aside, one)
        }
        Err(error) => Err(Error::new("exchange", one, error)),
    }
}

fn cannot_exchange(error: &io::Error) -> bool {
    // EINVAL: overlayfs and old filesystems. ENOSYS: a kernel before 3.15. ENOTSUP: macOS beyond APFS.
    is_any_of(error, &[libc::EINVAL, libc::ENOSYS, libc::ENOTSUP])
}

fn is_any_of(error: &io::Error, errnos: &[i32]) -> bool {
    let errno = error.raw_os_error();
    errno.is_some_and(|errno| errnos.contains(&errno))
}

pub fn sync_parent(path: &Path) -> Result<()> {
    sync_dir(parent(path))
}

/// The directory that holds it. std's goes through every part of the path, and takes 3 KB.
pub fn parent(path: &Path) -> &Path {
    let bytes = path.as_os_str().as_bytes();
    let parent = match bytes.iter().rposition(|byte| *byte == b'/') {
        None => b".",
        Some(0) => b"/",
        Some(end) => &bytes[..end],
    };
    Path::new(OsStr::from_bytes(parent))
}

pub fn sync_dir(dir: &Path) -> Result<()> {
    let handle = sys::open(dir, libc::O_RDONLY, 0).at("open", dir)?;
    handle.sync_all().at("sync", dir)
}

/// Creates the directory and what lacks above it.
pub fn make_dir(dir: &Path) -> Result<()> {
    if is_dir(dir) {
        return Ok(());
    }
    make_dir(parent(dir))?;
    match sys::create_dir(dir) {
        // Somebody was faster; that it is a directory, the next call on it tells.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.at("create", dir),
    }?;
    sync_parent(dir)
}

/// Removes a file, a link or a whole directory, never what a link points to. What is not there is no error.
pub fn remove_tree(path: &Path) -> Result<()> {
    sys::remove_tree(path).at("remove", path)
}

/// The names in a directory, one by one: how many there are is not ours to say.
pub fn names(dir: &Path) -> io::Result<Names> {
    Names::of(dir)
}

/// Reads a small file; one beyond the limit is an error, not a surprise in memory.
pub fn read_small(path: &Path, limit: u64) -> io::Result<String> {
    // A fifo in its place must not make us wait.
    let file = sys::open(path, libc::O_RDONLY | libc::O_NONBLOCK, 0)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no plain file"));
    }
    let text = sys::read_rest(&file, limit + 1)?;
    if text.len() as u64 > limit {
        return Err(io::Error::other(format!("it is larger than {limit} bytes")));
    }
    Ok(text)
}

/// The same for what must not be taken for missing: a host that is short of something for a moment gets some seconds.
pub fn read_patiently(path: &Path, limit: u64) -> io::Result<String> {
    for _ in 0..PATIENT_TRIES {
        match read_small(path, limit) {
            Err(error) if is_passing(&error) => std::thread::sleep(PATIENT_PAUSE),
            read => return read,
        }
    }
    read_small(path, limit)
}

fn is_passing(error: &io::Error) -> bool {
    is_any_of(
        error,
        &[libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EIO],
    )
}

/// A directory, or a link to one.
pub fn is_dir(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_dir())
}

/// Whether two paths lead to one file or directory.
pub fn is_same(one: &Path, other: &Path) -> bool {
    match (fs::metadata(one), fs::metadata(other)) {
        (Ok(one), Ok(other)) => identity(&one) == identity(&other),
        _ => false,
    }
}

/// What two names, or a name and an open file, have in common when they are one file.
pub fn identity(meta: &Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}

/// A regular file that its owner may run.
pub fn is_program(path: &Path) -> bool {
    find_program(path).unwrap_or(false)
}

/// The same, failing where nobody can tell.
pub fn find_program(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(meta) => Ok(meta.is_file() && meta.permissions().mode() & 0o100 != 0),
        Err(error) if is_any_of(&error, &[libc::ENOENT, libc::ENOTDIR]) => Ok(false),
        Err(error) => Err(error),
    }
}

/// A held lock file; the lock goes with it, however the process ends.
pub struct Lock {
    pub file: File,
}

/// Takes the lock, waiting as long as `patience`; `None` when another process keeps it. Whom `mode` lets read the file
/// can keep it too.
pub fn lock(path: &Path, mode: u32, patience: Duration) -> Result<Option<Lock>> {
    hold(open_or_create(path, mode).at("open", path)?, path, patience)
}

/// The same for a lock in which nothing is written: on a file system that became read-only it can still be held.
pub fn lock_anyway(path: &Path, mode: u32, patience: Duration) -> Result<Option<Lock>> {
    let file = match open_or_create(path, mode) {
        Err(error) if error.raw_os_error() == Some(libc::EROFS) => {
            sys::open(path, libc::O_RDONLY | libc::O_NOFOLLOW, 0)
        }
        opened => opened,
    };
    hold(file.at("open", path)?, path, patience)
}

/// Opens a file to be read and written, or makes it.
pub fn open_or_create(path: &Path, mode: u32) -> io::Result<File> {
    sys::open(path, libc::O_RDWR | libc::O_CREAT | libc::O_NOFOLLOW, mode)
}

fn hold(file: File, path: &Path, patience: Duration) -> Result<Option<Lock>> {
    let give_up = Instant::now() + patience;
    let mut pause = Duration::from_millis(10);
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(Lock { file })),
            Err(TryLockError::WouldBlock) if Instant::now() >= give_up => return Ok(None),
            Err(TryLockError::WouldBlock) => std::thread::sleep(pause),
            Err(TryLockError::Error(error)) => {
                return Err(Error::new("lock", path, error));
            }
        }
        pause = (pause * 2).min(Duration::from_millis(500));
    }
}

/// The path with more at its end: `x/1.0` + `.new` → `x/1.0.new`.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

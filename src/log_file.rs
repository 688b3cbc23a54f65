//! `var/app.log` behind stderr, where `control start` runs the daemon: kept within a limit, with one old file beside it.
//! All is looked at anew before each line, so whoever else writes, cuts, moves or removes the file meanwhile does no harm.
//! Where stderr is anything else, its reader keeps it in bounds.
#![expect(clippy::disallowed_methods, reason = "this is the log's disk")]

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::disk;
use crate::start;
use crate::sys;

/// The most that is copied, for the daemon waits for it.
const COPY_MOST: u64 = 10_000_000;

pub struct LogFile {
    path: PathBuf,
}

impl LogFile {
    /// None where stderr is not this updater's log.
    pub fn behind_stderr(own_dir: &Path) -> Option<Self> {
        let mut path = own_dir.to_owned();
        path.push("var/app.log");
        let log = Self { path };
        let held = start::stderr().metadata().ok()?;
        if !held.is_file() || !log.is_there(&held) {
            return None;
        }
        // Who started us by `>` and not by `>>` would make a hole of what is cut.
        sys::set_flag(libc::STDERR_FILENO, libc::O_APPEND).ok()?;
        Some(log)
    }

    /// Makes room for so many bytes within the limit. The old file could not be kept if it tells why; where it fails
    /// nothing may be written.
    pub fn make_room(&self, bytes: u64, limit: u64) -> io::Result<Option<io::Error>> {
        let mut held = start::stderr().metadata()?;
        let mut is_there = self.is_there(&held);
        if !is_there && self.open_again(&held).is_ok() {
            held = start::stderr().metadata()?;
            is_there = self.is_there(&held);
        }
        if held.len() + bytes <= limit {
            return Ok(None);
        }
        let moved = if !is_there {
            Err(io::Error::other("it has lost its name"))
        } else if held.len() > limit || is_link(&self.path) {
            self.keep_end(&held, limit.min(COPY_MOST))
        } else {
            self.rotate(&held)
        };
        if let Err(error) = moved {
            // What did not get into view would only take room.
            let _ = fs::remove_file(self.aside());
            cut(0)?;
            return Ok(Some(error));
        }
        Ok(None)
    }

    fn is_there(&self, held: &Metadata) -> bool {
        let named = fs::metadata(&self.path);
        named.is_ok_and(|named| disk::identity(&named) == disk::identity(held))
    }

    /// Somebody moved or removed the file: lines belong into the one that has its name.
    fn open_again(&self, held: &Metadata) -> io::Result<()> {
        let file = options(held)
            // A fifo in its place must not make us wait.
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&self.path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is no plain file"));
        }
        become_stderr(&file)
    }

    fn rotate(&self, held: &Metadata) -> io::Result<()> {
        // Opened first: without a descriptor, or room for a name, nothing is moved.
        let file = self.create_new(held)?;
        sys::rename(&self.path, &self.old())?;
        sys::rename(&self.aside(), &self.path)?;
        become_stderr(&file)
    }

    /// Of a file larger than the limit, from a time without this limit, only the end is kept; and one behind a link may
    /// be where nothing can be renamed to ours.
    fn keep_end(&self, held: &Metadata, bytes: u64) -> io::Result<()> {
        let from = File::open(&self.path)?;
        let mut to = self.create_new(held)?;
        let mut at = held.len().saturating_sub(bytes);
        let mut chunk = [0; 4096];
        let mut is_within_line = at > 0;
        loop {
            let got = from.read_at(&mut chunk, at)?;
            if got == 0 {
                break;
            }
            at += got as u64;
            let mut part = &chunk[..got];
            if is_within_line && let Some(end) = part.iter().position(|byte| *byte == b'\n') {
                part = &part[end + 1..];
            }
            is_within_line = false;
            to.write_all(part)?;
        }
        sys::rename(&self.aside(), &self.old())?;
        cut(0)
    }

    fn old(&self) -> PathBuf {
        disk::with_suffix(&self.path, ".1")
    }

    fn aside(&self) -> PathBuf {
        disk::with_suffix(&self.path, ".new")
    }

    fn create_new(&self, held: &Metadata) -> io::Result<File> {
        // Left by a crash, or not there.
        let _ = fs::remove_file(self.aside());
        let file = options(held).create_new(true).open(self.aside())?;
        let file: OwnedFd = file.into();
        // Who may read the old one may read the new one.
        let _ = sys::give(&file, held.uid(), held.gid());
        Ok(file.into())
    }
}

fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_symlink())
}

/// Writes the line or nothing of it: half a line would take the next one's beginning.
pub fn write_whole(line: &str) -> io::Result<()> {
    let size = start::stderr().metadata()?.len();
    let written = start::write_stderr(line);
    if written.is_err() {
        let _ = cut(size);
    }
    written
}

/// From now on stderr is this file, and stdout too where both were one.
fn become_stderr(file: &File) -> io::Result<()> {
    let stdout = start::stdout().metadata()?;
    let stderr = start::stderr().metadata()?;
    if disk::identity(&stdout) == disk::identity(&stderr) {
        sys::duplicate(file, libc::STDOUT_FILENO)?;
    }
    sys::duplicate(file, libc::STDERR_FILENO)
}

/// The file behind stderr, back to this size.
fn cut(size: u64) -> io::Result<()> {
    start::stderr().set_len(size)
}

fn options(held: &Metadata) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(held.mode() & 0o666);
    options
}

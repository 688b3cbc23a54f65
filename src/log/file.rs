//! Keeps `var/app.log` within its limit, with one old file beside it, where `control start` made it the stderr of the daemon.
//! Checks the file before each line, so it does no harm if others write, cut, move or remove it.
//! If stderr is something else, whoever reads it must limit it.
#![expect(clippy::disallowed_methods, reason = "this is the log's disk")]

use crate::os::{disk, fd};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

/// The maximum number of bytes that are copied: the daemon waits for the copy.
const COPY_LIMIT: u64 = 10_000_000;

pub struct LogFile {
    path: PathBuf,
}

impl LogFile {
    /// Returns none if stderr is not the file at the path.
    pub fn behind_stderr(path: PathBuf) -> Option<Self> {
        let log = Self { path };
        let held = fd::stderr_file().metadata().ok()?;
        if !held.is_file() || !log.has_its_name(&held) {
            return None;
        }
        // If the file was opened by `>` and not by `>>`, a write after a cut would leave a hole.
        fd::set_flag(libc::STDERR_FILENO, libc::O_APPEND).ok()?;
        Some(log)
    }

    /// Makes room for this number of bytes within the limit. Returns the cause if the old lines could not be kept. After an
    /// error nothing may be written.
    pub fn make_room(&self, bytes: u64, limit: u64) -> io::Result<Option<io::Error>> {
        let mut held = fd::stderr_file().metadata()?;
        let mut has_its_name = self.has_its_name(&held);
        if !has_its_name && self.open_again(&held).is_ok() {
            held = fd::stderr_file().metadata()?;
            has_its_name = self.has_its_name(&held);
        }
        if held.len() + bytes <= limit {
            return Ok(None);
        }
        let moved = if !has_its_name {
            Err(io::Error::other("the file was moved or removed"))
        } else if held.len() > limit || is_link(&self.path) {
            self.keep_end(&held, limit.min(COPY_LIMIT))
        } else {
            self.rotate(&held)
        };
        if let Err(error) = moved {
            // An incomplete new file would only take up space.
            let _ = fs::remove_file(self.new_file());
            cut(0)?;
            return Ok(Some(error));
        }
        Ok(None)
    }

    /// Returns whether the file behind stderr is still the one at the path.
    fn has_its_name(&self, held: &Metadata) -> bool {
        let named = fs::metadata(&self.path);
        named.is_ok_and(|named| disk::identity(&named) == disk::identity(held))
    }

    /// Makes the file at the path the log, after somebody moved or removed the other one.
    fn open_again(&self, held: &Metadata) -> io::Result<()> {
        let file = options(held)
            // Without O_NONBLOCK, a fifo at the path would block.
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&self.path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        become_stderr(&file)
    }

    /// Moves the file to the old one, and makes an empty one.
    fn rotate(&self, held: &Metadata) -> io::Result<()> {
        // Made first: if there is no descriptor or no space for it, nothing is moved.
        let file = self.create_new(held)?;
        fs::rename(&self.path, self.old_file())?;
        fs::rename(self.new_file(), &self.path)?;
        become_stderr(&file)
    }

    /// Copies the last bytes to the old file, and empties the file. For a file larger than the limit, from a time with another
    /// limit, and for a link, whose target may be on another file system.
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
        fs::rename(self.new_file(), self.old_file())?;
        cut(0)
    }

    fn old_file(&self) -> PathBuf {
        disk::with_suffix(&self.path, ".1")
    }

    fn new_file(&self) -> PathBuf {
        disk::with_suffix(&self.path, ".new")
    }

    fn create_new(&self, held: &Metadata) -> io::Result<File> {
        // A crash may have left one.
        let _ = fs::remove_file(self.new_file());
        let file = options(held).create_new(true).open(self.new_file())?;
        // Users who can read the old file can read the new one.
        let _ = fchown(&file, Some(held.uid()), Some(held.gid()));
        Ok(file)
    }
}

fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_symlink())
}

/// Writes the whole line or nothing: the next line would continue an incomplete one.
pub fn write_whole(line: &str) -> io::Result<()> {
    let size = fd::stderr_file().metadata()?.len();
    let written = fd::stderr_file().write_all(line.as_bytes());
    if written.is_err() {
        let _ = cut(size);
    }
    written
}

/// Makes the file stderr, and stdout too if both were the same file.
fn become_stderr(file: &File) -> io::Result<()> {
    let stdout = fd::stdout_file().metadata()?;
    let stderr = fd::stderr_file().metadata()?;
    if disk::identity(&stdout) == disk::identity(&stderr) {
        fd::duplicate(file, libc::STDOUT_FILENO)?;
    }
    fd::duplicate(file, libc::STDERR_FILENO)
}

/// Cuts the file behind stderr to this size.
fn cut(size: u64) -> io::Result<()> {
    fd::stderr_file().set_len(size)
}

fn options(held: &Metadata) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(held.mode() & 0o666);
    options
}

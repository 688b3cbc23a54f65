//! Unpacks a verified tarball into a new directory, entry by entry. Refuses the whole archive at the first entry that is
//! not a plain file, a directory or a link that stays inside. Knows nothing about agents, only that `control` must exist.
#![expect(clippy::disallowed_methods, reason = "unpacking writes files")]

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::error::{At, Cause, Error, Result};
use crate::net::download::Verified;
use crate::os::{disk, space};
use crate::text;
use crate::worker::install::entries::{Entries, Entry, Kind, Next};
use crate::worker::install::entry_path::{check_depth, check_link, inner_path, parts};
use crate::worker::install::size::{self, Bounded, TOO_LARGE, UNPACKED_LIMIT, at_most};
use gzip::Gzip;

const ENTRY_LIMIT: u32 = 65_536;
/// Bytes that are read at once.
const CHUNK: usize = 64 << 10;
/// Bytes of a file that may wait for the disk. One sync of more could take so long that a slow disk looks like a dead one.
const UNSYNCED_LIMIT: usize = 64 << 20;

/// The error is why the archive is refused.
type Checked<T> = std::result::Result<T, Cause>;

/// Called at least once for each header and chunk, as a sign of life. An error ends the unpacking.
pub type OnProgress<'a> = &'a mut dyn FnMut() -> Result<()>;

/// Unpacks into `root`, which must be empty and writable for nobody else. If the file system is synced later, nothing is synced
/// here.
pub fn unpack(
    tarball: Verified,
    root: &Path,
    is_synced_later: bool,
    progress: OnProgress,
) -> Result<()> {
    let limit = size::limit(&tarball);
    let gzip = Gzip::new(tarball.file).at("unpack", "the tarball")?;
    let mut entries = Entries::new(Bounded::new(gzip, limit));
    let mut unpacker = Unpacker {
        root,
        left: UNPACKED_LIMIT,
        entries_left: ENTRY_LIMIT,
        is_synced_later,
        unsynced: 0,
        parent: PathBuf::new(),
        has_links: false,
        chunk: vec![0; CHUNK],
        progress,
    };
    unpacker.entries(&mut entries)?;
    // The checksum of gzip comes at the very end.
    unpacker.drain(entries.into_rest())?;
    if disk::is_program(&root.join("control")) {
        return unpacker.check_links();
    }
    Err(refuse(
        b"control",
        "an agent's archive must have it at its root, as a regular file that can be run",
    ))
}

/// Fails if the disk lacks the space that the tarball needs when unpacked.
///
/// Only the size in the last gzip member is known beforehand (RFC 1952: the last four bytes, modulo 2³²). The limits
/// while unpacking catch what exceeds it.
pub fn check_space(tarball: &Verified, root: &Path) -> Result<()> {
    let needed = size::of_last_member(tarball) + space::RESERVE;
    space::check(root, needed)
}

/// Quotes at most 100 characters of the name, because a hostile name may have megabytes.
fn refuse(name: &[u8], cause: impl Into<Cause>) -> Error {
    let name = format!("{:.100}", text::printable(&String::from_utf8_lossy(name)));
    Error::new("unpack", format!("{name:?}"), cause)
}

struct Unpacker<'a> {
    root: &'a Path,
    /// Bytes that files may still have, with the holes of sparse files, which no stream contains.
    left: u64,
    /// Files, directories and links that may still be made, including parents that no entry names.
    entries_left: u32,
    /// The caller syncs the whole file system afterwards, in less time than one sync of each file takes.
    is_synced_later: bool,
    /// Bytes that were written since the last sync.
    unsynced: usize,
    /// The parent of the last entry.
    parent: PathBuf,
    /// A symbolic link was unpacked.
    has_links: bool,
    chunk: Vec<u8>,
    progress: OnProgress<'a>,
}

impl Unpacker<'_> {
    fn entries<R: Read>(&mut self, entries: &mut Entries<R>) -> Result<()> {
        loop {
            let next = entries.next();
            match next.map_err(|cause| refuse(entries.name(), cause))? {
                Next::Entry(entry) => {
                    let made = self.entry(&entry, entries);
                    made.map_err(|cause| refuse(&entry.name, cause))?;
                }
                Next::More => {}
                Next::End => return Ok(()),
            }
            (self.progress)()?;
        }
    }

    /// Counts one more entry of `size` bytes.
    fn count(&mut self, size: u64) -> std::result::Result<(), &'static str> {
        let left = self.entries_left.checked_sub(1);
        self.entries_left = left.ok_or("more than 65,536 files, directories and links")?;
        self.left = self.left.checked_sub(size).ok_or(TOO_LARGE)?;
        Ok(())
    }

    fn drain(&mut self, mut rest: impl Read) -> Result<()> {
        while rest.read(&mut self.chunk).at("unpack", "the tarball")? > 0 {
            (self.progress)()?;
        }
        Ok(())
    }

    fn entry<R: Read>(&mut self, entry: &Entry, data: &mut Entries<R>) -> Checked<()> {
        self.count(entry.size)?;
        let path = inner_path(&entry.name)?;
        let mut names = entry.name.rsplit(|byte| *byte == b'/');
        let name = names.find(|name| !name.is_empty());
        if entry.kind != Kind::Directory && matches!(name, None | Some(b".")) {
            return Err("its name is that of a directory".into());
        }
        if path.is_empty() {
            // "./" is the root itself, which exists.
            return Ok(());
        }
        let target = self.target(&path)?;
        let made = match entry.kind {
            Kind::Directory => make_dir(&target, entry.mode),
            Kind::File => return self.file(entry, data, &target),
            Kind::Symlink => {
                check_link(&entry.link, &path[..path.len() - 1], &mut |_| true)?;
                self.has_links = true;
                symlink(OsStr::from_bytes(&entry.link), &target)
            }
            Kind::HardLink => self.hard_link(&entry.link, &target),
        };
        made.map_err(plain_cause)
    }

    /// Returns the path that an entry is written to. Makes its parents, and refuses a parent that is a link.
    fn target(&mut self, path: &[&OsStr]) -> io::Result<PathBuf> {
        check_depth(path).map_err(io::Error::other)?;
        let mut target = self.root.to_owned();
        target.extend(path);
        // The parent of the entry before is a directory still: nothing that is unpacked replaces one.
        if target.parent().map(Path::as_os_str) != Some(self.parent.as_os_str()) {
            let mut at = self.root.to_owned();
            for part in &path[..path.len() - 1] {
                at.push(part);
                self.make_parent(&at)?;
            }
            self.parent = at;
        }
        Ok(target)
    }

    fn make_parent(&mut self, dir: &Path) -> io::Result<()> {
        match fs::symlink_metadata(dir) {
            Ok(meta) if meta.is_dir() => Ok(()),
            Ok(_) => Err(io::Error::other("a part of its path is not a directory")),
            Err(_) => {
                self.count(0).map_err(io::Error::other)?;
                fs::create_dir(dir)
            }
        }
    }

    fn file<R: Read>(
        &mut self,
        entry: &Entry,
        data: &mut Entries<R>,
        target: &Path,
    ) -> Checked<()> {
        let mut options = File::options();
        let options = options.write(true).create_new(true).mode(0o600);
        let mut file = options.open(target).map_err(plain_cause)?;
        let mut at = 0;
        for piece in entry.map.pieces().filter(|piece| piece.length > 0) {
            if piece.offset != at {
                file.seek(SeekFrom::Start(piece.offset))?;
            }
            at = piece.offset + piece.length;
            let mut left = piece.length;
            while left > 0 {
                let chunk = &mut self.chunk[..at_most(left, CHUNK)];
                data.fill(chunk)?;
                file.write_all(chunk)?;
                left -= chunk.len() as u64;
                self.unsynced += chunk.len();
                if self.unsynced >= UNSYNCED_LIMIT {
                    file.sync_data()?;
                    self.unsynced = 0;
                }
                (self.progress)()?;
            }
        }
        if at < entry.size {
            file.set_len(entry.size)?;
        }
        file.set_permissions(Permissions::from_mode(entry.mode))?;
        if !self.is_synced_later {
            file.sync_all()?;
        }
        Ok(())
    }

    /// Makes a second name for a file or a symbolic link that was unpacked before.
    fn hard_link(&mut self, to: &[u8], target: &Path) -> io::Result<()> {
        let path = inner_path(to).map_err(io::Error::other)?;
        if path.is_empty() {
            return Err(io::Error::other("it links to nothing"));
        }
        let source = self.target(&path)?;
        if fs::symlink_metadata(&source)?.is_dir() {
            return Err(io::Error::other("it links to a directory"));
        }
        fs::hard_link(&source, target)
    }

    /// Checks all symbolic links once more, now that all directories are there, and because a hard link can have put one in
    /// another place. If nobody syncs the tree later, syncs every directory, so that a power cut loses no name.
    fn check_links(&mut self) -> Result<()> {
        if self.is_synced_later && !self.has_links {
            return Ok(());
        }
        let mut dirs = vec![PathBuf::new()];
        while let Some(inner) = dirs.pop() {
            let dir = self.root.join(&inner);
            for name in disk::names(&dir).at("read", &dir)? {
                let name = name.at("read", &dir)?;
                match fs::symlink_metadata(dir.join(&name)) {
                    Ok(meta) if meta.is_dir() => dirs.push(inner.join(name)),
                    Ok(meta) if meta.is_symlink() => self.check_link(&inner, &inner.join(name))?,
                    _ => {}
                }
            }
            if !self.is_synced_later {
                disk::sync_dir(&dir)?;
            }
            (self.progress)()?;
        }
        Ok(())
    }

    fn check_link(&self, dir: &Path, path: &Path) -> Result<()> {
        let target = fs::read_link(self.root.join(path)).at("read", path)?;
        let dir = parts(dir.as_os_str().as_bytes());
        let mut is_dir = |inner: &[&OsStr]| {
            let mut path = self.root.to_owned();
            path.extend(inner);
            disk::is_real_dir(&path)
        };
        let checked = check_link(target.as_os_str().as_bytes(), &dir, &mut is_dir);
        checked.map_err(|cause| refuse(path.as_os_str().as_bytes(), cause))
    }
}

/// Makes a directory, or sets the mode of one that exists: an archive may name it twice, or after its content. Its owner
/// can always write to it.
fn make_dir(target: &Path, mode: u32) -> io::Result<()> {
    match fs::create_dir(target) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if !fs::symlink_metadata(target)?.is_dir() {
                return Err(error);
            }
        }
        done => done?,
    }
    fs::set_permissions(target, Permissions::from_mode(mode | 0o700))
}

/// Returns the error as a cause, in plain words if a name comes twice.
fn plain_cause(error: io::Error) -> Cause {
    match error.kind() {
        io::ErrorKind::AlreadyExists => "its name comes twice".into(),
        _ => error.into(),
    }
}

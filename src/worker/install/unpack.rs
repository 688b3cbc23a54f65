//! Unpacks a verified tarball into a new directory, entry by entry. Refuses the whole archive at the first entry that is
//! not a plain file, a directory or a link that stays inside. Knows nothing about agents, only that `control` must exist.
#![expect(clippy::disallowed_methods, reason = "unpacking writes files")]

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use tar::{Archive, Entry, EntryType};

use crate::error::{At, Cause, Error, Result};
use crate::gzip::Gzip;
use crate::net::download::Verified;
use crate::os::{disk, space};
use crate::text;
use crate::worker::install::entry_path::{check_depth, check_link, inner_path};
use crate::worker::install::size::{self, Bounded, TOO_LARGE};

const ENTRY_LIMIT: u32 = 65_536;
/// Bytes that are read at once.
const CHUNK: usize = 64 << 10;
/// Bytes that are written between two syncs of a large file.
const SYNC_EVERY: usize = 64 << 20;

/// Called at least once for each entry and chunk, as a sign of life. An error ends the unpacking.
pub type OnProgress<'a> = &'a mut dyn FnMut() -> Result<()>;

/// Unpacks into `root`, which must be empty and writable for nobody else.
pub fn unpack(tarball: Verified, root: &Path, progress: OnProgress) -> Result<()> {
    let limit = size::limit(&tarball);
    let gzip = Gzip::new(tarball.file).at("unpack", "the tarball")?;
    let mut archive = Archive::new(Bounded::new(gzip, limit));
    let mut unpacker = Unpacker {
        root,
        left: limit,
        entries_left: ENTRY_LIMIT,
        progress,
    };
    unpacker.entries(&mut archive)?;
    // The checksum of gzip comes at the very end, and tar stops before it.
    unpacker.drain(archive.into_inner())?;
    if disk::is_program(&root.join("control")) {
        return unpacker.sync_dirs();
    }
    Err(refuse(
        "control",
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
fn refuse(name: &str, cause: impl Into<Cause>) -> Error {
    let name = format!("{:.100}", text::printable(name));
    Error::new("unpack", format!("{name:?}"), cause)
}

struct Unpacker<'a> {
    root: &'a Path,
    /// Bytes that files may still take. The holes of a sparse file are in no stream, so `Bounded` does not see them.
    left: u64,
    /// Files, directories and links that may still be made, including parents that no entry names.
    entries_left: u32,
    progress: OnProgress<'a>,
}

impl Unpacker<'_> {
    fn entries<R: Read>(&mut self, archive: &mut Archive<R>) -> Result<()> {
        let entries = archive.entries().at("unpack", "the tarball")?;
        for entry in entries {
            let mut entry = entry.at("unpack", "the tarball")?;
            self.count(entry.size())
                .map_err(|cause| refuse("the tarball", cause))?;
            self.entry(&mut entry)?;
            (self.progress)()?;
        }
        Ok(())
    }

    /// Counts one more entry of `size` bytes.
    fn count(&mut self, size: u64) -> std::result::Result<(), &'static str> {
        let left = self.entries_left.checked_sub(1);
        self.entries_left = left.ok_or("more than 65,536 files, directories and links")?;
        self.left = self.left.checked_sub(size).ok_or(TOO_LARGE)?;
        Ok(())
    }

    fn drain(&mut self, mut rest: impl Read) -> Result<()> {
        let mut chunk = vec![0; CHUNK];
        while rest
            .read(&mut chunk)
            .at("unpack", "the end of the tarball")?
            > 0
        {
            (self.progress)()?;
        }
        Ok(())
    }

    fn entry<R: Read>(&mut self, entry: &mut Entry<R>) -> Result<()> {
        let mut kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            return Ok(());
        }
        let raw = entry.path_bytes().into_owned();
        let name = String::from_utf8_lossy(&raw).into_owned();
        let is_sparse = is_pax_sparse(entry).map_err(|error| refuse(&name, error))?;
        if is_sparse {
            return Err(refuse(
                &name,
                "it is a sparse file in PAX form; pack without --sparse",
            ));
        }
        if kind == EntryType::Regular && raw.ends_with(b"/") {
            // Old tar programs write a directory like this.
            kind = EntryType::Directory;
        }
        let path = inner_path(&raw).map_err(|cause| refuse(&name, cause))?;
        if path.is_empty() {
            // "./" is the root itself, which exists.
            return Ok(());
        }
        let made = self.make(entry, kind, &path);
        made.map_err(|error| refuse(&name, plain_cause(error)))
    }

    fn make<R: Read>(
        &mut self,
        entry: &mut Entry<R>,
        kind: EntryType,
        path: &[&OsStr],
    ) -> io::Result<()> {
        let mode = entry.header().mode()? & 0o755;
        let target = self.target(path)?;
        match kind {
            EntryType::Directory => make_dir(&target, mode),
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.file(entry, &target, mode)
            }
            EntryType::Symlink => {
                let to = entry.link_name_bytes().unwrap_or_default();
                check_link(&to, path.len() - 1).map_err(io::Error::other)?;
                symlink(OsStr::from_bytes(&to), &target)
            }
            EntryType::Link => {
                let to = entry.link_name_bytes().unwrap_or_default();
                self.hard_link(&to, &target)
            }
            _ => Err(io::Error::other(
                "only files, directories and links are allowed",
            )),
        }
    }

    /// Returns the path that an entry is written to. Makes its parents, and refuses a parent that is a link.
    fn target(&mut self, path: &[&OsStr]) -> io::Result<PathBuf> {
        check_depth(path).map_err(io::Error::other)?;
        let mut at = self.root.to_owned();
        for (index, part) in path.iter().enumerate() {
            if index > 0 {
                self.make_parent(&at)?;
            }
            at.push(part);
        }
        Ok(at)
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

    fn file<R: Read>(&mut self, entry: &mut Entry<R>, target: &Path, mode: u32) -> io::Result<()> {
        let mut options = File::options();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(target)?;
        let mut chunk = vec![0; CHUNK];
        let (mut written, mut unsynced) = (0, 0);
        loop {
            let got = entry.read(&mut chunk)?;
            if got == 0 {
                break;
            }
            file.write_all(&chunk[..got])?;
            written += got as u64;
            unsynced += got;
            if unsynced >= SYNC_EVERY {
                // One sync at the end could take so long that a slow disk looks like a dead one.
                file.sync_data()?;
                unsynced = 0;
            }
            (self.progress)().map_err(|error| io::Error::other(error.to_string()))?;
        }
        if written != entry.size() {
            return Err(io::Error::other("the archive ends in the middle of it"));
        }
        file.set_permissions(Permissions::from_mode(mode))?;
        file.sync_all()
    }

    /// Makes a second name for a file that was unpacked before.
    fn hard_link(&mut self, to: &[u8], target: &Path) -> io::Result<()> {
        let path = inner_path(to).map_err(io::Error::other)?;
        if path.is_empty() {
            return Err(io::Error::other("it links to nothing"));
        }
        let source = self.target(&path)?;
        if fs::symlink_metadata(&source)?.is_file() {
            fs::hard_link(&source, target)
        } else {
            Err(io::Error::other("it does not link to a plain file"))
        }
    }

    /// Syncs every directory, so that a power cut loses no name.
    fn sync_dirs(&mut self) -> Result<()> {
        let mut dirs = vec![self.root.to_owned()];
        while let Some(dir) = dirs.pop() {
            for name in disk::names(&dir).at("read", &dir)? {
                let path = dir.join(name.at("read", &dir)?);
                if fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir()) {
                    dirs.push(path);
                }
            }
            disk::sync_dir(&dir)?;
            (self.progress)()?;
        }
        Ok(())
    }
}

/// Returns whether it is a sparse file in the form 0.0, 0.1 or 1.0 of GNU tar. Read as a plain file it would have other
/// content.
fn is_pax_sparse<R: Read>(entry: &mut Entry<R>) -> io::Result<bool> {
    let Some(extensions) = entry.pax_extensions()? else {
        return Ok(false);
    };
    let mut is_sparse = false;
    for extension in extensions {
        is_sparse |= extension?.key_bytes().starts_with(b"GNU.sparse.");
    }
    Ok(is_sparse)
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

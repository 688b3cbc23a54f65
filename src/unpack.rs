//! A verified tarball → a fresh directory, entry by entry. Refuses the archive whole at the first entry that is not
//! a plain file, a directory or a link that stays inside. Knows nothing of agents save that `control` must be there.
#![expect(clippy::disallowed_methods, reason = "unpacking writes files")]

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tar::{Archive, Entry, EntryType};

use crate::disk;
use crate::error::{At, Error, Result};
use crate::fetch::{self, Verified};
use crate::gzip::Gzip;
use crate::log;
use crate::sys;

const ENTRY_LIMIT: u32 = 65_536;
const UNPACKED_LIMIT: u64 = 4 << 30;
/// Real archives reach 30:1; deflate can reach 1032:1.
const RATIO_LIMIT: u64 = 200;
/// Below this the ratio means nothing: a script and a page of zeros are no bomb.
const RATIO_FLOOR: u64 = 1 << 20;
const TOO_LARGE: &str = "it unpacks to more than 200 times its size or 4 GiB";
const NAME_LIMIT: usize = 1024;
const DEPTH_LIMIT: usize = 64;
const CHUNK: usize = 64 << 10;
const SYNC_EVERY: usize = 64 << 20;

/// Called now and then, so that whoever waits knows that we are alive.
pub type Progress<'a> = &'a mut dyn FnMut() -> Result<()>;

/// Unpacks into `root`, which must be empty and ours alone.
pub fn unpack(tarball: Verified, root: &Path, progress: Progress) -> Result<()> {
    let limit = UNPACKED_LIMIT.min((tarball.size * RATIO_LIMIT).max(RATIO_FLOOR));
    let gzip = Gzip::new(tarball.file).at("unpack", "the tarball")?;
    let bounded = Bounded {
        inner: gzip,
        left: limit,
    };
    let mut archive = Archive::new(bounded);
    let mut unpacker = Unpacker {
        root,
        left: limit,
        entries_left: ENTRY_LIMIT,
        progress,
    };
    unpacker.entries(&mut archive)?;
    // To the very end: only there is the checksum of gzip, and tar stops before it.
    unpacker.drain(archive.into_inner())?;
    if disk::is_program(&root.join("control")) {
        return unpacker.sync_dirs();
    }
    Err(refuse(
        "control",
        "an agent's archive has it at its root, a regular file that can be run",
    ))
}

/// Room for what the tarball unpacks to, as far as its last gzip member knows (RFC 1952: the last four bytes, modulo
/// 2³²); what it hides is met by the limits while unpacking.
pub fn check_space(tarball: &Verified, root: &Path) -> Result<()> {
    let needed = last_member_size(tarball) + fetch::SPACE_RESERVE;
    fetch::check_space(root, needed)
}

fn last_member_size(tarball: &Verified) -> u64 {
    let mut size = [0; 4];
    match tarball
        .file
        .read_at(&mut size, tarball.size.saturating_sub(4))
    {
        Ok(4) => u64::from(u32::from_le_bytes(size)),
        _ => 0,
    }
}

/// A stream that fails past its limit: the bound on everything that is unpacked, headers and padding included.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        self.left = self
            .left
            .checked_sub(got as u64)
            .ok_or_else(|| io::Error::other(TOO_LARGE))?;
        Ok(got)
    }
}

/// Quotes no more of the name than a plain header holds: what is refused may be megabytes long.
fn refuse(name: &str, cause: &str) -> Error {
    let name = format!("{:.100}", log::printable(name));
    Error::new("unpack", format!("{name:?}"), cause)
}

struct Unpacker<'a> {
    root: &'a Path,
    /// Bytes that files may still take; a sparse file's holes are in no stream, so `Bounded` does not see them.
    left: u64,
    /// Files, directories and links that may still be made, also those that no entry names.
    entries_left: u32,
    progress: Progress<'a>,
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

    /// One more entry, with so many bytes.
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
        let is_sparse = is_pax_sparse(entry).map_err(|error| refuse(&name, &error.to_string()))?;
        if is_sparse {
            return Err(refuse(
                &name,
                "it is a sparse file in PAX form; pack without --sparse",
            ));
        }
        if kind == EntryType::Regular && raw.ends_with(b"/") {
            // How a directory was written before there was a type for it.
            kind = EntryType::Directory;
        }
        let path = inner_path(&raw).map_err(|cause| refuse(&name, cause))?;
        if path.is_empty() {
            // "./": the root itself, which is there.
            return Ok(());
        }
        let made = self.make(entry, kind, &path);
        made.map_err(|error| refuse(&name, &readable(&error)))
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
                sys::symlink(OsStr::from_bytes(&to), &target)
            }
            EntryType::Link => {
                let to = entry.link_name_bytes().unwrap_or_default();
                self.hard_link(&to, &target)
            }
            _ => Err(io::Error::other(
                "only files, directories and links are wanted",
            )),
        }
    }

    /// Where an entry goes: its parents made, none of them a link.
    fn target(&mut self, path: &[&OsStr]) -> io::Result<PathBuf> {
        if path.len() > DEPTH_LIMIT {
            return Err(io::Error::other("it lies more than 64 directories deep"));
        }
        let mut at = self.root.to_owned();
        for (index, part) in path.iter().enumerate() {
            if index > 0 {
                self.enter(&at)?;
            }
            at.push(part);
        }
        Ok(at)
    }

    fn enter(&mut self, dir: &Path) -> io::Result<()> {
        match fs::symlink_metadata(dir) {
            Ok(meta) if meta.is_dir() => Ok(()),
            Ok(_) => Err(io::Error::other("a part of its path is no directory")),
            Err(_) => {
                self.count(0).map_err(io::Error::other)?;
                sys::create_dir(dir)
            }
        }
    }

    fn file<R: Read>(&mut self, entry: &mut Entry<R>, target: &Path, mode: u32) -> io::Result<()> {
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL;
        let mut file = sys::open(target, flags, 0o600)?;
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
                // In portions, so that a slow disk is not taken for a dead one.
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

    /// A second name for a file that was unpacked before.
    fn hard_link(&mut self, to: &[u8], target: &Path) -> io::Result<()> {
        let path = inner_path(to).map_err(io::Error::other)?;
        if path.is_empty() {
            return Err(io::Error::other("it links to nothing"));
        }
        let source = self.target(&path)?;
        if fs::symlink_metadata(&source)?.is_file() {
            sys::hard_link(&source, target)
        } else {
            Err(io::Error::other("it links to no plain file"))
        }
    }

    /// Directory by directory, so that no name is lost with the power.
    fn sync_dirs(&mut self) -> Result<()> {
        let mut dirs = vec![self.root.to_owned()];
        while let Some(dir) = dirs.pop() {
            for name in disk::names(&dir).at("read", &dir)? {
                let path = dir.join(name);
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

/// The forms 0.0, 0.1 and 1.0 of GNU tar; read as plain files they are something else.
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

/// A directory may be named again, or after what is in it; it stays open to its owner.
fn make_dir(target: &Path, mode: u32) -> io::Result<()> {
    match sys::create_dir(target) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if !fs::symlink_metadata(target)?.is_dir() {
                return Err(error);
            }
        }
        done => done?,
    }
    fs::set_permissions(target, Permissions::from_mode(mode | 0o700))
}

/// The parts of the path without `.`; none for the root itself. The error is the reason to refuse it.
fn inner_path(raw: &[u8]) -> std::result::Result<Vec<&OsStr>, &'static str> {
    if raw.len() > NAME_LIMIT {
        return Err("its name is longer than 1024 bytes");
    }
    if raw.iter().any(|byte| *byte < 0x20 || *byte == 0x7f) {
        return Err("its name holds control characters");
    }
    if raw.starts_with(b"/") {
        return Err("its path is absolute");
    }
    let path = parts(raw);
    if path.contains(&OsStr::new("..")) {
        return Err("its path has ..");
    }
    Ok(path)
}

fn parts(path: &[u8]) -> Vec<&OsStr> {
    let mut parts = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        if !matches!(part, b"" | b".") {
            parts.push(OsStr::from_bytes(part));
        }
    }
    parts
}

/// The target of a symbolic link, if it stays inside: relative, `..` only at its beginning, and not more of them
/// than the link lies deep. Since no entry is written through a link, its parents are real directories, and a link
/// that leads to another link stays inside for the same reason.
fn check_link(target: &[u8], depth: usize) -> std::result::Result<(), &'static str> {
    if target.is_empty() || target.len() > NAME_LIMIT || target.contains(&0) {
        return Err("it links to nothing");
    }
    let mut ups = 0;
    let mut downs = 0;
    for part in parts(target) {
        if part != ".." {
            downs += 1;
        } else if downs > 0 {
            return Err("it links through ..");
        } else {
            ups += 1;
        }
    }
    if ups > depth || target.starts_with(b"/") {
        return Err("it links to the outside");
    }
    Ok(())
}

fn readable(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AlreadyExists => "its name comes twice".to_owned(),
        _ => error.to_string(),
    }
}

//! Files that survive a power cut: written under a temporary name, synced, renamed, and the directory synced. Also whole
//! directories. Knows nothing of agents.
#![expect(clippy::disallowed_methods, reason = "this is the disk")]

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::names::Names;
use super::{credentials, files, remove};
use crate::error::{At, Error, Result};

/// 5 s in total: `control start` waits 10 s for the updater.
const RETRIES: u32 = 50;
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Replaces the file in one step: after a crash it holds either all old bytes or all new ones. `mode` is that of the new file.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    Staged::write(with_suffix(path, ".tmp"), path, bytes, mode)?.publish()
}

/// Removes the temporary file of a `write_atomic` that was interrupted. The next one would replace it, but may come late.
pub fn remove_temporary(path: &Path) {
    // If this fails, the next write reports it.
    let _ = fs::remove_file(with_suffix(path, ".tmp"));
}

/// The new content of a file, synced under a temporary name on the same file system. It is removed on drop.
pub struct Staged {
    aside: PathBuf,
    path: PathBuf,
}

impl Staged {
    pub fn write(aside: PathBuf, path: &Path, bytes: &[u8], mode: u32) -> Result<Self> {
        let path = path.to_owned();
        let staged = Self { aside, path };
        let file = write_aside(&staged.aside, bytes, mode)?;
        file.sync_all().at("sync", &staged.aside)?;
        Ok(staged)
    }

    /// Renames the temporary file to its name, and syncs the directory.
    pub fn publish(self) -> Result<()> {
        rename(&self.aside, &self.path)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // After `publish` it does not exist. After a failure, which the caller reports, it is useless.
        let _ = fs::remove_file(&self.aside);
    }
}

/// Replaces the file in one step, without a sync: a power cut can leave it empty.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let aside = with_suffix(path, ".tmp");
    write_aside(&aside, bytes, mode)?;
    fs::rename(&aside, path).at("rename", &aside)
}

fn write_aside(path: &Path, bytes: &[u8], mode: u32) -> Result<File> {
    let mut file = create(path, mode)?;
    file.write_all(bytes).at("write", path)?;
    Ok(file)
}

/// Creates an empty file, or empties the existing one, whose mode stays.
pub fn create(path: &Path, mode: u32) -> Result<File> {
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(mode);
    // Without O_NONBLOCK, a fifo at the path would block until it has a reader.
    options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    options.open(path).at("create", path)
}

/// Renames within one file system, and syncs the directories.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).at("rename", from)?;
    sync_parent(to)?;
    if parent(from).as_os_str() == parent(to).as_os_str() {
        return Ok(());
    }
    sync_parent(from)
}

/// Fails if the directory cannot be renamed: it is a mount point (EBUSY), or belongs to a lower layer of overlayfs (EXDEV).
///
/// Nothing is renamed. `full` is a directory beside it that is not empty: no rename replaces one, and the kernel looks at that
/// after everything else.
pub fn check_movable(dir: &Path, full: &Path) -> Result<()> {
    match fs::rename(dir, full) {
        Err(error) if is_any_of(&error, &[libc::ENOTEMPTY, libc::EEXIST]) => Ok(()),
        moved => moved.at("rename", dir),
    }
}

/// Swaps two directories, and syncs their parents. If the file system cannot do that in one step, it takes three, with a third
/// name beside `one`: after a power cut in between, the next check finds the version missing and it is installed again.
pub fn exchange(one: &Path, other: &Path) -> Result<()> {
    match files::exchange(one, other) {
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

/// Syncs the directory that contains the path.
pub fn sync_parent(path: &Path) -> Result<()> {
    sync_dir(parent(path))
}

/// Returns the directory that contains the path: `.` for a bare name, and the root for the root.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        None => Path::new("/"),
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
    }
}

pub fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).at("open", dir)?.sync_all().at("sync", dir)
}

/// Opens a directory to sync its whole file system when all is written. A write that fails meanwhile is reported then, also if
/// another process was told of it first. None: the files must be synced one by one.
pub fn open_to_sync(dir: &Path) -> Result<Option<File>> {
    let file = File::open(dir).at("open", dir)?;
    Ok(Some(file).filter(files::can_sync_file_system))
}

/// Creates the directory and its missing parents.
pub fn make_dir(dir: &Path) -> Result<()> {
    if is_dir(dir) {
        return Ok(());
    }
    make_dir(parent(dir))?;
    match fs::create_dir(dir) {
        // Another process was faster. If it is not a directory, the next call on it fails.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.at("create", dir),
    }?;
    sync_parent(dir)
}

/// Removes a file, a link or a whole directory, never the target of a link. A missing path is no error.
pub fn remove_tree(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => remove::remove_dir(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.at("remove", path),
    }
}

/// Returns the names in a directory one by one.
pub fn names(dir: &Path) -> io::Result<Names> {
    let mut options = File::options();
    let options = options.read(true).custom_flags(libc::O_DIRECTORY);
    Names::of(options.open(dir)?)
}

/// Reads a text file. A file that is larger than the limit in bytes, or not a regular file, is an error.
pub fn read_small(path: &Path, limit: u64) -> io::Result<String> {
    read_text(&open_regular(path)?, limit)
}

fn open_regular(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    // Without O_NONBLOCK, a fifo at the path would block.
    let file = options
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    Ok(file)
}

/// Reads like `read_small`. A file that belongs to neither root nor the user of this process is an error: in a directory such
/// as /tmp anybody can create a file that was missing a moment ago.
fn read_own(path: &Path, limit: u64) -> io::Result<String> {
    let file = open_regular(path)?;
    let owner = file.metadata()?.uid();
    if ![0, credentials::effective_uid()].contains(&owner) {
        return Err(io::Error::other(format!("it belongs to uid {owner}")));
    }
    read_text(&file, limit)
}

/// Reads a text to its end. A text that is longer than the limit in bytes is an error.
pub fn read_text(file: impl Read, limit: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::other(format!("it is larger than {limit} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::other("stream did not contain valid UTF-8"))
}

/// Reads a file of root or of this user. Tries again for 5 s while the host lacks a resource: a file that cannot be read for a moment
/// must not count as missing.
pub fn read_patiently(path: &Path, limit: u64) -> io::Result<String> {
    for _ in 0..RETRIES {
        match read_own(path, limit) {
            Err(error) if is_temporary(&error) => std::thread::sleep(RETRY_PAUSE),
            read => return read,
        }
    }
    read_own(path, limit)
}

fn is_temporary(error: &io::Error) -> bool {
    is_any_of(
        error,
        &[libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EIO],
    )
}

/// Returns whether the path is a directory, or a link to one.
pub fn is_dir(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_dir())
}

/// Returns whether two paths lead to the same file or directory.
pub fn is_same(one: &Path, other: &Path) -> bool {
    match (fs::metadata(one), fs::metadata(other)) {
        (Ok(one), Ok(other)) => identity(&one) == identity(&other),
        _ => false,
    }
}

/// Returns whether the path is a directory and no link.
pub fn is_real_dir(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir())
}

/// Returns device and inode, which are equal for two names of one file.
pub fn identity(meta: &Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}

/// Returns whether the path is a regular file that its owner can execute; false if that cannot be found out.
pub fn is_program(path: &Path) -> bool {
    find_program(path).unwrap_or(false)
}

/// Returns whether the path is a regular file that its owner can execute, or the error if that cannot be found out.
pub fn find_program(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(meta) => Ok(meta.is_file() && meta.permissions().mode() & 0o100 != 0),
        Err(error) if is_absent(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Returns whether the error says that there is nothing at the path.
pub fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// Opens a file for reading and writing, and creates it if it is missing.
pub fn open_or_create(path: &Path, mode: u32) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create(true).mode(mode);
    options.custom_flags(libc::O_NOFOLLOW).open(path)
}

/// Appends to the last name of the path: `x/1.0` + `.new` → `x/1.0.new`.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// Makes an empty directory for one test.
    fn empty(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("disk-{name}-{}", std::process::id()));
        remove_tree(&dir).expect("it can be removed");
        fs::create_dir(&dir).expect("it is made");
        dir
    }

    #[test]
    fn every_path_has_a_parent_that_can_be_opened() {
        for (path, expected) in [
            ("/a/b", "/a"),
            ("/a", "/"),
            ("/", "/"),
            ("a/b", "a"),
            ("a", "."),
        ] {
            assert_eq!(parent(Path::new(path)), Path::new(expected), "{path}");
        }
    }

    #[test]
    fn a_tree_is_removed_with_its_links_but_without_their_targets() {
        let dir = empty("links");
        let (kept, tree) = (dir.join("kept"), dir.join("tree"));
        fs::create_dir(&kept).expect("it is made");
        fs::write(kept.join("file"), "").expect("it is written");
        fs::create_dir_all(tree.join("within/below")).expect("it is made");
        symlink(&kept, tree.join("link")).expect("it is made");
        symlink(&kept, dir.join("other")).expect("it is made");
        for path in [&tree, &dir.join("other"), &dir.join("missing")] {
            remove_tree(path).expect("it is removed");
            assert!(fs::symlink_metadata(path).is_err(), "{}", path.display());
        }
        assert!(kept.join("file").exists());
        remove_tree(&kept.join("file")).expect("it is removed");
        let left = names(&kept).expect("it is there").count();
        assert_eq!(left, 0);
        remove_tree(&dir).expect("it is removed");
    }

    #[test]
    fn a_text_that_is_too_large_is_an_error_even_if_cut_within_a_character() {
        assert_eq!(
            read_text("ab\u{e9}".as_bytes(), 4).expect("it fits"),
            "ab\u{e9}"
        );
        let error = read_text("ab\u{e9}".as_bytes(), 2).expect_err("it does not fit");
        assert_eq!(error.to_string(), "it is larger than 2 bytes");
        let error = read_text(&b"\xff"[..], 4).expect_err("it is no text");
        assert_eq!(error.to_string(), "stream did not contain valid UTF-8");
    }
}

//! Removes a whole directory, however deep it is: an archive or an agent decides that. Follows no link.
#![allow(unsafe_code)]
#![expect(clippy::disallowed_methods, reason = "directories are the disk")]

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::call::{c_string, check};
use super::dir;
use super::names::Names;

/// Directories below this level are moved to the top before they are emptied, so that no more of them are ever open.
const DEEPEST: u32 = 16;
/// Names that are read at once: others decide how many there are.
const NAMES_AT_ONCE: usize = 1024;

/// Removes the directory and all in it.
pub fn remove_dir(path: &Path) -> io::Result<()> {
    let mut options = File::options();
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let top = options.read(true).custom_flags(flags).open(path)?;
    let mut removal = Removal {
        top: &top,
        moved: 0,
    };
    removal.empty(&top, DEEPEST)?;
    fs::remove_dir(path)
}

struct Removal<'a> {
    top: &'a File,
    /// The last name that was given to a directory that was moved to the top.
    moved: u64,
}

impl Removal<'_> {
    /// Removes all in the directory. `levels`: how many levels below it may be opened.
    fn empty(&mut self, dir: &File, levels: u32) -> io::Result<()> {
        loop {
            let names = names(dir)?;
            if names.is_empty() {
                return Ok(());
            }
            for name in names {
                match self.remove(dir, &name, levels) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    removed => removed?,
                }
            }
        }
    }

    fn remove(&mut self, dir: &File, name: &OsStr, levels: u32) -> io::Result<()> {
        if !dir::stat_at(dir, name)?.is_dir() {
            return unlink_at(dir, name, 0);
        }
        if levels == 0 {
            return match unlink_at(dir, name, libc::AT_REMOVEDIR) {
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                    self.move_to_top(dir, name)
                }
                removed => removed,
            };
        }
        self.empty(&dir::open_dir_at(dir, name)?, levels - 1)?;
        unlink_at(dir, name, libc::AT_REMOVEDIR)
    }

    /// Gives the directory a name at the top, where it is emptied later.
    fn move_to_top(&mut self, dir: &File, name: &OsStr) -> io::Result<()> {
        let name = c_string(name)?;
        loop {
            self.moved += 1;
            let to = c_string(self.moved.to_string().as_ref())?;
            let (from, top) = (dir.as_raw_fd(), self.top.as_raw_fd());
            // SAFETY: both names are NUL-terminated and outlive the call.
            let moved = check(unsafe { libc::renameat(from, name.as_ptr(), top, to.as_ptr()) });
            let kind = moved.as_ref().err().map(io::Error::kind);
            // Something has this name already.
            let is_taken = matches!(
                kind,
                Some(
                    io::ErrorKind::AlreadyExists
                        | io::ErrorKind::DirectoryNotEmpty
                        | io::ErrorKind::NotADirectory
                )
            );
            if !is_taken {
                return moved;
            }
        }
    }
}

fn unlink_at(dir: &File, name: &OsStr, flags: i32) -> io::Result<()> {
    let name = c_string(name)?;
    // SAFETY: the name is NUL-terminated and outlives the call.
    check(unsafe { libc::unlinkat(dir.as_raw_fd(), name.as_ptr(), flags) })
}

/// Returns some names in the directory, and none only if it is empty.
fn names(dir: &File) -> io::Result<Vec<OsString>> {
    // Opened anew, so that it is read from its beginning.
    let listed = Names::of(dir::open_dir_at(dir, OsStr::new("."))?)?;
    let mut names = Vec::new();
    for name in listed.take(NAMES_AT_ONCE) {
        names.push(name?);
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_of_ten_thousand_levels_is_removed_with_few_descriptors() {
        let root = std::env::temp_dir().join(format!("remove-{}", std::process::id()));
        fs::create_dir(&root).expect("it is made");
        let mut dir = File::open(&root).expect("it is open");
        for level in 0..10_000 {
            // The names that are given at the top are taken here and there.
            let name = OsString::from((level % 7).to_string());
            dir::make_dir_at(&dir, &name).expect("it is made");
            dir = dir::open_dir_at(&dir, &name).expect("it is open");
        }
        fs::write(root.join("1"), "").unwrap_or_default();
        fs::create_dir_all(root.join("2/within")).expect("it is made");
        for count in 0..2000 {
            fs::write(root.join(format!("file{count}")), "").expect("it is written");
        }
        remove_dir(&root).expect("it is removed");
        assert!(!root.exists());
    }
}

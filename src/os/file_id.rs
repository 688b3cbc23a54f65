//! Device and inode, by which a directory is known whatever path leads to it.
#![expect(clippy::disallowed_methods, reason = "the disk knows them")]

use std::fs;
use std::path::Path;

use super::disk;
use crate::model::FileId;

/// Returns the id of what the path leads to, or none if it leads nowhere.
pub fn of(path: &Path) -> Option<FileId> {
    let (device, inode) = disk::identity(&fs::metadata(path).ok()?);
    Some(format!("{device}:{inode}"))
}

/// Returns the ids of a directory and of every directory above it. The way up is that of the kernel, so it does not matter
/// by which links the directory was reached.
pub fn upward(dir: &Path) -> Vec<FileId> {
    let mut ids = Vec::new();
    let mut dir = dir.to_owned();
    // The root is its own parent.
    while let Some(id) = of(&dir)
        && ids.last() != Some(&id)
    {
        ids.push(id);
        dir.push("..");
    }
    ids
}

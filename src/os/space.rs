//! The free space of a filesystem, and the part of it that an install leaves free.

use std::path::Path;

use super::{disk, files};
use crate::error::{Error, Result};

/// Bytes that an install leaves free on the agent's filesystem.
pub const RESERVE: u64 = 50 << 20;

/// Fails if the filesystem of `path` has less than `needed` bytes free. The error has both numbers.
pub fn check(path: &Path, needed: u64) -> Result<()> {
    let folder = if disk::is_dir(path) {
        path
    } else {
        disk::parent(path)
    };
    match files::free_bytes(folder) {
        Some(free) if free < needed => {
            let cause = format!("{} MB are needed, {} MB are free", needed >> 20, free >> 20);
            Err(Error::new("install below", folder, cause))
        }
        _ => Ok(()),
    }
}

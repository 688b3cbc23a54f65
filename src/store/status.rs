//! `var/status.json`: the status that the running daemon, or the last one, wrote.

use std::path::{Path, PathBuf};

use super::layout;
use crate::error::Result;
use crate::json;
use crate::os::disk;
use crate::protocol::DOCUMENT_LIMIT;
use crate::protocol::status::Status;

pub fn file(own_dir: &Path) -> PathBuf {
    own_dir.join("var/status.json")
}

/// Reads the status. None: there is no readable file.
pub fn load(own_dir: &Path) -> Option<Status> {
    let text = disk::read_small(&file(own_dir), DOCUMENT_LIMIT).ok()?;
    json::read(&text)
}

/// Replaces the status without flushing it to the disk: after a power cut it is written anew.
pub fn save(own_dir: &Path, text: &str) -> Result<()> {
    disk::replace(&file(own_dir), text.as_bytes(), layout::STATE_MODE)
}

//! What identifies this updater: its directories by device and inode, and its process.

use std::path::Path;

use super::layout;
use crate::model::{FileId, Updater};
use crate::os::{file_id, process};

/// Returns the identity of this process, the daemon of this directory. It is read once, at the start. A daemon that does
/// not act has no process to name in a mark.
pub fn of_daemon(own_dir: &Path, acts: bool) -> Updater {
    let own = file_id::upward(own_dir);
    // `plan` makes no var. A link may lead it to another file system.
    let var = file_id::upward(&layout::var(own_dir));
    let first = |ids: &[FileId]| ids.first().cloned().unwrap_or_default();
    Updater {
        dir: own_dir.to_string_lossy().into_owned(),
        own: first(&own),
        var: first(&var),
        above: own.into_iter().chain(var).collect(),
        process: acts.then(process::own_identity).unwrap_or_default(),
    }
}

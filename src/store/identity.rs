//! What identifies this updater: its directories by device and inode, and its process.

use std::path::Path;

use super::layout;
use crate::model::{FileId, Updater};
use crate::os::{file_id, process};

/// Returns the identity of this process, the daemon of this directory. It is read once, at the start. A daemon that does
/// not act has no process to name in a mark.
pub fn of_daemon(own_dir: &Path, acts: bool) -> Updater {
    let mut above = file_id::upward(own_dir);
    // `plan` makes no var. A link may lead it to another file system.
    let var = file_id::upward(&layout::var(own_dir));
    let first = |ids: &[FileId]| ids.first().cloned().unwrap_or_default();
    let (own_id, var_id) = (first(&above), first(&var));
    above.extend(var);
    Updater {
        dir: own_dir.to_string_lossy().into_owned(),
        own: own_id,
        var: var_id,
        above,
        process: acts.then(process::own_identity).unwrap_or_default(),
    }
}

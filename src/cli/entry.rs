//! The server's entry of one agent, as it is saved on disk, for commands that override it.

use std::path::Path;

use crate::model::{AgentName, Desired, Own};
use crate::os::{disk, user};
use crate::protocol::{DOCUMENT_LIMIT, desired};
use crate::store::layout;

/// Returns the entry. None: the server does not name the agent, or nothing is saved yet.
pub(super) fn load(own_dir: &Path, name: &AgentName) -> Option<Desired> {
    let text = disk::read_small(&layout::desired_state(own_dir), DOCUMENT_LIMIT).ok()?;
    let own = Own {
        dir: own_dir.to_string_lossy().into_owned(),
        user: user::own_name(),
    };
    let mut sorted = desired::sort_saved(desired::saved(&text)?, &own);
    let mut entries = sorted.accepted.iter();
    let at = entries.position(|desired| desired.name == *name)?;
    Some(sorted.accepted.swap_remove(at))
}

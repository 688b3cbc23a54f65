//! One agent at one location: its directory, its `control` script, and what can be observed of it. Never decides
//! which step an agent takes, and never reads from the network.

/// The directory of an agent that runs as another user: found, created or taken over by root.
pub(crate) mod directory;
/// Directories and versions that are not the updater's to touch.
pub(crate) mod foreign;
/// The processes that a version leaves when it is stopped.
mod leftovers;
/// Stop, start and watch one agent.
pub(crate) mod lifecycle;
/// The check of one agent: what is on disk, and what `control status` prints.
pub(crate) mod observe;
/// The mark of the updater that manages an agent.
pub(crate) mod owner;
/// Every path in an agent's directory.
pub(crate) mod paths;
/// The receipt that the updater writes into each version that it unpacked.
pub(crate) mod receipt;
/// Runs a script or a check with a deadline.
pub(crate) mod script;
/// Why a script that is there cannot be run.
mod script_fault;
/// Records the pid of a running script, so that a later updater can wait for it.
mod script_lock;
/// What a script printed and how it ended.
mod script_output;

pub(crate) use script_lock::ScriptLock;
pub(crate) use script_output::{Ending, ScriptOutput};

//! What identifies one updater to others on the same host.

use miniserde::{Deserialize, Serialize};

/// Device and inode of a file, `<device>:<inode>`, which are equal for two names of it. As a text it travels in jobs and
/// marks without code of its own.
pub type FileId = String;

/// The running updater: where its files are, and which process it is.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Updater {
    /// The path of its own directory.
    pub dir: String,
    pub own: FileId,
    pub var: FileId,
    /// Its own directory, `var`, and every directory above them.
    pub above: Vec<FileId>,
    /// The identity of the daemon, `<pid> <start time>`. Empty: it only plans, perhaps beside another that acts.
    pub process: String,
}

impl Updater {
    /// Returns whether it may manage agents.
    pub fn acts(&self) -> bool {
        !self.process.is_empty()
    }
}

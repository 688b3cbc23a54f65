//! Makes a build the one in force. A new `.version` is written before anything is stopped, and published after that by
//! a rename, so that a full disk cannot leave an agent stopped.

use std::path::Path;

use crate::agent::foreign;
use crate::agent::lifecycle::Agent;
use crate::agent::receipt;
use crate::error::Result;
use crate::model::{Build, Version};
use crate::os::disk::{self, Staged};
use crate::os::walk;

/// Writes a new `.version` under another name in `.updater`. If a crash leaves it there, the next prune removes it. Fails if
/// somebody else could change the version: it would not be started.
pub(super) fn stage(agent: &Agent, version: &Version, name: &str) -> Result<Staged> {
    let paths = agent.paths();
    walk::check(&paths.version(version), paths.trusted)?;
    let content = version.as_str().as_bytes();
    Staged::write(
        paths.ours().join(name),
        &paths.version_file(),
        content,
        0o644,
    )
}

/// Makes `.version` name the build, and the directory of its version hold this build.
pub(super) fn put_in_force(agent: &Agent, build: &Build, staged: Staged) -> Result<()> {
    let paths = agent.paths();
    let version_dir = paths.version(&build.version);
    let spare = paths.staging(&build.version, ".other");
    let holds_build = |dir: &Path| {
        receipt::received(agent.name(), &build.version, dir)
            .is_some_and(|received| received.build.satisfies(build))
    };
    if !holds_build(&version_dir) && holds_build(&spare) {
        foreign::clear_way(agent.name(), &build.version, paths)?;
        // Somebody may have removed the directory that the spare is to replace.
        disk::make_dir(&version_dir)?;
        disk::exchange(&spare, &version_dir)?;
    }
    staged.publish()
}

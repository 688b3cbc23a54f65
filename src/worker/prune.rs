//! The step `Prune`: removes leftovers in `.updater`, and versions with a receipt that are no longer kept. Never removes
//! the version in force, nor anything without a receipt.

use crate::agent::foreign;
use crate::agent::lifecycle::Agent;
use crate::agent::paths::is_kept_by_us;
use crate::agent::receipt;
use crate::error::{At, Result};
use crate::model::Version;
use crate::os::disk;

pub(super) fn prune(agent: &Agent, keep: &[Version]) -> Result<()> {
    let paths = agent.paths();
    let current = paths.in_force()?;
    let ours = paths.ours();
    for name in disk::names(&ours).at("read", &ours)? {
        let name = name.at("read", &ours)?;
        if !is_kept_by_us(&name) {
            disk::remove_tree(&ours.join(name))?;
        }
    }
    for build in &agent.look()?.builds {
        let dir = paths.version(&build.version);
        let is_kept = keep.contains(&build.version) || current.as_ref() == Some(&build.version);
        if !is_kept
            && receipt::is_in(&dir, agent.name(), &build.version)
            && !foreign::holds_ours(&dir, agent.updater())
        {
            // It is renamed first, so that half a version is never visible under its name.
            let gone = paths.staging(&build.version, ".gone");
            disk::rename(&dir, &gone)?;
            disk::remove_tree(&gone)?;
        }
    }
    Ok(())
}

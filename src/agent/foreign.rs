//! What the updater must not touch: directories that are no agents, versions without its receipt, and its own files.
#![expect(clippy::disallowed_methods, reason = "it reads and moves directories")]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::agent::paths::Paths;
use crate::agent::receipt;
use crate::error::{At, Error, Result};
use crate::log;
use crate::model::{AgentName, Step, Updater, Version};
use crate::os::{disk, file_id};

/// Fails if the agent's directory is the updater's own or lies in its `var`, or if a version would replace one of them.
///
/// They are known by device and inode, so no other spelling, link or bind mount of them passes. One thing does: a bind
/// mount of a directory below `var`, which shows no way up to `var`. Only root can make one.
pub fn check_not_ours(paths: &Paths, step: Option<&Step>, us: &Updater) -> Result<()> {
    let dir = &paths.agent;
    // A directory that is still to be made is where its parents are.
    let existing = dir.ancestors().find(|dir| disk::is_dir(dir));
    let is_in_var = existing.is_some_and(|dir| file_id::upward(dir).contains(&us.var));
    let is_own = file_id::of(dir).is_some_and(|id| id == us.own);
    if is_in_var || is_own {
        let cause = "it is the updater's own directory, or in its var";
        return Err(Error::new("use", dir, cause));
    }
    let version = match step {
        Some(Step::Install(release)) => &release.version,
        Some(Step::Start(build) | Step::Switch { to: build, .. }) => &build.version,
        Some(Step::Stop(_) | Step::Prune(_)) | None => return Ok(()),
    };
    let dir = paths.version(version);
    if holds_ours(&dir, us) {
        return Err(Error::new("use", &dir, "the updater's own files are in it"));
    }
    Ok(())
}

/// Returns whether the directory is the updater's own or its `var`, or contains them.
pub fn holds_ours(dir: &Path, us: &Updater) -> bool {
    file_id::of(dir).is_some_and(|id| us.above.contains(&id))
}

/// Fails if a directory has the agent's name and is not an agent: it has content, and neither an updater nor the original
/// has ever made it one.
pub fn check_is_agent(paths: &Paths) -> Result<()> {
    let dir = &paths.agent;
    let marks = [paths.version_file(), paths.ours()];
    if marks.iter().any(|path| fs::symlink_metadata(path).is_ok()) {
        return Ok(());
    }
    let names = match disk::names(dir) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::new("read", dir, error)),
    };
    for name in names {
        // A new file system has this directory.
        if name.at("read", dir)? != "lost+found" {
            let cause = "it is not an agent: it is not empty and has no .version; name another workDir, or move it away";
            return Err(Error::new("use", dir, cause));
        }
    }
    Ok(())
}

/// Clears the place of a version from what has no receipt of ours for this agent and version. It is kept beside it, as
/// `<version>.not-ours`: half a version of the original updater must not keep the agent from this version for ever, and the
/// updater never removes what it did not make.
pub fn clear_way(name: &AgentName, version: &Version, paths: &Paths) -> Result<()> {
    let dir = paths.version(version);
    if receipt::is_in(&dir, name, version) || fs::symlink_metadata(&dir).is_err() {
        return Ok(());
    }
    // This removes only an empty directory.
    if fs::remove_dir(&dir).is_ok() {
        return Ok(());
    }
    let kept = not_ours(&dir);
    if fs::symlink_metadata(&kept).is_ok() {
        let cause = format!(
            "it has no receipt of the updater, and {} exists already",
            kept.display()
        );
        return Err(Error::new("replace", &dir, cause));
    }
    disk::rename(&dir, &kept)?;
    log::warn(format_args!(
        "{name}: {} has no receipt of the updater; it is kept as {}",
        dir.display(),
        kept.display()
    ));
    Ok(())
}

fn not_ours(dir: &Path) -> PathBuf {
    disk::with_suffix(dir, ".not-ours")
}

//! A file system without free space: the upgrade waits, the old agent runs on, and the updater leaves no partial files.

use crate::support::agent::Agent;
use crate::support::archive::noise;
use crate::support::host::Host;
use crate::support::platform::skipped;
use crate::support::watch::names;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small file system that is unmounted when dropped.
pub struct Mount(PathBuf);

impl Mount {
    /// Mounts a tmpfs. Returns `None` and prints a notice where this user may not mount.
    pub fn tmpfs(at: &Path, size: &str) -> Option<Self> {
        Self::new("tmpfs", &format!("size={size}"), at)
    }

    /// Mounts an overlay over the directory. Its changes are kept in the other mount, so the two number files differently.
    pub fn overlay(at: &Path, changes: &Self) -> Option<Self> {
        let dir = |name: &str| {
            let dir = changes.0.join(name);
            fs::create_dir(&dir).expect("a directory");
            dir.display().to_string()
        };
        let (lower, upper, work) = (at.display(), dir("upper"), dir("work"));
        let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
        Self::new("overlay", &options, at)
    }

    fn new(kind: &str, options: &str, at: &Path) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", kind, "-o", options, kind]).arg(at);
        if mount.output().is_ok_and(|output| output.status.success()) {
            return Some(Self(at.to_path_buf()));
        }
        skipped("needs root to mount a small file system");
        None
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[test]
fn an_upgrade_that_does_not_fit_leaves_the_running_agent_alone() {
    let mut host = Host::new();
    let Some(_mount) = Mount::tmpfs(&host.work, "60m") else {
        return;
    };
    host.publish(&Agent::new("demo", "1.0.0"));
    host.desire(&[host.want("demo", "1.0.0")]);
    host.start();
    let before = host.wait_running("demo", "1.0.0");
    let large =
        Agent::new("demo", "1.0.1")
            .archive(&host.dir)
            .file("data", 0o644, noise(20 << 20, 8));
    host.meta.publish("demo", "1.0.1", large.stored());
    host.desire(&[host.want("demo", "1.0.1")]);
    host.wait_error("demo");
    host.wait_beats(2);
    assert_eq!(host.running("demo"), [before]);
    assert_eq!(host.version("demo"), "1.0.0");
    assert_eq!(
        names(&host.agent_dir("demo")),
        [".updater", ".version", "1.0.0"]
    );
    host.wait_without_partials("demo", "1.0.1");
}

#[test]
fn a_host_without_the_reserve_installs_nothing() {
    let mut host = Host::new();
    let Some(_mount) = Mount::tmpfs(&host.work, "20m") else {
        return;
    };
    host.publish(&Agent::new("demo", "1.0.0"));
    host.desire(&[host.want("demo", "1.0.0")]);
    host.start();
    host.wait_error("demo");
    assert_eq!(host.version("demo"), "");
    host.wait_without_partials("demo", "1.0.0");
}

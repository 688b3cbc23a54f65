//! A file system without room: the upgrade waits, the old agent runs on, nothing of ours is left in the way.

use crate::support::agent::Agent;
use crate::support::archive::noise;
use crate::support::host::Host;
use crate::support::json::Json as _;
use crate::support::watch::names;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small file system of its own, gone at the end.
pub struct Mount(PathBuf);

impl Mount {
    /// None, said loudly, where this user may not mount.
    pub fn tmpfs(at: &Path, size: &str) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(at);
        if mount.output().is_ok_and(|output| output.status.success()) {
            return Some(Self(at.to_path_buf()));
        }
        eprintln!(
            "SKIPPED: needs root: cannot mount a small file system at {}",
            at.display()
        );
        None
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

fn wait_error(host: &Host) {
    host.wait_for("an error in the heartbeat", || {
        host.last_beat()
            .is_some_and(|beat| !beat.agent("demo").field("error").text().is_empty())
    });
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
    wait_error(&host);
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
    wait_error(&host);
    assert_eq!(host.version("demo"), "");
    host.wait_without_partials("demo", "1.0.0");
}

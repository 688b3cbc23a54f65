//! The locks of the updater and of its agents: nobody but their owner can hold them, and who holds one is asked of the
//! kernel.

use crate::support::agent::Agent;
use crate::support::host::Host;
use crate::support::users::{User, can_make_users, mode};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Child;

/// Returns the lock of the updater and that of its agent demo.
fn locks(host: &Host) -> [PathBuf; 2] {
    let of_agent = host.agent_dir("demo").join(".updater/lock");
    [host.own.join("var/lock"), of_agent]
}

fn mode_of(path: &Path) -> u32 {
    let meta = fs::metadata(path).expect("a file");
    meta.permissions().mode() & 0o7777
}

#[test]
fn only_their_owner_can_open_the_locks() {
    let host = Host::with_installed_demo("1.0.0");
    for lock in locks(&host) {
        assert_eq!(mode_of(&lock), 0o600, "{}", lock.display());
    }
}

#[test]
fn locks_that_0_1_0_left_open_to_all_are_closed_by_the_first_start_and_step() {
    let mut host = Host::new();
    for lock in locks(&host) {
        fs::create_dir_all(lock.parent().expect("a directory")).expect("a directory");
        fs::write(&lock, "").expect("a file");
        mode(&lock, 0o644);
    }
    host.publish(&Agent::new("demo", "1.0.0"));
    host.desire(&[host.want("demo", "1.0.0")]);
    host.start();
    host.wait_running("demo", "1.0.0");
    for lock in locks(&host) {
        assert_eq!(mode_of(&lock), 0o600, "{}", lock.display());
    }
}

#[test]
fn a_stranger_cannot_hold_the_locks_and_keep_an_upgrade_or_a_restart_from_happening() {
    if !can_make_users() {
        return;
    }
    let stranger = User::new();
    let mut host = Host::with_installed_demo("1.0.0");
    let mut holders: Vec<_> = locks(&host)
        .iter()
        .map(|lock| {
            let mut command = stranger.command("flock");
            command.arg("--shared").arg(lock).args(["sleep", "300"]);
            command.spawn().expect("flock runs")
        })
        .collect();
    host.wait_for("flock to be refused", || {
        let mut ended = holders.iter_mut().map(Child::try_wait);
        ended.all(|ended| ended.expect("a child of ours").is_some())
    });
    host.publish(&Agent::new("demo", "1.0.1"));
    host.desire(&[host.want("demo", "1.0.1")]);
    assert!(host.stop().success());
    host.start();
    host.wait_running("demo", "1.0.1");
}

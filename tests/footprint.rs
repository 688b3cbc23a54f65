//! What the updater takes from a host: one thread a process, little memory, no socket in the daemon.

use crate::support::agent::Agent;
use crate::support::archive::noise;
use crate::support::host::Host;
use crate::support::platform::{binary, has_own, is_static};
use crate::support::procs;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

/// The updater's own processes in the sandbox: daemon, beat, act.
fn own(host: &Host) -> Vec<u32> {
    let binary = binary();
    let mut found = procs::in_sandbox(&host.dir);
    found.retain(|pid| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == binary));
    found
}

#[test]
fn every_process_has_one_thread() {
    if !has_own("a thread") {
        return;
    }
    let host = Host::with_demo("1.0.0");
    let slow = Agent::new("demo", "1.0.1").on_status("sleep 0.3");
    host.publish(&slow.file("data", noise(500_000, 5)));
    host.desire(&[host.want("demo", "1.0.1")]);
    let mut roles = BTreeMap::new();
    host.wait_for("1.0.1 to run", || {
        for pid in own(&host) {
            let threads = procs::threads(pid);
            assert!(threads <= 1, "{:?} has {threads} threads", procs::args(pid));
            if let Some(role) = procs::args(pid).last() {
                *roles.entry(role.clone()).or_insert(0) += threads;
            }
        }
        let has_seen = |role| roles.contains_key(role);
        host.reported("demo").0 == "1.0.1" && has_seen("beat") && has_seen("act")
    });
    assert!(
        roles.contains_key("beat") && roles.contains_key("act"),
        "{roles:?}"
    );
}

#[test]
fn an_idle_daemon_takes_less_than_a_megabyte() {
    if !has_own("memory") {
        return;
    }
    let host = Host::with_demo("1.0.0");
    host.wait_beats(10);
    let key = if is_static() { "VmRSS" } else { "RssAnon" };
    let size = procs::kilobytes(host.daemon_pid(), key).expect("a daemon");
    assert!(size < 1000, "{key} is {size} KB");
}

#[test]
fn installing_a_large_tarball_takes_less_than_three_megabytes() {
    if !has_own("memory") {
        return;
    }
    let mut host = Host::new();
    let size = if is_static() { 100 << 20 } else { 24 << 20 };
    let tarball =
        Agent::new("demo", "1.0.0")
            .archive(&host.dir)
            .file("data", 0o644, noise(size, 11));
    host.meta.publish("demo", "1.0.0", tarball.stored());
    host.desire(&[host.want("demo", "1.0.0")]);
    host.start();
    let key = if is_static() { "VmHWM" } else { "RssAnon" };
    let mut most = 0;
    host.wait_for("the large version to be in force", || {
        let sizes = own(&host)
            .into_iter()
            .filter_map(|pid| procs::kilobytes(pid, key));
        most = sizes.max().unwrap_or(0).max(most);
        host.version("demo") == "1.0.0"
    });
    assert!(most < 3000, "{key} came to {most} KB");
}

#[test]
fn the_daemon_opens_no_socket_to_another_host() {
    let host = Host::with_demo("1.0.0");
    let fds = PathBuf::from(format!("/proc/{}/fd", host.daemon_pid()));
    let mut looks = 0;
    host.wait_for("thirty looks at its descriptors", || {
        let tables = ["tcp", "tcp6", "udp", "udp6"]
            .map(|table| fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default());
        for entry in fs::read_dir(&fds).expect("a daemon").flatten() {
            let target = fs::read_link(entry.path()).unwrap_or_default();
            let inode = target.to_str().and_then(|text| {
                text.strip_prefix("socket:[")?
                    .strip_suffix(']')
                    .map(str::to_owned)
            });
            let Some(inode) = inode else { continue };
            assert!(
                !tables
                    .iter()
                    .any(|table| table.contains(&format!(" {inode} "))),
                "{}",
                target.display()
            );
        }
        looks += 1;
        looks >= 30
    });
}

#[test]
fn an_idle_round_leaves_no_process_behind() {
    let host = Host::with_demo("1.0.0");
    host.wait_beats(6);
    host.wait_for("daemon and agent to be alone between two rounds", || {
        procs::in_sandbox(&host.dir).len() == 2
    });
}

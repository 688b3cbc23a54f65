//! Checks what the updater takes from a host: one thread in each process, little memory, and no outgoing socket in the
//! daemon.

use crate::support::agent::Agent;
use crate::support::archive::noise;
use crate::support::fault::Faults;
use crate::support::host::Host;
use crate::support::json::quote;
use crate::support::minisign::{Key, list, words};
use crate::support::platform::{binary, has_own, is_static};
use crate::support::procs;
use crate::support::release_path;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

/// Returns the updater's own processes in the sandbox: daemon, heartbeat, worker.
fn own(host: &Host) -> Vec<u32> {
    let binary = binary();
    let mut found = procs::in_sandbox(&host.dir);
    found.retain(|pid| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == binary));
    found
}

/// The worker for heartbeats is gone too soon to be met. The next test holds one.
#[test]
fn daemon_and_worker_have_one_thread() {
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
        host.reported("demo").0 == "1.0.1"
    });
    assert!(roles.contains_key("act"), "{roles:?}");
}

/// minreq implements this limit by a second thread. A worker that is started by hand must ignore the variable too.
#[test]
fn a_time_limit_for_minreq_in_the_environment_is_not_heeded() {
    if !has_own("a thread") {
        return;
    }
    let server = Faults::serve(|mut exchange| exchange.hold());
    let mut host = Host::new();
    host.set("server", &quote(&server.addr()));
    host.env("MINREQ_TIMEOUT", "5");
    host.start();
    host.wait_for("a request of the worker", || server.heads().len() == 1);
    let is_worker = |pid: &u32| procs::args(*pid).last().is_some_and(|role| role == "beat");
    let worker = own(&host)
        .into_iter()
        .find(is_worker)
        .expect("the worker waits");
    let job = fs::read(format!("/proc/{worker}/fd/0")).expect("its job");
    fs::write(host.dir.join("job"), job).expect("a copy of it");
    let by_hand = host
        .command()
        .arg("beat")
        .stdin(File::open(host.dir.join("job")).expect("the job file"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut by_hand = by_hand.expect("the binary runs");
    host.wait_for("a request of the second worker", || {
        server.heads().len() == 2
    });
    std::thread::sleep(Duration::from_secs(6));
    for pid in [worker, by_hand.id()] {
        assert!(procs::alive(pid) && procs::threads(pid) == 1);
    }
    by_hand.kill().expect("the worker is killed");
    by_hand.wait().expect("the worker is reaped");
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
    if has_own("memory") {
        assert_small(Host::new(), None);
    }
}

#[test]
fn verifying_the_signature_of_a_large_tarball_takes_no_more() {
    if !has_own("memory") {
        return;
    }
    let mut host = Host::new();
    if let Some(key) = Key::new(&host, "one") {
        host.set("public_keys", &list(&[&key]));
        assert_small(host, Some(&key));
    }
}

/// Installs a large tarball, with a signature of this key.
fn assert_small(mut host: Host, key: Option<&Key>) {
    let size = if is_static() { 100 << 20 } else { 24 << 20 };
    let tarball =
        Agent::new("demo", "1.0.0")
            .archive(&host.dir)
            .file("data", 0o644, noise(size, 11));
    let bytes = tarball.stored();
    if let Some(key) = key {
        let path = release_path("demo", "1.0.0") + ".minisig";
        host.meta.put(&path, key.sign(&bytes, &words("1.0.0")));
    }
    host.meta.publish("demo", "1.0.0", bytes);
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
    let mut checks = 0;
    host.wait_for("thirty checks of its descriptors", || {
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
        checks += 1;
        checks >= 30
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

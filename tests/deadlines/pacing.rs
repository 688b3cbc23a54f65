//! The updater retries what failed after a pause, so that it does not overload hosts, servers and stores.

use crate::support::agent::Agent;
use crate::support::fault::Faults;
use crate::support::host::Host;
use crate::support::json::{self, Json as _};
use crate::support::platform::has_own;
use crate::support::{archive, md5_hex, procs};
use miniserde::json::Value;
use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Returns the history of demo in the ledger.
fn history(host: &Host) -> Value {
    let text = fs::read_to_string(host.own.join("var/ledger.json")).unwrap_or_default();
    json::parse(&text).field("agents").field("demo").clone()
}

fn count(host: &Host, key: &str) -> u64 {
    history(host).field(key).number().unwrap_or(0)
}

#[test]
fn a_start_that_the_host_prevents_is_not_tried_in_a_hurry() {
    let mut host = Host::with_installed_demo("1.0.0");
    host.stop();
    host.kill_agent("demo");
    let lock = host.agent_dir("demo").join(".updater/lock");
    fs::remove_file(&lock).expect("a lock");
    fs::create_dir(&lock).expect("an obstacle");
    host.set("interval", "300");
    let (heartbeats, calls) = (host.meta.count_beats(), host.all_calls("demo").len());
    host.start();
    host.prompt();
    host.stays(Duration::from_secs(8), "few heartbeats and calls", || {
        host.meta.count_beats() - heartbeats <= 4 && host.all_calls("demo").len() - calls <= 8
    });
    assert!(host.meta.count_beats() > heartbeats);
    fs::remove_dir(&lock).expect("an obstacle");
    host.wait_for("demo to run again", || !host.running("demo").is_empty());
}

#[test]
fn what_the_store_lacked_does_not_count_against_the_version() {
    let host = Host::with_demo("1.0.0");
    host.desire(&[host.want("demo", "1.0.1")]);
    host.wait_for("two failed downloads", || {
        count(&host, "host_failures") >= 2
    });
    assert_eq!(count(&host, "version_failures"), 0);
    host.publish(&Agent::new("demo", "1.0.1").on_start("exit 1"));
    host.wait_for("the bad start to be recorded", || {
        count(&host, "version_failures") > 0
    });
    assert_eq!(count(&host, "version_failures"), 1);
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let wait = count(&host, "retry_at").saturating_sub(now.expect("after 1970").as_secs());
    assert!((500..=601).contains(&wait), "the next try is in {wait} s");
    host.wait_running("demo", "1.0.0");
}

#[test]
fn a_download_that_is_wanted_no_more_delays_no_other_wish() {
    let mut host = Host::with_demo("1.0.0");
    host.set("interval", "20");
    host.signal_daemon(libc::SIGHUP);
    let slow = archive::noise(300_000, 7);
    let bytes = slow.clone();
    let store = Faults::serve(move |mut exchange| {
        exchange.head("200 OK", &[], Some(bytes.len()));
        exchange.send(b"\x1f\x8b");
        exchange.send_slowly(&bytes[2..], 5000);
    });
    let entry = host.want("demo", "1.0.1").tarball(store.releases());
    host.desire(&[entry.md5(md5_hex(&slow))]);
    host.prompt();
    host.wait_for("the download to begin", || !store.heads().is_empty());
    host.publish(&Agent::new("demo", "1.0.2"));
    host.desire(&[host.want("demo", "1.0.2")]);
    host.prompt();
    host.wait_within(Duration::from_secs(8), "1.0.2 to run", || {
        host.version("demo") == "1.0.2" && host.running("demo").len() == 1
    });
}

#[test]
fn a_failure_of_a_wish_of_before_delays_no_other_wish() {
    let host = Host::with_demo("1.0.0");
    host.publish(&Agent::new("demo", "1.0.1").on_start("sleep 3; exit 1"));
    host.publish(&Agent::new("demo", "1.0.2"));
    host.desire(&[host.want("demo", "1.0.1")]);
    host.wait_for("the bad start to be under way", || {
        host.calls("demo").contains(&"1.0.1 start".to_owned())
    });
    host.desire(&[host.want("demo", "1.0.2")]);
    host.wait_running("demo", "1.0.2");
    assert_eq!(count(&host, "version_failures"), 0);
}

#[test]
fn hundreds_of_installs_take_turns_and_heartbeats_go_on() {
    if !has_own("speed") {
        return;
    }
    let mut host = Host::new();
    let silent = Faults::serve(|mut exchange| exchange.hold());
    let entries: Vec<_> = (0..300)
        .map(|n| {
            host.want(&format!("a{n}"), "1.0.0")
                .tarball(silent.releases())
        })
        .collect();
    host.desire(&entries);
    host.start();
    let steps = |host: &Host| {
        let daemon = host.daemon_pid();
        let children = procs::all().into_iter();
        let children = children.filter(|pid| procs::parent(*pid) == Some(daemon));
        children
            .filter(|pid| procs::args(*pid).last().is_some_and(|role| role == "act"))
            .count()
    };
    host.wait_for("installs to begin", || steps(&host) >= 16);
    let before = host.meta.count_beats();
    host.stays(Duration::from_secs(6), "at most 16 at once", || {
        steps(&host) <= 16
    });
    let heartbeats = || host.meta.count_beats() - before;
    assert!(heartbeats() <= 9, "{} heartbeats in 6 s", heartbeats());
    host.wait_for("heartbeats to go on", || heartbeats() >= 3);
}

#[test]
fn a_store_that_drops_every_connection_is_not_hammered() {
    let mut host = Host::new();
    let bytes = Agent::new("demo", "1.0.0").tarball(&host.dir);
    let md5 = md5_hex(&bytes);
    let store = Faults::serve(move |mut exchange| match exchange.range() {
        None => exchange.begin(&bytes, 2),
        Some(from) => {
            let range = format!("Content-Range: bytes {from}-{}/{0}", bytes.len() - 1);
            let range = range.replacen(&format!("/{from}"), &format!("/{}", bytes.len()), 1);
            exchange.head("206 Partial Content", &[&range], Some(bytes.len() - from));
            exchange.send(&bytes[from..=from]);
        }
    });
    let entry = host.want("demo", "1.0.0").tarball(store.releases());
    host.desire(&[entry.md5(md5)]);
    host.start();
    host.wait_for("the first download", || !store.heads().is_empty());
    host.stays(
        Duration::from_secs(8),
        "at most one request a second",
        || store.heads().len() <= 9,
    );
    assert!(store.heads().len() >= 3);
}

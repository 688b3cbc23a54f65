//! The updater ends scripts and connections that never end by themselves. These tests wait for real deadlines.

use crate::support::agent::Agent;
use crate::support::fault::Faults;
use crate::support::host::Host;
use crate::support::json::quote;
use crate::support::procs;
use crate::support::{archive, md5_hex};
use std::fs;
use std::time::{Duration, Instant};

/// A time longer than any deadline of a control script or a connection.
const LONG: Duration = Duration::from_secs(110);

/// Returns the hanging scripts: the processes in the sandbox that run `sleep 1000`.
fn hanging(host: &Host) -> Vec<u32> {
    let mut found = procs::in_sandbox(&host.dir);
    found.retain(|pid| procs::args(*pid) == ["sleep", "1000"]);
    found
}

#[test]
fn a_start_that_hangs_and_ignores_term_is_killed_and_rolled_back() {
    let host = Host::with_demo("1.0.0");
    host.publish(&Agent::new("demo", "1.0.1").on_start("trap '' TERM; sleep 1000; sleep 1000"));
    host.desire(&[host.want("demo", "1.0.1")]);
    host.wait_rolled_back(LONG);
    assert!(hanging(&host).is_empty());
}

#[test]
fn a_version_that_never_says_started_is_rolled_back() {
    let host = Host::with_demo("1.0.0");
    host.publish(&Agent::new("demo", "1.0.1").on_status("echo stoped; return"));
    host.desire(&[host.want("demo", "1.0.1")]);
    host.wait_rolled_back(LONG);
}

#[test]
fn a_stop_that_hangs_never_leads_to_two_versions_at_once() {
    let stop = "trap '' TERM; sleep 1000; sleep 1000";
    let host = Host::with_running(&Agent::new("demo", "1.0.0").on_stop(stop));
    let before = host.running("demo").remove(0);
    host.publish(&Agent::new("demo", "1.0.1"));
    host.desire(&[host.want("demo", "1.0.1")]);
    host.wait_for("the stop to hang", || !hanging(&host).is_empty());
    let first = hanging(&host);
    host.wait_within(LONG, "the failed stop to be reported", || {
        assert_eq!(host.running("demo"), std::slice::from_ref(&before));
        !host.error("demo").is_empty()
    });
    assert_eq!(host.version("demo"), "1.0.0");
    assert!(!host.calls("demo").contains(&"1.0.1 start".to_owned()));
    assert!(
        !first.iter().any(|pid| procs::alive(*pid)),
        "a hanging script still runs"
    );
}

#[test]
fn a_status_that_hangs_keeps_no_other_agent_from_being_restarted() {
    let mut host = Host::new();
    host.publish(
        &Agent::new("hang", "1.0.0")
            .on_status("[ ! -e \"$sandbox/hang\" ] || { trap '' TERM; sleep 1000; }"),
    );
    host.publish(&Agent::new("demo", "1.0.0"));
    host.desire(&[host.want("hang", "1.0.0"), host.want("demo", "1.0.0")]);
    host.start();
    host.wait_running("hang", "1.0.0");
    host.wait_running("demo", "1.0.0");
    fs::write(host.dir.join("hang"), "").expect("a file");
    host.wait_for("a status to hang", || !hanging(&host).is_empty());
    host.kill_agent("demo");
    host.wait_within(LONG, "demo to run again", || {
        host.running("demo").len() == 1
    });
    host.wait_within(LONG, "hang to be reported as something else", || {
        host.reported("hang").1 != "started"
    });
    assert_eq!(
        host.calls("hang")
            .iter()
            .filter(|call| call.ends_with("stop"))
            .count(),
        0
    );
    fs::remove_file(host.dir.join("hang")).expect("a file");
    host.wait_within(LONG, "hang to be reported as started", || {
        host.reported("hang").1 == "started"
    });
    host.wait_for("no hanging script to be left", || hanging(&host).is_empty());
}

#[test]
fn a_download_that_stalls_is_given_up_and_goes_on_where_it_was() {
    let host = Host::with_demo("1.0.0");
    let before = host.running("demo");
    let agent = Agent::new("demo", "1.0.1").file("data", archive::noise(300_000, 6));
    let bytes = agent.archive(&host.dir).stored();
    let digest = md5_hex(&bytes);
    let store = Faults::stalling(bytes, 200_000);
    host.desire(&[host
        .want("demo", "1.0.1")
        .tarball(store.releases())
        .md5(digest)]);
    host.wait_within(LONG, "a second request", || {
        // The order matters: after the second request the agent may be replaced at any moment.
        let now = host.running("demo");
        assert!(store.heads().len() > 1 || now == before);
        store.heads().len() > 1
    });
    host.wait_running("demo", "1.0.1");
}

#[test]
fn a_download_that_trickles_is_not_given_up() {
    let mut host = Host::new();
    let agent = Agent::new("demo", "1.0.0").file("data", archive::noise(3000, 6));
    let bytes = agent.archive(&host.dir).stored();
    let digest = md5_hex(&bytes);
    let rate = bytes.len() / 70;
    let store = Faults::serve(move |mut exchange| {
        exchange.head("200 OK", &[], Some(bytes.len()));
        exchange.send_slowly(&bytes, rate);
    });
    host.desire(&[host
        .want("demo", "1.0.0")
        .tarball(store.releases())
        .md5(digest)]);
    host.start();
    host.wait_within(LONG, "the version to be in force", || {
        host.version("demo") == "1.0.0"
    });
    assert_eq!(store.heads().len(), 1);
}

#[test]
fn a_server_that_says_nothing_is_given_up_and_asked_again() {
    let silent = Faults::serve(|mut exchange| exchange.hold());
    let mut host = Host::with_demo("1.0.0");
    host.set("server", &quote(&silent.addr()));
    host.signal_daemon(libc::SIGHUP);
    host.wait_within(LONG, "a second request", || silent.heads().len() >= 2);
    host.kill_agent("demo");
    host.wait_within(LONG, "the agent to run again", || {
        host.running("demo").len() == 1
    });
}

#[test]
fn an_agent_that_keeps_dying_is_restarted_ever_more_slowly() {
    let host = Host::with_demo("1.0.0");
    let mut waits = Vec::new();
    for _ in 0..3 {
        let starts = host.calls("demo").len();
        host.kill_agent("demo");
        let began = Instant::now();
        host.wait_within(LONG, "the next start", || {
            host.calls("demo").len() > starts && host.running("demo").len() == 1
        });
        waits.push(began.elapsed().as_secs());
        host.wait_beats(1);
    }
    assert!(waits[0] < 7, "{waits:?}");
    assert!((8..20).contains(&waits[1]), "{waits:?}");
    assert!((17..32).contains(&waits[2]), "{waits:?}");
}

#[test]
fn an_agent_that_dies_at_every_start_is_reported() {
    let mut host = Host::new();
    host.publish(&Agent::new("demo", "1.0.0").lives("0.5"));
    host.desire(&[host.want("demo", "1.0.0")]);
    host.start();
    host.wait_error("demo");
    let starts = host
        .calls("demo")
        .iter()
        .filter(|call| call.ends_with(" start"))
        .count();
    assert!(starts <= 3, "{starts} starts");
}

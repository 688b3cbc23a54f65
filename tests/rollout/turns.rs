//! `download_spread`: each host of a fleet waits its part of it before it downloads. What an operator wants does not wait.

use crate::support::agent::Agent;
use crate::support::host::Host;
use crate::support::json::{self, Json as _, quote};
use crate::support::prepared;
use miniserde::json::Value;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

const SPREAD: u64 = 86_400;

/// Returns a host that runs 1.0.0 and has a turn of its own in a day, with 1.0.1 in the store. The name of the host chooses
/// the turn.
fn host_of_a_fleet() -> Host {
    let mut host = Host::new();
    host.set("hostname", &quote("web-17"));
    host.set("download_spread", &SPREAD.to_string());
    prepared::settle(&host, &[Agent::new("demo", "1.0.0")]);
    host.publish(&Agent::new("demo", "1.0.1"));
    host.start();
    host.wait_running("demo", "1.0.0");
    host
}

/// Has the server desire 1.0.1, and waits until this waits for its turn.
fn upgrade_in_turn(host: &Host) {
    host.desire(&[host.want("demo", "1.0.1")]);
    host.wait_for("the turn in the status", || {
        status(host).field("next").text() == "install 1.0.1 in its turn"
    });
}

/// Returns what the status file has of demo.
fn status(host: &Host) -> Value {
    let text = fs::read_to_string(host.own.join("var/status.json")).unwrap_or_default();
    let status = json::parse(&text);
    status
        .field("agents")
        .items()
        .first()
        .map_or(Value::Null, Clone::clone)
}

fn turn(host: &Host) -> u64 {
    status(host).field("retryAt").number().unwrap_or(0)
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("after 1970").as_secs()
}

/// Runs a command. Returns its exit code and its standard output.
fn run(host: &Host, words: &[&str]) -> (Option<i32>, String) {
    let output = host.run_with(words);
    let text = String::from_utf8(output.stdout).expect("text");
    (output.status.code(), text)
}

fn has_downloaded(host: &Host) -> bool {
    let downloads = host.meta.downloads();
    downloads.iter().any(|seen| seen.path.contains("1.0.1"))
}

#[test]
fn a_host_waits_for_its_turn_and_says_when_it_comes() {
    let host = host_of_a_fleet();
    let before = now();
    upgrade_in_turn(&host);
    let turn = turn(&host);
    assert!((before..=now() + SPREAD).contains(&turn), "{turn}");
    host.wait_beats(3);
    assert!(!has_downloaded(&host));
    assert_eq!(host.version("demo"), "1.0.0");
    let (code, text) = run(&host, &["status"]);
    assert_eq!(code, Some(4), "{text}");
    assert!(
        text.contains("next: install 1.0.1 in its turn\n    due in "),
        "{text}"
    );
    let (code, text) = run(&host, &["plan"]);
    assert_eq!(code, Some(4), "{text}");
    let line = "demo: nothing now, install 1.0.1 in its turn, in ";
    assert!(text.starts_with(line), "{text}");
}

#[test]
fn the_server_is_told_what_waits_for_its_turn() {
    let host = host_of_a_fleet();
    host.publish(&Agent::new("other", "1.0.0"));
    host.desire(&[host.want("demo", "1.0.1"), host.want("other", "1.0.0")]);
    host.wait_for("the phase of demo in a heartbeat", || {
        let demo = host.last_beat().expect("a heartbeat").agent("demo");
        demo.field("phase").text() == "waiting for its turn"
    });
    host.wait_for("the status of what was never installed", || {
        host.reported("other") == (String::new(), "waiting for its turn".to_owned())
    });
    assert_eq!(host.reported("demo").1, "started");
}

#[test]
fn a_restart_moves_no_turn() {
    let mut host = host_of_a_fleet();
    upgrade_in_turn(&host);
    let before = turn(&host);
    host.kill_updater();
    host.start();
    host.wait_beats(3);
    upgrade_in_turn(&host);
    assert_eq!(turn(&host), before);
    assert!(!has_downloaded(&host));
}

#[test]
fn a_turn_comes() {
    let mut host = host_of_a_fleet();
    host.set("download_spread", "4");
    host.signal_daemon(libc::SIGHUP);
    host.wait_beats(2);
    host.desire(&[host.want("demo", "1.0.1")]);
    host.wait_running("demo", "1.0.1");
}

#[test]
fn what_an_operator_wants_does_not_wait() {
    let mut host = host_of_a_fleet();
    upgrade_in_turn(&host);
    let (code, text) = run(&host, &["retry", "demo"]);
    assert_eq!(code, Some(0), "{text}");
    host.wait_running("demo", "1.0.1");
    host.publish(&Agent::new("demo", "1.0.2"));
    host.desire(&[host.want("demo", "1.0.2")]);
    host.wait_for("1.0.2 to wait for its turn", || {
        status(&host).field("next").text() == "install 1.0.2 in its turn"
    });
    host.stop();
    let (code, text) = run(&host, &["once"]);
    assert_eq!(code, Some(0), "{text}");
    host.wait_running("demo", "1.0.2");
}

#[test]
fn a_pinned_version_does_not_wait() {
    let host = host_of_a_fleet();
    upgrade_in_turn(&host);
    let (code, text) = run(&host, &["pin", "demo", "1.0.1"]);
    assert_eq!(code, Some(0), "{text}");
    host.wait_running("demo", "1.0.1");
}

#[test]
fn without_the_setting_nothing_waits_any_more() {
    let mut host = host_of_a_fleet();
    upgrade_in_turn(&host);
    host.set("download_spread", "0");
    host.signal_daemon(libc::SIGHUP);
    host.wait_running("demo", "1.0.1");
}

#[test]
fn a_stop_and_a_version_on_disk_do_not_wait() {
    let host = host_of_a_fleet();
    upgrade_in_turn(&host);
    host.desire(&[host.want("demo", "1.0.1").cmd("stop")]);
    host.wait_for("demo to stop", || host.running("demo").is_empty());
    host.desire(&[host.want("demo", "1.0.0")]);
    host.wait_running("demo", "1.0.0");
    assert!(!has_downloaded(&host));
}

#[test]
fn an_agent_that_dies_before_its_turn_is_started_again() {
    let host = host_of_a_fleet();
    upgrade_in_turn(&host);
    host.kill_agent("demo");
    host.wait_for("the agent to be started again", || {
        host.running("demo").len() == 1
            && host.reported("demo") == ("1.0.0".to_owned(), "started".to_owned())
    });
    assert!(!has_downloaded(&host));
}

#[test]
fn a_version_whose_directory_is_lost_before_its_turn_is_installed_at_once() {
    let mut host = host_of_a_fleet();
    upgrade_in_turn(&host);
    host.stop();
    let (code, text) = run(&host, &["once"]);
    assert_eq!(code, Some(0), "{text}");
    host.start();
    host.wait_running("demo", "1.0.1");
    host.kill_agent("demo");
    fs::remove_dir_all(host.agent_dir("demo").join("1.0.1")).expect("it is removed");
    host.wait_running("demo", "1.0.1");
}

#[test]
fn a_release_that_repairs_an_agent_does_not_wait() {
    let mut host = Host::new();
    host.set("hostname", &quote("web-17"));
    host.set("download_spread", &SPREAD.to_string());
    host.publish(&Agent::new("demo", "1.0.0").on_start("exit 1"));
    host.desire(&[host.want("demo", "1.0.0")]);
    let (code, text) = run(&host, &["once"]);
    assert_ne!(code, Some(0), "{text}");
    host.publish(&Agent::new("demo", "1.0.1"));
    host.desire(&[host.want("demo", "1.0.1")]);
    host.start();
    host.wait_running("demo", "1.0.1");
}

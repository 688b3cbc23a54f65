//! Heartbeats carry the right fields and leave at the right time.

use crate::support::agent::Agent;
use crate::support::fault::Faults;
use crate::support::host::Host;
use crate::support::json::{self, Json as _, quote};
use crate::support::platform::{arch, binary, command};
use crate::support::prepared;
use crate::support::wire::Answer;
use miniserde::json::Value;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

fn user() -> String {
    let output = Command::new("id").arg("-un").output().expect("id runs");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn keys(value: &Value) -> Vec<&str> {
    match value {
        Value::Object(object) => object.keys().map(String::as_str).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn a_heartbeat_has_the_fields_of_the_original() {
    let host = Host::with_demo("1.0.0");
    let heartbeat = host.last_beat().expect("a heartbeat came");
    assert_eq!(heartbeat.path, "/api/heartbeat");
    assert_eq!(heartbeat.header("Content-Type"), Some("application/json"));
    let body = heartbeat.json();
    assert_eq!(body.field("hostname").text(), "sandbox");
    assert_eq!(body.field("ip").text(), "127.0.0.1");
    assert_eq!(body.field("runUser").text(), user());
    let version = command(&binary())
        .arg("-v")
        .output()
        .expect("the binary runs");
    assert_eq!(
        body.field("updaterVersion").text(),
        String::from_utf8_lossy(&version.stdout).trim()
    );
    assert_eq!(body.field("arch").text(), arch());
    assert_eq!(body.field("realAgents").items().len(), 1);
    let agent = heartbeat.agent("demo");
    assert_eq!(agent.field("version").text(), "1.0.0");
    assert_eq!(agent.field("status").text(), "started");
    assert_eq!(
        agent.field("runUser").text(),
        "",
        "the run user is reported as it is desired"
    );
    assert_eq!(
        agent.field("workDir").text(),
        host.work.display().to_string()
    );
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_secs();
    assert!(
        agent
            .field("timestamp")
            .number()
            .is_some_and(|then| now.abs_diff(then) < 30)
    );
}

#[test]
fn a_heartbeat_has_every_field_that_the_captured_one_has_in_the_same_types() {
    let captured = json::parse(
        r#"{"hostname":"go-host","ip":"192.0.2.2","runUser":"root","updaterVersion":"0.0.3","realAgents":[{"name":"demo","version":"1.0.1","status":"started\n","timestamp":1795367521,"runUser":"falcon","workDir":"/home/falcon/open-falcon"}]}"#,
    );
    let host = Host::with_demo("1.0.0");
    let ours = host.last_beat().expect("a heartbeat came").json();
    let same = |a: &Value, b: &Value| std::mem::discriminant(a) == std::mem::discriminant(b);
    for key in keys(&captured) {
        assert!(same(captured.field(key), ours.field(key)), "{key}");
    }
    let (theirs, ours) = (
        &captured.field("realAgents").items()[0],
        &ours.field("realAgents").items()[0],
    );
    for key in keys(theirs) {
        assert!(same(theirs.field(key), ours.field(key)), "{key}");
    }
}

#[test]
fn a_host_without_agents_sends_an_empty_list_and_never_null() {
    let mut host = Host::new();
    host.start();
    host.wait_beats(2);
    for heartbeat in host.meta.beats() {
        let body = heartbeat.json();
        assert!(
            matches!(body.field("realAgents"), Value::Array(list) if list.is_empty()),
            "{}",
            heartbeat.body
        );
    }
}

#[test]
fn hostname_and_ip_are_what_the_configuration_says() {
    let mut host = Host::new();
    host.set("hostname", &quote("web-17.example"));
    host.set("ip", &quote("192.0.2.17"));
    host.start();
    host.wait_beats(1);
    let body = host.last_beat().expect("a heartbeat came").json();
    assert_eq!(body.field("hostname").text(), "web-17.example");
    assert_eq!(body.field("ip").text(), "192.0.2.17");
}

#[test]
fn without_a_configured_hostname_it_is_the_hosts_own() {
    let mut host = Host::new();
    host.set("hostname", "\"\"");
    host.start();
    host.wait_beats(1);
    let own = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("a hostname");
    let body = host.last_beat().expect("a heartbeat came").json();
    assert_eq!(body.field("hostname").text(), own.trim());
}

#[test]
fn an_agent_that_cannot_be_installed_is_reported_as_failed_with_the_reason() {
    let mut host = Host::new();
    host.desire(&[host.want("demo", "1.0.0")]);
    host.start();
    host.wait_for("the reason in the heartbeat", || {
        let (version, status) = host.reported("demo");
        version.is_empty() && status.starts_with("failed: ") && status.contains("404")
    });
    let agent = host.last_beat().expect("a heartbeat came").agent("demo");
    assert_eq!(agent.field("desiredVersion").text(), "1.0.0");
}

#[test]
fn a_finished_transition_is_reported_at_once() {
    let mut host = Host::new();
    host.set("interval", "60");
    host.publish(&Agent::new("demo", "1.0.0"));
    host.desire(&[host.want("demo", "1.0.0")]);
    host.start();
    host.prompt();
    host.wait_running("demo", "1.0.0");
}

/// A fleet that installs a release within one interval would otherwise send three times its heartbeats in it.
#[test]
fn what_is_only_installed_is_reported_together_with_its_start() {
    let mut host = Host::new();
    host.set("interval", "60");
    prepared::settle(&host, &[Agent::new("demo", "1.0.0")]);
    host.publish(&Agent::new("demo", "1.0.1"));
    host.desire(&[host.want("demo", "1.0.1")]);
    host.start();
    host.prompt();
    host.wait_for("the switch to end", || {
        host.log().contains("switch from 1.0.0 to 1.0.1: done")
    });
    let most = Duration::from_secs(2);
    host.stays(most, "two heartbeats", || host.meta.count_beats() <= 2);
    assert_eq!(host.reported("demo"), ("1.0.1".into(), "started".into()));
}

#[test]
fn heartbeats_leave_at_the_interval_and_not_in_step() {
    let mut host = Host::new();
    host.set("interval", "2");
    host.start();
    host.wait_beats(6);
    let times: Vec<_> = host
        .meta
        .beats()
        .iter()
        .map(|heartbeat| heartbeat.at)
        .collect();
    let gaps: Vec<_> = times
        .windows(2)
        .map(|pair| (pair[1] - pair[0]).as_secs_f64())
        .collect();
    assert!(gaps.iter().all(|gap| (1.7..3.0).contains(gap)), "{gaps:?}");
    let (min, max) = gaps.iter().fold((f64::MAX, 0_f64), |(min, max), gap| {
        (min.min(*gap), max.max(*gap))
    });
    assert!(max - min > 0.01, "no jitter: {gaps:?}");
}

#[test]
fn a_server_that_fails_is_asked_less_and_less_often() {
    let mut host = Host::new();
    host.meta.answer(Answer::new(500, "oops"));
    host.start();
    host.wait_beats(1);
    let began = Instant::now();
    host.stays(Duration::from_secs(16), "few heartbeats", || {
        host.meta.count_beats() <= 12
    });
    assert!(began.elapsed() >= Duration::from_secs(16));
    host.meta.answer_normally();
    host.signal_daemon(libc::SIGUSR1);
    host.wait_beats(4);
}

#[test]
fn retry_after_is_honoured() {
    for status in [429, 503] {
        let mut host = Host::new();
        host.meta
            .answer(Answer::new(status, "later").header("Retry-After", "6"));
        host.start();
        host.wait_beats(1);
        host.meta.answer_normally();
        let first = host.meta.beats()[0].at;
        host.wait_beats(1);
        let gap = host.meta.beats()[1].at - first;
        assert!(gap > Duration::from_millis(5300), "{status}: {gap:?}");
    }
}

#[test]
fn a_server_with_scheme_and_path_is_taken_as_given() {
    let mut host = Host::new();
    let url = host.meta.url("/ops/v2/beat");
    host.set("server", &quote(&url));
    host.start();
    host.wait_beats(1);
    assert_eq!(
        host.last_beat().expect("a heartbeat came").path,
        "/ops/v2/beat"
    );
}

#[test]
fn a_heartbeat_says_its_length_and_closes_its_connection() {
    let faults = Faults::serve(|mut exchange| exchange.reply("200 OK", &[], b"{}"));
    let mut host = Host::new();
    host.set("server", &quote(&faults.addr()));
    host.start();
    host.wait_for("a heartbeat", || !faults.heads().is_empty());
    let head = faults.heads()[0].to_lowercase();
    assert!(
        head.starts_with("post /api/heartbeat http/1.1\r\n"),
        "{head}"
    );
    assert!(head.contains("\r\ncontent-length: "), "{head}");
    assert!(head.contains("\r\nconnection: close\r\n"), "{head}");
    assert!(
        head.contains(&format!("\r\nhost: {}\r\n", faults.addr())),
        "{head}"
    );
}

#[test]
fn the_first_heartbeat_does_not_leave_at_the_moment_of_the_start() {
    let mut hosts: Vec<_> = (0..3).map(|_| Host::new()).collect();
    let mut waits = Vec::new();
    for host in &mut hosts {
        host.set("interval", "4");
        let began = Instant::now();
        host.start();
        host.wait_beats(1);
        waits.push(host.meta.beats()[0].at.duration_since(began).as_secs_f64());
    }
    assert!(waits.iter().all(|wait| *wait < 5.5), "{waits:?}");
    let spread = waits
        .iter()
        .fold(0_f64, |most, wait| most.max((wait - waits[0]).abs()));
    assert!(spread > 0.05, "all waited equally long: {waits:?}");
}

/// Otherwise a heartbeat of that moment could take the middle of a switch, in which the new version runs, for its end.
#[test]
fn a_step_is_reported_from_its_beginning_even_if_it_must_wait_for_its_agent() {
    let host = Host::with_demo("1.0.0");
    host.publish(&Agent::new("demo", "1.0.1"));
    let [old, new] = ["1.0.0", "1.0.1"].map(|version| host.want("demo", version));
    host.desire(std::slice::from_ref(&new));
    host.wait_running("demo", "1.0.1");
    let lock = host.agent_dir("demo").join(".updater/lock");
    let lock = fs::File::open(lock).expect("a lock");
    let phase = || {
        let beat = host.last_beat().expect("a heartbeat came");
        beat.agent("demo").field("phase").text().to_owned()
    };
    let is_reported_while_it_waits = |wanted: &str, cause: &dyn Fn()| {
        lock.lock().expect("no step hangs");
        cause();
        host.wait_for(wanted, || phase() == wanted);
        lock.unlock().expect("the lock is ours");
        host.wait_for("the end of it", || phase().is_empty());
    };
    is_reported_while_it_waits("starting", &|| host.kill_agent("demo"));
    is_reported_while_it_waits("switching", &|| host.desire(std::slice::from_ref(&old)));
    is_reported_while_it_waits("stopping", &|| host.desire(&[old.clone().cmd("stop")]));
    assert!(host.running("demo").is_empty());
}

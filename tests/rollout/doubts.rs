//! Checks that an unreliable status of an agent, or an unreliable disk, neither doubles the running agent nor loses
//! it.

use crate::support::agent::Agent;
use crate::support::fault::Faults;
use crate::support::host::Host;
use crate::support::prepared;
use crate::support::watch::running_below;
use crate::support::{archive, md5_hex};
use std::fs;
use std::time::Duration;

/// Returns a host where demo runs as 1.0.0. Its status does this once the file `odd` is in the sandbox.
fn host_with_odd_status(says: &str) -> Host {
    let status = format!("[ -e \"$sandbox/odd\" ] && {{ {says}; return; }}");
    Host::with_running(&Agent::new("demo", "1.0.0").on_status(&status))
}

/// Asserts that 1.0.0 is stopped before 1.0.1 starts, and that two versions never run at the same time.
fn assert_stopped_before_successor(host: &Host) {
    host.wait_for("1.0.1 to run", || {
        let now = running_below(&host.dir);
        assert!(now.len() <= 1, "two run at once: {now:?}");
        host.version("demo") == "1.0.1" && now.len() == 1
    });
    let calls = host.calls("demo");
    let of = |call: &str| calls.iter().position(|said| said == call);
    let (stop, start) = (of("1.0.0 stop"), of("1.0.1 start"));
    assert!(stop.is_some() && stop < start, "{calls:?}");
    host.wait_running("demo", "1.0.1");
}

#[test]
fn an_agent_that_says_a_third_word_is_stopped_before_its_successor_starts() {
    let mut host = Host::new();
    // The status is a normal word again once the agent is down. An adopted script with words of its own does so.
    let words = "if alive; then echo demo is running; else echo stoped; fi; return";
    host.publish(&Agent::new("demo", "1.0.1"));
    let old = Agent::new("demo", "1.0.0").on_status(words);
    host.publish(&old);
    let dir = prepared::left_by_the_original(&host, &old);
    prepared::start(&host, &dir);
    host.desire(&[host.want("demo", "1.0.1")]);
    host.start();
    assert_stopped_before_successor(&host);
}

#[test]
fn an_agent_whose_status_fails_at_the_switch_is_stopped_before_its_successor_starts() {
    let host = host_with_odd_status("echo 'sh: cannot fork' >&2; exit 2");
    // The status fails from the moment when the new version is on disk.
    let new = Agent::new("demo", "1.0.1");
    host.publish(&new);
    host.desire(&[host.want("demo", "1.0.1")]);
    host.wait_for("1.0.1 to be on disk", || {
        host.agent_dir("demo").join("1.0.1").exists()
    });
    fs::write(host.dir.join("odd"), "").expect("a file");
    assert_stopped_before_successor(&host);
}

#[test]
fn an_agent_that_says_a_third_word_is_stopped_by_cmd_stop() {
    let mut host = host_with_odd_status("if alive; then echo warming up; else echo stoped; fi");
    // The odd status begins only with the new desired state. Before that, an agent with an unrecognized status would
    // be started, which takes time.
    host.stop();
    fs::write(host.dir.join("odd"), "").expect("a file");
    host.desire(&[host.want("demo", "1.0.0").cmd("stop")]);
    host.start();
    host.wait_for("demo to stop", || {
        running_below(&host.dir).is_empty()
            && host
                .calls("demo")
                .last()
                .is_some_and(|call| call == "1.0.0 stop")
    });
    host.stays(Duration::from_secs(2), "down", || {
        running_below(&host.dir).is_empty()
    });
}

#[test]
fn a_wish_that_could_not_be_saved_is_saved_later() {
    let mut host = Host::with_demo("1.0.0");
    host.publish(&Agent::new("demo", "1.0.1"));
    let aside = host.own.join("desired_agent.json.tmp");
    fs::create_dir(&aside).expect("an obstacle");
    host.desire(&[host.want("demo", "1.0.1")]);
    host.wait_running("demo", "1.0.1");
    fs::remove_dir(&aside).expect("an obstacle");
    let saved = || fs::read_to_string(host.own.join("desired_agent.json")).unwrap_or_default();
    host.wait_for("the desired state to be saved", || {
        saved().contains("\"1.0.1\"")
    });
    host.meta.answer(crate::support::wire::Answer::new(503, ""));
    host.stop();
    host.start();
    host.wait_beats(1);
    host.stays(Duration::from_secs(3), "1.0.1 runs on", || {
        host.version("demo") == "1.0.1" && host.running("demo").len() == 1
    });
    assert!(!host.calls("demo").contains(&"1.0.1 stop".to_owned()));
}

#[test]
fn an_agent_that_dies_while_its_successor_is_fetched_is_restarted_at_once() {
    let host = Host::with_demo("1.0.0");
    let new = Agent::new("demo", "1.0.1").archive(&host.dir);
    let new = new.file("data", 0o644, archive::noise(400_000, 5)).stored();
    let bytes = new.clone();
    let store = Faults::serve(move |mut exchange| {
        if exchange.range().is_some() {
            return exchange.serve(&bytes);
        }
        exchange.head("200 OK", &[], Some(bytes.len()));
        exchange.send_slowly(&bytes, 10_000);
    });
    host.desire(&[host
        .want("demo", "1.0.1")
        .tarball(store.releases())
        .md5(md5_hex(&new))]);
    let part = host.agent_dir("demo").join(".updater/1.0.1.part");
    host.wait_for("the first bytes of the download", || {
        fs::metadata(&part).is_ok_and(|meta| meta.len() > 20_000)
    });
    host.kill_agent("demo");
    host.wait_within(Duration::from_secs(6), "1.0.0 to run again", || {
        !host.running("demo").is_empty()
    });
    assert_eq!(host.version("demo"), "1.0.0");
    host.wait_running("demo", "1.0.1");
    let ranges = store
        .heads()
        .iter()
        .filter(|head| head.contains("Range: bytes="))
        .count();
    assert!(ranges >= 1, "{:?}", store.heads());
}

#[test]
fn a_version_file_that_cannot_be_written_stops_nothing() {
    let host = Host::with_demo("1.0.0");
    let before = host.running("demo");
    // The obstacle is made once there is work to do. While nothing is to do, the updater removes unknown files in
    // .updater.
    host.desire(&[host.want("demo", "1.0.1")]);
    host.wait_error("demo");
    let aside = host.agent_dir("demo").join(".updater/version.tmp");
    fs::create_dir(&aside).expect("an obstacle");
    host.publish(&Agent::new("demo", "1.0.1"));
    host.wait_for("the report of the failure", || {
        host.error("demo").contains("version.tmp")
    });
    host.stays(Duration::from_secs(3), "1.0.0 runs untouched", || {
        host.running("demo") == before
    });
    assert_eq!(host.calls("demo"), ["1.0.0 start"]);
    fs::remove_dir(&aside).expect("an obstacle");
    host.wait_running("demo", "1.0.1");
}

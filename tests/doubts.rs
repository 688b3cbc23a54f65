//! When an agent's word or the disk cannot be relied upon: what runs is neither doubled nor lost.

use crate::support::agent::Agent;
use crate::support::fault::Faults;
use crate::support::host::Host;
use crate::support::json::Json as _;
use crate::support::watch::running_below;
use crate::support::{archive, md5_hex};
use std::fs;
use std::time::Duration;

/// demo runs as 1.0.0, whose status says this once the file `odd` is in the sandbox.
fn odd(says: &str) -> Host {
    let mut host = Host::new();
    let status = format!("[ -e \"$sandbox/odd\" ] && {{ {says}; return; }}");
    host.publish(&Agent::new("demo", "1.0.0").on_status(&status));
    host.desire(&[host.want("demo", "1.0.0")]);
    host.start();
    host.wait_running("demo", "1.0.0");
    host
}

/// Sees that 1.0.0 is stopped before 1.0.1 starts, and that two never run.
fn gives_way(host: &Host) {
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
    // It takes the word back when it is not up: an adopted script with words of its own.
    let words = "if alive; then echo demo is running; else echo stoped; fi; return";
    host.publish(&Agent::new("demo", "1.0.1"));
    let old = Agent::new("demo", "1.0.0").on_status(words);
    host.publish(&old);
    let dir = host.agent_dir("demo").join("1.0.0");
    fs::create_dir_all(&dir).expect("a directory");
    fs::write(dir.join("control"), old.control(&host.dir)).expect("a file");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(dir.join("control"), mode).expect("a mode");
    fs::write(host.agent_dir("demo").join(".version"), "1.0.0").expect("a file");
    let mut control = std::process::Command::new("./control");
    control.arg("start").current_dir(&dir);
    assert!(control.status().expect("the script runs").success());
    host.desire(&[host.want("demo", "1.0.1")]);
    host.start();
    gives_way(&host);
}

#[test]
fn an_agent_whose_status_fails_at_the_switch_is_stopped_before_its_successor_starts() {
    let host = odd("echo 'sh: cannot fork' >&2; exit 2");
    // From the moment on at which the new version is on disk.
    let new = Agent::new("demo", "1.0.1");
    host.publish(&new);
    host.desire(&[host.want("demo", "1.0.1")]);
    host.wait_for("1.0.1 to be on disk", || {
        host.agent_dir("demo").join("1.0.1").exists()
    });
    fs::write(host.dir.join("odd"), "").expect("a file");
    gives_way(&host);
}

#[test]
fn an_agent_that_says_a_third_word_is_stopped_by_cmd_stop() {
    let mut host = odd("if alive; then echo warming up; else echo stoped; fi");
    // Not before the wish is there: what says a third word and should run is asked to start, which takes its time.
    host.stop();
    fs::write(host.dir.join("odd"), "").expect("a file");
    host.desire(&[host.want("demo", "1.0.0").cmd("stop")]);
    host.start();
    host.wait_for("demo to be down", || {
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
    host.wait_for("the wish to be saved", || saved().contains("\"1.0.1\""));
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
    host.wait_for("some of the download", || {
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
    // Not before there is something to do: what lies about in .updater is removed while all is well.
    host.desire(&[host.want("demo", "1.0.1")]);
    host.wait_for("the missing release to be reported", || {
        let beat = host.last_beat();
        beat.is_some_and(|beat| !beat.agent("demo").field("error").text().is_empty())
    });
    let aside = host.agent_dir("demo").join(".updater/version.tmp");
    fs::create_dir(&aside).expect("an obstacle");
    host.publish(&Agent::new("demo", "1.0.1"));
    host.wait_for("the failure to be reported", || {
        let beat = host.last_beat();
        beat.is_some_and(|beat| {
            beat.agent("demo")
                .field("error")
                .text()
                .contains("version.tmp")
        })
    });
    host.stays(Duration::from_secs(3), "1.0.0 runs untouched", || {
        host.running("demo") == before
    });
    assert_eq!(host.calls("demo"), ["1.0.0 start"]);
    fs::remove_dir(&aside).expect("an obstacle");
    host.wait_running("demo", "1.0.1");
}

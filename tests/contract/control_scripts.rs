//! No control script, however unusual, harms another agent, the host or the updater.

use crate::support::agent::Agent;
use crate::support::archive::Tarball;
use crate::support::host::{Host, PATIENCE};
use crate::support::json::Json as _;
use crate::support::names::{can_mount, in_mounts};
use crate::support::platform::is_static;
use std::fs;
use std::time::{Duration, Instant};

#[test]
fn a_start_that_hangs_holds_up_neither_others_nor_heartbeats() {
    let mut host = Host::new();
    host.publish(&Agent::new("hang", "1.0.0").on_start("sleep 1000"));
    host.publish(&Agent::new("demo", "1.0.0"));
    host.publish(&Agent::new("demo", "1.0.1"));
    host.desire(&[host.want("hang", "1.0.0"), host.want("demo", "1.0.0")]);
    host.start();
    host.wait_for("hang to be started", || {
        host.calls("hang") == ["1.0.0 start"]
    });
    host.wait_running("demo", "1.0.0");
    host.desire(&[host.want("hang", "1.0.0"), host.want("demo", "1.0.1")]);
    host.wait_running("demo", "1.0.1");
    let began = Instant::now();
    host.wait_beats(4);
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(host.calls("hang"), ["1.0.0 start"]);
}

#[test]
fn a_start_that_leaves_its_output_open_hangs_nobody() {
    let mut host = Host::new();
    let start = "sleep 0 86400 & echo $! >app.pid; exit 0";
    host.publish(&Agent::new("demo", "1.0.0").on_start(start));
    host.desire(&[host.want("demo", "1.0.0")]);
    let began = Instant::now();
    host.start();
    host.wait_running("demo", "1.0.0");
    assert!(began.elapsed() < Duration::from_secs(20));
    host.wait_beats(3);
    assert_eq!(host.calls("demo"), ["1.0.0 start"]);
}

#[test]
fn a_start_that_floods_its_output_fills_no_disk() {
    let mut host = Host::new();
    host.publish(&Agent::new("demo", "1.0.0").on_start("yes 'a line of noise' | head -c 50000000"));
    host.desire(&[host.want("demo", "1.0.0")]);
    host.start();
    host.wait_running("demo", "1.0.0");
    host.wait_beats(2);
    let size = fs::metadata(host.agent_dir("demo").join(".updater/control.out"))
        .expect("the output file")
        .len();
    assert!(size <= 2 << 20, "{size} bytes");
}

#[test]
fn an_agent_that_writes_to_its_output_for_ever_fills_no_disk() {
    let mut host = Host::new();
    let noise = "( while :; do printf '%05000d' 0; sleep 0.01; done ) & sleep 0 86400 & echo $! >app.pid; exit 0";
    host.publish(&Agent::new("demo", "1.0.0").on_start(noise));
    host.desire(&[host.want("demo", "1.0.0")]);
    host.start();
    host.wait_running("demo", "1.0.0");
    let output = host.agent_dir("demo").join(".updater/control.out");
    let size = || fs::metadata(&output).map_or(0, |meta| meta.len());
    let (mut largest, mut shrunk) = (0, false);
    host.wait_for("the output to be cut", || {
        shrunk |= size() < largest;
        largest = size().max(largest);
        shrunk
    });
    assert!(largest < 4 << 20, "{largest} bytes");
}

#[test]
fn not_started_is_not_started() {
    let host = Host::with_demo("1.0.0");
    host.publish(
        &Agent::new("demo", "1.0.1")
            .on_start("exit 1")
            .on_status("echo not started; return"),
    );
    host.desire(&[host.want("demo", "1.0.1")]);
    host.wait_rolled_back(PATIENCE);
}

#[test]
fn only_the_first_word_of_the_status_counts() {
    let mut host = Host::new();
    let words = [
        "started pid 17",
        "  started",
        "started\\nbut old",
        "started\\tnow",
    ];
    let mut entries = Vec::new();
    for (i, word) in words.iter().enumerate() {
        let name = format!("agent-{i}");
        host.publish(
            &Agent::new(&name, "1.0.0")
                .on_status(&format!("alive && {{ printf '{word}\\n'; return; }}")),
        );
        entries.push(host.want(&name, "1.0.0"));
    }
    host.desire(&entries);
    host.start();
    host.wait_for("all agents to run", || {
        entries.iter().all(|entry| {
            host.version(&entry.name) == "1.0.0" && host.running(&entry.name).len() == 1
        })
    });
    host.wait_beats(4);
    for entry in &entries {
        assert_eq!(host.calls(&entry.name), ["1.0.0 start"]);
    }
}

#[test]
fn stopped_is_as_good_as_stoped() {
    let status = "alive || { echo stopped; return; }";
    let host = Host::with_running(&Agent::new("demo", "1.0.0").on_status(status));
    host.desire(&[host.want("demo", "1.0.0").cmd("stop")]);
    host.wait_for("the agent to be reported stopped", || {
        host.reported("demo").1 == "stopped"
    });
    host.wait_beats(3);
    assert_eq!(host.calls("demo"), ["1.0.0 start", "1.0.0 stop"]);
}

#[test]
fn a_status_with_escapes_and_megabytes_is_reported_short_and_clean() {
    let mut host = Host::new();
    let odd = "printf 'started \\033[31m\\001'; yes noise | head -c 300000; return";
    host.publish(&Agent::new("demo", "1.0.0").on_status(odd));
    host.desire(&[host.want("demo", "1.0.0")]);
    host.start();
    host.wait_for("a status in the heartbeat", || {
        !host.reported("demo").1.is_empty()
    });
    host.wait_beats(3);
    let heartbeat = host.last_beat().expect("a heartbeat came");
    let status = heartbeat.agent("demo").field("status").text().to_owned();
    assert!(status.starts_with("started"), "{status:?}");
    assert!(
        status.len() <= 200 && status.chars().all(|c| !c.is_control()),
        "{status:?}"
    );
}

#[test]
fn every_child_is_reaped() {
    let host = Host::with_demo("1.0.0");
    host.wait_beats(4);
    host.wait_without_zombies();
}

#[test]
fn a_control_script_without_a_status_is_not_taken_for_started() {
    let mut host = Host::new();
    host.publish(&Agent::new("demo", "1.0.0").on_status("exit 0"));
    host.desire(&[host.want("demo", "1.0.0")]);
    host.start();
    host.wait_for("the agent to be started", || {
        host.calls("demo") == ["1.0.0 start"]
    });
    host.stays(Duration::from_secs(8), "not reported as started", || {
        host.reported("demo").1 != "started"
    });
}

#[test]
fn a_control_that_cannot_be_run_is_reported_with_the_reason() {
    let sh = "#!/bin/sh\necho started\n";
    let mut rows = vec![
        (sh.replace('\n', "\r\n"), "its lines end with CR LF"),
        (
            sh.replace("/bin/sh", "/opt/no/such/sh"),
            "its interpreter /opt/no/such/sh is missing",
        ),
        (
            sh.replace("/bin/sh", "/etc/passwd"),
            "or its interpreter is not executable",
        ),
    ];
    // glibc takes a file without `#!` for a script of sh.
    if is_static() {
        rows.push((String::new(), "it has no #! line"));
        let marked = format!("\u{feff}{sh}");
        rows.push((marked, "a byte order mark stands before its #! line"));
    }
    for (script, words) in rows {
        let mut host = with_control(&script);
        host.start();
        let error = host.wait_error("demo");
        assert!(error.contains(words), "{error}");
    }
}

/// Returns a host that is to run a version with this script.
fn with_control(script: &str) -> Host {
    let host = Host::new();
    let tarball = Tarball::new().file("control", 0o755, script).gzip();
    host.meta.publish("demo", "1.0.0", tarball);
    host.desire(&[host.want("demo", "1.0.0")]);
    host
}

#[test]
fn a_control_on_a_file_system_without_programs_is_reported_with_the_reason() {
    if !can_mount() {
        return;
    }
    let mut host = with_control("#!/bin/sh\necho started\n");
    let work = host.work.display();
    let command = in_mounts(
        &host,
        &format!("mount -t tmpfs -o noexec,mode=755 none '{work}'"),
    );
    host.start_as(command);
    let error = host.wait_error("demo");
    assert!(
        error.contains("its file system is mounted noexec"),
        "{error}"
    );
}

//! Tests the start of the daemon and its signals. The daemon reacts within seconds and never leaves an agent down.

use crate::support::agent::Agent;
use crate::support::fault::Faults;
use crate::support::host::Host;
use crate::support::json::{Json as _, quote};
use crate::support::procs;
use crate::support::trial::each;
use crate::support::{archive, md5_hex};
use std::fs;
use std::time::{Duration, Instant};

/// Returns whether a stopped updater left only the processes of its agents.
fn only_agents_are_left(host: &Host) -> bool {
    let agents: Vec<_> = host
        .running("demo")
        .iter()
        .map(|running| running.pid)
        .collect();
    procs::in_sandbox(&host.dir)
        .iter()
        .all(|pid| agents.contains(pid))
}

/// Stops the daemon by this signal. It must end within 2 s with exit code 0.
fn assert_ends_by(host: &mut Host, signal: i32) {
    let began = Instant::now();
    host.signal_daemon(signal);
    let status = host.wait_exit();
    assert!(
        began.elapsed() < Duration::from_millis(2500),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(status.code(), Some(0));
}

fn is_up(host: &Host) -> bool {
    host.run("pid").status.success()
}

#[test]
fn term_and_int_end_the_daemon_within_two_seconds_and_leave_agents_running() {
    each(&[libc::SIGTERM, libc::SIGINT], |signal| {
        let mut host = Host::with_demo("1.0.0");
        let before = host.running("demo");
        assert_ends_by(&mut host, signal);
        assert_eq!(host.running("demo"), before);
        host.wait_for("every child to end", || only_agents_are_left(&host));
        assert_eq!(host.calls("demo"), ["1.0.0 start"]);
    });
}

#[test]
fn term_is_obeyed_while_the_server_is_silent() {
    let silent = Faults::serve(|mut exchange| exchange.hold());
    let mut host = Host::new();
    host.set("server", &quote(&silent.addr()));
    host.start();
    host.wait_for("a heartbeat to hang", || silent.heads().len() == 1);
    assert_ends_by(&mut host, libc::SIGTERM);
    host.wait_for("every child to end", || only_agents_are_left(&host));
}

#[test]
fn term_is_obeyed_in_the_middle_of_a_download_which_goes_on_after_the_next_start() {
    let mut host = Host::new();
    let agent = Agent::new("demo", "1.0.0").archive(&host.dir);
    let bytes = agent
        .file("data", 0o644, archive::noise(200_000, 9))
        .stored();
    let digest = md5_hex(&bytes);
    let slow = Faults::stalling(bytes, 80_000);
    host.desire(&[host
        .want("demo", "1.0.0")
        .tarball(slow.releases())
        .md5(digest)]);
    host.start();
    let part = host.agent_dir("demo").join(".updater/1.0.0.part");
    host.wait_for("the first bytes on disk", || {
        fs::metadata(&part).is_ok_and(|meta| meta.len() >= 60_000)
    });
    assert_ends_by(&mut host, libc::SIGTERM);
    host.wait_for("every child to end", || only_agents_are_left(&host));
    host.start();
    host.wait_running("demo", "1.0.0");
    assert!(
        slow.heads()[1].to_lowercase().contains("\r\nrange: bytes="),
        "{}",
        slow.heads()[1]
    );
}

#[test]
fn term_is_obeyed_while_a_fresh_agents_start_hangs() {
    let mut host = Host::new();
    host.publish(&Agent::new("demo", "1.0.0").on_start("sleep 1000"));
    host.desire(&[host.want("demo", "1.0.0")]);
    host.start();
    host.wait_for("the start to hang", || {
        host.calls("demo") == ["1.0.0 start"]
    });
    assert_ends_by(&mut host, libc::SIGTERM);
}

/// Sends TERM while 1.0.0 is being stopped for this version. Returns the host after the daemon has ended.
fn term_in_a_switch(new: &Agent) -> Host {
    let mut host = Host::with_running(&Agent::new("demo", "1.0.0").on_stop("sleep 2"));
    host.publish(new);
    host.desire(&[host.want("demo", "1.0.1")]);
    host.wait_for("the stop of the old version", || {
        host.calls("demo").len() == 2
    });
    assert_ends_by(&mut host, libc::SIGTERM);
    host
}

#[test]
fn a_switch_that_term_interrupts_is_finished_on_its_own() {
    let mut host = term_in_a_switch(&Agent::new("demo", "1.0.1"));
    host.wait_for("the end of the switch", || {
        host.version("demo") == "1.0.1"
            && host.running("demo").len() == 1
            && only_agents_are_left(&host)
    });
    assert_eq!(
        host.calls("demo"),
        ["1.0.0 start", "1.0.0 stop", "1.0.1 start"]
    );
    let before = host.running("demo");
    host.start();
    host.wait_running("demo", "1.0.1");
    assert_eq!(host.running("demo"), before);
}

#[test]
fn a_bad_switch_that_term_interrupts_is_rolled_back_on_its_own() {
    let host = term_in_a_switch(&Agent::new("demo", "1.0.1").on_start("exit 1"));
    host.wait_for("the rollback", || {
        host.version("demo") == "1.0.0"
            && host.running("demo").len() == 1
            && only_agents_are_left(&host)
    });
    assert_eq!(
        host.calls("demo").last().map(String::as_str),
        Some("1.0.0 start")
    );
}

#[test]
fn a_new_daemon_waits_for_a_switch_that_an_old_one_left_behind() {
    let mut host = term_in_a_switch(&Agent::new("demo", "1.0.1").on_start("sleep 2"));
    host.start();
    host.wait_running("demo", "1.0.1");
    host.wait_beats(2);
    assert_eq!(
        host.calls("demo"),
        ["1.0.0 start", "1.0.0 stop", "1.0.1 start"]
    );
}

#[test]
fn a_second_instance_exits_with_3_and_names_the_first() {
    let host = Host::with_demo("1.0.0");
    let output = host.command().output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(3));
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        message.contains(&host.daemon_pid().to_string()),
        "{message}"
    );
    let heartbeats = host.meta.count_beats();
    host.wait_beats(2);
    assert!(host.meta.count_beats() > heartbeats);
}

#[test]
fn asking_for_the_pid_never_keeps_a_daemon_from_starting() {
    let mut host = Host::new();
    fs::create_dir(host.own.join("var")).expect("a directory");
    let lock = fs::File::create(host.own.join("var/lock")).expect("a file");
    // `pid` takes this lock for a moment to see whether a daemon holds it. The test holds it longer, so that the
    // daemon meets it.
    lock.lock_shared().expect("a shared lock");
    host.start();
    std::thread::sleep(Duration::from_millis(100));
    drop(lock);
    host.wait_beats(1);
    assert!(is_up(&host));
}

#[test]
fn a_killed_daemon_leaves_no_lock_behind() {
    let mut host = Host::with_demo("1.0.0");
    let before = host.running("demo");
    host.kill_updater();
    host.start();
    host.wait_beats(2);
    assert_eq!(host.running("demo"), before);
}

#[test]
fn hup_takes_over_a_changed_configuration() {
    let mut host = Host::with_demo("1.0.0");
    let before = host.running("demo");
    host.set("hostname", &quote("renamed"));
    host.signal_daemon(libc::SIGHUP);
    host.wait_for("the new name in a heartbeat", || {
        host.last_beat()
            .is_some_and(|heartbeat| heartbeat.json().field("hostname").text() == "renamed")
    });
    assert_eq!(host.running("demo"), before);
}

#[test]
fn hup_with_a_bad_configuration_keeps_the_old_one() {
    let mut host = Host::with_demo("1.0.0");
    for bad in ["", "{\"server\": 7}", "{\"server\": \"\"}", "not json"] {
        fs::write(host.config_file(), bad).expect("cfg.json");
        host.signal_daemon(libc::SIGHUP);
        host.wait_beats(3);
        let name = host.last_beat().expect("a heartbeat came").json();
        assert_eq!(name.field("hostname").text(), "sandbox");
    }
    fs::remove_file(host.config_file()).expect("cfg.json");
    host.signal_daemon(libc::SIGHUP);
    host.wait_beats(3);
    assert!(host.stop().success());
}

#[test]
fn usr1_sends_a_heartbeat_now() {
    let mut host = Host::new();
    host.set("interval", "3600");
    host.start();
    host.wait_for("the daemon to be ready", || is_up(&host));
    for _ in 0..3 {
        host.signal_daemon(libc::SIGUSR1);
        host.wait_beats(1);
    }
}

#[test]
fn a_storm_of_signals_harms_nothing() {
    let host = Host::with_demo("1.0.0");
    let before = host.running("demo");
    for _ in 0..500 {
        host.signal_daemon(libc::SIGHUP);
        host.signal_daemon(libc::SIGUSR1);
        host.signal_daemon(libc::SIGCHLD);
        host.signal_daemon(libc::SIGPIPE);
    }
    host.wait_beats(3);
    assert_eq!(host.running("demo"), before);
}

//! What is done between two heartbeats, and before the first one: agents are checked, and what was in force is kept running.

use crate::support::agent::Agent;
use crate::support::fault::Faults;
use crate::support::host::Host;
use crate::support::http::free;
use crate::support::json::quote;
use crate::support::prepared;
use crate::support::procs;
use crate::support::wire::{Desired, stock_answer};
use std::fs;
use std::time::Duration;

/// Starts the daemon and waits until its first check is in the status file.
fn start_and_check(host: &mut Host) {
    let file = host.own.join("var/status.json");
    fs::remove_file(&file).expect("a status file");
    host.start();
    host.wait_for("the first check", || {
        let status = fs::read_to_string(&file);
        status.is_ok_and(|text| text.contains(r#""state":"started""#))
    });
}

/// Returns a host with a running agent whose daemon, started anew, sends heartbeats seldom and checks often.
fn seldom_and_often(interval: &str, check_interval: &str) -> Host {
    let mut host = Host::with_demo("1.0.0");
    host.stop();
    host.set("interval", interval);
    host.set("check_interval", check_interval);
    host
}

#[test]
fn an_agent_that_died_is_known_and_runs_again_within_the_check_interval() {
    let mut host = seldom_and_often("86400", "1");
    let heartbeats = host.meta.count_beats();
    start_and_check(&mut host);
    host.kill_agent("demo");
    host.wait_within(Duration::from_secs(20), "demo to run again", || {
        host.running("demo").len() == 1
    });
    assert!(
        host.log().contains("WARN demo: 1.0.0 died"),
        "{}",
        host.log()
    );
    // The heartbeat of the restart, and perhaps the first one.
    host.wait_for("the restart to be reported", || {
        host.meta.count_beats() > heartbeats
    });
    assert!(host.meta.count_beats() <= heartbeats + 2);
}

#[test]
fn checks_between_heartbeats_can_be_turned_off() {
    let mut host = seldom_and_often("86400", "0");
    start_and_check(&mut host);
    let calls = host.all_calls("demo").len();
    host.kill_agent("demo");
    host.stays(Duration::from_secs(3), "no further check", || {
        host.all_calls("demo").len() == calls
    });
}

#[test]
fn a_server_that_does_not_answer_keeps_no_agent_from_being_checked() {
    let mut host = seldom_and_often("2", "1");
    host.start();
    host.wait_beats(1);
    let silent = Faults::serve(|mut exchange| exchange.hold());
    host.set("server", &quote(&silent.addr()));
    host.signal_daemon(libc::SIGHUP);
    host.wait_for("a heartbeat to wait for its answer", || {
        !silent.heads().is_empty()
    });
    host.kill_agent("demo");
    host.wait_within(Duration::from_secs(20), "demo to run again", || {
        host.running("demo").len() == 1
    });
}

#[test]
fn after_a_boot_no_agent_waits_long_for_a_server_that_does_not_answer() {
    // The first check asks the server too.
    let mut host = seldom_and_often("2", "30");
    host.kill_agent("demo");
    let silent = Faults::serve(|mut exchange| exchange.hold());
    host.set("server", &quote(&silent.addr()));
    host.start();
    host.wait_within(Duration::from_secs(30), "demo to run", || {
        host.running("demo").len() == 1
    });
    assert_eq!(silent.heads().len(), 1, "it still waits for its answer");
}

#[test]
fn a_slow_server_and_slow_checks_do_not_delay_heartbeats_by_further_checks() {
    let slow = Agent::new("demo", "1.0.0").on_status("sleep 4");
    let mut host = Host::new();
    prepared::settle(&host, std::slice::from_ref(&slow));
    let answer = stock_answer(&[host.want("demo", "1.0.0")]);
    let server = Faults::serve(move |mut exchange| {
        std::thread::sleep(Duration::from_secs(2));
        exchange.reply("200 OK", &[], answer.as_bytes());
    });
    host.set("server", &quote(&server.addr()));
    host.set("interval", "5");
    host.start();
    host.wait_within(Duration::from_secs(90), "heartbeats", || {
        server.heads().len() >= 2
    });
    let (heartbeats, checks) = (server.heads().len(), host.all_calls("demo").len());
    host.wait_within(Duration::from_secs(90), "more heartbeats", || {
        server.heads().len() >= heartbeats + 3
    });
    // One that begins may be seen at each end.
    let checks = host.all_calls("demo").len() - checks;
    assert!(checks <= 3 + 1, "{checks} checks for 3 heartbeats");
}

#[test]
fn the_agents_are_known_as_soon_as_the_updater_was_started_again() {
    let mut host = seldom_and_often("86400", "30");
    let file = host.own.join("var/status.json");
    fs::remove_file(&file).expect("a status file");
    host.start();
    host.wait_within(Duration::from_secs(20), "the agent to be known", || {
        fs::read_to_string(&file).is_ok_and(|text| {
            text.contains(r#""version":"1.0.0","desired":"1.0.0""#)
                && text.contains(r#""state":"started""#)
        })
    });
}

#[test]
fn before_the_server_has_answered_what_was_in_force_is_started_and_nothing_else_is_done() {
    let mut host = Host::with_demo("1.0.0");
    host.publish(&Agent::new("demo", "1.0.1"));
    host.publish(&Agent::new("other", "1.0.0"));
    host.stop();
    host.kill_agent("demo");
    let saved = host.own.join("desired_agent.json");
    let entries = [host.want("demo", "1.0.1"), host.want("other", "1.0.0")];
    let entries: Vec<_> = entries.iter().map(Desired::json).collect();
    fs::write(&saved, format!("[{}]", entries.join(","))).expect("a saved desired state");
    host.desire(&[host.want("demo", "1.0.1"), host.want("other", "1.0.0")]);
    let server = host.meta.addr();
    host.set("server", &quote(&free("127.0.0.1")));
    host.start();
    host.wait_for("demo to run", || host.running("demo").len() == 1);
    host.wait_for("a heartbeat to fail", || {
        host.log().contains("cannot POST") || host.log().contains("asking again")
    });
    host.stays(Duration::from_secs(3), "nothing is installed", || {
        host.version("demo") == "1.0.0" && host.meta.downloads().is_empty()
    });
    host.set("server", &quote(&server));
    host.signal_daemon(libc::SIGHUP);
    host.wait_running("demo", "1.0.1");
    host.wait_running("other", "1.0.0");
}

#[test]
fn an_agent_that_is_to_be_stopped_is_not_started_from_the_saved_state() {
    let mut host = Host::with_demo("1.0.0");
    host.desire(&[host.want("demo", "1.0.0").cmd("stop")]);
    host.wait_for("demo to be stopped", || host.running("demo").is_empty());
    host.wait_for("the stop to be saved", || {
        let saved = fs::read_to_string(host.own.join("desired_agent.json"));
        saved.is_ok_and(|text| text.contains(r#""cmd":"stop""#))
    });
    host.stop();
    host.set("server", &quote(&free("127.0.0.1")));
    host.start();
    host.wait_for("a heartbeat to fail", || {
        host.log().contains("asking again")
    });
    assert!(host.running("demo").is_empty());
}

#[test]
fn a_check_that_is_killed_is_logged() {
    let mut host = Host::with_running(
        &Agent::new("demo", "1.0.0")
            .on_status("while [ -e \"$sandbox/hang\" ]; do sleep 0.1; done"),
    );
    host.stop();
    host.set("interval", "3600");
    host.set("check_interval", "1");
    start_and_check(&mut host);
    fs::write(host.dir.join("hang"), "").expect("a file");
    let is_check = |pid: &u32| {
        procs::args(*pid).get(1).map(String::as_str) == Some("beat")
            && procs::parent(*pid) == Some(host.daemon_pid())
    };
    host.wait_for("a check to be killed", || {
        let mut all = procs::all().into_iter();
        all.find(is_check)
            .is_some_and(|check| procs::signal(check, libc::SIGKILL))
    });
    host.wait_for("the reason in the log", || {
        host.log()
            .contains("WARN cannot check the agents: ended by signal 9")
    });
    fs::remove_file(host.dir.join("hang")).expect("a file");
}

#[test]
fn an_agent_whose_status_hangs_keeps_no_other_from_being_known() {
    let mut host = Host::new();
    let slow = Agent::new("slow", "1.0.0").on_status("sleep 60");
    prepared::settle(&host, &[Agent::new("demo", "1.0.0"), slow]);
    host.set("interval", "3600");
    host.start();
    host.prompt();
    let file = host.own.join("var/status.json");
    let mut text = String::new();
    host.wait_for("demo to be known", || {
        text = fs::read_to_string(&file).unwrap_or_default();
        text.contains(r#""state":"started""#)
    });
    assert!(!text.contains("did not end"), "{text}");
    host.wait_for("the other to be known", || {
        fs::read_to_string(&file).is_ok_and(|text| text.contains("did not end"))
    });
}

//! Agents that die: what is logged and shown of it, when they are started again, and when a new version is given up.

use crate::support::agent::Agent;
use crate::support::host::Host;
use crate::support::http::{free, get};
use crate::support::json::{Json as _, parse};
use miniserde::json::Value;
use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// An agent that dies again and again is started later each time.
const LONG: Duration = Duration::from_secs(60);

/// Returns the status file.
fn document(host: &Host) -> Value {
    parse(&fs::read_to_string(host.own.join("var/status.json")).unwrap_or_default())
}

/// Returns what the status file says of demo.
fn status(host: &Host) -> Value {
    let agents = document(host).field("agents").items().to_vec();
    let mut demo = agents
        .into_iter()
        .filter(|agent| agent.field("name").text() == "demo");
    demo.next().expect("demo in the status file")
}

fn lines<'a>(log: &'a str, what: &str) -> Vec<&'a str> {
    log.lines().filter(|line| line.contains(what)).collect()
}

#[test]
fn each_death_is_a_line_with_its_number_and_counts_as_a_restart() {
    let mut host = Host::with_demo("1.0.0");
    let addr = free("127.0.0.1");
    host.listen_at(&addr);
    host.signal_daemon(libc::SIGHUP);
    host.wait_answers(&addr);
    for deaths in 1..=2 {
        host.kill_agent("demo");
        host.wait_within(LONG, "the restart to be counted", || {
            status(&host).field("restarts").number() == Some(deaths)
        });
    }
    let log = host.log();
    let died = lines(&log, "WARN demo: 1.0.0 died");
    assert_eq!(died.len(), 2, "{log}");
    assert!(
        died[0].contains("its status is \"stoped\"; next start now"),
        "{}",
        died[0]
    );
    assert!(died[1].contains(", 2 times in a row, "), "{}", died[1]);
    host.wait_running("demo", "1.0.0");
    assert!(host.error("demo").starts_with("died 2 times in a row"));
    let metrics = get(&addr, "/metrics").body;
    assert!(
        metrics.contains("\nops_updater_agent_restarts_total{name=\"demo\"} 2\n")
            && metrics.contains("\nops_updater_agents_with_error 1\n"),
        "{metrics}"
    );
    let table = String::from_utf8(host.run("status").stdout).expect("a table");
    assert!(table.contains("2 restarts"), "{table}");
    // It runs. That a next death would have to wait is no try to come.
    assert!(!table.contains("next try"), "{table}");
}

#[test]
fn a_crash_loop_is_an_error_in_the_log_and_is_shown_as_long_as_it_lasts() {
    let mut host = Host::with_demo("1.0.0");
    host.stop();
    let ledger = host.own.join("var/ledger.json");
    let text = fs::read_to_string(&ledger).expect("a ledger");
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.expect("after 1970").as_secs();
    // The agent has died four times; with the next death it is in a crash loop.
    let deaths = format!("\"deaths\":[{0},{0},{0},{0}]", now - 5);
    fs::write(&ledger, text.replace("\"deaths\":[]", &deaths)).expect("a ledger");
    host.start();
    // Checked by the new daemon.
    host.wait_beats(1);
    host.kill_agent("demo");
    host.wait_for("the crash loop to be logged", || {
        host.log()
            .contains("ERROR demo: crash loop: died 5 times in a row")
    });
    host.wait_running("demo", "1.0.0");
    host.wait_for("the crash loop to be shown", || {
        host.error("demo").starts_with("crash loop")
    });
    host.kill_agent("demo");
    host.wait_for("the next death to be logged", || {
        host.log().contains(", in a crash loop, its status")
    });
    host.wait_for("the next start to be an hour away", || {
        let status = status(&host);
        status.field("retryAt").number().unwrap_or(0) > now + 3000
            && status.field("state").text() == "stopped"
    });
    assert!(matches!(
        status(&host).field("crashLoop"),
        Value::Bool(true)
    ));
}

#[test]
fn a_new_version_that_dies_again_and_again_gives_way_to_the_one_before() {
    let host = Host::with_demo("1.0.0");
    host.publish(&Agent::new("demo", "2.0.0").lives("14"));
    host.desire(&[host.want("demo", "2.0.0")]);
    host.wait_within(LONG * 3, "2.0.0 to be given up", || {
        host.error("demo").starts_with("2.0.0 died")
    });
    host.wait_running("demo", "1.0.0");
    let error = host.error("demo");
    assert!(
        error.contains("died 3 times within 10 min of its first start; back to 1.0.0"),
        "{error}"
    );
    assert!(host.log().contains(&format!("ERROR demo: {error}")));
    let starts = |host: &Host| {
        let calls = host.calls("demo");
        calls.iter().filter(|call| *call == "2.0.0 start").count()
    };
    assert_eq!(starts(&host), 3);
    host.wait_beats(3);
    assert_eq!(starts(&host), 3, "it waits for its next try");
    let document = document(&host);
    let rollbacks = document.field("counts").field("rollbacks").number();
    assert_eq!(rollbacks, Some(1), "it is counted");
    assert!(host.agent_dir("demo").join("2.0.0/control").exists());
}

#[test]
fn after_a_rollback_the_agent_is_shown_as_started_since_then() {
    let host = Host::with_demo("1.0.0");
    let before = status(&host).field("since").number().expect("a time");
    host.publish(&Agent::new("demo", "1.0.1").on_start("exit 1"));
    host.desire(&[host.want("demo", "1.0.1")]);
    host.wait_rolled_back(Duration::from_secs(60));
    let control = host.agent_dir("demo").join("1.0.0/app.pid");
    let written = fs::metadata(control).expect("the pid file of the start");
    let started = written
        .modified()
        .expect("a time")
        .duration_since(UNIX_EPOCH);
    let started = started.expect("after 1970").as_secs();
    host.wait_for("the new start to be shown", || {
        status(&host).field("since").number().unwrap_or(0) >= started
    });
    assert!(started > before);
}

#[test]
fn an_install_before_a_move_changes_nothing_of_since_when_the_agent_runs() {
    let host = Host::with_demo("1.0.0");
    let before = status(&host).field("since").number().expect("a time");
    host.wait_for("a second to pass", || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.is_ok_and(|now| now.as_secs() > before + 1)
    });
    // The store does not have it.
    host.desire(&[host.want("demo", "2.0.0").work_dir(&host.dir.join("new"))]);
    host.wait_for("the install to fail", || {
        host.error("demo").contains("cannot fetch")
    });
    host.wait_beats(2);
    let demo = status(&host);
    assert_eq!(demo.field("state").text(), "started");
    assert_eq!(demo.field("since").number(), Some(before));
}

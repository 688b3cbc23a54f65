//! Each test covers one row of the table of what the desired state means.

use crate::support::agent::Agent;
use crate::support::host::Host;
use crate::support::json::{self, Json as _};
use crate::support::md5_hex;
use crate::support::watch::{names, running_below, tree};
use std::fs;
use std::time::{Duration, Instant};

#[test]
fn a_fresh_agent_is_installed_and_started() {
    let host = Host::with_installed_demo("1.0.0");
    let dir = host.agent_dir("demo");
    assert_eq!(host.calls("demo"), ["1.0.0 start"]);
    assert!(Agent::new("demo", "1.0.0").is_whole_in(&dir.join("1.0.0"), &host.dir));
    assert_eq!(names(&dir), [".updater", ".version", "1.0.0"]);
    let receipt = fs::read_to_string(dir.join("1.0.0/.receipt.json")).expect("a receipt");
    let receipt = json::parse(&receipt);
    let tarball = Agent::new("demo", "1.0.0").tarball(&host.dir);
    assert_eq!(receipt.field("name").text(), "demo");
    assert_eq!(receipt.field("version").text(), "1.0.0");
    assert_eq!(receipt.field("md5").text(), md5_hex(&tarball));
    assert_eq!(receipt.field("size").number(), Some(tarball.len() as u64));
    assert!(receipt.field("url").text().ends_with("/demo-1.0.0.tar.gz"));
    assert!(receipt.has("time"));
}

#[test]
fn an_upgrade_stops_the_old_version_then_starts_the_new_and_keeps_both() {
    let host = Host::with_installed_demo("1.0.0");
    host.publish(&Agent::new("demo", "1.0.1"));
    host.desire(&[host.want("demo", "1.0.1")]);
    let running = host.wait_running("demo", "1.0.1");
    assert_eq!(running.dir, host.agent_dir("demo").join("1.0.1"));
    assert_eq!(
        host.calls("demo"),
        ["1.0.0 start", "1.0.0 stop", "1.0.1 start"]
    );
    assert_eq!(
        names(&host.agent_dir("demo")),
        [".updater", ".version", "1.0.0", "1.0.1"]
    );
}

#[test]
fn a_healthy_agent_costs_one_status_a_round_and_not_one_write() {
    let host = Host::with_demo("1.0.0");
    let before = host.running("demo");
    host.wait_beats(2);
    let (files, downloads) = (tree(&host.work), host.meta.downloads().len());
    let (calls, heartbeats) = (host.all_calls("demo").len(), host.meta.count_beats());
    host.wait_beats(5);
    let rounds = host.meta.count_beats() - heartbeats;
    assert_eq!(tree(&host.work), files);
    assert_eq!(host.meta.downloads().len(), downloads);
    assert_eq!(host.running("demo"), before);
    assert_eq!(host.calls("demo"), ["1.0.0 start"]);
    let checks = host.all_calls("demo").len() - calls;
    assert!(
        checks.abs_diff(rounds) <= 1,
        "{checks} checks in {rounds} rounds"
    );
}

#[test]
fn an_agent_that_died_is_started_again_at_once() {
    let host = Host::with_installed_demo("1.0.0");
    let before = host.running("demo").remove(0);
    let began = Instant::now();
    host.kill_agent("demo");
    host.wait_for("the agent to run again", || {
        !host.running("demo").is_empty()
    });
    assert!(began.elapsed() < Duration::from_secs(8));
    let after = host.wait_running("demo", "1.0.0");
    assert_ne!(after.pid, before.pid);
    assert_eq!(host.calls("demo"), ["1.0.0 start", "1.0.0 start"]);
    assert_eq!(host.meta.downloads().len(), 2, "one tarball, one md5");
}

#[test]
fn cmd_stop_stops_what_runs_and_removes_nothing() {
    let host = Host::with_demo("1.0.0");
    host.desire(&[host.want("demo", "1.0.0").cmd("stop")]);
    host.wait_for("the agent to be reported stopped", || {
        host.reported("demo") == ("1.0.0".to_owned(), "stoped".to_owned())
    });
    assert!(host.running("demo").is_empty());
    host.wait_beats(3);
    assert_eq!(host.calls("demo"), ["1.0.0 start", "1.0.0 stop"]);
    assert!(
        Agent::new("demo", "1.0.0").is_whole_in(&host.agent_dir("demo").join("1.0.0"), &host.dir)
    );
    let downloads = host.meta.downloads().len();
    host.desire(&[host.want("demo", "1.0.0")]);
    host.wait_running("demo", "1.0.0");
    assert_eq!(host.meta.downloads().len(), downloads);
}

#[test]
fn cmd_stop_never_installs() {
    let host = Host::with_installed_demo("1.0.0");
    host.publish(&Agent::new("demo", "1.0.1"));
    host.publish(&Agent::new("other", "1.0.0"));
    host.desire(&[
        host.want("demo", "1.0.1").cmd("stop"),
        host.want("other", "1.0.0").cmd("stop"),
    ]);
    host.wait_for("the old version to be stopped", || {
        host.running("demo").is_empty()
    });
    host.wait_beats(3);
    assert_eq!(host.meta.downloads().len(), 2, "one tarball, one md5");
    assert_eq!(host.version("demo"), "1.0.0");
    assert!(!host.agent_dir("other").join("1.0.0").exists());
}

#[test]
fn a_changed_md5_of_the_same_version_is_installed_as_a_new_build() {
    let mut host = Host::new();
    let old = Agent::new("demo", "1.0.0").file("build", "old");
    host.publish(&old);
    host.desire(&[host
        .want("demo", "1.0.0")
        .md5(md5_hex(&old.tarball(&host.dir)))]);
    host.start();
    host.wait_running("demo", "1.0.0");
    let new = Agent::new("demo", "1.0.0").file("build", "new");
    host.publish(&new);
    host.desire(&[host
        .want("demo", "1.0.0")
        .md5(md5_hex(&new.tarball(&host.dir)))]);
    let dir = host.agent_dir("demo");
    host.wait_for("the new build to run and the old one to be pruned", || {
        new.is_whole_in(&dir.join("1.0.0"), &host.dir)
            && host.running("demo").len() == 1
            && !dir.join(".updater/1.0.0.other").exists()
    });
    assert_eq!(
        host.calls("demo"),
        ["1.0.0 start", "1.0.0 stop", "1.0.0 start"]
    );
    let running = host.wait_running("demo", "1.0.0");
    assert_eq!(
        fs::read(running.dir.join("build")).expect("the agent's file"),
        b"new"
    );
}

#[test]
fn an_md5_in_capital_letters_is_the_same_md5() {
    let host = Host::with_installed_demo("1.0.0");
    let digest = md5_hex(&Agent::new("demo", "1.0.0").tarball(&host.dir));
    host.desire(&[host.want("demo", "1.0.0").md5(digest.to_uppercase())]);
    host.wait_beats(4);
    assert_eq!(host.calls("demo"), ["1.0.0 start"]);
    assert_eq!(host.meta.downloads().len(), 2, "one tarball, one md5");
}

#[test]
fn an_agent_moves_when_its_work_dir_changes() {
    let host = Host::with_demo("1.0.0");
    let elsewhere = host.dir.join("elsewhere");
    fs::create_dir(&elsewhere).expect("a directory");
    host.desire(&[host.want("demo", "1.0.0").work_dir(&elsewhere)]);
    host.wait_for("the agent to run at the new location only", || {
        running_below(&elsewhere).len() == 1 && host.running("demo").is_empty()
    });
    host.wait_for("the move to be reported", || {
        host.last_beat().is_some_and(|heartbeat| {
            let agent = heartbeat.agent("demo");
            agent.field("workDir").text() == elsewhere.display().to_string()
                && agent.field("status").text() == "started"
        })
    });
    assert_eq!(
        host.calls("demo"),
        ["1.0.0 start", "1.0.0 stop", "1.0.0 start"]
    );
}

#[test]
fn an_agent_that_does_not_start_at_its_new_work_dir_runs_on_at_the_old() {
    let picky = "case $PWD in *elsewhere*) exit 1 ;; esac";
    let host = Host::with_running(&Agent::new("demo", "1.0.0").on_start(picky));
    let elsewhere = host.dir.join("elsewhere");
    fs::create_dir(&elsewhere).expect("a directory");
    host.desire(&[host.want("demo", "1.0.0").work_dir(&elsewhere)]);
    host.wait_for("the move to be tried and undone", || {
        let starts = host
            .calls("demo")
            .iter()
            .filter(|call| *call == "1.0.0 start")
            .count();
        starts == 4 && host.running("demo").len() == 1
    });
    host.wait_beats(4);
    assert!(running_below(&elsewhere).is_empty());
    assert_eq!(host.running("demo").len(), 1);
}

#[test]
fn an_agent_no_longer_named_is_left_running_and_not_reported() {
    let mut host = Host::new();
    host.publish(&Agent::new("demo", "1.0.0"));
    host.publish(&Agent::new("other", "1.0.0"));
    host.desire(&[host.want("demo", "1.0.0"), host.want("other", "1.0.0")]);
    host.start();
    host.wait_running("demo", "1.0.0");
    let other = host.wait_running("other", "1.0.0");
    host.desire(&[host.want("demo", "1.0.0")]);
    host.wait_for("the agent to be reported no more", || {
        host.last_beat()
            .is_some_and(|heartbeat| !heartbeat.agent("other").has("name"))
    });
    host.wait_beats(2);
    assert_eq!(host.running("other"), [other]);
    assert_eq!(host.calls("other"), ["1.0.0 start"]);
}

#[test]
fn twelve_agents_are_installed_in_one_round() {
    let mut host = Host::new();
    host.set("interval", "300");
    let agents: Vec<_> = (0..12).map(|i| format!("agent-{i}")).collect();
    for name in &agents {
        host.publish(&Agent::new(name, "1.0.0").on_start("sleep 3"));
    }
    host.desire(
        &agents
            .iter()
            .map(|name| host.want(name, "1.0.0"))
            .collect::<Vec<_>>(),
    );
    host.start();
    host.prompt();
    host.wait_for("all twelve to run", || {
        agents.iter().all(|name| host.running(name).len() == 1)
    });
}

//! Two updaters with directories of their own on one work directory: one manages it, the other says who does.

use crate::support::agent::Agent;
use crate::support::host::Host;
use crate::support::json::Json as _;
use crate::support::watch::running_below;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Returns two hosts that share the work directory of the first. The first desires 1.0.0 and the second 2.0.0. The calls
/// of both versions are logged in the sandbox of the first.
fn rivals() -> [Host; 2] {
    let (one, mut other) = (Host::new(), Host::new());
    other.work.clone_from(&one.work);
    for (host, version) in [(&one, "1.0.0"), (&other, "2.0.0")] {
        let agent = Agent::new("demo", version);
        let tarball = agent.tarball(&one.dir);
        host.meta.publish("demo", version, tarball);
        host.desire(&[host.want("demo", version)]);
    }
    [one, other]
}

fn mark(host: &Host) -> PathBuf {
    host.agent_dir("demo").join(".updater/owner")
}

/// Returns the lines of a log that are about another updater.
fn lines_about(host: &Host, words: &str) -> Vec<String> {
    let log = host.log();
    let lines = log.lines().filter(|line| line.contains(words));
    lines.map(str::to_owned).collect()
}

/// Returns whether the newest heartbeat says that another updater manages demo.
fn says_who_manages(host: &Host, manager: &Host) -> bool {
    let path = manager.own.display().to_string();
    host.last_beat().is_some_and(|beat| {
        let error = beat.agent("demo").field("error").text().to_owned();
        error.contains("managed by") && error.contains(&path)
    })
}

#[test]
fn of_two_updaters_in_one_work_dir_one_acts_and_the_other_takes_over_when_it_is_gone() {
    let [mut one, mut other] = rivals();
    one.start();
    other.start();
    let began = Instant::now();
    let versions = ["1.0.0", "2.0.0"];
    one.wait_for("one of them to start its version", || {
        versions.contains(&one.version("demo").as_str()) && one.running("demo").len() == 1
    });
    let winner = one.version("demo");
    let (mut first, second) = if winner == "1.0.0" {
        (one, other)
    } else {
        (other, one)
    };
    // The calls of both are logged in the sandbox of one of them.
    let calls = || [first.calls("demo"), second.calls("demo")].concat();
    second.wait_for("the other to say who manages it", || {
        says_who_manages(&second, &first)
    });
    while began.elapsed() < Duration::from_secs(20) {
        assert_eq!(calls(), [format!("{winner} start")], "they fight");
        std::thread::sleep(Duration::from_millis(200));
    }
    let reports = lines_about(&second, "managed by");
    let checks = reports.iter().filter(|line| line.contains("left alone"));
    assert_eq!(checks.count(), 1, "{reports:?}");
    first.kill_updater();
    let last = if winner == "1.0.0" { "2.0.0" } else { "1.0.0" };
    second.wait_for("the other to take over", || {
        let running = running_below(&second.agent_dir("demo"));
        second.version("demo") == last && running.len() == 1
    });
    second.wait_running("demo", last);
    assert_eq!(lines_about(&second, "taken over").len(), 1);
    let text = fs::read_to_string(mark(&second)).expect("a mark");
    assert!(text.contains(&second.own.display().to_string()), "{text}");
}

#[test]
fn a_second_updater_does_not_even_restart_what_another_manages() {
    let mut first = Host::with_installed_demo("1.0.0");
    let mut second = Host::new();
    second.work.clone_from(&first.work);
    second.publish(&Agent::new("demo", "1.0.0"));
    second.desire(&[second.want("demo", "1.0.0")]);
    second.start();
    second.wait_for("the second to say who manages it", || {
        says_who_manages(&second, &first)
    });
    // The first is alive and cannot act.
    first.signal_daemon(libc::SIGSTOP);
    first.kill_agent("demo");
    second.wait_beats(5);
    assert_eq!(first.calls("demo"), ["1.0.0 start"]);
    first.signal_daemon(libc::SIGCONT);
    first.wait_for("the first to restart it", || {
        first.running("demo").len() == 1
    });
    first.stop();
}

#[test]
fn an_updater_knows_its_own_mark_again_and_renews_it() {
    let mut host = Host::with_installed_demo("1.0.0");
    let before = fs::read_to_string(mark(&host)).expect("a mark");
    host.stop();
    host.start();
    host.wait_for("the mark to name the new process", || {
        fs::read_to_string(mark(&host)).is_ok_and(|text| text != before)
    });
    let text = fs::read_to_string(mark(&host)).expect("a mark");
    assert!(text.contains(&host.own.display().to_string()), "{text}");
    host.wait_running("demo", "1.0.0");
    assert_eq!(host.calls("demo"), ["1.0.0 start"]);
    assert!(lines_about(&host, "taken over").is_empty());
}

#[test]
fn a_plan_beside_the_updater_leaves_its_mark() {
    let host = Host::with_installed_demo("1.0.0");
    let before = fs::read_to_string(mark(&host)).expect("a mark");
    assert_eq!(host.run("plan").status.code(), Some(0));
    assert_eq!(fs::read_to_string(mark(&host)).expect("a mark"), before);
}

#[test]
fn a_mark_that_says_nothing_is_replaced_by_the_next_step() {
    for text in ["", "{}", "no mark", &"x".repeat(100_000)] {
        let mut host = Host::with_demo("1.0.0");
        fs::write(mark(&host), text).expect("a mark");
        host.publish(&Agent::new("demo", "1.0.1"));
        host.desire(&[host.want("demo", "1.0.1")]);
        host.wait_running("demo", "1.0.1");
        let text = fs::read_to_string(mark(&host)).expect("a mark");
        assert!(text.contains(&host.own.display().to_string()), "{text}");
        host.stop();
    }
}

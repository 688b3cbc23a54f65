//! Tests a desired state whose location changes, or that is withdrawn while it is carried out. Two versions never run
//! at the same time.

use crate::support::agent::Agent;
use crate::support::host::Host;
use crate::support::json::Json as _;
use crate::support::prepared;
use crate::support::watch::{Running, running_below};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

/// Returns the processes of the agent in all directories of the sandbox.
fn everywhere(host: &Host) -> Vec<Running> {
    running_below(&host.dir)
}

/// Returns the directory of a version in the other work directory.
fn moved(host: &Host, version: &str) -> PathBuf {
    host.dir.join("new/demo").join(version)
}

/// Waits until demo runs well in this directory only. Asserts all the while that no second process runs.
#[track_caller]
fn wait_alone_in(host: &Host, dir: &PathBuf) {
    host.wait_for(&format!("demo to run alone in {}", dir.display()), || {
        let now = everywhere(host);
        assert!(now.len() <= 1, "two run at once: {now:?}");
        let is_reported = host.last_beat().is_some_and(|heartbeat| {
            let agent = heartbeat.agent("demo");
            agent.field("status").text() == "started" && agent.field("phase").text().is_empty()
        });
        is_reported && now.iter().any(|running| running.dir == *dir)
    });
    host.stays(Duration::from_secs(3), "one runs", || {
        everywhere(host).len() == 1
    });
    assert_eq!(everywhere(host)[0].dir, *dir);
}

/// Waits until the daemon has received the new desired state.
#[track_caller]
fn wait_received(host: &Host) {
    host.wait_beats(2);
}

/// Returns a host where demo runs as 1.0.0 and needs some time to stop.
fn slow_to_stop() -> Host {
    let stop = "if alive; then kill \"$pid\"; fi; sleep 4";
    Host::with_running(&Agent::new("demo", "1.0.0").on_stop(stop))
}

fn wait_stop(host: &Host) {
    host.wait_for("the beginning of the stop", || {
        host.calls("demo").contains(&"1.0.0 stop".to_owned())
    });
}

/// Withdraws the change in progress just before the updater restarts.
fn assert_withdrawal_in_a_restart(mut host: Host) {
    host.desire(&[host.want("demo", "1.0.0")]);
    wait_received(&host);
    host.stop();
    host.start();
    wait_alone_in(&host, &host.agent_dir("demo").join("1.0.0"));
}

#[test]
fn a_switch_taken_back_while_the_updater_restarts_never_leads_to_two_versions() {
    let host = slow_to_stop();
    host.publish(&Agent::new("demo", "1.0.1"));
    host.desire(&[host.want("demo", "1.0.1")]);
    wait_stop(&host);
    assert_withdrawal_in_a_restart(host);
}

#[test]
fn an_agent_dropped_and_named_again_elsewhere_never_runs_twice() {
    let host = Host::with_demo("1.0.0");
    host.publish(&Agent::new("demo", "1.0.1"));
    let other = host.want("other", "1.0.0").cmd("stop");
    host.desire(std::slice::from_ref(&other));
    host.wait_for("a heartbeat without demo", || {
        host.last_beat()
            .is_some_and(|heartbeat| !heartbeat.agent("demo").has("name"))
    });
    let again = host.want("demo", "1.0.1").work_dir(&host.dir.join("new"));
    host.desire(&[other, again]);
    wait_alone_in(&host, &moved(&host, "1.0.1"));
}

/// Returns a host in a move to the other work directory. demo already runs there.
fn begun_move() -> Host {
    let host = Host::with_demo("1.0.0");
    host.desire(&[host.want("demo", "1.0.0").work_dir(&host.dir.join("new"))]);
    host.wait_for("demo to run at its new location", || {
        everywhere(&host)
            .iter()
            .any(|running| running.dir == moved(&host, "1.0.0"))
    });
    host
}

#[test]
fn a_move_killed_and_then_taken_back_never_leads_to_two() {
    let mut host = begun_move();
    host.kill_updater_and_scripts();
    host.desire(&[host.want("demo", "1.0.0")]);
    host.start();
    wait_alone_in(&host, &host.agent_dir("demo").join("1.0.0"));
}

#[test]
fn a_move_taken_back_and_then_killed_never_leads_to_two() {
    let mut host = begun_move();
    host.desire(&[host.want("demo", "1.0.0")]);
    wait_received(&host);
    host.kill_updater_and_scripts();
    host.start();
    wait_alone_in(&host, &host.agent_dir("demo").join("1.0.0"));
}

#[test]
fn a_move_taken_back_while_the_updater_restarts_never_leads_to_two() {
    let host = slow_to_stop();
    host.desire(&[host.want("demo", "1.0.0").work_dir(&host.dir.join("new"))]);
    wait_stop(&host);
    assert_withdrawal_in_a_restart(host);
}

#[test]
fn a_move_killed_and_then_led_to_a_third_place_never_leads_to_two() {
    let mut host = begun_move();
    host.kill_updater_and_scripts();
    let third = host.dir.join("third");
    host.desire(&[host.want("demo", "1.0.0").work_dir(&third)]);
    host.start();
    wait_alone_in(&host, &third.join("demo/1.0.0"));
}

#[test]
fn an_adopted_agent_moves_when_its_work_dir_changes() {
    let mut host = Host::new();
    let agent = Agent::new("demo", "1.0.0");
    let dir = prepared::left_by_the_original(&host, &agent);
    prepared::start(&host, &dir);
    host.publish(&agent);
    host.desire(&[host.want("demo", "1.0.0")]);
    host.start();
    host.wait_running("demo", "1.0.0");
    host.desire(&[host.want("demo", "1.0.0").work_dir(&host.dir.join("new"))]);
    wait_alone_in(&host, &moved(&host, "1.0.0"));
    let calls = host.calls("demo");
    assert_eq!(calls, ["1.0.0 start", "1.0.0 stop", "1.0.0 start"]);
}

#[test]
fn another_spelling_of_the_work_dir_restarts_nothing() {
    let host = Host::with_demo("1.0.0");
    let before = everywhere(&host);
    let work = host.work.display().to_string();
    let inner = work.replacen("/work", "/./work", 1);
    for spelling in [format!("{work}/"), format!("{work}//."), inner] {
        let mut entry = host.want("demo", "1.0.0");
        entry.work_dir = spelling;
        host.desire(&[entry]);
        host.wait_beats(4);
        assert_eq!(everywhere(&host), before);
    }
    assert_eq!(host.calls("demo"), ["1.0.0 start"]);
    assert_eq!(host.version("demo"), "1.0.0");
}

#[test]
fn a_link_to_the_work_dir_is_no_second_place() {
    let host = Host::with_demo("1.0.0");
    let link = host.dir.join("link");
    symlink(&host.work, &link).expect("a link");
    host.desire(&[host.want("demo", "1.0.0").work_dir(&link)]);
    host.stays(Duration::from_secs(9), "one runs, in force", || {
        everywhere(&host).len() <= 1 && host.version("demo") == "1.0.0"
    });
    wait_alone_in(&host, &host.agent_dir("demo").join("1.0.0"));
    host.publish(&Agent::new("demo", "1.0.1"));
    host.desire(&[host.want("demo", "1.0.1").work_dir(&link)]);
    wait_alone_in(&host, &host.agent_dir("demo").join("1.0.1"));
    assert_eq!(host.version("demo"), "1.0.1");
}

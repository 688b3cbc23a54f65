//! A wish that changes its place or is taken back while it is carried out: never do two versions run.

use crate::support::agent::Agent;
use crate::support::host::Host;
use crate::support::json::Json as _;
use crate::support::watch::{Running, running_below};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The agent's processes, wherever in the sandbox they run.
fn everywhere(host: &Host) -> Vec<Running> {
    running_below(&host.dir)
}

/// The directory of a version at the other work directory.
fn moved(host: &Host, version: &str) -> PathBuf {
    host.dir.join("new/demo").join(version)
}

/// Waits until demo runs well in this directory and nowhere else, and sees all the while that no second one runs.
#[track_caller]
fn alone_until_settled(host: &Host, dir: &PathBuf) {
    host.wait_for(&format!("demo to settle in {}", dir.display()), || {
        let now = everywhere(host);
        assert!(now.len() <= 1, "two run at once: {now:?}");
        let is_reported = host.last_beat().is_some_and(|beat| {
            let agent = beat.agent("demo");
            agent.field("status").text() == "started" && agent.field("phase").text().is_empty()
        });
        is_reported && now.iter().any(|running| running.dir == *dir)
    });
    host.stays(Duration::from_secs(3), "one runs", || {
        everywhere(host).len() == 1
    });
    assert_eq!(everywhere(host)[0].dir, *dir);
}

/// The new wish has been heard by the daemon.
#[track_caller]
fn hear(host: &Host) {
    host.wait_beats(2);
}

/// demo runs as 1.0.0 and takes its time to stop.
fn slow_to_stop() -> Host {
    let mut host = Host::new();
    host.publish(&Agent::new("demo", "1.0.0").on_stop("if alive; then kill \"$pid\"; fi; sleep 4"));
    host.desire(&[host.want("demo", "1.0.0")]);
    host.start();
    host.wait_running("demo", "1.0.0");
    host
}

fn wait_stop(host: &Host) {
    host.wait_for("the stop to be under way", || {
        host.calls("demo").contains(&"1.0.0 stop".to_owned())
    });
}

#[test]
fn a_switch_taken_back_while_the_updater_restarts_never_leads_to_two_versions() {
    let mut host = slow_to_stop();
    host.publish(&Agent::new("demo", "1.0.1"));
    host.desire(&[host.want("demo", "1.0.1")]);
    wait_stop(&host);
    host.desire(&[host.want("demo", "1.0.0")]);
    hear(&host);
    host.stop();
    host.start();
    alone_until_settled(&host, &host.agent_dir("demo").join("1.0.0"));
}

#[test]
fn an_agent_dropped_and_named_again_elsewhere_never_runs_twice() {
    let host = Host::with_demo("1.0.0");
    host.publish(&Agent::new("demo", "1.0.1"));
    let other = host.want("other", "1.0.0").cmd("stop");
    host.desire(std::slice::from_ref(&other));
    host.wait_for("demo to be named no more", || {
        host.last_beat()
            .is_some_and(|beat| !beat.agent("demo").has("name"))
    });
    let again = host.want("demo", "1.0.1").work_dir(&host.dir.join("new"));
    host.desire(&[other, again]);
    alone_until_settled(&host, &moved(&host, "1.0.1"));
}

/// A move to the other work directory, begun so far that demo runs there.
fn begun_move() -> Host {
    let host = Host::with_demo("1.0.0");
    host.desire(&[host.want("demo", "1.0.0").work_dir(&host.dir.join("new"))]);
    host.wait_for("demo to run at its new place", || {
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
    alone_until_settled(&host, &host.agent_dir("demo").join("1.0.0"));
}

#[test]
fn a_move_taken_back_and_then_killed_never_leads_to_two() {
    let mut host = begun_move();
    host.desire(&[host.want("demo", "1.0.0")]);
    hear(&host);
    host.kill_updater_and_scripts();
    host.start();
    alone_until_settled(&host, &host.agent_dir("demo").join("1.0.0"));
}

#[test]
fn a_move_taken_back_while_the_updater_restarts_never_leads_to_two() {
    let mut host = slow_to_stop();
    host.desire(&[host.want("demo", "1.0.0").work_dir(&host.dir.join("new"))]);
    wait_stop(&host);
    host.desire(&[host.want("demo", "1.0.0")]);
    hear(&host);
    host.stop();
    host.start();
    alone_until_settled(&host, &host.agent_dir("demo").join("1.0.0"));
}

#[test]
fn a_move_killed_and_then_led_to_a_third_place_never_leads_to_two() {
    let mut host = begun_move();
    host.kill_updater_and_scripts();
    let third = host.dir.join("third");
    host.desire(&[host.want("demo", "1.0.0").work_dir(&third)]);
    host.start();
    alone_until_settled(&host, &third.join("demo/1.0.0"));
}

#[test]
fn an_adopted_agent_moves_when_its_work_dir_changes() {
    let mut host = Host::new();
    let agent = Agent::new("demo", "1.0.0");
    let dir = host.agent_dir("demo").join("1.0.0");
    fs::create_dir_all(&dir).expect("a directory");
    fs::write(dir.join("control"), agent.control(&host.dir)).expect("a file");
    fs::set_permissions(dir.join("control"), fs::Permissions::from_mode(0o755)).expect("a mode");
    fs::write(host.agent_dir("demo").join(".version"), "1.0.0").expect("a file");
    let mut control = Command::new("./control");
    control.arg("start").current_dir(&dir).stdin(Stdio::null());
    assert!(control.status().expect("the script runs").success());
    host.publish(&agent);
    host.desire(&[host.want("demo", "1.0.0")]);
    host.start();
    host.wait_running("demo", "1.0.0");
    host.desire(&[host.want("demo", "1.0.0").work_dir(&host.dir.join("new"))]);
    alone_until_settled(&host, &moved(&host, "1.0.0"));
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
    alone_until_settled(&host, &host.agent_dir("demo").join("1.0.0"));
    host.publish(&Agent::new("demo", "1.0.1"));
    host.desire(&[host.want("demo", "1.0.1").work_dir(&link)]);
    alone_until_settled(&host, &host.agent_dir("demo").join("1.0.1"));
    assert_eq!(host.version("demo"), "1.0.1");
}

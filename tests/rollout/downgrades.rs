//! With `allow_downgrade` false a server cannot bring back a version below one that ran here. An operator can.

use crate::support::agent::Agent;
use crate::support::host::Host;
use crate::support::json::{self, Json as _};
use crate::support::prepared;
use std::fs;

/// Returns a host that allows no downgrade and on which these versions run. All versions below them are in the store.
fn strict(agents: &[(&str, &str)]) -> Host {
    let mut host = Host::new();
    host.set("allow_downgrade", "false");
    let agents = agents
        .iter()
        .map(|(name, version)| Agent::new(name, version));
    let agents: Vec<Agent> = agents.collect();
    prepared::settle(&host, &agents);
    for agent in &agents {
        for lower in ["1.0.0", "1.1.0"] {
            host.publish(&Agent::new(&agent.name, lower));
        }
    }
    host.start();
    for agent in &agents {
        host.wait_running(&agent.name, &agent.version);
        wait_highest(&host, &agent.name, &agent.version);
    }
    host
}

/// Waits until the ledger has this as the highest version of the agent that ran here.
fn wait_highest(host: &Host, name: &str, version: &str) {
    host.wait_for("the highest version in the ledger", || {
        let ledger = fs::read_to_string(host.own.join("var/ledger.json")).unwrap_or_default();
        let ledger = json::parse(&ledger);
        ledger.field("agents").field(name).field("highest").text() == version
    });
}

fn refusal(version: &str, highest: &str) -> String {
    format!("version {version} is below {highest}, which ran here; allow_downgrade is false")
}

/// Has the server desire this version of demo, and waits for its refusal.
#[track_caller]
fn refuse(host: &Host, version: &str, highest: &str) {
    host.desire(&[host.want("demo", version)]);
    wait_refused(host, version, highest);
}

#[track_caller]
fn wait_refused(host: &Host, version: &str, highest: &str) {
    let wanted = format!("started; refused: {}", refusal(version, highest));
    host.wait_for(&wanted, || host.reported("demo").1 == wanted);
}

#[track_caller]
fn go_to(host: &Host, version: &str) {
    host.publish(&Agent::new("demo", version));
    host.desire(&[host.want("demo", version)]);
    host.wait_running("demo", version);
}

/// Waits until commands know that demo is at this version and desired at the other one. They read the status file, which is
/// written after a heartbeat.
#[track_caller]
fn wait_in_status(host: &Host, version: &str, desired: &str) {
    host.wait_for("the versions in the status file", || {
        let status = fs::read_to_string(host.own.join("var/status.json")).unwrap_or_default();
        let status = json::parse(&status);
        let agent = status.field("agents").items().first();
        agent.is_some_and(|agent| {
            agent.field("version").text() == version && agent.field("desired").text() == desired
        })
    });
}

/// Runs a command that must succeed. Returns its standard output.
#[track_caller]
fn succeed(host: &Host, words: &[&str]) -> String {
    let output = host.run_with(words);
    assert_eq!(output.status.code(), Some(0), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// Takes demo back to 1.0.0 by a pin, while the server desires what it desired before.
#[track_caller]
fn pin_1_0_0(host: &Host) {
    succeed(host, &["pin", "demo", "1.0.0"]);
    host.wait_running("demo", "1.0.0");
}

#[test]
fn a_lower_version_is_refused_and_what_runs_keeps_running() {
    let host = strict(&[("demo", "1.2.0")]);
    refuse(&host, "1.0.0", "1.2.0");
    host.wait_beats(3);
    let named = format!("demo: {}", refusal("1.0.0", "1.2.0"));
    let beat = host.last_beat().expect("a heartbeat came").json();
    assert_eq!(beat.field("errors").items()[0].text(), named);
    let log = host.log();
    assert_eq!(log.matches(&named).count(), 1, "{log}");
    host.wait_for("the reason in the status", || {
        succeed(&host, &["status", "--json"]).contains(&named)
    });
    let plan = host.run("plan");
    let plan = [plan.stdout, plan.stderr].concat();
    let plan = String::from_utf8_lossy(&plan);
    assert!(
        plan.contains(&named) && plan.contains("nothing to do"),
        "{plan}"
    );
    let check = succeed(&host, &["check"]);
    let row = check
        .lines()
        .find(|line| line.starts_with("allow_downgrade"));
    assert!(row.is_some_and(|row| row.ends_with("false")), "{check}");
    let doctor = host.run("doctor");
    let doctor = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(
        doctor.contains(&format!("warn  refused: {named}")),
        "{doctor}"
    );
    assert_eq!(host.calls("demo"), ["1.2.0 start"]);
    // The former entry stays in force: the agent is started again, and the next higher version is followed.
    host.kill_agent("demo");
    wait_refused(&host, "1.0.0", "1.2.0");
    go_to(&host, "1.10.0");
}

#[test]
fn a_lower_version_is_followed_by_default() {
    let host = Host::with_demo("1.2.0");
    go_to(&host, "1.0.0");
    assert_eq!(host.error("demo"), "");
}

#[test]
fn an_operator_goes_back_by_a_pin_and_stays_there_after_it() {
    let host = strict(&[("demo", "1.2.0")]);
    pin_1_0_0(&host);
    // The server follows the operator: what is pinned is no downgrade of the server's.
    host.desire(&[host.want("demo", "1.0.0")]);
    wait_in_status(&host, "1.0.0", "1.0.0");
    let told = succeed(&host, &["unpin", "demo"]);
    assert!(
        told.contains("nothing changes, 1.0.0 is in force"),
        "{told}"
    );
    let calls = host.calls("demo");
    host.wait_beats(4);
    assert_eq!(host.reported("demo").1, "started");
    assert_eq!(host.calls("demo"), calls);
    // What ran before the pin still counts.
    refuse(&host, "1.1.0", "1.2.0");
    assert_eq!(host.calls("demo"), calls);
    go_to(&host, "1.2.0");
}

#[test]
fn an_operator_goes_back_by_rollback_and_forward_again_by_unpin() {
    let host = strict(&[("demo", "1.0.0")]);
    go_to(&host, "1.2.0");
    wait_in_status(&host, "1.2.0", "1.2.0");
    let told = succeed(&host, &["rollback", "demo"]);
    assert!(told.contains("goes from 1.2.0 to 1.0.0"), "{told}");
    host.wait_running("demo", "1.0.0");
    wait_in_status(&host, "1.0.0", "1.2.0");
    let told = succeed(&host, &["unpin", "demo"]);
    assert!(told.contains("1.2.0 will replace 1.0.0"), "{told}");
    host.wait_running("demo", "1.2.0");
}

#[test]
fn a_pin_that_ends_before_its_version_runs_leaves_no_way_back_to_the_server() {
    let host = strict(&[("demo", "1.2.0")]);
    succeed(&host, &["pin", "demo", "0.9.0"]);
    host.desire(&[host.want("demo", "0.9.0")]);
    host.wait_for("the pinned version not to be found", || {
        host.error("demo").contains("404")
    });
    wait_in_status(&host, "1.2.0", "0.9.0");
    let told = succeed(&host, &["unpin", "demo"]);
    let why = refusal("0.9.0", "1.2.0");
    assert!(told.contains(&format!("nothing changes, {why}")), "{told}");
    host.publish(&Agent::new("demo", "0.9.0"));
    host.wait_for("the reason", || host.error("demo") == why);
    succeed(&host, &["retry", "demo"]);
    host.wait_beats(4);
    assert_eq!(host.calls("demo"), ["1.2.0 start"]);
}

#[test]
fn a_restart_forgets_no_version_that_ran() {
    let mut host = strict(&[("demo", "1.2.0")]);
    pin_1_0_0(&host);
    host.stop();
    host.start();
    refuse(&host, "1.1.0", "1.2.0");
    assert_eq!(host.version("demo"), "1.0.0");
}

#[test]
fn a_version_that_failed_and_was_rolled_back_keeps_no_other_away() {
    let host = strict(&[("demo", "1.2.0")]);
    host.publish(&Agent::new("demo", "2.0.0").on_start("exit 1"));
    host.desire(&[host.want("demo", "2.0.0")]);
    host.wait_for("the rollback", || {
        host.error("demo").contains("back to 1.2.0") && host.reported("demo").0 == "1.2.0"
    });
    refuse(&host, "1.1.0", "1.2.0");
    go_to(&host, "1.5.0");
}

#[test]
fn without_a_ledger_what_runs_is_the_highest_version_known() {
    let mut host = strict(&[("demo", "1.2.0")]);
    let lose_ledger = |host: &mut Host| {
        host.stop();
        fs::write(host.own.join("var/ledger.json"), "{").expect("a damaged ledger");
        host.start();
    };
    lose_ledger(&mut host);
    let words = "only what runs now is known to have run";
    host.wait_for("the loss in the log", || host.log().contains(words));
    refuse(&host, "1.0.0", "1.2.0");
    pin_1_0_0(&host);
    lose_ledger(&mut host);
    wait_highest(&host, "demo", "1.0.0");
    succeed(&host, &["unpin", "demo"]);
    go_to(&host, "1.1.0");
}

#[test]
fn each_agent_has_a_highest_version_of_its_own() {
    let host = strict(&[("demo", "1.2.0"), ("other", "3.0.0")]);
    host.publish(&Agent::new("demo", "1.3.0"));
    host.desire(&[host.want("demo", "1.3.0"), host.want("other", "1.1.0")]);
    host.wait_running("demo", "1.3.0");
    let wanted = format!("started; refused: {}", refusal("1.1.0", "3.0.0"));
    host.wait_for(&wanted, || host.reported("other").1 == wanted);
    assert_eq!(host.calls("other"), ["3.0.0 start"]);
}

#[test]
fn a_reload_forbids_downgrades_and_allows_them_again() {
    let mut host = Host::with_demo("1.2.0");
    wait_highest(&host, "demo", "1.2.0");
    host.publish(&Agent::new("demo", "1.0.0"));
    host.set("allow_downgrade", "false");
    host.signal_daemon(libc::SIGHUP);
    host.wait_for("the reload", || host.log().contains("settings read again"));
    refuse(&host, "1.0.0", "1.2.0");
    host.set("allow_downgrade", "true");
    host.signal_daemon(libc::SIGHUP);
    host.wait_running("demo", "1.0.0");
}

#[test]
fn an_agent_that_ran_before_it_was_named_is_not_taken_back() {
    let mut host = Host::new();
    host.set("allow_downgrade", "false");
    let agent = Agent::new("demo", "1.2.0");
    let dir = prepared::left_by_the_original(&host, &agent);
    prepared::start(&host, &dir);
    host.publish(&Agent::new("demo", "1.0.0"));
    host.desire(&[host.want("demo", "1.0.0")]);
    host.start();
    wait_refused(&host, "1.0.0", "1.2.0");
    host.wait_beats(3);
    assert_eq!(host.calls("demo"), ["1.2.0 start"]);
    assert_eq!(host.error("demo"), refusal("1.0.0", "1.2.0"));
}

#[test]
fn apply_is_no_way_around_it() {
    let mut host = strict(&[("demo", "1.2.0")]);
    host.stop();
    let file = host.dir.join("desired.json");
    let list = format!("[{}]", host.want("demo", "1.0.0").json());
    fs::write(&file, list).expect("a file");
    let file = file.to_str().expect("text");
    let output = host.run_with(&["apply", file]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains(&refusal("1.0.0", "1.2.0")), "{told}");
    assert_eq!(host.version("demo"), "1.2.0");
    succeed(&host, &["pin", "demo", "1.0.0"]);
    let output = host.run_with(&["apply", file]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(host.version("demo"), "1.0.0");
}

#[test]
fn an_agent_is_stopped_whatever_version_its_entry_has() {
    let host = strict(&[("demo", "1.2.0")]);
    host.desire(&[host.want("demo", "1.0.0").cmd("stop")]);
    host.wait_for("the agent to be reported stopped", || {
        host.reported("demo") == ("1.2.0".to_owned(), "stoped".to_owned())
    });
    // A stop opens no way back.
    host.desire(&[host.want("demo", "1.0.0")]);
    host.wait_for("the refusal of the start", || {
        host.reported("demo").1.contains(&refusal("1.0.0", "1.2.0"))
    });
    assert_eq!(host.reported("demo").0, "1.2.0");
}

//! A refused entry shows its reason in `status`, which the page of the stock server shows, until it is good again.

use crate::support::agent::Agent;
use crate::support::host::Host;
use crate::support::json::Json as _;
use crate::support::wire::Desired;

fn status(host: &Host, name: &str) -> String {
    host.reported(name).1
}

/// Waits until this is the whole status of the agent.
#[track_caller]
fn wait_status(host: &Host, name: &str, wanted: &str) {
    host.wait_for(&format!("{name} to be reported as {wanted:?}"), || {
        status(host, name) == wanted
    });
}

const BAD_DIR: &str = "workDir \"relative\" is not an absolute path without .. or blanks around it";

fn bad(entry: Desired) -> Desired {
    entry.work_dir("relative".as_ref())
}

#[test]
fn a_refused_entry_of_a_running_agent_shows_its_reason_until_it_is_good_again() {
    let host = Host::with_demo("1.0.0");
    let good = host.want("demo", "1.0.0");
    host.desire(&[bad(good.clone())]);
    wait_status(&host, "demo", &format!("started; refused: {BAD_DIR}"));
    let beat = host.last_beat().expect("a heartbeat came").json();
    let errors = beat.field("errors").items();
    assert_eq!(errors[0].text(), format!("demo: {BAD_DIR}"));
    assert_eq!(host.error("demo"), "", "no step has failed");
    host.wait_for("the status document to show it", || {
        let output = host.run_with(&["status", "--json"]);
        String::from_utf8_lossy(&output.stdout).contains("started; refused: workDir")
    });
    host.desire(&[good]);
    wait_status(&host, "demo", "started");
    assert_eq!(host.calls("demo"), ["1.0.0 start"]);
}

#[test]
fn a_refused_entry_of_an_agent_that_nobody_knows_is_a_row_with_its_reason() {
    let mut host = Host::new();
    host.publish(&Agent::new("good", "1.0.0"));
    let mut nameless = bad(host.want("x", "1.0.0"));
    nameless.name = "no name".to_owned();
    let new = host.want("new", "1.0.0");
    host.desire(&[
        host.want("good", "1.0.0"),
        bad(new.clone()),
        new.clone().cmd("restart"),
        nameless,
    ]);
    host.start();
    wait_status(&host, "new", &format!("refused: {BAD_DIR}"));
    let beat = host.last_beat().expect("a heartbeat came");
    let row = beat.agent("new");
    assert_eq!(row.field("version").text(), "");
    assert!(row.field("timestamp").number().is_some_and(|at| at > 0));
    let rows = beat.json();
    let rows = rows.field("realAgents").items();
    let names: Vec<&str> = rows.iter().map(|row| row.field("name").text()).collect();
    assert_eq!(
        names,
        ["good", "new"],
        "one row each, and none without a name"
    );
    assert_eq!(beat.json().field("errors").items().len(), 3);
    host.publish(&Agent::new("new", "1.0.0"));
    host.desire(&[host.want("good", "1.0.0"), new]);
    host.wait_running("new", "1.0.0");
}

#[test]
fn a_row_of_a_refused_entry_goes_when_the_server_no_longer_names_it() {
    let mut host = Host::new();
    host.publish(&Agent::new("good", "1.0.0"));
    let good = host.want("good", "1.0.0");
    host.desire(&[good.clone(), bad(host.want("new", "1.0.0"))]);
    host.start();
    wait_status(&host, "new", &format!("refused: {BAD_DIR}"));
    host.desire(&[good]);
    host.wait_for("the row to go", || {
        host.last_beat()
            .is_some_and(|beat| !beat.agent("new").has("name"))
    });
}

#[test]
fn the_second_of_two_entries_with_one_name_shows_that_it_is_refused() {
    let host = Host::with_demo("1.0.0");
    let good = host.want("demo", "1.0.0");
    host.desire(&[good.clone(), good]);
    let wanted = "started; refused: it is named twice, the first entry counts";
    wait_status(&host, "demo", wanted);
}

#[test]
fn a_refusal_and_the_error_of_the_entry_in_force_do_not_hide_each_other() {
    let mut host = Host::new();
    let good = host.want("demo", "1.0.0");
    host.desire(&[good.clone(), good.clone()]);
    host.start();
    let both = |reason: &str| {
        let status = status(&host, "demo");
        status.starts_with("failed: cannot fetch")
            && status.ends_with(&format!("; refused: {reason}"))
    };
    host.wait_for("the error of the first of two entries", || {
        both("it is named twice, the first entry counts")
    });
    host.desire(&[bad(good.clone())]);
    host.wait_for("the error of the entry before", || both(BAD_DIR));
    let failure = host.error("demo");
    assert!(failure.contains("404"), "it is remembered: {failure}");
    host.desire(&[good]);
    host.wait_for("the error alone", || {
        let status = status(&host, "demo");
        status.starts_with("failed: cannot fetch") && !status.contains("refused")
    });
}

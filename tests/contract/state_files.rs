//! The updater keeps its files on disk, and copes when one is damaged or locked by another process.

use crate::support::agent::Agent;
use crate::support::host::Host;
use crate::support::json::{self, Json as _};
use crate::support::trial::each;
use crate::support::users::mode;
use crate::support::watch::names;
use crate::support::wire::stock_answer;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

/// The setting for a server at a port on which nothing listens.
const NO_SERVER: &str = "\"127.0.0.1:1\"";

#[test]
fn the_accepted_state_is_kept_as_the_original_writes_it() {
    let host = Host::with_installed_demo("1.0.0");
    let text = fs::read_to_string(host.own.join("desired_agent.json")).expect("the list");
    let kept = json::parse(&text);
    let sent = json::parse(&format!("[{}]", host.want("demo", "1.0.0").json()));
    assert_eq!(format!("{kept:?}"), format!("{sent:?}"));
}

#[test]
fn state_files_are_for_root_and_its_group_alone_and_those_of_earlier_versions_become_so() {
    let mut host = Host::with_demo("1.0.0");
    assert!(host.stop().success());
    let files = ["desired_agent.json", "var/ledger.json", "var/status.json"];
    for file in files {
        mode(&host.own.join(file), 0o644);
    }
    fs::write(host.own.join("desired_agent.json"), "[]").expect("a file");
    fs::write(host.own.join("var/ledger.json"), "{}").expect("a file");
    host.start();
    host.wait_for("the files to be written again", || {
        files.iter().all(|file| {
            let meta = fs::metadata(host.own.join(file));
            meta.is_ok_and(|meta| meta.permissions().mode() & 0o777 == 0o640)
        })
    });
}

#[test]
fn agents_are_looked_after_from_the_kept_state_when_the_server_is_gone() {
    let mut host = Host::with_installed_demo("1.0.0");
    assert!(host.stop().success());
    host.kill_agent("demo");
    host.set("server", NO_SERVER);
    host.start();
    host.wait_for("the agent to run again", || host.running("demo").len() == 1);
    assert_eq!(host.calls("demo"), ["1.0.0 start", "1.0.0 start"]);
}

#[test]
fn a_kept_state_in_the_layout_of_an_answer_is_read_too() {
    let mut host = Host::with_demo("1.0.0");
    assert!(host.stop().success());
    host.kill_agent("demo");
    let answer = stock_answer(&[host.want("demo", "1.0.0")]);
    fs::write(host.own.join("desired_agent.json"), answer).expect("a file");
    host.set("server", NO_SERVER);
    host.start();
    host.wait_for("the agent to run again", || host.running("demo").len() == 1);
}

#[test]
fn agents_run_on_through_a_restart_of_the_updater() {
    let mut host = Host::with_demo("1.0.0");
    let before = host.running("demo");
    assert!(host.stop().success());
    host.start();
    host.wait_beats(3);
    assert_eq!(host.running("demo"), before);
    assert_eq!(host.calls("demo"), ["1.0.0 start"]);
}

#[test]
fn a_damaged_ledger_is_set_aside_and_never_fatal() {
    let damaged = [
        "",
        "{",
        "[1,2",
        "\u{0}\u{0}\u{0}",
        "{\"version\": \"x\", \"agents\": 7}",
    ];
    each(&damaged, |garbage| {
        let mut host = Host::new();
        fs::create_dir_all(host.own.join("var")).expect("a directory");
        fs::write(host.own.join("var/ledger.json"), garbage).expect("a file");
        host.publish(&Agent::new("demo", "1.0.0"));
        host.desire(&[host.want("demo", "1.0.0")]);
        host.start();
        host.wait_beats(2);
        let aside = names(&host.own.join("var"));
        let aside = aside
            .iter()
            .find(|name| name.starts_with("ledger") && *name != "ledger.json");
        let aside = aside.unwrap_or_else(|| panic!("{garbage:?} was not set aside"));
        let kept = fs::read_to_string(host.own.join("var").join(aside)).expect("the old ledger");
        assert_eq!(kept, garbage);
    });
}

#[test]
fn a_damaged_list_of_agents_is_never_fatal() {
    each(
        &["", "{", "7", "[{\"name\": 1}]", "\u{0}\u{0}"],
        |garbage| {
            let mut host = Host::new();
            fs::write(host.own.join("desired_agent.json"), garbage).expect("a file");
            host.publish(&Agent::new("demo", "1.0.0"));
            host.desire(&[host.want("demo", "1.0.0")]);
            host.start();
            host.wait_for("the agent to be installed", || {
                host.version("demo") == "1.0.0"
            });
        },
    );
}

#[test]
fn a_bad_version_is_remembered_over_a_restart_of_the_updater() {
    let mut host = Host::with_demo("1.0.0");
    host.publish(&Agent::new("demo", "1.0.1").on_start("exit 1"));
    host.desire(&[host.want("demo", "1.0.1")]);
    host.wait_for("the rollback to be reported", || {
        host.calls("demo").len() >= 4
            && host.reported("demo") == ("1.0.0".to_owned(), "started".to_owned())
            && host
                .last_beat()
                .is_some_and(|heartbeat| !heartbeat.agent("demo").field("error").text().is_empty())
    });
    let calls = host.calls("demo");
    assert!(host.stop().success());
    host.start();
    host.wait_beats(5);
    assert_eq!(host.calls("demo"), calls);
}

#[test]
fn an_agent_that_another_process_holds_is_left_alone_until_it_lets_go() {
    let mut host = Host::new();
    let updater = host.agent_dir("demo").join(".updater");
    fs::create_dir_all(&updater).expect("a directory");
    let lock = fs::File::create(updater.join("lock")).expect("a file");
    lock.lock().expect("the lock");
    host.publish(&Agent::new("demo", "1.0.0"));
    host.desire(&[host.want("demo", "1.0.0")]);
    host.start();
    host.wait_beats(5);
    assert_eq!(names(&host.agent_dir("demo")), [".updater"]);
    assert!(host.calls("demo").is_empty());
    drop(lock);
    host.wait_running("demo", "1.0.0");
}

#[test]
fn everything_of_ours_lies_beside_cfg_json() {
    let host = Host::with_installed_demo("1.0.0");
    assert_eq!(names(&host.own), ["cfg.json", "desired_agent.json", "var"]);
    let var = names(&host.own.join("var"));
    assert!(
        var.contains(&"lock".to_owned()) && var.contains(&"ledger.json".to_owned()),
        "{var:?}"
    );
    assert_eq!(
        names(&host.dir),
        ["daemon.log", "demo.calls", "updater", "work"]
    );
    assert_eq!(names(&host.work), ["demo"]);
}

#[test]
fn the_log_has_no_line_per_heartbeat() {
    let host = Host::with_installed_demo("1.0.0");
    // A heartbeat may report the agent as started before the start itself is over.
    host.wait_for("the start to be logged", || {
        host.log().contains("start 1.0.0: done")
    });
    let before = host.log();
    host.wait_beats(5);
    assert_eq!(host.log(), before);
}

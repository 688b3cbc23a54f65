//! The updater adopts directories that the original updater left behind.

use crate::rollout::versions::goes_there_and_back;
use crate::support::agent::Agent;
use crate::support::host::Host;
use crate::support::prepared;
use crate::support::watch::tree;
use std::fs;

/// Returns a host as the original updater leaves it: the version's directory still holds the tarball, and the list of
/// agents is kept.
fn left_by_the_original(version_file: &str) -> Host {
    let host = Host::new();
    let agent = Agent::new("demo", "1.0.0");
    let dir = prepared::left_by_the_original(&host, &agent);
    fs::write(dir.join("demo-1.0.0.tar.gz"), agent.tarball(&host.dir)).expect("a file");
    fs::write(dir.join("demo-1.0.0.tar.gz.md5"), "whatever").expect("a file");
    fs::write(host.agent_dir("demo").join(".version"), version_file).expect("a file");
    prepared::keep(&host, &[host.want("demo", "1.0.0")]);
    host.desire(&[host.want("demo", "1.0.0")]);
    host
}

fn start_agent(host: &Host) {
    prepared::start(host, &host.agent_dir("demo").join("1.0.0"));
    host.wait_for("the agent to run", || host.running("demo").len() == 1);
}

#[test]
fn a_tree_of_the_original_is_adopted_without_download_restart_or_write() {
    let mut host = left_by_the_original("1.0.0");
    start_agent(&host);
    let (files, before) = (tree(&host.work), host.running("demo"));
    host.start();
    host.wait_running("demo", "1.0.0");
    host.wait_beats(3);
    assert_eq!(host.running("demo"), before);
    assert_eq!(host.calls("demo"), ["1.0.0 start"]);
    assert!(host.meta.downloads().is_empty());
    let after: Vec<_> = tree(&host.work)
        .into_iter()
        .filter(|(path, _)| {
            !path.starts_with(host.agent_dir("demo").join(".updater"))
                && path != &host.agent_dir("demo")
        })
        .collect();
    let before: Vec<_> = files
        .into_iter()
        .filter(|(path, _)| path != &host.agent_dir("demo"))
        .collect();
    assert_eq!(after, before);
}

#[test]
fn the_first_heartbeat_already_reports_what_the_original_left() {
    use crate::support::json::Json as _;
    let mut host = left_by_the_original("1.0.0");
    start_agent(&host);
    host.start();
    host.wait_beats(1);
    let agent = host.meta.beats()[0].agent("demo");
    assert_eq!(agent.field("version").text(), "1.0.0");
    assert_eq!(agent.field("status").text(), "started");
}

#[test]
fn an_adopted_agent_needs_no_list_to_be_known() {
    let mut host = left_by_the_original("1.0.0");
    fs::remove_file(host.own.join("desired_agent.json")).expect("a file");
    start_agent(&host);
    host.start();
    host.wait_running("demo", "1.0.0");
    assert_eq!(host.calls("demo"), ["1.0.0 start"]);
    assert!(host.meta.downloads().is_empty());
}

#[test]
fn an_md5_that_an_adopted_directory_cannot_prove_is_no_reason_to_reinstall() {
    let mut host = left_by_the_original("1.0.0");
    start_agent(&host);
    host.desire(&[host
        .want("demo", "1.0.0")
        .md5("0123456789abcdef0123456789abcdef")]);
    host.start();
    host.wait_running("demo", "1.0.0");
    host.wait_beats(3);
    assert_eq!(host.calls("demo"), ["1.0.0 start"]);
    assert!(host.meta.downloads().is_empty());
}

#[test]
fn a_newline_after_the_version_does_no_harm() {
    let mut host = left_by_the_original("1.0.0\n");
    start_agent(&host);
    host.start();
    host.wait_for("the agent to be reported", || {
        host.reported("demo") == ("1.0.0".to_owned(), "started".to_owned())
    });
    host.wait_beats(2);
    assert_eq!(host.calls("demo"), ["1.0.0 start"]);
    assert!(host.meta.downloads().is_empty());
}

#[test]
fn an_adopted_agent_that_is_down_is_started_without_download() {
    let mut host = left_by_the_original("1.0.0");
    host.start();
    host.wait_running("demo", "1.0.0");
    assert_eq!(host.calls("demo"), ["1.0.0 start"]);
    assert!(host.meta.downloads().is_empty());
}

#[test]
fn an_adopted_version_can_be_gone_back_to_without_download() {
    let mut host = left_by_the_original("1.0.0");
    start_agent(&host);
    host.start();
    goes_there_and_back(&host);
}

#[test]
fn a_version_file_that_names_nothing_is_repaired_by_an_install() {
    let mut host = left_by_the_original("0.9.9");
    host.publish(&Agent::new("demo", "1.0.1"));
    host.desire(&[host.want("demo", "1.0.1")]);
    host.start();
    host.wait_running("demo", "1.0.1");
}

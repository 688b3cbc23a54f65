//! Tests which versions stay on disk, and which changes need no download.

use crate::support::agent::Agent;
use crate::support::host::Host;
use crate::support::watch::names;
use std::fs;

fn upgrade(host: &Host, version: &str) {
    host.publish(&Agent::new("demo", version));
    host.desire(&[host.want("demo", version)]);
    host.wait_running("demo", version);
}

/// Upgrades demo, which first ran as 1.0.0, and goes back. The way back needs no download.
pub fn goes_there_and_back(host: &Host) {
    upgrade(host, "1.0.1");
    let downloads = host.meta.downloads().len();
    host.desire(&[host.want("demo", "1.0.0")]);
    host.wait_running("demo", "1.0.0");
    assert_eq!(host.meta.downloads().len(), downloads);
    assert_eq!(
        host.calls("demo"),
        [
            "1.0.0 start",
            "1.0.0 stop",
            "1.0.1 start",
            "1.0.1 stop",
            "1.0.0 start"
        ]
    );
}

#[test]
fn only_the_current_and_the_previous_version_are_kept() {
    let host = Host::with_installed_demo("1.0.0");
    upgrade(&host, "1.0.1");
    upgrade(&host, "1.0.2");
    let dir = host.agent_dir("demo");
    host.wait_for("1.0.0 to be pruned", || {
        names(&dir) == [".updater", ".version", "1.0.1", "1.0.2"]
    });
    let left = names(&dir.join(".updater"));
    assert!(
        !left.iter().any(|name| name.starts_with("1.0.")),
        "{left:?}"
    );
}

#[test]
fn what_has_no_receipt_of_ours_is_never_pruned() {
    let host = Host::with_installed_demo("1.0.0");
    let dir = host.agent_dir("demo");
    for name in ["0.9.0", "data", "0.8.0"] {
        fs::create_dir(dir.join(name)).expect("a directory");
        fs::write(dir.join(name).join("keep"), "me").expect("a file");
    }
    let other = fs::read(dir.join("1.0.0/.receipt.json")).expect("a receipt");
    fs::write(dir.join("0.8.0/.receipt.json"), other).expect("a receipt of another version");
    fs::write(dir.join("notes.txt"), "keep").expect("a file");
    upgrade(&host, "1.0.1");
    upgrade(&host, "1.0.2");
    host.wait_for("1.0.0 to be pruned", || !dir.join("1.0.0").exists());
    for name in ["0.9.0/keep", "data/keep", "0.8.0/keep", "notes.txt"] {
        assert!(dir.join(name).exists(), "{name}");
    }
}

#[test]
fn going_back_to_the_previous_version_needs_no_download() {
    goes_there_and_back(&Host::with_installed_demo("1.0.0"));
}

#[test]
fn an_empty_work_dir_is_the_updaters_own() {
    let mut host = Host::new();
    host.publish(&Agent::new("demo", "1.0.0"));
    let mut entry = host.want("demo", "1.0.0");
    entry.work_dir = String::new();
    host.desire(&[entry]);
    host.start();
    let version = host.own.join("demo/.version");
    host.wait_for("the agent beside cfg.json", || {
        fs::read_to_string(&version).is_ok_and(|text| text == "1.0.0")
    });
}

#[test]
fn the_configuration_from_its_url_wins_over_the_one_in_the_tarball() {
    let mut host = Host::new();
    host.publish(&Agent::new("demo", "1.0.0").file("etc/cfg.json", "from the tarball"));
    host.meta.put("/conf/demo.json", "from the server");
    let url = host.meta.url("/conf/demo.json");
    host.desire(&[host.want("demo", "1.0.0").config("etc/cfg.json", url)]);
    host.start();
    let running = host.wait_running("demo", "1.0.0");
    let text = fs::read_to_string(running.dir.join("etc/cfg.json")).expect("a configuration");
    assert_eq!(text, "from the server");
}

#[test]
fn a_configuration_may_lie_in_a_directory_that_the_tarball_has_not() {
    let mut host = Host::new();
    host.publish(&Agent::new("demo", "1.0.0"));
    host.meta.put("/conf/demo.json", "{}");
    let url = host.meta.url("/conf/demo.json");
    host.desire(&[host
        .want("demo", "1.0.0")
        .config("conf.d/main/cfg.json", url)]);
    host.start();
    let running = host.wait_running("demo", "1.0.0");
    assert!(running.dir.join("conf.d/main/cfg.json").is_file());
}

#[test]
fn a_configuration_is_in_place_before_the_agent_starts() {
    let mut host = Host::new();
    host.publish(&Agent::new("demo", "1.0.0").on_start("[ -f cfg.json ] || exit 1"));
    host.meta.put("/conf/demo.json", "{}");
    let url = host.meta.url("/conf/demo.json");
    host.desire(&[host.want("demo", "1.0.0").config("cfg.json", url)]);
    host.start();
    host.wait_running("demo", "1.0.0");
    assert_eq!(host.calls("demo"), ["1.0.0 start"]);
}

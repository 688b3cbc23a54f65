//! Tests what the commands of an operator print about the future, and that they forget nothing they were not asked to.

use crate::support::agent::Agent;
use crate::support::fault::Faults;
use crate::support::host::Host;
use crate::support::json::{self, Json as _};
use std::fs;
use std::process::Output;
use std::time::{Duration, Instant};

/// Runs a command that must succeed. Returns its standard output.
#[track_caller]
fn succeed(host: &Host, words: &[&str]) -> String {
    let output = host.run_with(words);
    assert_eq!(output.status.code(), Some(0), "{words:?}: {output:?}");
    text(&output.stdout)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// Returns a host that went back by itself from a bad 1.0.2 to 1.0.1. Before that 1.0.0 ran.
fn rolled_back() -> Host {
    let host = Host::with_demo("1.0.0");
    upgrade(&host, "1.0.1");
    host.publish(&Agent::new("demo", "1.0.2").on_start("exit 1"));
    host.desire(&[host.want("demo", "1.0.2")]);
    host.wait_for("the rollback in the status", || {
        let (version, error, retry_at) = waiting(&host);
        version == "1.0.1" && error.contains("back to 1.0.1") && retry_at > 0
    });
    host
}

/// Upgrades demo. Waits until the status knows it.
fn upgrade(host: &Host, version: &str) {
    host.publish(&Agent::new("demo", version));
    host.desire(&[host.want("demo", version)]);
    wait_reached(host, version);
}

fn wait_reached(host: &Host, version: &str) {
    host.wait_running("demo", version);
    host.wait_for("the version in the status", || {
        let status = host.run_with(&["status"]);
        status.status.success() && waiting(host).0 == version
    });
}

/// Returns version, error and time of the next try from the status.
fn waiting(host: &Host) -> (String, String, u64) {
    let status = json::parse(&text(&host.run_with(&["status", "--json"]).stdout));
    let agent = status.field("agents").items()[0].clone();
    (
        agent.field("version").text().to_owned(),
        agent.field("error").text().to_owned(),
        agent.field("retryAt").number().unwrap_or_default(),
    )
}

fn count_starts(host: &Host, version: &str) -> usize {
    let start = format!("{version} start");
    host.calls("demo")
        .iter()
        .filter(|call| **call == start)
        .count()
}

#[test]
fn a_version_that_failed_is_not_forgotten_by_pin_and_unpin() {
    let mut host = rolled_back();
    let (_, error, retry_at) = waiting(&host);
    let tries = count_starts(&host, "1.0.2");
    host.publish(&Agent::new("demo", "1.0.3"));
    succeed(&host, &["pin", "demo", "1.0.3"]);
    wait_reached(&host, "1.0.3");
    host.stop();
    host.start();
    let printed = succeed(&host, &["unpin", "demo"]);
    host.wait_for("the failure in the status again", || {
        waiting(&host) == ("1.0.3".to_owned(), error.clone(), retry_at)
    });
    host.wait_beats(3);
    assert_eq!(count_starts(&host, "1.0.2"), tries);
    for words in ["follows the server again: 1.0.2 failed", "next try in "] {
        assert!(printed.contains(words), "{printed}");
    }
    succeed(&host, &["retry", "demo"]);
    host.wait_for("another try", || count_starts(&host, "1.0.2") > tries);
}

#[test]
fn unpin_knows_what_failed_also_if_the_updater_was_faster() {
    let mut host = rolled_back();
    host.publish(&Agent::new("demo", "1.0.3"));
    succeed(&host, &["pin", "demo", "1.0.3"]);
    wait_reached(&host, "1.0.3");
    host.stop();
    // The updater has followed the server again when the command looks, and its status is still that of before.
    let (status, pin) = (
        host.own.join("var/status.json"),
        host.own.join("var/pins/demo"),
    );
    let pinned = fs::read(&status).expect("a status file");
    fs::remove_file(&pin).expect("a pin");
    host.start();
    host.wait_for("the failure to count again", || {
        waiting(&host).1.contains("back to 1.0.1")
    });
    host.stop();
    fs::write(&status, pinned).expect("a status file");
    fs::write(&pin, "1.0.3").expect("a pin");
    let printed = succeed(&host, &["unpin", "demo"]);
    assert!(printed.contains("server again: 1.0.2 failed"), "{printed}");
}

#[test]
fn a_retry_while_another_version_is_pinned_forgets_what_failed() {
    let host = rolled_back();
    let tries = count_starts(&host, "1.0.2");
    succeed(&host, &["pin", "demo", "1.0.1"]);
    wait_reached(&host, "1.0.1");
    succeed(&host, &["retry", "demo"]);
    host.wait_for("the daemon to have read it", || {
        !host.own.join("var/retry/demo").exists()
    });
    succeed(&host, &["unpin", "demo"]);
    host.wait_for("another try", || count_starts(&host, "1.0.2") > tries);
}

#[test]
fn a_rollback_after_an_automatic_one_keeps_the_version_that_runs_and_says_so() {
    let host = rolled_back();
    let printed = succeed(&host, &["rollback", "demo"]);
    let reason = "demo stays at 1.0.1, because 1.0.2 is not in force: ";
    assert!(printed.starts_with(reason), "{printed}");
    assert!(printed.contains("back to 1.0.1"), "{printed}");
    assert!(printed.contains("pinned to 1.0.1"), "{printed}");
    wait_reached(&host, "1.0.1");
    assert_eq!(count_starts(&host, "1.0.0"), 1, "that of the beginning");
    // Further back only if the operator asks once more, and both versions are named.
    let printed = succeed(&host, &["rollback", "demo"]);
    assert!(printed.contains("goes from 1.0.1 to 1.0.0"), "{printed}");
    wait_reached(&host, "1.0.0");
}

#[test]
fn a_rollback_during_an_upgrade_keeps_the_version_that_runs() {
    let host = Host::with_demo("1.0.0");
    upgrade(&host, "1.0.1");
    let store = Faults::serve(|mut exchange| exchange.hold());
    host.desire(&[host.want("demo", "1.0.2").tarball(store.releases())]);
    host.wait_for("the download in the status", || {
        text(&host.run_with(&["status"]).stdout).contains("1.0.2")
    });
    let printed = succeed(&host, &["rollback", "demo"]);
    assert!(printed.contains("pinned to 1.0.1"), "{printed}");
    assert!(printed.contains("1.0.2 is not in force"), "{printed}");
}

#[test]
fn a_second_rollback_does_not_bring_back_what_the_first_one_left() {
    let host = Host::with_demo("1.0.0");
    upgrade(&host, "1.0.1");
    let printed = succeed(&host, &["rollback", "demo"]);
    assert!(printed.contains("goes from 1.0.1 to 1.0.0"), "{printed}");
    wait_reached(&host, "1.0.0");
    let output = host.run_with(&["rollback", "demo"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let message = text(&output.stderr);
    for words in ["cannot roll back demo", "pinned to 1.0.0", "unpin demo"] {
        assert!(message.contains(words), "{message}");
    }
    host.wait_beats(2);
    assert_eq!(host.version("demo"), "1.0.0");
}

#[test]
fn unpin_says_what_will_happen() {
    let host = Host::with_demo("1.0.0");
    succeed(&host, &["pin", "demo"]);
    let printed = succeed(&host, &["unpin", "demo"]);
    let nothing = "follows the server again: nothing changes, 1.0.0 is in force";
    assert!(printed.contains(nothing), "{printed}");
    succeed(&host, &["pin", "demo"]);
    host.publish(&Agent::new("demo", "1.0.1"));
    host.desire(&[host.want("demo", "1.0.1")]);
    host.wait_for("the new version in the status", || {
        text(&host.run_with(&["status"]).stdout).contains("1.0.1")
    });
    succeed(&host, &["hold", "why"]);
    let printed = succeed(&host, &["unpin", "demo"]);
    let after = "1.0.1 will replace 1.0.0 when the hold has ended";
    assert!(printed.contains(after), "{printed}");
    succeed(&host, &["pin", "demo", "1.0.0"]);
    succeed(&host, &["release"]);
    let printed = succeed(&host, &["unpin", "demo"]);
    let next = "follows the server again: 1.0.1 will replace 1.0.0;";
    assert!(printed.contains(next), "{printed}");
    host.wait_running("demo", "1.0.1");
}

/// Runs `hold` as sudo does for a user called ann.
fn hold_by_ann(host: &Host, reason: &str) -> Output {
    let mut command = host.command();
    command.args(["hold", reason]).env("SUDO_USER", "ann");
    command.output().expect("it runs")
}

#[test]
fn a_hold_records_who_and_when_and_says_which_hold_it_replaces() {
    let host = Host::with_demo("1.0.0");
    let output = hold_by_ann(&host, "moving the database");
    assert!(output.status.success(), "{output:?}");
    assert!(!text(&output.stdout).contains("replaces"), "{output:?}");
    let status = text(&host.run_with(&["status"]).stdout);
    assert!(
        status.contains("held       moving the database (ann, 20"),
        "{status}"
    );
    host.wait_for("who holds it to reach the server", || {
        let heartbeat = host.last_beat().expect("a heartbeat").json();
        heartbeat
            .field("hold")
            .text()
            .starts_with("moving the database (ann, 20")
    });
    let printed = succeed(&host, &["hold", &"long ".repeat(80)]);
    let replaced = "it replaces the hold: moving the database (ann, 20";
    assert!(printed.contains(replaced), "{printed}");
    let file = fs::read_to_string(host.own.join("var/hold")).expect("a hold");
    assert!(
        file.ends_with("Z)") && file.chars().count() <= 200,
        "{file}"
    );
    // As a tool of the operator, or an older updater, writes it.
    fs::write(host.own.join("var/hold"), "maintenance\n").expect("a hold");
    let status = text(&host.run_with(&["status"]).stdout);
    assert!(status.contains("held       maintenance\n"), "{status}");
}

#[test]
fn status_shows_an_override_as_soon_as_its_command_has_returned() {
    let mut host = Host::with_demo("1.0.0");
    let status = |host: &Host| text(&host.run_with(&["status"]).stdout);
    for round in 0..4 {
        succeed(&host, &["hold", &format!("reason {round}")]);
        let shown = status(&host);
        assert!(shown.contains(&format!("reason {round}")), "{shown}");
        succeed(&host, &["release"]);
        assert!(!status(&host).contains("held"));
        succeed(&host, &["pin", "demo", "0.9.0"]);
        let output = host.run_with(&["status"]);
        assert!(text(&output.stdout).contains("pinned to 0.9.0"));
        assert_eq!(output.status.code(), Some(4), "it is not there yet");
        succeed(&host, &["unpin", "demo"]);
        assert!(!status(&host).contains("pinned"));
    }
    host.stop();
    succeed(&host, &["hold", "why"]);
    assert!(status(&host).contains("held       why"));
    succeed(&host, &["release"]);
    assert!(!status(&host).contains("held"));
}

/// Pins demo. Returns the warning, which is empty if there is none.
#[track_caller]
fn pin(host: &Host, version: &str) -> String {
    let output = host.run_with(&["pin", "demo", version]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text(&output.stdout).contains("is pinned to"), "{output:?}");
    let file = fs::read_to_string(host.own.join("var/pins/demo")).expect("a pin");
    assert_eq!(file, version);
    text(&output.stderr)
}

#[test]
fn a_pin_to_a_version_that_the_store_lacks_is_made_with_a_warning() {
    let mut host = Host::with_demo("1.0.0");
    host.publish(&Agent::new("demo", "0.9.0"));
    succeed(&host, &["hold", "nothing is to be fetched"]);
    assert_eq!(pin(&host, "0.9.0"), "");
    let warning = pin(&host, "0.8.0");
    let words = "warning: cannot get 0.8.0 from the store: http://";
    assert!(warning.contains(words), "{warning}");
    let words = "/demo-0.8.0.tar.gz answers 404";
    assert!(warning.contains(words), "{warning}");
    assert_eq!(warning.lines().count(), 1, "{warning}");
    // What is on disk needs no store, and what the server wants will be asked for anyway.
    let before = host.meta.downloads().len();
    assert_eq!(pin(&host, "1.0.0"), "");
    assert_eq!(host.meta.downloads().len(), before);
    host.stop();
    assert!(pin(&host, "0.8.0").contains("404"));
}

#[test]
fn a_store_that_does_not_answer_keeps_no_pin_waiting_for_long() {
    let mut host = Host::with_demo("1.0.0");
    host.stop();
    let store = Faults::serve(|mut exchange| exchange.hold());
    let silent = host.want("demo", "1.0.0").tarball(store.releases());
    let saved = format!("[{}]", silent.json());
    fs::write(host.own.join("desired_agent.json"), saved).expect("a state");
    let began = Instant::now();
    let warning = pin(&host, "0.8.0");
    assert!(began.elapsed() < Duration::from_secs(15));
    assert!(warning.contains("did not end within 5 s"), "{warning}");
    let gone = host.want("demo", "1.0.0").tarball("http://127.0.0.1:1/");
    let saved = format!("[{}]", gone.json());
    fs::write(host.own.join("desired_agent.json"), saved).expect("a state");
    let warning = pin(&host, "0.8.0");
    assert!(
        warning.contains("cannot get 0.8.0 from the store: cannot ask"),
        "{warning}"
    );
}

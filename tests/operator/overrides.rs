//! Tests pins, holds and retries: an operator's overrides of the desired state on one host. An override takes effect
//! at once, survives the daemon, is shown in `status` and reaches the server.

use crate::support::agent::Agent;
use crate::support::fault::Faults;
use crate::support::host::Host;
use crate::support::json::{self, Json as _};
use crate::support::watch::names;
use std::fs;
use std::time::Duration;

/// Runs a command that must succeed. Returns its standard output.
fn succeed(host: &Host, words: &[&str]) -> String {
    let output = host.run_with(words);
    assert_eq!(output.status.code(), Some(0), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// Runs a command that must fail. Returns its one line of standard error.
fn refused(host: &Host, words: &[&str]) -> String {
    let output = host.run_with(words);
    assert_eq!(output.status.code(), Some(1), "{words:?}: {output:?}");
    let line = String::from_utf8(output.stderr).expect("text");
    assert_eq!(line.lines().count(), 1, "{line}");
    line
}

/// Returns a host that runs 1.0.1 and ran 1.0.0 before.
fn upgraded() -> Host {
    let host = Host::with_demo("1.0.0");
    host.publish(&Agent::new("demo", "1.0.1"));
    host.desire(&[host.want("demo", "1.0.1")]);
    host.wait_running("demo", "1.0.1");
    host.wait_for("the upgrade to be reported", || {
        host.reported("demo") == ("1.0.1".into(), "started".into())
    });
    host
}

fn last_reported(host: &Host, field: &str) -> String {
    let heartbeat = host.last_beat().expect("a heartbeat");
    heartbeat.agent("demo").field(field).text().to_owned()
}

#[test]
fn a_rollback_is_a_pin_to_the_version_before_and_unpin_follows_the_server_again() {
    let host = upgraded();
    let text = succeed(&host, &["rollback", "demo"]);
    assert!(
        text.contains("pinned to 1.0.0") && text.contains("was notified"),
        "{text}"
    );
    host.wait_running("demo", "1.0.0");
    host.wait_for("the pin to be reported", || {
        host.reported("demo").0 == "1.0.0" && last_reported(&host, "pinned") == "1.0.0"
    });
    assert_eq!(last_reported(&host, "desiredVersion"), "1.0.1");
    host.wait_beats(2);
    assert_eq!(host.version("demo"), "1.0.0");
    let status = succeed(&host, &["status"]);
    assert!(status.contains("pinned to 1.0.0"), "{status}");
    succeed(&host, &["unpin", "demo"]);
    host.wait_running("demo", "1.0.1");
    host.wait_for("no pin to be reported", || {
        last_reported(&host, "pinned").is_empty()
    });
    let text = succeed(&host, &["unpin", "demo"]);
    assert_eq!(text, "demo was not pinned\n");
}

#[test]
fn a_pin_outlives_the_daemon_and_a_stop_is_followed_all_the_same() {
    let mut host = Host::with_demo("1.0.0");
    host.publish(&Agent::new("demo", "1.0.1"));
    succeed(&host, &["pin", "demo"]);
    host.stop();
    host.desire(&[host.want("demo", "1.0.1")]);
    host.start();
    host.wait_beats(3);
    assert_eq!(host.version("demo"), "1.0.0");
    host.desire(&[host.want("demo", "1.0.1").cmd("stop")]);
    host.wait_for("the agent to be stopped", || {
        host.running("demo").is_empty()
    });
    host.desire(&[host.want("demo", "1.0.1")]);
    host.wait_running("demo", "1.0.0");
}

#[test]
fn a_pin_to_a_version_that_is_not_here_fetches_it_without_the_digest_of_another() {
    let host = Host::with_demo("1.0.0");
    host.publish(&Agent::new("demo", "0.9.0"));
    let tarball = Agent::new("demo", "1.0.0").tarball(&host.dir);
    host.desire(&[host
        .want("demo", "1.0.0")
        .md5(crate::support::md5_hex(&tarball))]);
    succeed(&host, &["pin", "demo", "0.9.0"]);
    host.wait_running("demo", "0.9.0");
}

#[test]
fn a_held_host_is_not_changed_but_what_crashes_is_started_again() {
    let host = Host::with_demo("1.0.0");
    host.publish(&Agent::new("demo", "1.0.1"));
    succeed(&host, &["hold", "维护 until Monday"]);
    host.desire(&[host.want("demo", "1.0.1")]);
    host.wait_for("the hold to reach the server", || {
        let heartbeat = host.last_beat().expect("a heartbeat").json();
        heartbeat
            .field("hold")
            .text()
            .starts_with("?? until Monday (")
    });
    host.wait_beats(2);
    assert_eq!(host.version("demo"), "1.0.0");
    host.kill_agent("demo");
    host.wait_running("demo", "1.0.0");
    host.desire(&[host.want("demo", "1.0.1").cmd("stop")]);
    host.wait_beats(2);
    assert_eq!(host.running("demo").len(), 1);
    let status = host.run_with(&["status"]);
    assert_eq!(status.status.code(), Some(4));
    let text = String::from_utf8(status.stdout).expect("text");
    assert!(text.contains("held       维护 until Monday"), "{text}");
    let plan = host.run_with(&["plan"]);
    assert_eq!(plan.status.code(), Some(4), "{plan:?}");
    host.desire(&[host.want("demo", "1.0.1")]);
    succeed(&host, &["release"]);
    host.wait_running("demo", "1.0.1");
    assert_eq!(succeed(&host, &["release"]), "this host was not held\n");
}

#[test]
fn a_hold_ends_a_download_and_a_release_goes_on_with_it() {
    let host = Host::with_demo("1.0.0");
    host.publish(&Agent::new("demo", "1.0.1"));
    let store = Faults::serve(|mut exchange| exchange.hold());
    let held_up = host.want("demo", "1.0.1").tarball(store.releases());
    host.desire(&[held_up]);
    let phase = || last_reported(&host, "phase");
    host.wait_for("a download", || !phase().is_empty());
    succeed(&host, &["hold", "x"]);
    host.wait_for("its end", || phase().is_empty());
    assert_eq!(last_reported(&host, "error"), "");
    succeed(&host, &["release"]);
    host.wait_for("another", || !phase().is_empty());
}

#[test]
fn a_retry_forgets_what_failed_and_tries_at_once() {
    let host = Host::with_demo("1.0.0");
    host.publish(&Agent::new("demo", "1.0.1").on_start("exit 1"));
    host.desire(&[host.want("demo", "1.0.1")]);
    host.wait_for("a rollback", || {
        last_reported(&host, "error").contains("back to 1.0.0")
    });
    host.wait_running("demo", "1.0.0");
    let tries = || {
        host.calls("demo")
            .iter()
            .filter(|call| *call == "1.0.1 start")
            .count()
    };
    let before = tries();
    host.wait_beats(2);
    assert_eq!(tries(), before);
    succeed(&host, &["retry", "demo"]);
    host.wait_within(Duration::from_secs(10), "another try", || tries() > before);
    assert!(!host.own.join("var/retry/demo").exists());
}

#[test]
fn a_request_for_one_agent_is_no_request_for_another_and_replaces_none() {
    let mut host = Host::new();
    host.desire(&["demo", "demo.tmp"].map(|name| host.want(name, "3").cmd("stop")));
    host.start();
    host.wait_beats(2);
    host.stop();
    for (name, version) in [("demo.tmp", "1.0.0"), ("demo", "2.0.0")] {
        succeed(&host, &["pin", name, version]);
        succeed(&host, &["retry", name]);
    }
    let var = host.own.join("var");
    assert_eq!(names(&var.join("retry")), ["demo", "demo.tmp"]);
    let pin = fs::read_to_string(var.join("pins/demo.tmp"));
    assert_eq!(pin.expect("a pin"), "1.0.0");
}

#[test]
fn without_a_daemon_a_command_waits_for_its_start_and_says_so() {
    let mut host = upgraded();
    host.stop();
    let text = succeed(&host, &["rollback", "demo"]);
    assert!(text.contains("does not run and will read this"), "{text}");
    assert_eq!(
        fs::read_to_string(host.own.join("var/pins/demo")).expect("a pin"),
        "1.0.0"
    );
    host.start();
    host.wait_running("demo", "1.0.0");
}

#[test]
fn what_was_never_set_can_be_ended() {
    let host = Host::new();
    assert_eq!(succeed(&host, &["unpin", "demo"]), "demo was not pinned\n");
    assert_eq!(succeed(&host, &["release"]), "this host was not held\n");
    assert!(!host.own.join("var").exists());
}

#[test]
fn a_mistake_is_told_in_one_line_and_changes_nothing() {
    let host = Host::with_demo("1.0.0");
    for (words, message) in [
        (
            &["pin", "dmeo"][..],
            "cannot pin dmeo: there is no such agent on this host, only demo",
        ),
        (
            &["pin", "demo", "../x"],
            "cannot pin demo: the version must be 1 to 64 characters of",
        ),
        (
            &["rollback", "demo"],
            "cannot roll back demo: the version that ran before is not known",
        ),
        (
            &["retry", "../demo"],
            "cannot find ../demo: this is not a valid name of an agent",
        ),
        (
            &["unpin", "../demo"],
            "cannot find ../demo: this is not a valid name of an agent",
        ),
        (
            &["hold", "  "],
            "cannot hold this host: the reason is empty",
        ),
    ] {
        let line = refused(&host, words);
        assert!(line.contains(message), "{words:?}: {line}");
    }
    assert_eq!(host.run_with(&["pin"]).status.code(), Some(2));
    assert_eq!(host.run_with(&["hold", "a", "b"]).status.code(), Some(2));
    for name in ["pins", "hold", "retry"] {
        assert!(!host.own.join("var").join(name).exists(), "{name}");
    }
}

#[test]
fn what_is_asked_for_is_in_the_status_document() {
    let host = upgraded();
    succeed(&host, &["pin", "demo"]);
    succeed(&host, &["hold", "why"]);
    host.wait_for("both overrides in the status", || {
        let text = host.run_with(&["status", "--json"]).stdout;
        let status = json::parse(&String::from_utf8(text).expect("text"));
        let agent = status.field("agents").items()[0].clone();
        status.field("hold").text().starts_with("why (") && agent.field("pinned").text() == "1.0.1"
    });
}

//! Tests `status --wait`, with which a script that rolls out waits for this host.

use crate::support::agent::Agent;
use crate::support::host::Host;
use crate::support::wire::Answer;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

/// Returns the exit code and standard output.
fn outcome(output: &Output) -> (Option<i32>, String) {
    let text = String::from_utf8(output.stdout.clone()).expect("text");
    (output.status.code(), text)
}

#[track_caller]
fn wait(host: &Host, option: &str) -> (Option<i32>, String) {
    outcome(&host.run_with(&["status", option]))
}

/// Returns a host with demo 1.0.0 whose updater sends no heartbeat of its own during the test.
fn host_with_long_interval() -> Host {
    let mut host = Host::with_demo("1.0.0");
    host.stop();
    host.set("interval", "3600");
    host.start();
    host.prompt();
    host.wait_beats(1);
    host
}

#[test]
fn it_asks_the_server_and_returns_when_all_is_as_desired() {
    let host = host_with_long_interval();
    host.publish(&Agent::new("demo", "1.0.1"));
    host.desire(&[host.want("demo", "1.0.1")]);
    let (code, text) = wait(&host, "--wait");
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("1.0.1"), "{text}");
    assert_eq!(host.version("demo"), "1.0.1");
    // A second time there is nothing to wait for but the server's answer.
    let beats = host.meta.count_beats();
    let began = Instant::now();
    assert_eq!(wait(&host, "--wait=60").0, Some(0));
    assert!(began.elapsed() < Duration::from_secs(30));
    assert!(host.meta.count_beats() > beats);
}

#[test]
fn it_waits_for_what_an_operator_asked_for() {
    let host = Host::with_demo("1.0.0");
    host.publish(&Agent::new("demo", "0.9.0"));
    assert!(host.run_with(&["pin", "demo", "0.9.0"]).status.success());
    let (code, text) = wait(&host, "--wait=60");
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(host.version("demo"), "0.9.0");
}

#[test]
fn it_fails_as_soon_as_a_version_has_failed() {
    let host = host_with_long_interval();
    host.publish(&Agent::new("demo", "1.0.1").on_start("exit 1"));
    host.desire(&[host.want("demo", "1.0.1")]);
    let (code, text) = wait(&host, "--wait=200");
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("back to 1.0.0"), "{text}");
    // A script that runs again learns the same, although nothing new happens.
    assert_eq!(wait(&host, "--wait=200").0, Some(1));
}

#[test]
fn it_fails_for_an_entry_that_is_refused() {
    let host = Host::with_demo("1.0.0");
    let good = host.want("demo", "1.0.0");
    host.desire(&[good, host.want("other", "../1")]);
    assert_eq!(wait(&host, "--wait=60").0, Some(1));
}

#[test]
fn it_fails_where_no_updater_runs_and_when_the_updater_ends() {
    let mut host = Host::with_demo("1.0.0");
    host.meta.answer(Answer::new(500, "broken"));
    let mut command = host.command();
    command
        .args(["status", "--wait=100"])
        .stdout(Stdio::piped());
    let waiting = command.spawn().expect("it runs");
    host.wait_for("the request", || host.own.join("var/asked").exists());
    host.stop();
    let output = waiting.wait_with_output().expect("a child of ours");
    assert_eq!(output.status.code(), Some(1));
    let (code, text) = wait(&host, "--wait=100");
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("does not run"), "{text}");
}

#[test]
fn time_is_up_while_the_server_does_not_answer_or_the_host_is_held() {
    let host = host_with_long_interval();
    host.publish(&Agent::new("demo", "1.0.1"));
    host.desire(&[host.want("demo", "1.0.1")]);
    assert!(host.run_with(&["hold", "why"]).status.success());
    let (code, text) = wait(&host, "--wait=5");
    assert_eq!(code, Some(4), "{text}");
    host.meta.answer(Answer::new(500, "broken"));
    assert!(host.run_with(&["release"]).status.success());
    assert_eq!(wait(&host, "--wait=2").0, Some(4));
}

#[test]
fn a_wait_that_is_no_number_of_seconds_is_bad_usage() {
    let host = Host::new();
    for words in [
        &["status", "--wait=soon"][..],
        &["status", "--wait="],
        &["status", "--wait=-1"],
        &["plan", "--wait"],
    ] {
        let output = host.run_with(words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        let message = String::from_utf8(output.stderr).expect("text");
        assert!(message.contains("--wait"), "{message}");
    }
}

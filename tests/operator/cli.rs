//! Tests arguments, configuration and exit codes.

use crate::support::host::Host;
use crate::support::platform::{binary, command};
use std::fs;
use std::process::Output;

fn bare(arguments: &[&str]) -> Output {
    command(&binary())
        .args(arguments)
        .output()
        .expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Writes this cfg.json and runs `check` on it. Returns the exit code, standard output and standard error.
fn check(config: &str) -> (Option<i32>, String, String) {
    let host = Host::new();
    fs::write(host.config_file(), config).expect("cfg.json");
    let output = host.run("check");
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[test]
fn v_prints_the_bare_version() {
    let output = bare(&["-v"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        text(&output.stdout),
        concat!(env!("CARGO_PKG_VERSION"), "\n")
    );
    assert!(output.stderr.is_empty());
}

#[test]
fn h_prints_the_usage() {
    let output = bare(&["-h"]);
    assert_eq!(output.status.code(), Some(0));
    let usage = text(&output.stdout);
    assert!(
        usage.contains("ops-updater") && usage.contains("-c"),
        "{usage}"
    );
}

#[test]
fn bad_usage_exits_with_2() {
    for arguments in [
        &["--no-such-option"][..],
        &["no-such-command"],
        &["-c"],
        &["check", "too", "much"],
    ] {
        let output = bare(arguments);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{arguments:?}: {}",
            text(&output.stderr)
        );
        assert!(!output.stderr.is_empty());
    }
}

#[test]
fn a_configuration_of_the_original_works_unchanged() {
    let (code, _, message) = check(
        r#"{
    "log_level": "info",
    "hostname": "",
    "server": "ops-meta.example:2000",
    "interval": 300,
    "http": {
        "enabled": false,
        "listen": "0.0.0.0:2001"
    }
}"#,
    );
    assert_eq!(code, Some(0), "{message}");
    let (code, _, message) = check(
        r#"{"debug": true, "hostname": "", "server": "127.0.0.1:2000", "interval": 60, "http": {"enabled": true, "listen": "0.0.0.0:2001"}}"#,
    );
    assert_eq!(code, Some(0), "{message}");
}

#[test]
fn a_bad_configuration_is_one_line_that_names_file_and_key() {
    let rows = [
        (r#"{"interval": 60}"#, "server"),
        (r#"{"server": ""}"#, "server"),
        (r#"{"server": "${meta_server}"}"#, "server"),
        (r#"{"server": "[::1]:2000"}"#, "server"),
        (r#"{"server": "http://[::1]:2000/"}"#, "server"),
        (r#"{"server": 7}"#, "server"),
        (r#"{"server": null}"#, "server"),
        (r#"{"server": "ftp://a/"}"#, "server"),
        (r#"{"server": "a:1\r\nX: y"}"#, "server"),
        (r#"{"server": "a:1", "interval": 0}"#, "interval"),
        (r#"{"server": "a:1", "interval": 86401}"#, "interval"),
        (
            r#"{"server": "a:1", "check_interval": 86401}"#,
            "check_interval",
        ),
        (
            r#"{"server": "a:1", "check_interval": -1}"#,
            "check_interval",
        ),
        (r#"{"server": "a:1", "interval": -1}"#, "interval"),
        (r#"{"server": "a:1", "interval": "60"}"#, "interval"),
        (r#"{"server": "a:1", "interval": 1.5}"#, "interval"),
        (r#"{"server": "a:1", "interval": 4294967297}"#, "interval"),
        (r#"{"server": "a:1", "hostname": 7}"#, "hostname"),
        (r#"{"server": "a:1", "ip": 7}"#, "ip"),
        (r#"{"server": "a:1", "log_level": "loud"}"#, "log_level"),
        (r#"{"server": "a:1", "debug": "yes"}"#, "debug"),
        (r#"{"server": "a:1", "http": []}"#, "http"),
        (r#"{"server": "a:1", "http": {"enabled": 1}}"#, "enabled"),
    ];
    for (config, key) in rows {
        let (code, _, message) = check(config);
        assert_eq!(code, Some(2), "{config}: {message}");
        assert_eq!(message.trim_end().lines().count(), 1, "{config}: {message}");
        assert!(
            message.contains("cfg.json") && message.contains(key),
            "{config}: {message}"
        );
    }
}

#[test]
fn a_mistake_in_the_json_is_given_with_line_and_column() {
    let rows = [
        ("{\n  \"server\": \"a:1\",\n  \"interval\": 60,\n}\n", "4:1"),
        ("{\n  \"server\": \"a:1\"\n  \"interval\": 60\n}\n", "3:3"),
        ("{\n  'server': \"a:1\"\n}\n", "2:3"),
        ("{\"server\": \"a:1\"} x", "1:19"),
    ];
    for (config, position) in rows {
        let (code, _, message) = check(config);
        assert_eq!(code, Some(2), "{config}");
        let (line, column) = position.split_once(':').expect("a position");
        let in_words = message.contains(&format!("line {line}"))
            && message.contains(&format!("column {column}"));
        assert!(
            in_words || message.contains(&format!("cfg.json:{position}")),
            "{config:?} is wrong at {position}: {message}"
        );
        assert_eq!(message.trim_end().lines().count(), 1, "{message}");
    }
    for config in ["", "null", "[]", "7", "{\"server\": \"\\ud800\"}"] {
        assert_eq!(check(config).0, Some(2), "{config}");
    }
    let host = Host::new();
    fs::write(
        host.config_file(),
        b"{\"server\": \"a:1\", \"hostname\": \"\xe4\"}",
    )
    .expect("cfg.json");
    assert_eq!(host.run("check").status.code(), Some(2));
}

#[test]
fn a_key_that_nobody_knows_is_warned_of_by_name() {
    let (code, printed, message) = check(r#"{"server": "a:1", "intervall": 60}"#);
    assert_eq!(code, Some(0), "{message}");
    assert!((printed + &message).contains("intervall"));
}

#[test]
fn without_a_configuration_it_does_not_start() {
    let host = Host::new();
    fs::remove_file(host.config_file()).expect("cfg.json");
    let output = host.command().output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(2));
    let message = text(&output.stderr);
    assert!(
        message.contains("cfg.json") && message.trim_end().lines().count() == 1,
        "{message}"
    );
}

#[test]
fn a_daemon_with_a_bad_configuration_says_so_and_exits_with_2() {
    let mut host = Host::new();
    host.set("interval", "0");
    let output = host.command().output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("interval"));
}

#[test]
fn a_directory_that_cannot_be_written_is_named_and_ends_it_with_1() {
    let host = Host::new();
    fs::write(host.own.join("var"), "in the way").expect("a file");
    let output = host.command().output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(1));
    let message = text(&output.stderr);
    assert!(message.contains("var"), "{message}");
}

#[test]
fn pid_prints_the_running_daemon_and_fails_silently_without_one() {
    let mut host = Host::new();
    let output = host.run("pid");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    host.start();
    host.wait_for("the daemon to hold its lock", || {
        host.run("pid").status.success()
    });
    assert_eq!(
        text(&host.run("pid").stdout).trim(),
        host.daemon_pid().to_string()
    );
    let pid = host.daemon_pid();
    assert!(host.stop().success());
    let output = host.run("pid");
    assert_eq!(
        (output.status.code(), output.stdout.len()),
        (Some(1), 0),
        "{pid} is gone"
    );
}

#[test]
fn every_line_of_the_log_has_time_and_level() {
    let host = Host::with_installed_demo("1.0.0");
    for line in host.log().lines() {
        let mut words = line.split(' ');
        let time = words.next().unwrap_or_default();
        let level = words.next().unwrap_or_default();
        let shape: String = time
            .chars()
            .map(|c| if c.is_ascii_digit() { '0' } else { c })
            .collect();
        assert_eq!(shape, "0000-00-00T00:00:00Z", "{line}");
        assert!(
            ["ERROR", "WARN", "INFO", "DEBUG"].contains(&level),
            "{line}"
        );
    }
}

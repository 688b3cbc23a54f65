//! The form of the log: text, JSON for a collector, and priorities for the journal of systemd.

use crate::support::agent::Agent;
use crate::support::host::Host;
use crate::support::json::{self, Json as _, quote};
use crate::support::procs;
use crate::support::wire::Answer;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::process::Stdio;

/// Returns a host whose agent cannot be installed.
fn host() -> Host {
    let host = Host::new();
    host.desire(&[host.want("demo", "1.0.0")]);
    host
}

/// Returns the lines of the log, of which the last one may not be whole yet.
fn lines(host: &Host) -> Vec<String> {
    let log = fs::read_to_string(host.log_file()).unwrap_or_default();
    log.lines().map(str::to_owned).collect()
}

fn wait_for_line(host: &Host, what: &str, is_it: impl Fn(&str) -> bool) {
    host.wait_for(what, || lines(host).iter().any(|line| is_it(line)));
}

/// Returns the log file, for `JOURNAL_STREAM`, as systemd names the journal.
fn stream(host: &Host) -> String {
    let log = File::options()
        .create(true)
        .append(true)
        .open(host.log_file())
        .expect("a log");
    let found = log.metadata().expect("metadata");
    format!("{}:{}", found.dev(), found.ino())
}

#[test]
fn with_log_format_json_each_line_is_an_object() {
    let mut host = host();
    host.set("log_format", &quote("json"));
    host.start();
    wait_for_line(&host, "the warning of the failed install", |line| {
        line.contains(r#""level":"WARN","msg":"demo: cannot fetch http://"#)
    });
    host.stop();
    for line in lines(&host) {
        let line = json::parse(&line);
        let time = line.field("time").text();
        assert!(time.len() == 20 && time.ends_with('Z'), "{time}");
        assert!(["INFO", "WARN"].contains(&line.field("level").text()));
        assert!(!line.field("msg").text().is_empty());
    }
}

#[test]
fn a_reload_changes_the_form() {
    let mut host = host();
    host.start();
    wait_for_line(&host, "a line of text", |line| line.contains("Z INFO "));
    host.set("log_format", &quote("json"));
    host.signal_daemon(libc::SIGHUP);
    wait_for_line(&host, "a line of JSON", |line| {
        line.contains(r#""level":"INFO","msg":"settings read again"#)
    });
}

#[test]
fn the_journal_gets_priorities_and_no_second_time() {
    let mut host = host();
    host.publish(&Agent::new("other", "1.0.0"));
    host.desire(&[host.want("demo", "1.0.0"), host.want("other", "1.0.0")]);
    let mut command = host.command();
    command.env("JOURNAL_STREAM", stream(&host));
    host.start_as(command);
    wait_for_line(&host, "a warning", |line| {
        line.starts_with("<4>WARN demo: cannot fetch http://")
    });
    wait_for_line(&host, "the end of an install", |line| {
        line == "<6>INFO other: start 1.0.0: done"
    });
    host.stop();
    let is_marked = |line: &String| line.starts_with("<6>INFO ") || line.starts_with("<4>WARN ");
    assert!(lines(&host).iter().all(is_marked), "{:?}", lines(&host));
}

#[test]
fn a_start_that_fails_is_an_error_in_the_journal() {
    let mut host = host();
    host.set("interval", "0");
    let mut command = host.command();
    command.env("JOURNAL_STREAM", stream(&host));
    host.start_as(command);
    wait_for_line(&host, "the reason", |line| {
        line.starts_with("<3>ops-updater: ") && line.contains("interval is 0")
    });
}

#[test]
fn a_stderr_that_is_not_the_journal_gets_plain_lines() {
    let mut host = host();
    let mut command = host.command();
    command.env("JOURNAL_STREAM", "8:1");
    host.start_as(command);
    wait_for_line(&host, "a line with its time", |line| {
        line.contains("Z WARN demo: cannot fetch http://")
    });
    host.stop();
    assert!(lines(&host).iter().all(|line| line.starts_with("20")));
}

#[test]
fn a_reader_that_does_not_read_stops_nothing_however_much_json_escapes() {
    let mut host = Host::new();
    let quotes = "\\\"".repeat(3800);
    let (store, work) = (host.meta.url("/"), host.work.display().to_string());
    let entry = |number: usize| {
        format!(
            r#"{{"name": "a{number}", "version": "1", "cmd": "start", "workDir": "{work}", "tarball": "{store}{quotes}"}}"#
        )
    };
    let entries: Vec<String> = (0..40).map(entry).collect();
    let answer = format!(r#"{{"desiredAgents": [{}]}}"#, entries.join(","));
    host.meta.answer(Answer::new(200, answer));
    host.set("log_format", &quote("json"));
    let mut command = host.command();
    let (unread, log) = std::io::pipe().expect("a pipe");
    command.stdout(Stdio::null()).stderr(log);
    let mut daemon = command.spawn().expect("the binary runs");
    drop(command);
    host.wait_beats(8);
    procs::signal(daemon.id(), libc::SIGTERM);
    assert_eq!(daemon.wait().expect("it ends").code(), Some(0));
    drop(unread);
}

#[test]
fn a_second_start_complains_in_json_too() {
    let mut host = host();
    host.set("log_format", &quote("json"));
    host.start();
    host.wait_beats(1);
    let second = host.command().output().expect("the binary runs");
    let text = String::from_utf8_lossy(&second.stderr);
    let last = json::parse(text.lines().last().unwrap_or_default());
    assert_eq!(last.field("level").text(), "ERROR", "{text}");
    assert!(
        last.field("msg").text().starts_with("ops-updater: "),
        "{text}"
    );
}

//! Tests the `control` that is shipped with the updater, under every shell of this machine.

use crate::support::host::Host;
use crate::support::json::quote;
use crate::support::platform::{binary, skipped};
use crate::support::procs;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Returns a host whose updater directory holds the unpacked release. No updater runs yet.
pub fn unpacked() -> Host {
    let host = Host::new();
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in ["control", "cfg.example.json"] {
        fs::copy(source.join(name), host.own.join(name)).expect("a file of the release");
    }
    // The binary is linked, not copied. A test that forks at the same time inherits files open for writing, and a copy
    // would be "busy".
    symlink(binary(), host.own.join("ops-updater")).expect("the binary");
    host
}

/// Returns the command that runs `control` by this shell, from a directory that is not its own.
pub fn command(host: &Host, shell: &[&str], verb: &str) -> Command {
    let mut command = Command::new(shell[0]);
    command
        .args(&shell[1..])
        .arg(host.own.join("control"))
        .arg(verb)
        .current_dir("/")
        .stdin(Stdio::null());
    command
}

fn control(host: &Host, verb: &str) -> Output {
    command(host, &["sh"], verb).output().expect("sh runs")
}

#[track_caller]
pub fn succeed(host: &Host, verb: &str) -> String {
    let output = control(host, verb);
    assert!(output.status.success(), "{verb}: {}", err(&output));
    out(&output)
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr)
        .trim_end()
        .to_owned()
}

pub fn pid(host: &Host) -> u32 {
    succeed(host, "pid").parse().expect("a pid")
}

fn lines(text: &str) -> usize {
    text.lines().count()
}

#[test]
fn start_stop_status_and_pid_tell_the_truth_under_every_shell() {
    for shell in [&["sh"][..], &["dash"], &["bash"], &["busybox", "sh"]] {
        if Command::new(shell[0]).arg("--help").output().is_err() {
            skipped(&format!("needs {}", shell[0]));
            continue;
        }
        let host = unpacked();
        let answer = |verb: &str| {
            let output = command(&host, shell, verb).output().expect("it runs");
            (out(&output), output.status.code().unwrap_or(-1))
        };
        assert_eq!(answer("status"), ("stoped".to_owned(), 0), "{shell:?}");
        assert_eq!(answer("pid"), (String::new(), 1), "{shell:?}");
        let (message, code) = answer("start");
        let (pid, _) = answer("pid");
        assert_eq!(message, format!("ops-updater started..., pid={pid}"));
        assert_eq!(code, 0, "{shell:?}");
        assert!(procs::alive(pid.parse().expect("a pid")), "{shell:?}");
        assert_eq!(answer("status"), ("started".to_owned(), 0), "{shell:?}");
        assert_eq!(answer("stop"), ("ops-updater stoped...".to_owned(), 0));
        // The lock is released a moment before the process leaves the process table.
        host.wait_for("the updater to end", || {
            !procs::alive(pid.parse().expect("a pid"))
        });
        assert_eq!(answer("status"), ("stoped".to_owned(), 0), "{shell:?}");
    }
}

#[test]
fn a_word_that_is_no_command_is_named_in_one_line() {
    let host = unpacked();
    let output = control(&host, "foo");
    assert_eq!(output.status.code(), Some(2));
    assert_eq!((lines(&out(&output)), lines(&err(&output))), (0, 1));
    let said = err(&output);
    assert!(
        said.starts_with("ops-updater: unknown command foo; see "),
        "{said}"
    );
}

#[test]
fn starting_twice_and_stopping_twice_is_fine() {
    let host = unpacked();
    succeed(&host, "start");
    let pid = pid(&host);
    let message = format!("ops-updater now is running already, pid={pid}");
    assert_eq!(succeed(&host, "start"), message);
    succeed(&host, "stop");
    succeed(&host, "stop");
}

#[test]
fn many_starts_at_once_make_one_updater() {
    let host = unpacked();
    let starts: Vec<_> = (0..8)
        .map(|_| command(&host, &["sh"], "start").spawn().expect("sh runs"))
        .collect();
    for mut start in starts {
        assert!(start.wait().expect("a child of ours").success());
    }
    host.wait_for("a single updater", || {
        let daemon = ["./ops-updater", "-c", "cfg.json"].map(str::to_owned);
        let updaters = procs::in_sandbox(&host.dir).into_iter();
        let updaters = updaters.filter(|pid| procs::args(*pid).ends_with(&daemon));
        updaters.count() == 1
    });
}

#[test]
fn asking_for_the_status_never_keeps_an_updater_from_starting() {
    let host = unpacked();
    for _ in 0..3 {
        let ask = "while :; do ./ops-updater pid >/dev/null; done";
        let mut askers: Vec<_> = (0..4)
            .map(|_| {
                let mut asker = Command::new("sh");
                asker.args(["-c", ask]).current_dir(&host.own);
                asker.spawn().expect("sh runs")
            })
            .collect();
        let started = control(&host, "start");
        for asker in &mut askers {
            let _ = asker.kill();
            let _ = asker.wait();
        }
        assert!(started.status.success(), "{}", err(&started));
        succeed(&host, "stop");
    }
}

#[test]
fn without_a_config_the_example_is_copied_and_nothing_starts() {
    let host = unpacked();
    fs::remove_file(host.config_file()).expect("it was there");
    let first = control(&host, "start");
    assert_eq!(first.status.code(), Some(1));
    assert_eq!((lines(&out(&first)), lines(&err(&first))), (0, 1));
    let example = fs::read(host.own.join("cfg.example.json")).expect("the example");
    assert_eq!(fs::read(host.config_file()).expect("a copy"), example);
    let second = control(&host, "start");
    assert_eq!(second.status.code(), Some(2));
    assert!(err(&second).contains("placeholder"), "{}", err(&second));
    assert_eq!(succeed(&host, "status"), "stoped");
}

#[test]
fn a_configuration_error_is_shown_at_once_and_no_pid() {
    let mut host = unpacked();
    host.set("interval", "0");
    let start = control(&host, "start");
    assert_eq!(start.status.code(), Some(2));
    assert_eq!((lines(&out(&start)), lines(&err(&start))), (0, 1));
    assert!(err(&start).contains("interval"), "{}", err(&start));
    assert_eq!(control(&host, "check").status.code(), Some(2));
    assert_eq!(succeed(&host, "status"), "stoped");
}

#[test]
fn a_bad_config_neither_stops_nor_reloads_the_running_updater() {
    let mut host = unpacked();
    succeed(&host, "start");
    let before = pid(&host);
    host.set("interval", quote("often").as_str());
    assert_eq!(control(&host, "restart").status.code(), Some(2));
    assert_eq!(control(&host, "reload").status.code(), Some(2));
    assert_eq!(pid(&host), before);
    host.set("interval", "1");
    succeed(&host, "restart");
    assert_ne!(pid(&host), before);
}

#[test]
fn a_stale_pid_is_neither_believed_nor_signalled() {
    let host = unpacked();
    let mut stranger = Command::new("sleep").arg("60").spawn().expect("it runs");
    fs::create_dir_all(host.own.join("var")).expect("var");
    for name in ["app.pid", "lock"] {
        let pid = format!("{}\n", stranger.id());
        fs::write(host.own.join("var").join(name), pid).expect("a stale pid");
    }
    assert_eq!(succeed(&host, "status"), "stoped");
    succeed(&host, "stop");
    succeed(&host, "start");
    assert_ne!(pid(&host), stranger.id());
    succeed(&host, "stop");
    assert!(procs::alive(stranger.id()));
    let _ = stranger.kill();
    let _ = stranger.wait();
}

#[test]
fn the_log_is_appended_to() {
    let host = unpacked();
    let log = host.own.join("var/app.log");
    fs::create_dir_all(host.own.join("var")).expect("var");
    fs::write(&log, "an old line\n").expect("a log");
    for _ in 0..2 {
        succeed(&host, "start");
        succeed(&host, "stop");
    }
    let text = fs::read_to_string(&log).expect("a log");
    assert!(text.starts_with("an old line\n") && lines(&text) > 1);
}

#[test]
fn a_binary_that_cannot_run_here_is_told_in_one_line() {
    let host = unpacked();
    let own = host.own.join("ops-updater");
    fs::remove_file(&own).expect("it was there");
    for content in [None, Some(&b"\x7fELF\x02\x01\x01 of another arch\n(\n"[..])] {
        if let Some(content) = content {
            fs::copy(host.own.join("control"), &own).expect("a file that can be run");
            fs::write(&own, content).expect("a foreign binary");
        }
        for verb in ["start", "stop", "restart", "status", "pid", "check"] {
            let output = control(&host, verb);
            assert_eq!(output.status.code(), Some(1), "{verb}");
            assert_eq!(
                (lines(&out(&output)), lines(&err(&output))),
                (0, 1),
                "{verb}"
            );
        }
    }
}

#[test]
fn the_started_updater_leads_its_own_session_and_holds_nothing_of_its_caller() {
    let host = unpacked();
    let callers = host.dir.join("callers");
    let start = r#"exec 3>"$1" 5>"$1" 9>"$1"; "$0" start"#;
    let output = Command::new("sh")
        .args(["-c", start])
        .args([&host.own.join("control"), &callers])
        .env("OPERATORS_OWN", "kept")
        .output()
        .expect("sh runs");
    assert!(output.status.success(), "{}", err(&output));
    let pid = pid(&host);
    assert_eq!(procs::session(pid), Some(pid));
    let environ = fs::read(format!("/proc/{pid}/environ")).expect("ours");
    assert!(
        environ
            .split(|b| *b == 0)
            .any(|v| v == b"OPERATORS_OWN=kept")
    );
    let fds = fs::read_dir(format!("/proc/{pid}/fd")).expect("ours");
    let open: Vec<_> = fds
        .flatten()
        .filter_map(|fd| fs::read_link(fd.path()).ok())
        .collect();
    assert!(!open.contains(&callers), "{open:?}");
    let stdin = fs::read_link(format!("/proc/{pid}/fd/0")).expect("a stdin");
    assert_eq!(stdin, Path::new("/dev/null"));
}

#[test]
fn control_finds_its_directory_through_a_symbolic_link() {
    let host = unpacked();
    let bin = host.dir.join("bin");
    fs::create_dir(&bin).expect("bin");
    symlink("../updater/control", bin.join("one")).expect("a link");
    symlink("one", bin.join("two")).expect("a link");
    succeed(&host, "start");
    let status = Command::new("sh")
        .arg(bin.join("two"))
        .arg("status")
        .output();
    assert_eq!(out(&status.expect("it runs")), "started");
}

#[test]
fn sync_sends_a_heartbeat_now_and_reload_takes_the_new_config() {
    let mut host = unpacked();
    host.set("interval", "3600");
    for verb in ["sync", "reload"] {
        assert_eq!(control(&host, verb).status.code(), Some(1), "{verb}");
    }
    succeed(&host, "start");
    succeed(&host, "sync");
    host.wait_for("a heartbeat", || !host.meta.beats().is_empty());
    host.set("hostname", &quote("renamed"));
    succeed(&host, "reload");
    succeed(&host, "sync");
    host.wait_for("the new name to be reported", || {
        host.last_beat()
            .is_some_and(|heartbeat| heartbeat.body.contains("\"hostname\":\"renamed\""))
    });
}

//! Hosts that lack what every host has: /proc, /dev/null, HOME, a name, a passwd file. The updater works, or says in one line
//! what is missing.

use crate::support::agent::Agent;
use crate::support::archive::Tarball;
use crate::support::host::Host;
use crate::support::json::{Json as _, quote};
use crate::support::names::{can_mount, in_mounts};
use crate::support::platform::skipped;
use crate::support::procs;
use crate::support::trial::each;
use crate::support::users::{User, can_make_users, mode, uid_of};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

const NO_PROC: &str = "mount -t tmpfs none /proc";
const NO_DEV: &str = "mount -t tmpfs none /dev";
const NO_PASSWD: &str = "mount -t tmpfs none /etc";

fn text(output: &Output) -> String {
    let bytes = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Runs one command of the updater after these lines of shell, in a mount namespace. Returns its exit code and output.
fn run_in_mounts(host: &Host, lines: &str, argument: &str) -> (Option<i32>, String) {
    let mut command = in_mounts(host, lines);
    let output = command.arg(argument).output().expect("unshare runs");
    (output.status.code(), text(&output))
}

/// Returns the lines that contain these words.
fn lines_with<'a>(text: &'a str, words: &str) -> Vec<&'a str> {
    text.lines().filter(|line| line.contains(words)).collect()
}

/// Publishes an agent whose script uses nothing of /proc or /dev, and desires it.
fn desire_plain(host: &Host, version: &str) {
    let control = format!(
        "#!/bin/sh\necho \"{version} $1\" >>'{}/demo.calls'\ncase $1 in\n\
         start) sleep 0 86400 <&- >&- 2>&- & echo $! >app.pid ;;\n\
         stop) kill \"$(cat app.pid)\"; rm app.pid ;;\n\
         status) if [ -f app.pid ] && kill -0 \"$(cat app.pid)\"; then echo started; else echo stoped; fi ;;\nesac\n",
        host.dir.display()
    );
    let tarball = Tarball::new().file("control", 0o755, control).gzip();
    host.meta.publish("demo", version, tarball);
    host.desire(&[host.want("demo", version)]);
}

#[test]
fn without_proc_an_agent_is_installed_and_upgraded_and_start_check_and_doctor_say_what_is_missing()
{
    if !can_mount() {
        return;
    }
    let mut host = Host::new();
    desire_plain(&host, "1.0.0");
    let command = in_mounts(&host, NO_PROC);
    host.start_as(command);
    host.wait_running("demo", "1.0.0");
    desire_plain(&host, "1.0.1");
    host.wait_running("demo", "1.0.1");
    assert_eq!(
        host.calls("demo"),
        ["1.0.0 start", "1.0.0 stop", "1.0.1 start"]
    );
    let log = host.log();
    assert_eq!(lines_with(&log, "is /proc mounted?").len(), 1, "{log}");
    for command in ["check", "doctor"] {
        let (code, out) = run_in_mounts(&host, NO_PROC, command);
        assert_eq!(code, Some(0), "{command}: {out}");
        let said = lines_with(&out, "is /proc mounted?");
        assert_eq!(said.len(), 1, "{command}: {out}");
    }
}

#[test]
fn without_proc_an_agent_inherits_no_descriptor() {
    if !can_mount() {
        return;
    }
    let mut host = Host::new();
    desire_plain(&host, "1.0.0");
    let command = in_mounts(&host, &format!("exec 7</dev/zero && {NO_PROC}"));
    host.start_as(command);
    let running = host.wait_running("demo", "1.0.0");
    let open = crate::support::watch::names(format!("/proc/{}/fd", running.pid).as_ref());
    assert!(!open.contains(&"7".to_owned()), "{open:?}");
}

#[test]
fn without_proc_an_updater_goes_on_when_its_program_is_replaced() {
    if !can_mount() {
        return;
    }
    let mut host = Host::new();
    let program = host.dir.join("ops-updater");
    procs::copy_binary(&program);
    host.copy = Some(program.clone());
    desire_plain(&host, "1.0.0");
    let command = in_mounts(&host, NO_PROC);
    host.start_as(command);
    host.wait_running("demo", "1.0.0");
    let fresh = host.dir.join("fresh");
    procs::copy_binary(&fresh);
    std::fs::rename(&fresh, &program).expect("it is replaced");
    host.kill_agent("demo");
    host.wait_running("demo", "1.0.0");
}

#[test]
fn without_proc_the_program_finds_its_file_from_a_directory_that_is_gone() {
    if !can_mount() {
        return;
    }
    let host = Host::new();
    let lines = format!("mkdir gone && cd gone && rmdir ../gone && {NO_PROC}");
    let (_, out) = run_in_mounts(&host, &lines, "doctor");
    assert!(out.contains("is /proc mounted?"), "{out}");
    assert!(!out.contains("program's own file"), "{out}");
}

#[test]
fn without_proc_control_stop_ends_the_updater() {
    if !can_mount() {
        return;
    }
    let mut host = Host::new();
    let command = in_mounts(&host, NO_PROC);
    host.start_as(command);
    host.wait_beats(1);
    let mut signal = in_mounts(&host, NO_PROC);
    let output = signal.args(["signal", "TERM"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(host.wait_exit().code(), Some(0));
}

#[test]
fn without_dev_null_an_agent_is_reported_with_what_is_missing_and_doctor_says_it() {
    if !can_mount() {
        return;
    }
    let mut host = Host::new();
    host.publish(&Agent::new("demo", "1.0.0"));
    host.desire(&[host.want("demo", "1.0.0")]);
    let command = in_mounts(&host, NO_DEV);
    host.start_as(command);
    host.wait_for("the reason in the heartbeat", || {
        host.reported("demo")
            .1
            .contains("cannot open /dev/null: No such file")
    });
    for (lines, words) in [
        (NO_DEV.to_owned(), "cannot open /dev/null: No such file"),
        // What `rm /dev/null` and the next command leave.
        (
            format!("{NO_DEV} && echo x >/dev/null"),
            "/dev/null is no device",
        ),
    ] {
        let (code, out) = run_in_mounts(&host, &lines, "doctor");
        assert_eq!(code, Some(1), "{out}");
        let said = lines_with(&out, words);
        assert_eq!(said.len(), 1, "{out}");
        assert!(said[0].starts_with("fail"), "{out}");
    }
}

#[test]
fn without_home_and_without_any_variable_an_agent_is_installed_upgraded_and_stopped() {
    each(&[false, true], |keeps_path| {
        let mut host = Host::new();
        host.publish(&Agent::new("demo", "1.0.0"));
        host.publish(&Agent::new("demo", "1.0.1"));
        host.desire(&[host.want("demo", "1.0.0")]);
        let mut command = host.command();
        if keeps_path {
            command.env_remove("HOME");
        } else {
            command.env_clear();
        }
        host.start_as(command);
        host.wait_running("demo", "1.0.0");
        host.desire(&[host.want("demo", "1.0.1")]);
        host.wait_running("demo", "1.0.1");
        host.desire(&[host.want("demo", "1.0.1").cmd("stop")]);
        host.wait_for("the agent to be stopped", || {
            host.reported("demo").1 == "stoped"
        });
    });
}

#[test]
fn root_without_a_passwd_entry_is_root_for_agents_of_its_own() {
    if !can_make_users() || !can_mount() {
        return;
    }
    each(&["", "root"], |run_user| {
        let mut host = Host::new();
        host.publish(&Agent::new("demo", "1.0.0"));
        host.publish(&Agent::new("demo", "1.0.1"));
        host.desire(&[host.want("demo", "1.0.0").run_user(run_user)]);
        let command = in_mounts(&host, NO_PASSWD);
        host.start_as(command);
        let running = host.wait_running("demo", "1.0.0");
        assert_eq!(uid_of(format!("/proc/{}", running.pid).as_ref()), Some(0));
        let beat = host.last_beat().expect("a heartbeat came").json();
        assert_eq!(beat.field("runUser").text(), "root");
        host.desire(&[host.want("demo", "1.0.1").run_user(run_user)]);
        host.wait_running("demo", "1.0.1");
    });
}

#[test]
fn an_agent_that_comes_back_to_a_root_without_a_passwd_entry_is_run_by_root() {
    if !can_make_users() || !can_mount() {
        return;
    }
    let user = User::new();
    let mut host = Host::new();
    host.offer(&crate::support::users::noting("demo", "1.0.0"));
    host.desire(&[host.want("demo", "1.0.0").run_user(&user.name)]);
    host.start();
    host.wait_running("demo", "1.0.0");
    host.stop();
    // Only the agent's user is left. Without the rest of /etc, no service of names makes up an entry for root.
    let passwd = host.dir.join("passwd");
    let all = std::fs::read_to_string("/etc/passwd").expect("a passwd file");
    let line = all
        .lines()
        .find(|line| line.starts_with(&format!("{}:", user.name)));
    std::fs::write(&passwd, line.expect("its line").to_owned() + "\n").expect("a file");
    mode(&passwd, 0o644);
    let lines = format!("{NO_PASSWD} && cp '{}' /etc/passwd", passwd.display());
    let command = in_mounts(&host, &lines);
    host.desire(&[host.want("demo", "1.0.0").run_user("root")]);
    host.start_as(command);
    host.wait_for("the agent to run as root", || {
        let ids = host.ids("demo");
        ids.last().is_some_and(|id| id == "1.0.0 start 0")
    });
    host.wait_running("demo", "1.0.0");
}

#[test]
fn a_user_that_is_only_a_number_runs_agents_of_its_own() {
    if !can_make_users() {
        return;
    }
    let mut host = Host::of(&User::new());
    for dir in [&host.own, &host.work] {
        let done = Command::new("chown")
            .arg("-R")
            .arg("70321:0")
            .arg(dir)
            .status();
        assert!(done.is_ok_and(|status| status.success()));
    }
    host.ids = Some((70_321, 0));
    host.offer(&Agent::new("demo", "1.0.0"));
    host.desire(&[host.want("demo", "1.0.0")]);
    host.start();
    let running = host.wait_running("demo", "1.0.0");
    assert_eq!(
        uid_of(format!("/proc/{}", running.pid).as_ref()),
        Some(70_321)
    );
}

#[test]
fn a_name_that_does_not_tell_this_host_from_others_is_warned_of_once_and_by_doctor() {
    for name in ["localhost", "localhost.localdomain", "(none)"] {
        let mut host = Host::new();
        host.set("hostname", &quote(name));
        assert_warns_of(&mut host, name, Host::command);
    }
}

#[test]
fn a_host_without_a_name_is_warned_of_once_and_by_doctor() {
    let nameless = |host: &Host| {
        let inner = host.command();
        let mut command = Command::new("unshare");
        let lines = "echo >/proc/sys/kernel/hostname && exec \"$@\"";
        command.args(["-u", "sh", "-c", lines, "sh"]);
        command.arg(inner.get_program()).args(inner.get_args());
        for (key, value) in inner.get_envs() {
            command.env(key, value.unwrap_or_default());
        }
        command.current_dir(&host.dir).stdin(Stdio::null());
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command
    };
    let mut host = Host::new();
    host.set("hostname", "\"\"");
    let tried = Command::new("unshare").args(["-u", "true"]).status();
    if !tried.is_ok_and(|status| status.success()) {
        return skipped("needs root to change the host's name");
    }
    assert_warns_of(&mut host, "", nameless);
}

/// Asserts one warning in the log of a daemon that goes on, and one finding of `doctor` and `check`, with what to do.
fn assert_warns_of(host: &mut Host, name: &str, command: impl Fn(&Host) -> Command) {
    let words = format!("the hostname {name:?} is not unique");
    host.start_as(command(host));
    host.wait_beats(3);
    let log = host.log();
    let said = lines_with(&log, &words);
    assert_eq!(said.len(), 1, "{log}");
    assert!(said[0].contains(" WARN ") && said[0].contains("set \"hostname\""));
    for argument in ["doctor", "check"] {
        let output = command(host).arg(argument).output().expect("it runs");
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        assert_eq!(lines_with(&text(&output), &words).len(), 1);
    }
    host.stays(Duration::from_millis(100), "it runs", || {
        procs::alive(host.daemon_pid())
    });
}

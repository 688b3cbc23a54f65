//! A version that crashes the whole host when it starts is rolled back after the second crash. A single power cut, or
//! a crash of the updater alone, does not roll it back.

use crate::support::agent::Agent;
use crate::support::host::{Host, MARK};
use crate::support::procs;
use crate::support::users::can_make_users;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

/// Starts the daemon with a mounted boot id, so that it takes this start for the given boot of the host.
fn boot(host: &mut Host, boot: &str) {
    let id = host.dir.join("boot_id");
    fs::write(&id, format!("{boot}\n")).expect("a file");
    let inner = host.command();
    let mount = "mount --bind \"$0\" /proc/sys/kernel/random/boot_id && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", mount]).arg(id);
    command.arg(inner.get_program()).args(inner.get_args());
    command.current_dir(&host.dir).env(MARK, &host.dir);
    command.stdin(Stdio::null()).process_group(0);
    host.start_as(command);
}

/// Kills the updater, the scripts and the agent at once, as a host crash does.
fn go_down(host: &mut Host) {
    host.kill_updater_and_scripts();
    for running in host.running("demo") {
        procs::signal(running.pid, libc::SIGKILL);
    }
}

fn starts(host: &Host, version: &str) -> usize {
    let start = format!("{version} start");
    host.calls("demo")
        .iter()
        .filter(|call| **call == start)
        .count()
}

/// Returns a host that went down twice while 1.0.1 was being started, and that is booted for the third time. The host
/// crashed where the boot id changed; otherwise only the updater crashed.
fn after_two_crashes(boots: [&str; 3]) -> Host {
    let mut host = Host::new();
    host.publish(&Agent::new("demo", "1.0.0"));
    host.publish(&Agent::new("demo", "1.0.1").on_start("sleep 40"));
    host.desire(&[host.want("demo", "1.0.0")]);
    boot(&mut host, boots[0]);
    host.wait_running("demo", "1.0.0");
    host.desire(&[host.want("demo", "1.0.1")]);
    host.wait_for("1.0.1 to be started", || starts(&host, "1.0.1") == 1);
    go_down(&mut host);
    boot(&mut host, boots[1]);
    host.wait_for("1.0.1 to be started again", || starts(&host, "1.0.1") == 2);
    go_down(&mut host);
    boot(&mut host, boots[2]);
    host
}

#[test]
fn a_version_that_takes_the_host_down_twice_is_left_for_the_one_before_it() {
    if !can_make_users() {
        return;
    }
    let host = after_two_crashes(["one", "two", "three"]);
    host.wait_running("demo", "1.0.0");
    let error = host.wait_error("demo");
    assert!(
        error.contains("the host went down 2 times while 1.0.1"),
        "{error}"
    );
    host.wait_beats(3);
    assert_eq!(starts(&host, "1.0.1"), 2);
    host.publish(&Agent::new("demo", "1.0.2"));
    host.desire(&[host.want("demo", "1.0.2")]);
    host.wait_running("demo", "1.0.2");
}

#[test]
fn an_updater_that_ends_in_one_and_the_same_boot_counts_for_nothing() {
    if !can_make_users() {
        return;
    }
    let host = after_two_crashes(["one", "one", "one"]);
    host.wait_for("1.0.1 to be started", || starts(&host, "1.0.1") == 3);
    let host = after_two_crashes(["one", "two", "two"]);
    host.wait_for("1.0.1 to be started", || starts(&host, "1.0.1") == 3);
}

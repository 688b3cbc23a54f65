//! Which process commands signal: the updater that the kernel names as the holder of the lock, and no other, whatever pid is
//! in a file.

use super::control::{command, pid, succeed, unpacked};
use crate::crash::full_disk::Mount;
use crate::support::host::Host;
use crate::support::platform::binary;
use crate::support::procs;
use crate::support::users::{User, can_make_users, mode};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Output};

/// A process of nobody, which every signal of the updater's would end. Dropping it ends it.
struct Innocent(Child);

impl Innocent {
    fn new() -> Self {
        let sleep = Command::new("sleep").arg("300").spawn();
        Self(sleep.expect("it runs"))
    }

    /// Writes its pid to the file that holds the pid of the updater.
    fn is_named_in_the_lock(&self, host: &Host) {
        let var = host.own.join("var");
        fs::create_dir_all(&var).expect("a directory");
        let pid = format!("{}\n", self.0.id());
        fs::write(var.join("lock"), pid).expect("a pid");
    }

    #[track_caller]
    fn is_alive(&self) {
        assert!(procs::alive(self.0.id()), "it was signalled");
    }
}

impl Drop for Innocent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn control(host: &Host, verb: &str) -> Output {
    command(host, &["sh"], verb).output().expect("sh runs")
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Holds the file by flock(2) until it is dropped, in a process that is no updater. Returns when it does.
fn held(lock: &Path) -> Innocent {
    let mut command = Command::new("flock");
    command.arg("--no-fork").arg(lock).args(["sleep", "300"]);
    let held = Innocent(command.spawn().expect("flock runs"));
    let begun = std::time::Instant::now();
    let is_held = || fs::read_link(format!("/proc/{}/exe", held.0.id()));
    while !is_held().is_ok_and(|exe| !exe.ends_with("flock")) {
        assert!(begun.elapsed().as_secs() < 30, "no sleep");
        std::thread::yield_now();
    }
    held
}

#[test]
fn a_pid_in_a_file_is_not_signalled_while_the_updater_runs_as_another() {
    let host = unpacked();
    succeed(&host, "start");
    let innocent = Innocent::new();
    innocent.is_named_in_the_lock(&host);
    let updater = pid(&host);
    assert_ne!(updater, innocent.0.id());
    for verb in ["sync", "reload"] {
        let told = succeed(&host, verb);
        assert!(told.ends_with(&format!("pid={updater}")), "{told}");
    }
    let held = host.run_with(&["hold", "a reason"]);
    assert!(String::from_utf8_lossy(&held.stdout).contains("was notified"));
    assert!(procs::alive(updater));
    succeed(&host, "restart");
    assert_ne!(pid(&host), updater);
    succeed(&host, "stop");
    innocent.is_alive();
}

#[test]
fn while_another_program_holds_the_lock_nobody_is_signalled_and_it_is_named() {
    let host = unpacked();
    let innocent = Innocent::new();
    innocent.is_named_in_the_lock(&host);
    let holder = held(&host.own.join("var/lock"));
    let named = format!("pid {}", holder.0.id());
    for verb in [
        "stop", "sync", "reload", "restart", "start", "status", "pid",
    ] {
        let output = control(&host, verb);
        assert!(!output.status.success(), "{verb}");
        let why = err(&output);
        assert!(why.contains(&named), "{verb}: {why}");
        innocent.is_alive();
        holder.is_alive();
    }
    let output = host.run_with(&["hold", "a reason"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains(&named));
    assert_eq!(host.run("pid").status.code(), Some(6));
    // The updater itself says it too, and runs once the lock is free.
    let output = host.command().output().expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains(&named), "{}", err(&output));
    innocent.is_alive();
    holder.is_alive();
    drop(holder);
    succeed(&host, "start");
    succeed(&host, "stop");
    innocent.is_alive();
}

/// Starts the updater and leaves it only the lock that 0.1.0 takes. Asserts that commands find it, and no pid in a file.
fn is_found_as_0_1_0(host: &Host) {
    succeed(host, "start");
    let before = pid(host);
    // 0.1.0 has no such file.
    let _ = fs::remove_file(host.own.join("var/lock.holder"));
    let innocent = Innocent::new();
    innocent.is_named_in_the_lock(host);
    assert_eq!(pid(host), before);
    succeed(host, "restart");
    assert_ne!(pid(host), before);
    succeed(host, "stop");
    innocent.is_alive();
}

#[test]
fn an_updater_that_holds_the_lock_as_0_1_0_does_is_found_and_stopped() {
    let host = unpacked();
    is_found_as_0_1_0(&host);
}

#[test]
fn an_updater_of_0_1_0_is_found_and_stopped_also_where_a_file_has_two_numbers() {
    // As on btrfs, /proc/locks names another device than stat(2) there.
    let host = unpacked();
    let (var, changes) = (host.own.join("var"), host.dir.join("changes"));
    for dir in [&var, &changes] {
        fs::create_dir(dir).expect("a directory");
    }
    let Some(changes) = Mount::tmpfs(&changes, "9m") else {
        return;
    };
    let Some(_mount) = Mount::overlay(&var, &changes) else {
        return;
    };
    is_found_as_0_1_0(&host);
}

#[test]
fn an_updater_whose_file_has_its_version_in_its_name_is_found_after_an_upgrade() {
    let host = unpacked();
    let [link, old] = ["ops-updater", "ops-updater-0.1.0"].map(|name| host.own.join(name));
    // Copied by another process: see `unpacked`.
    let copied = Command::new("cp").arg(binary()).arg(&old).status();
    assert!(copied.expect("cp runs").success());
    fs::remove_file(&link).expect("the link");
    symlink(&old, &link).expect("a link");
    succeed(&host, "start");
    let before = pid(&host);
    fs::remove_file(&link).expect("the link");
    symlink(binary(), &link).expect("a link");
    assert_eq!(pid(&host), before);
    succeed(&host, "restart");
    assert_ne!(pid(&host), before);
    succeed(&host, "stop");
}

#[test]
fn asking_who_holds_the_lock_does_not_release_it() {
    let mut host = Host::new();
    host.start();
    host.wait_beats(1);
    for _ in 0..3 {
        let shown = host.run("pid");
        let shown = String::from_utf8_lossy(&shown.stdout).trim().to_owned();
        assert_eq!(shown, host.daemon_pid().to_string());
        host.run("doctor");
        assert_eq!(
            host.command().output().expect("it runs").status.code(),
            Some(3)
        );
    }
}

#[test]
fn a_user_that_may_not_ask_is_told_so_and_signals_nobody() {
    if !can_make_users() {
        return;
    }
    let user = User::new();
    let host = unpacked();
    succeed(&host, "start");
    let updater = pid(&host);
    mode(&host.own.join("var"), 0o700);
    let ask = |word: &str| {
        let mut command = user.command(binary());
        command.arg("-c").arg(host.config_file()).arg(word);
        command.output().expect("it runs")
    };
    let output = ask("pid");
    assert_eq!(output.status.code(), Some(6));
    assert!(
        err(&output).contains("Permission denied"),
        "{}",
        err(&output)
    );
    assert!(output.stdout.is_empty());
    mode(&host.own.join("var"), 0o755);
    // Linux tells everybody who holds a lock, if not the file system.
    let shown = ask("pid");
    assert!([Some(0), Some(6)].contains(&shown.status.code()));
    assert!(procs::alive(updater));
    succeed(&host, "stop");
}

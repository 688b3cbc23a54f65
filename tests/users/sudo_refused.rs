//! Checks that a fault of sudo is reported once, in a line that an operator can act on, and affects no other agent.

use crate::support::host::Host;
use crate::support::json::quote;
use crate::support::procs::write_script;
use crate::support::trial::each;
use crate::support::users::{User, can_make_users, mode, noting};
use crate::users::sudo::{host, is_of, own, own_runs};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Asserts that the other user's agent is refused in one clear line with these words, and that the updater's own agent
/// runs on.
#[track_caller]
fn assert_refused(
    ops: &User,
    user: &User,
    mut host: Host,
    command: Option<Command>,
    words: &[&str],
) {
    let demo = host.want("demo", "1.0.0").run_user(&user.name);
    host.desire(&[demo, own(&host)]);
    match command {
        Some(command) => host.start_as(command),
        None => host.start(),
    }
    host.wait_for("the updater's own agent to run", || {
        own_runs(&host) && host.reported("own").1 == "started"
    });
    let error = host.wait_error("demo");
    for word in words {
        assert!(error.contains(word), "{word:?} in {error:?}");
    }
    assert!(error.contains(&user.name), "whose: {error:?}");
    host.wait_beats(5);
    let warnings = host.warnings("demo");
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    assert!(
        words.iter().all(|word| warnings[0].contains(word)),
        "{warnings:#?}"
    );
    assert!(warnings[0].contains(&user.name), "{warnings:#?}");
    assert!(!host.agent_dir("demo").exists());
    let (_, status) = host.reported("demo");
    assert!(words.iter().all(|word| status.contains(word)), "{status}");
    assert_eq!(host.ids("own"), [format!("1.0.0 start {}", ops.uid())]);
}

#[test]
fn without_a_sudo_rule_the_agent_is_refused_in_one_line() {
    if !can_make_users() {
        return;
    }
    let (ops, user, host) = host();
    assert_refused(&ops, &user, host, None, &["sudo: ", "password"]);
}

#[test]
fn with_a_rule_for_another_command_the_agent_is_refused_in_one_line() {
    if !can_make_users() {
        return;
    }
    let (ops, user, host) = host();
    ops.sudoers("USER ALL=(root) NOPASSWD: /bin/true");
    assert_refused(&ops, &user, host, None, &["sudo: "]);
}

#[test]
fn with_requiretty_the_agent_is_refused_in_one_line() {
    if !can_make_users() {
        return;
    }
    let (ops, user, host) = host();
    ops.sudoers(&format!("Defaults:USER requiretty\n{}", host.rule()));
    // The tests may be run from a terminal, which would satisfy requiretty.
    let mut command = ops.command("setsid");
    let inner = host.command();
    command.arg(inner.get_program()).args(inner.get_args());
    command.current_dir(&host.dir).stdin(Stdio::null());
    assert_refused(&ops, &user, host, Some(command), &["sudo: ", "tty"]);
}

#[test]
fn a_sudo_program_that_is_missing_is_named() {
    if !can_make_users() {
        return;
    }
    let (ops, user, mut host) = host();
    host.set("sudo", &quote("/nowhere/sudo"));
    assert_refused(&ops, &user, host, None, &["/nowhere/sudo", "No such file"]);
}

#[test]
fn sudo_is_never_found_by_path() {
    if !can_make_users() {
        return;
    }
    let (ops, _user, mut host) = host();
    host.set("sudo", &quote("sudo"));
    let output = host.run("check");
    assert_eq!(output.status.code(), Some(2));
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        words.contains("absolute") && words.trim().lines().count() == 1,
        "{words}"
    );
    drop(ops);
}

#[test]
fn a_binary_that_others_may_write_is_never_run_by_sudo() {
    if !can_make_users() {
        return;
    }
    let open = [
        ("bin/ops-updater", 0o775),
        ("bin/ops-updater", 0o757),
        ("bin", 0o775),
        ("bin", 0o777),
    ];
    each(&open, |(path, bits)| {
        let (ops, user, host) = host();
        ops.sudoers(&host.rule());
        mode(&host.dir.join(path), bits);
        assert_refused(&ops, &user, host, None, &["can write", "chmod go-w"]);
    });
}

#[test]
fn a_rule_that_comes_late_is_noticed() {
    if !can_make_users() {
        return;
    }
    let (ops, user, mut host) = host();
    host.desire(&[host.want("demo", "1.0.0").run_user(&user.name)]);
    host.start();
    host.wait_error("demo");
    ops.sudoers(&host.rule());
    host.wait_running("demo", "1.0.0");
    is_of(&host, &user);
}

#[test]
fn a_rule_that_is_taken_away_leaves_the_agent_running_and_is_reported() {
    if !can_make_users() {
        return;
    }
    let (ops, user, mut host) = host();
    ops.sudoers(&host.rule());
    host.desire(&[host.want("demo", "1.0.0").run_user(&user.name), own(&host)]);
    host.start();
    host.wait_running("demo", "1.0.0");
    ops.sudoers("USER ALL=(root) NOPASSWD: /bin/true");
    host.wait_for("the report", || host.reported("demo").1.contains("sudo"));
    host.wait_beats(3);
    let before = host.ids("demo");
    assert_eq!(host.running("demo").len(), 1);
    assert_eq!(host.reported("own").1, "started");
    ops.sudoers(&host.rule());
    host.wait_running("demo", "1.0.0");
    assert_eq!(host.ids("demo"), before);
}

/// Installs a sudo that fails for checks of this user's agents while the file `blind` exists. Returns the path of that
/// file.
fn failing_sudo(host: &mut Host, user: &User) -> PathBuf {
    let (wrapper, blind) = (host.dir.join("bin/failing-sudo"), host.own.join("blind"));
    let is_check = format!("*'\"step\":null'*'\"run_as\":\"{}\"'*", user.name);
    let script = format!(
        "#!/bin/sh\njob=$(cat)\nif [ -e {} ]; then case $job in {is_check}) echo 'sudo: out of order' >&2; exit 1 ;; esac; fi\nprintf %s \"$job\" | sudo \"$@\"\n",
        blind.display()
    );
    write_script(&wrapper, &script);
    host.set("sudo", &quote(&wrapper.display().to_string()));
    blind
}

/// Makes the checks fail and waits until the failure was reported.
fn make_checks_fail(host: &Host, blind: &Path) {
    fs::write(blind, "").expect("a mark");
    host.wait_for("the check to fail", || {
        host.reported("demo").1.contains("out of order")
    });
}

#[test]
fn an_agent_out_of_sight_is_not_joined_by_its_next_version() {
    if !can_make_users() {
        return;
    }
    let (ops, user, mut host) = host();
    ops.sudoers(&host.rule());
    let blind = failing_sudo(&mut host, &user);
    host.offer(&noting("demo", "1.0.1"));
    host.desire(&[host.want("demo", "1.0.0").run_user(&user.name)]);
    host.start();
    host.wait_running("demo", "1.0.0");
    make_checks_fail(&host, &blind);
    host.desire(&[host.want("demo", "1.0.1").run_user(&user.name)]);
    host.stays(Duration::from_secs(10), "at most one at a time", || {
        host.running("demo").len() <= 1
    });
    fs::remove_file(&blind).expect("the mark");
    host.wait_running("demo", "1.0.1");
    let notes = ["1.0.0 start", "1.0.0 stop", "1.0.1 start"];
    assert_eq!(
        host.ids("demo"),
        notes.map(|call| format!("{call} {}", user.uid()))
    );
}

#[test]
fn an_agent_out_of_sight_is_not_joined_by_that_of_its_next_user() {
    if !can_make_users() {
        return;
    }
    let next = User::new();
    let (ops, user, mut host) = host();
    ops.sudoers(&host.rule());
    let blind = failing_sudo(&mut host, &user);
    host.desire(&[host.want("demo", "1.0.0").run_user(&user.name)]);
    host.start();
    host.wait_running("demo", "1.0.0");
    make_checks_fail(&host, &blind);
    host.desire(&[host.want("demo", "1.0.0").run_user(&next.name)]);
    host.stays(Duration::from_secs(10), "at most one at a time", || {
        crate::support::watch::running_below(&host.work).len() <= 1
    });
    fs::remove_file(&blind).expect("the mark");
    host.wait_for("the move", || host.ids("demo").len() == 3);
    host.wait_running("demo", "1.0.0");
    is_of(&host, &next);
    let notes = [("start", &user), ("stop", &user), ("start", &next)];
    assert_eq!(
        host.ids("demo"),
        notes.map(|(verb, user)| format!("1.0.0 {verb} {}", user.uid()))
    );
}

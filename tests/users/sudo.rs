//! Tests a daemon that is a plain user. It reaches other users through one narrow sudo rule and reports faults of
//! sudo.

use crate::support::agent::Agent;
use crate::support::host::Host;
use crate::support::json::quote;
use crate::support::procs;
use crate::support::trial::each;
use crate::support::users::{User, can_make_users, four, not_of, noting};
use crate::support::wire::Desired;
use crate::users::lifecycle::lives_on;
use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Debian's sudoers sets `use_pty`. The tests check both values, on every machine.
pub const PTY: [&str; 2] = ["Defaults:USER use_pty", "Defaults:USER !use_pty"];

/// Returns the updater's user, the agent's user, and a host of the first user without any sudo rule.
pub fn host() -> (User, User, Host) {
    let (ops, user) = (User::new(), User::new());
    let host = Host::of(&ops);
    host.offer(&noting("own", "1.0.0"));
    host.offer(&noting("demo", "1.0.0"));
    (ops, user, host)
}

/// Returns the entry of the updater's own agent, in the directory of its configuration.
pub fn own(host: &Host) -> Desired {
    host.want("own", "1.0.0").work_dir(&host.own)
}

pub fn own_runs(host: &Host) -> bool {
    !crate::support::watch::running_below(&host.own).is_empty()
}

pub fn is_of(host: &Host, user: &User) {
    let pid = host.running("demo")[0].pid;
    for (key, id) in [("Uid", user.uid()), ("Gid", user.gid())] {
        assert_eq!(procs::status(pid, key), Some(four(id)));
    }
    assert_eq!(not_of(user.uid(), &host.agent_dir("demo")), []);
}

#[test]
fn an_agent_of_another_user_lives_its_whole_life_through_one_sudo_rule() {
    if !can_make_users() {
        return;
    }
    each(&PTY, |pty| {
        let (ops, user, mut host) = host();
        ops.sudoers(&format!("{pty}\n{}", host.rule()));
        let demo = host.want("demo", "1.0.0").run_user(&user.name);
        host.desire(&[own(&host), demo]);
        host.start();
        host.wait_running("demo", "1.0.0");
        is_of(&host, &user);
        lives_on(&host, &user, &[own(&host)]);
        assert_eq!(host.ids("own"), [format!("1.0.0 start {}", ops.uid())]);
    });
}

#[test]
fn a_bad_version_is_rolled_back_through_sudo() {
    if !can_make_users() {
        return;
    }
    let (ops, user, mut host) = host();
    ops.sudoers(&host.rule());
    host.desire(&[host.want("demo", "1.0.0").run_user(&user.name)]);
    host.start();
    host.wait_running("demo", "1.0.0");
    host.offer(&Agent::new("demo", "1.0.1").on_start("exit 1"));
    host.desire(&[host.want("demo", "1.0.1").run_user(&user.name)]);
    host.wait_error("demo");
    host.wait_for("1.0.0 to run again", || host.running("demo").len() == 1);
    assert_eq!(host.version("demo"), "1.0.0");
    is_of(&host, &user);
}

#[test]
fn an_agent_in_a_directory_closed_to_the_updater_is_reported() {
    if !can_make_users() {
        return;
    }
    let (ops, user, mut host) = host();
    ops.sudoers(&host.rule());
    host.work = user.closed_dir("agents");
    host.desire(&[host.want("demo", "1.0.0").run_user(&user.name)]);
    host.start();
    host.wait_running("demo", "1.0.0");
    is_of(&host, &user);
    host.kill_agent("demo");
    host.wait_running("demo", "1.0.0");
}

#[test]
fn a_missing_user_is_made_through_sudo() {
    if !can_make_users() {
        return;
    }
    let ops = User::new();
    let user = User::unborn();
    let mut host = Host::of(&ops);
    ops.sudoers(&host.rule());
    host.offer(&noting("demo", "1.0.0"));
    host.desire(&[host.want("demo", "1.0.0").run_user(&user.name)]);
    host.start();
    host.wait_running("demo", "1.0.0");
    is_of(&host, &user);
}

#[test]
fn another_users_agent_may_live_in_the_updaters_own_directory() {
    if !can_make_users() {
        return;
    }
    let (ops, user, mut host) = host();
    ops.sudoers(&host.rule());
    // An empty workDir means this directory. The original updater was set up like this.
    host.work = host.own.clone();
    let mut entry = host.want("demo", "1.0.0").run_user(&user.name);
    entry.work_dir.clear();
    host.desire(&[entry]);
    host.start();
    host.wait_running("demo", "1.0.0");
    is_of(&host, &user);
}

#[test]
fn with_the_readmes_line_requiretty_is_no_obstacle() {
    if !can_make_users() {
        return;
    }
    let (ops, user, mut host) = host();
    let program = host.program().display().to_string();
    let tty = format!("Defaults:USER requiretty\nDefaults!{program} !requiretty");
    ops.sudoers(&format!("{tty}\n{}", host.rule()));
    host.desire(&[host.want("demo", "1.0.0").run_user(&user.name)]);
    let mut command = ops.command("setsid");
    let inner = host.command();
    command.arg(inner.get_program()).args(inner.get_args());
    host.start_as_is(command.current_dir(&host.dir).stdin(Stdio::null()));
    host.wait_running("demo", "1.0.0");
    is_of(&host, &user);
}

#[test]
fn a_sudo_program_elsewhere_is_used() {
    if !can_make_users() {
        return;
    }
    let (ops, user, mut host) = host();
    ops.sudoers(&host.rule());
    let wrapper = host.dir.join("bin/my-sudo");
    let script = format!(
        "#!/bin/sh\nprintf '%s\\n' \"$*\" >>{}/sudo.calls\nexec sudo \"$@\"\n",
        host.own.display()
    );
    procs::write_script(&wrapper, &script);
    host.set("sudo", &quote(&wrapper.display().to_string()));
    host.desire(&[host.want("demo", "1.0.0").run_user(&user.name), own(&host)]);
    host.start();
    host.wait_running("demo", "1.0.0");
    host.wait_for("the agent of the updater's own user", || own_runs(&host));
    let calls = fs::read_to_string(host.own.join("sudo.calls")).expect("its log");
    let expected = format!("-n -- {} act", host.program().display());
    assert!(calls.lines().all(|call| call == expected), "{calls}");
}

#[test]
fn an_agent_of_ones_own_user_needs_no_sudo_however_it_is_named() {
    if !can_make_users() {
        return;
    }
    let (ops, _user, mut host) = host();
    host.set("sudo", &quote("/nowhere/sudo"));
    host.desire(&[own(&host).run_user(&ops.name)]);
    host.start();
    host.wait_for("the agent to run", || {
        own_runs(&host) && host.reported("own") == ("1.0.0".to_owned(), "started".to_owned())
    });
    assert_eq!(host.ids("own"), [format!("1.0.0 start {}", ops.uid())]);
}

#[test]
fn agents_through_sudo_are_looked_at_all_at_once() {
    if !can_make_users() {
        return;
    }
    let (ops, user, mut host) = host();
    ops.sudoers(&host.rule());
    let slow = "[ -e \"$sandbox/quick\" ] || sleep 1";
    fs::write(host.dir.join("quick"), "").expect("a mark");
    let many: Vec<String> = (0..12).map(|count| format!("agent{count}")).collect();
    let wanted = |name: &String| {
        host.offer(&Agent::new(name, "1.0.0").on_status(slow));
        host.want(name, "1.0.0").run_user(&user.name)
    };
    host.desire(&many.iter().map(wanted).collect::<Vec<_>>());
    host.start();
    for name in &many {
        host.wait_running(name, "1.0.0");
    }
    fs::remove_file(host.dir.join("quick")).expect("the mark");
    host.wait_beats(1);
    let began = Instant::now();
    host.wait_beats(1);
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "{:?}",
        began.elapsed()
    );
    for name in &many {
        assert_eq!(host.reported(name).1, "started", "{name}");
    }
}

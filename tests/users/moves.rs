//! Tests an agent that changes its user, or its user and its location. The downtime is short, and the agent returns to
//! its old location when it does not start.

use crate::support::agent::Agent;
use crate::support::host::Host;
use crate::support::procs;
use crate::support::trial::each;
use crate::support::users::{User, can_make_users, four, not_of, noting};
use crate::support::watch::{Running, names, running_below};
use crate::support::wire::Desired;
use std::fs;
use std::path::PathBuf;

pub fn demo(host: &Host, version: &str, user: &str) -> Desired {
    host.want("demo", version).run_user(user)
}

/// Returns a host on which demo 1.0.0 runs as this user. An empty name means root.
fn running_as(user: &str) -> Host {
    let mut host = Host::new();
    host.offer(&noting("demo", "1.0.0"));
    host.desire(&[demo(&host, "1.0.0", user)]);
    host.start();
    host.wait_running("demo", "1.0.0");
    host
}

/// Returns such a host and the directory where demo runs. The next entry is for a directory that belongs to the new
/// user.
fn host_before_move(before: &User, after: &User) -> (Host, PathBuf) {
    let mut host = running_as(&before.name);
    let old = host.agent_dir("demo");
    host.work = after.closed_dir("agents");
    (host, old)
}

/// Waits until demo has one process, which runs as this user, and nothing is left to do.
#[track_caller]
pub fn wait_running_as(host: &Host, uid: u32, version: &str) -> Running {
    host.wait_for(&format!("demo to run as {uid}"), || {
        let running = host.running("demo");
        running.len() == 1 && procs::status(running[0].pid, "Uid") == Some(four(uid))
    });
    host.wait_running("demo", version)
}

/// Returns every process of demo in the sandbox.
pub fn everywhere(host: &Host) -> Vec<Running> {
    running_below(&host.dir)
}

#[test]
fn an_agent_moves_from_one_user_to_another_in_the_same_work_dir() {
    if !can_make_users() {
        return;
    }
    let (one, two) = (User::new(), User::new());
    let host = running_as(&one.name);
    host.desire(&[demo(&host, "1.0.0", &two.name)]);
    let running = wait_running_as(&host, two.uid(), "1.0.0");
    assert_eq!(everywhere(&host), [running]);
    assert_eq!(host.version("demo"), "1.0.0");
    assert_eq!(not_of(two.uid(), &host.agent_dir("demo")), []);
    let notes = [
        format!("1.0.0 start {}", one.uid()),
        format!("1.0.0 stop {}", one.uid()),
        format!("1.0.0 start {}", two.uid()),
    ];
    assert_eq!(host.ids("demo"), notes);
    // The agent is at its desired location. Nothing more happens, and an upgrade works as usual.
    host.wait_beats(3);
    assert_eq!(host.ids("demo"), notes);
    host.offer(&noting("demo", "1.0.1"));
    host.desire(&[demo(&host, "1.0.1", &two.name)]);
    wait_running_as(&host, two.uid(), "1.0.1");
    host.desire(&[demo(&host, "1.0.1", &one.name)]);
    wait_running_as(&host, one.uid(), "1.0.1");
    assert_eq!(not_of(one.uid(), &host.agent_dir("demo")), []);
}

#[test]
fn an_agent_that_moves_does_not_put_a_directory_aside_that_is_no_agent() {
    if !can_make_users() {
        return;
    }
    each(&[false, true], |of_root| {
        let (user, other) = (User::new(), User::new());
        let mut host = running_as("");
        let before = host.running("demo");
        host.work = host.dir.join("root");
        let kept = host.agent_dir("demo").join("passwd");
        fs::create_dir_all(host.agent_dir("demo")).expect("a directory");
        fs::write(&kept, "root").expect("a file");
        if !of_root {
            other.take(&host.agent_dir("demo"));
        }
        host.desire(&[demo(&host, "1.0.0", &user.name)]);
        let error = host.wait_error("demo");
        assert!(error.contains("it is not an agent"), "{error}");
        host.wait_beats(3);
        assert_eq!(names(&host.work), ["demo"]);
        assert!(kept.exists());
        assert_eq!(everywhere(&host), before);
    });
}

#[test]
fn the_new_users_version_is_on_disk_before_the_old_users_is_stopped() {
    if !can_make_users() {
        return;
    }
    let (one, two) = (User::new(), User::new());
    let host = running_as(&one.name);
    let before = host.running("demo");
    // The release does not exist, so the move never reaches the stop.
    host.desire(&[demo(&host, "1.0.1", &two.name)]);
    host.wait_error("demo");
    host.wait_beats(3);
    assert_eq!(host.running("demo"), before);
    assert_eq!(host.ids("demo"), [format!("1.0.0 start {}", one.uid())]);
    assert_eq!(not_of(one.uid(), &host.agent_dir("demo")), []);
    host.offer(&noting("demo", "1.0.1"));
    wait_running_as(&host, two.uid(), "1.0.1");
}

#[test]
fn an_agent_that_does_not_start_as_its_new_user_goes_back_to_the_old_one() {
    if !can_make_users() {
        return;
    }
    let (one, two) = (User::new(), User::new());
    let mut host = Host::new();
    let picky = format!("[ \"$(id -u)\" = {} ] || exit 1", one.uid());
    host.offer(&Agent::new("demo", "1.0.0").on_start(&picky));
    host.desire(&[demo(&host, "1.0.0", &one.name)]);
    host.start();
    host.wait_running("demo", "1.0.0");
    host.desire(&[demo(&host, "1.0.0", &two.name)]);
    let error = host.wait_error("demo");
    assert!(error.contains("1.0.0"), "{error}");
    host.wait_for("the agent of the old user to run again", || {
        let running = everywhere(&host);
        running.len() == 1 && procs::status(running[0].pid, "Uid") == Some(four(one.uid()))
    });
    host.wait_for("the report", || {
        host.reported("demo") == ("1.0.0".to_owned(), "started".to_owned())
    });
    host.wait_beats(4);
    assert_eq!(
        host.calls("demo"),
        [
            "1.0.0 start",
            "1.0.0 stop",
            "1.0.0 start",
            "1.0.0 stop",
            "1.0.0 start",
            "1.0.0 stop",
            "1.0.0 start"
        ]
    );
    assert_eq!(
        host.running("demo").len(),
        1,
        "the agent is not in its old directory with its old name"
    );
    assert_eq!(host.version("demo"), "1.0.0");
    assert_eq!(not_of(one.uid(), &host.agent_dir("demo")), []);
    // The agent is restarted at its old location as before. Withdrawing the entry causes no step.
    host.kill_agent("demo");
    host.wait_for("the restart", || host.running("demo").len() == 1);
    let pid = host.running("demo")[0].pid;
    assert_eq!(procs::status(pid, "Uid"), Some(four(one.uid())));
    host.desire(&[demo(&host, "1.0.0", &one.name)]);
    host.wait_running("demo", "1.0.0");
    assert_eq!(host.running("demo")[0].pid, pid);
}

#[test]
fn user_and_work_dir_change_together() {
    if !can_make_users() {
        return;
    }
    let (one, two) = (User::new(), User::new());
    let (host, old) = host_before_move(&one, &two);
    host.offer(&noting("demo", "1.0.1"));
    host.desire(&[demo(&host, "1.0.1", &two.name)]);
    wait_running_as(&host, two.uid(), "1.0.1");
    assert_eq!(running_below(&old), []);
    assert_eq!(not_of(two.uid(), &host.agent_dir("demo")), []);
    assert_eq!(not_of(one.uid(), &old), []);
    let notes = [
        format!("1.0.0 start {}", one.uid()),
        format!("1.0.0 stop {}", one.uid()),
        format!("1.0.1 start {}", two.uid()),
    ];
    assert_eq!(host.ids("demo"), notes);
}

#[test]
fn user_and_work_dir_go_back_together() {
    if !can_make_users() {
        return;
    }
    let (one, two) = (User::new(), User::new());
    let (host, old) = host_before_move(&one, &two);
    host.offer(&Agent::new("demo", "1.0.1").on_start("exit 1"));
    host.desire(&[demo(&host, "1.0.1", &two.name)]);
    host.wait_error("demo");
    host.wait_for("the old agent to run again", || {
        running_below(&old).len() == 1
    });
    let pid = running_below(&old)[0].pid;
    assert_eq!(procs::status(pid, "Uid"), Some(four(one.uid())));
    host.wait_for("the report", || {
        host.reported("demo") == ("1.0.0".to_owned(), "started".to_owned())
    });
    host.wait_beats(3);
    assert_eq!(running_below(&old)[0].pid, pid);
}

#[test]
fn a_work_dir_changes_and_the_user_stays() {
    if !can_make_users() {
        return;
    }
    let one = User::new();
    let (host, old) = host_before_move(&one, &one);
    host.desire(&[demo(&host, "1.0.0", &one.name)]);
    wait_running_as(&host, one.uid(), "1.0.0");
    assert_eq!(running_below(&old), []);
    assert_eq!(not_of(one.uid(), &host.agent_dir("demo")), []);
}

#[test]
fn an_agent_moves_from_root_to_a_user_and_back() {
    if !can_make_users() {
        return;
    }
    let one = User::new();
    let host = running_as("");
    for (user, uid) in [
        (one.name.as_str(), one.uid()),
        ("", 0),
        (&one.name, one.uid()),
        ("root", 0),
    ] {
        host.desire(&[demo(&host, "1.0.0", user)]);
        let running = wait_running_as(&host, uid, "1.0.0");
        assert_eq!(everywhere(&host), [running]);
        assert_eq!(not_of(uid, &host.agent_dir("demo")), []);
    }
}

#[test]
fn naming_the_updaters_own_user_is_no_move() {
    if !can_make_users() {
        return;
    }
    let host = running_as("");
    let before = host.running("demo");
    host.desire(&[demo(&host, "1.0.0", "root")]);
    host.wait_beats(4);
    assert_eq!(host.running("demo"), before);
    assert_eq!(host.calls("demo"), ["1.0.0 start"]);
}

#[test]
fn an_agent_moves_between_users_through_sudo() {
    if !can_make_users() {
        return;
    }
    let (ops, one, two) = (User::new(), User::new(), User::new());
    let mut host = Host::of(&ops);
    ops.sudoers(&host.rule());
    host.offer(&noting("demo", "1.0.0"));
    host.desire(&[demo(&host, "1.0.0", &one.name)]);
    host.start();
    for user in [&one, &two, &one] {
        host.desire(&[demo(&host, "1.0.0", &user.name)]);
        wait_running_as(&host, user.uid(), "1.0.0");
        assert_eq!(everywhere(&host).len(), 1);
        assert_eq!(not_of(user.uid(), &host.agent_dir("demo")), []);
    }
}

#[test]
fn a_move_that_fails_goes_back_through_sudo() {
    if !can_make_users() {
        return;
    }
    let (ops, one, two) = (User::new(), User::new(), User::new());
    let mut host = Host::of(&ops);
    ops.sudoers(&host.rule());
    host.offer(&noting("demo", "1.0.0"));
    host.offer(&Agent::new("demo", "1.0.1").on_start("exit 1"));
    host.desire(&[demo(&host, "1.0.0", &one.name)]);
    host.start();
    host.wait_running("demo", "1.0.0");
    host.desire(&[demo(&host, "1.0.1", &two.name)]);
    host.wait_error("demo");
    wait_running_as(&host, one.uid(), "1.0.0");
    assert_eq!(everywhere(&host).len(), 1);
    assert_eq!(not_of(one.uid(), &host.agent_dir("demo")), []);
}

//! An agent that changes its user, or its user and its place: it is down for no longer than it takes, and comes back
//! to where it was when it does not start.

use crate::support::agent::Agent;
use crate::support::host::Host;
use crate::support::procs;
use crate::support::users::{User, can_make_users, four, not_of, noting};
use crate::support::watch::{Running, running_below};
use crate::support::wire::Desired;

pub fn demo(host: &Host, version: &str, user: &str) -> Desired {
    host.want("demo", version).run_user(user)
}

/// A host on which demo 1.0.0 runs as this user, root when empty.
fn running_as(user: &str) -> Host {
    let mut host = Host::new();
    host.offer(&noting("demo", "1.0.0"));
    host.desire(&[demo(&host, "1.0.0", user)]);
    host.start();
    host.wait_running("demo", "1.0.0");
    host
}

/// Waits until the one process of demo is this user's, and nothing more is to do.
#[track_caller]
pub fn wait_running_as(host: &Host, uid: u32, version: &str) -> Running {
    host.wait_for(&format!("demo to run as {uid}"), || {
        let running = host.running("demo");
        running.len() == 1 && procs::status(running[0].pid, "Uid") == Some(four(uid))
    });
    host.wait_running("demo", version)
}

/// Every process of demo that runs anywhere in the sandbox.
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
    // It is at home: nothing more happens, and an upgrade goes its usual way.
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
fn the_new_users_version_is_on_disk_before_the_old_users_is_stopped() {
    if !can_make_users() {
        return;
    }
    let (one, two) = (User::new(), User::new());
    let host = running_as(&one.name);
    let before = host.running("demo");
    // No such release: the move never gets so far.
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
    host.wait_for("the old user's to be back", || {
        let running = everywhere(&host);
        running.len() == 1 && procs::status(running[0].pid, "Uid") == Some(four(one.uid()))
    });
    host.wait_for("it to be reported", || {
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
            "1.0.0 start"
        ]
    );
    assert_eq!(
        host.running("demo").len(),
        1,
        "in its old directory, by its old name"
    );
    assert_eq!(host.version("demo"), "1.0.0");
    assert_eq!(not_of(one.uid(), &host.agent_dir("demo")), []);
    // As before: it is restarted where it is, and the entry taken back is no work at all.
    host.kill_agent("demo");
    host.wait_for("it to be restarted", || host.running("demo").len() == 1);
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
    let mut host = running_as(&one.name);
    let old = host.agent_dir("demo");
    host.work = two.closed_dir("agents");
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
    let mut host = running_as(&one.name);
    let old = host.agent_dir("demo");
    host.work = two.closed_dir("agents");
    host.offer(&Agent::new("demo", "1.0.1").on_start("exit 1"));
    host.desire(&[demo(&host, "1.0.1", &two.name)]);
    host.wait_error("demo");
    host.wait_for("the old one to be back", || running_below(&old).len() == 1);
    let pid = running_below(&old)[0].pid;
    assert_eq!(procs::status(pid, "Uid"), Some(four(one.uid())));
    host.wait_for("it to be reported", || {
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
    let mut host = running_as(&one.name);
    let old = host.agent_dir("demo");
    host.work = one.closed_dir("agents");
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

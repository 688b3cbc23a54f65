//! Tests interrupted moves from one user to another. The next updater finishes the move, and the agent never stays
//! down.

use crate::support::agent::Agent;
use crate::support::host::Host;
use crate::support::procs;
use crate::support::trial::each;
use crate::support::users::{User, can_make_users, not_of};
use crate::users::moves::{demo, everywhere, wait_running_as};
use std::path::Path;
use std::time::Duration;

/// Sends TERM this long after the server desired the move. Without the daemon the agent must come up, and a new daemon
/// must finish the move.
fn term_in_a_move(after: Duration, kill: bool, by_sudo: bool) {
    let (ops, one, two) = (User::new(), User::new(), User::new());
    let mut host = if by_sudo { Host::of(&ops) } else { Host::new() };
    ops.sudoers(&host.rule());
    let slow = |version| {
        Agent::new("demo", version)
            .on_stop("sleep 0.5")
            .on_start("sleep 0.5")
    };
    host.offer(&slow("1.0.0"));
    host.desire(&[demo(&host, "1.0.0", &one.name)]);
    host.start();
    host.wait_running("demo", "1.0.0");
    host.offer(&slow("1.0.1"));
    host.desire(&[demo(&host, "1.0.1", &two.name)]);
    host.wait_for("the move to begin", || host.log().contains("install 1.0.1"));
    std::thread::sleep(after);
    if kill {
        host.kill_updater();
    } else {
        assert_eq!(host.stop().code(), Some(0));
        let only_agents = |dir: &Path| {
            procs::in_sandbox(dir)
                .into_iter()
                .all(crate::support::watch::is_agent)
        };
        host.wait_for("every child to end", || only_agents(&host.dir));
        assert_eq!(
            everywhere(&host).len(),
            1,
            "TERM after {after:?} left the agent down: {:#?}",
            host.calls("demo")
        );
    }
    host.start();
    let running = wait_running_as(&host, two.uid(), "1.0.1");
    assert_eq!(everywhere(&host), [running]);
    assert_eq!(not_of(two.uid(), &host.agent_dir("demo")), []);
}

/// The agent is already down, and its script takes longer than the updater may take to stop.
#[test]
fn term_while_the_agent_is_stopped_for_a_move_leaves_it_up() {
    if !can_make_users() {
        return;
    }
    let (one, two) = (User::new(), User::new());
    let mut host = Host::new();
    let stop = "alive && kill \"$pid\"; rm -f app.pid; sleep 3; exit 0";
    host.offer(&Agent::new("demo", "1.0.0").on_stop(stop));
    host.desire(&[demo(&host, "1.0.0", &one.name)]);
    host.start();
    host.wait_running("demo", "1.0.0");
    host.offer(&Agent::new("demo", "1.0.1"));
    host.desire(&[demo(&host, "1.0.1", &two.name)]);
    host.wait_for("the agent to stop", || everywhere(&host).is_empty());
    assert_eq!(host.stop().code(), Some(0));
    host.wait_for("the agent to run again", || everywhere(&host).len() == 1);
    host.start();
    let running = wait_running_as(&host, two.uid(), "1.0.1");
    assert_eq!(everywhere(&host), [running]);
}

#[test]
fn term_at_any_moment_of_a_move_never_leaves_the_agent_down() {
    if !can_make_users() {
        return;
    }
    each(&[0, 2, 4, 6, 8, 10, 13, 16, 20, 40], |tenths| {
        term_in_a_move(Duration::from_millis(tenths * 100), false, false);
    });
}

#[test]
fn a_move_that_is_killed_at_any_moment_is_finished_by_the_next_updater() {
    if !can_make_users() {
        return;
    }
    each(&[0, 2, 4, 6, 8, 10, 13, 16, 20, 40], |tenths| {
        term_in_a_move(Duration::from_millis(tenths * 100), true, false);
    });
}

#[test]
fn term_and_kill_in_a_move_through_sudo_never_leave_the_agent_down() {
    if !can_make_users() {
        return;
    }
    let rows = [
        (0, false),
        (5, false),
        (9, false),
        (14, false),
        (5, true),
        (9, true),
    ];
    each(&rows, |(tenths, kill)| {
        term_in_a_move(Duration::from_millis(tenths * 100), kill, true);
    });
}

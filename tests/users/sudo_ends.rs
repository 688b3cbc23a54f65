//! Checks that children that became another user through sudo end with the updater, or finish work that must not be
//! left incomplete.

use crate::support::agent::Agent;
use crate::support::fault::Faults;
use crate::support::host::Host;
use crate::support::trial::each;
use crate::support::users::{can_make_users, noting};
use crate::support::{archive, md5_hex, procs};
use crate::users::sudo::{PTY, host, is_of};
use std::fs;
use std::time::{Duration, Instant};

/// Returns whether only the processes of the agents are left.
fn only_agents_are_left(host: &Host) -> bool {
    let left = procs::in_sandbox(&host.dir);
    left.iter().all(|pid| crate::support::watch::is_agent(*pid))
}

#[test]
fn a_stopped_updater_leaves_no_child_of_root_behind() {
    if !can_make_users() {
        return;
    }
    each(&PTY, |pty| {
        let (ops, user, mut host) = host();
        ops.sudoers(&format!("{pty}\n{}", host.rule()));
        let bytes = noting("demo", "1.0.0")
            .archive(&host.dir)
            .file("data", 0o644, archive::noise(200_000, 9))
            .stored();
        let digest = md5_hex(&bytes);
        let slow = Faults::serve(move |mut exchange| {
            exchange.begin(&bytes, 80_000);
            exchange.hold();
        });
        let entry = host.want("demo", "1.0.0").run_user(&user.name);
        host.desire(&[entry.tarball(slow.releases()).md5(digest)]);
        host.start();
        host.wait_for("the download to hang", || {
            let part = host.agent_dir("demo").join(".updater/1.0.0.part");
            fs::metadata(&part).is_ok_and(|meta| meta.len() >= 60_000)
        });
        let began = Instant::now();
        assert_eq!(host.stop().code(), Some(0));
        let took = began.elapsed();
        assert!(took < Duration::from_millis(2500), "{took:?}");
        host.wait_within(
            Duration::from_secs(10),
            &format!("every child to end, {pty}"),
            || only_agents_are_left(&host),
        );
    });
}

#[test]
fn a_start_that_hangs_through_sudo_ends_with_the_updater() {
    if !can_make_users() {
        return;
    }
    each(&PTY, |pty| {
        let (ops, user, mut host) = host();
        ops.sudoers(&format!("{pty}\n{}", host.rule()));
        host.offer(&Agent::new("demo", "1.0.0").on_start("sleep 1000"));
        host.desire(&[host.want("demo", "1.0.0").run_user(&user.name)]);
        host.start();
        host.wait_for("the start to hang", || {
            host.calls("demo") == ["1.0.0 start"]
        });
        assert_eq!(host.stop().code(), Some(0));
        host.wait_within(
            Duration::from_secs(15),
            &format!("every child to end, {pty}"),
            || only_agents_are_left(&host),
        );
    });
}

#[test]
fn a_switch_through_sudo_that_term_interrupts_is_finished_on_its_own() {
    if !can_make_users() {
        return;
    }
    each(&PTY, |pty| {
        let (ops, user, mut host) = host();
        ops.sudoers(&format!("{pty}\n{}", host.rule()));
        host.offer(&Agent::new("demo", "1.0.0").on_stop("sleep 2"));
        host.offer(&noting("demo", "1.0.1"));
        host.desire(&[host.want("demo", "1.0.0").run_user(&user.name)]);
        host.start();
        host.wait_running("demo", "1.0.0");
        host.desire(&[host.want("demo", "1.0.1").run_user(&user.name)]);
        host.wait_for("the stop of the old version", || {
            host.calls("demo").len() == 2
        });
        assert_eq!(host.stop().code(), Some(0));
        host.wait_for(&format!("the end of the switch, {pty}"), || {
            host.running("demo").len() == 1 && only_agents_are_left(&host)
        });
        assert_eq!(host.version("demo"), "1.0.1");
        is_of(&host, &user);
    });
}

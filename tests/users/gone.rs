//! Stopped means gone for agents of other users too: their processes are waited for and ended as that user, and nobody
//! else's.

use crate::support::falcon::Falcon;
use crate::support::host::{Host, MARK};
use crate::support::procs;
use crate::support::users::{User, can_make_users, four};
use std::process::{Command, Stdio};

/// Returns a host where this user's demo runs as 1.0.0, and 1.0.1 can be installed.
fn running_as(user: &User, falcon: &Falcon) -> Host {
    let mut host = Host::new();
    for version in ["1.0.0", "1.0.1"] {
        host.offer(&falcon.agent(version));
    }
    host.desire(&[host.want("demo", "1.0.0").run_user(&user.name)]);
    host.start();
    falcon.wait_up(&host, "1.0.0");
    host
}

fn is_of(falcon: &Falcon, user: &User) -> bool {
    let uid = |pid: &u32| procs::status(*pid, "Uid");
    falcon
        .processes()
        .iter()
        .map(uid)
        .eq([Some(four(user.uid()))])
}

#[test]
fn an_agent_of_another_user_has_left_its_port_when_it_is_upgraded_and_moved() {
    if !can_make_users() {
        return;
    }
    let Some(falcon) = Falcon::new(3) else {
        return;
    };
    let (one, two) = (User::new(), User::new());
    let host = running_as(&one, &falcon);
    host.desire(&[host.want("demo", "1.0.1").run_user(&one.name)]);
    falcon.wait_up(&host, "1.0.1");
    assert!(is_of(&falcon, &one));
    host.desire(&[host.want("demo", "1.0.1").run_user(&two.name)]);
    host.wait_for("the move", || is_of(&falcon, &two));
    falcon.wait_up(&host, "1.0.1");
    let starts = [
        "1.0.0 start",
        "1.0.0 stop",
        "1.0.1 start",
        "1.0.1 stop",
        "1.0.1 start",
    ];
    assert_eq!(host.calls("demo"), starts);
    assert!(!host.log().contains(" WARN "), "{}", host.log());
}

#[test]
fn only_processes_of_the_agents_user_are_ended() {
    if !can_make_users() {
        return;
    }
    let Some(falcon) = Falcon::new(0) else {
        return;
    };
    let user = User::new();
    let host = running_as(&user, &falcon);
    let dir = host.agent_dir("demo").join("1.0.0");
    let mut of_root = Command::new(dir.join("app"))
        .args(["-e", "sleep 86400"])
        .current_dir(&dir)
        .env(MARK, &host.dir)
        .stdin(Stdio::null())
        .spawn()
        .expect("it runs");
    let mut of_user = user
        .command(dir.join("app"))
        .args(["-e", "sleep 86400"])
        .env(MARK, &host.dir)
        .spawn()
        .expect("it runs");
    host.desire(&[host.want("demo", "1.0.1").run_user(&user.name)]);
    falcon.wait_up(&host, "1.0.1");
    assert!(of_root.try_wait().expect("a child").is_none());
    assert!(of_user.try_wait().expect("a child").is_some());
    let log = host.log();
    assert!(
        log.contains(&format!("pid {} (app)", of_user.id())),
        "{log}"
    );
    assert!(!log.contains(&format!("pid {} ", of_root.id())), "{log}");
    of_root
        .kill()
        .and_then(|()| of_root.wait())
        .expect("a child");
}

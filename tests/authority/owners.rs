//! The owner mark of an agent that runs as its own user, who can write any mark.

use crate::support::host::Host;
use crate::support::json::Json as _;
use crate::support::procs;
use crate::support::users::{User, can_make_users, noting, uid_of};
use std::fs;

/// Returns the error of an agent in the newest heartbeat, if another updater manages it.
fn managed_by(host: &Host, name: &str) -> Option<String> {
    let error = host
        .last_beat()?
        .agent(name)
        .field("error")
        .text()
        .to_owned();
    error.contains("managed by").then_some(error)
}

#[test]
fn a_second_updater_leaves_an_agent_of_another_user_alone() {
    if !can_make_users() {
        return;
    }
    let user = User::new();
    let mut first = Host::new();
    first.offer(&noting("demo", "1.0.0"));
    first.desire(&[first.want("demo", "1.0.0").run_user(&user.name)]);
    first.start();
    first.wait_running("demo", "1.0.0");
    let mark = first.agent_dir("demo").join(".updater/owner");
    assert_eq!(uid_of(&mark), Some(user.uid()));
    let mut second = Host::new();
    second.work.clone_from(&first.work);
    second.offer(&noting("demo", "2.0.0"));
    second.desire(&[second.want("demo", "2.0.0").run_user(&user.name)]);
    second.start();
    second.wait_for("the second to say who manages it", || {
        let path = first.own.display().to_string();
        managed_by(&second, "demo").is_some_and(|error| error.contains(&path))
    });
    second.wait_beats(3);
    assert_eq!(first.calls("demo"), ["1.0.0 start"]);
    assert!(second.meta.downloads().is_empty());
}

#[test]
fn a_users_false_mark_reaches_only_that_its_own_agent_is_not_managed() {
    if !can_make_users() {
        return;
    }
    let user = User::new();
    let mut host = Host::new();
    for name in ["demo", "other"] {
        host.offer(&noting(name, "1.0.0"));
    }
    let entries = ["demo", "other"].map(|name| host.want(name, "1.0.0"));
    let [demo, other] = entries;
    host.desire(&[demo.run_user(&user.name), other.clone()]);
    host.start();
    host.wait_running("demo", "1.0.0");
    host.wait_running("other", "1.0.0");
    // The process of pid 1 lives as long as the host.
    let started = procs::stat(1)[19].clone();
    let mark = host.agent_dir("demo").join(".updater/owner");
    let text = format!("1 {started}\n1:1\n/opt/x\n{}\n", "y".repeat(3000));
    fs::write(host.dir.join("false"), text).expect("a file");
    let put = format!(
        "cat {} >{}",
        host.dir.join("false").display(),
        mark.display()
    );
    assert!(user.sh(&put).status.success());
    host.wait_for("the false mark to be reported", || {
        managed_by(&host, "demo").is_some()
    });
    let error = managed_by(&host, "demo").expect("reported");
    assert!(error.len() <= 200 && error.contains("(pid 1)"), "{error}");
    host.wait_beats(3);
    assert_eq!(host.warnings("demo").len(), 1);
    host.kill_agent("other");
    host.wait_running("other", "1.0.0");
    assert!(user.sh(&format!("rm {}", mark.display())).status.success());
    host.kill_agent("demo");
    host.wait_running("demo", "1.0.0");
}

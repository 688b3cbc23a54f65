//! Checks that names, links and directories of a hostile user are refused, and that such a user delays no other agent.

use crate::support::canary::Canary;
use crate::support::host::Host;
use crate::support::json::Json as _;
use crate::support::procs;
use crate::support::trial::each;
use crate::support::users::{User, can_make_users, four, mode, noting, uid_of};
use crate::support::watch::names;
use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

#[test]
fn an_agents_directory_of_another_user_is_refused() {
    if !can_make_users() {
        return;
    }
    let (user, thief) = (User::new(), User::new());
    let mut host = Host::new();
    mode(&host.work, 0o1777);
    thief.sh(&format!(
        "mkdir -p {}/.updater",
        host.agent_dir("demo").display()
    ));
    host.offer(&noting("demo", "1.0.0"));
    host.desire(&[host.want("demo", "1.0.0").run_user(&user.name)]);
    host.start();
    let error = host.wait_error("demo");
    assert!(
        error.contains("belongs to") && error.contains(&user.name),
        "{error}"
    );
    host.wait_beats(3);
    assert_eq!(host.warnings("demo").len(), 1);
    assert_eq!(names(&host.agent_dir("demo")), [".updater"]);
    assert_eq!(host.calls("demo"), [""; 0]);
}

#[test]
fn a_work_dir_that_is_a_users_own_link_is_refused() {
    if !can_make_users() {
        return;
    }
    let user = User::new();
    let mut host = Host::new();
    let canary = Canary::in_sandbox(&host);
    let sticky = host.dir.join("sticky");
    fs::create_dir(&sticky).expect("a directory");
    mode(&sticky, 0o1777);
    let target = canary.dir.join("empty");
    let (in_sticky, at_home) = (sticky.join("link"), user.home().join("link"));
    for link in [&in_sticky, &at_home] {
        user.sh(&format!("ln -s {} {}", target.display(), link.display()));
        assert!(link.is_symlink());
    }
    let entries = [
        ("demo", in_sticky.clone()),
        ("deep", in_sticky.join("a/b")),
        ("home", at_home),
    ];
    host.desire(&entries.map(|(name, dir)| {
        host.offer(&noting(name, "1.0.0"));
        host.want(name, "1.0.0").run_user(&user.name).work_dir(&dir)
    }));
    host.start();
    for name in ["demo", "deep"] {
        let error = host.wait_error(name);
        assert!(error.contains("link"), "{error}");
    }
    host.wait_error("home");
    host.wait_beats(3);
    for name in ["demo", "deep", "home"] {
        assert_eq!(host.warnings(name).len(), 1, "{name}");
    }
    canary.assert_unharmed("a workDir by a user's link");
}

#[test]
fn a_link_of_roots_on_the_way_to_a_work_dir_is_followed() {
    if !can_make_users() {
        return;
    }
    let user = User::new();
    let mut host = Host::new();
    symlink(&host.work, host.dir.join("absolute")).expect("a link");
    symlink("absolute", host.dir.join("relative")).expect("a link");
    host.offer(&noting("demo", "1.0.0"));
    let way = host.dir.join("relative/below");
    host.desire(&[host
        .want("demo", "1.0.0")
        .run_user(&user.name)
        .work_dir(&way)]);
    host.work = host.work.join("below");
    host.start();
    let running = host.wait_running("demo", "1.0.0");
    assert_eq!(procs::status(running.pid, "Uid"), Some(four(user.uid())));
    assert_eq!(uid_of(&host.work), Some(0));
}

#[test]
fn hostile_user_names_are_refused_before_anyone_is_looked_up_or_made() {
    if !can_make_users() {
        return;
    }
    let mut host = Host::new();
    let mark = host.dir.join("pwned");
    let touch = format!("root; touch {}", mark.display());
    let long = "u".repeat(200);
    let hostile = [
        "-u",
        "-o -u 0 x",
        "--help",
        &touch,
        "$(touch x)",
        "99999999999",
        "0",
        "+1",
        "%1",
        "#0",
        "root:x",
        "a/b",
        "..",
        " root",
        "root ",
        "a\nb",
        "ü",
        &long,
    ];
    host.offer(&noting("good", "1.0.0"));
    let mut entries: Vec<_> = hostile
        .iter()
        .enumerate()
        .map(|(count, user)| host.want(&format!("bad{count}"), "1.0.0").run_user(user))
        .collect();
    entries.push(host.want("good", "1.0.0"));
    host.desire(&entries);
    host.start();
    host.wait_running("good", "1.0.0");
    host.wait_beats(2);
    let passwd = fs::read_to_string("/etc/passwd").expect("a passwd file");
    assert!(!passwd.contains("99999999999") && !passwd.contains(&long[..32]) && !mark.exists());
    assert_eq!(names(&host.work), ["good"]);
    let heartbeat = host.last_beat().expect("a heartbeat came").json();
    let errors = heartbeat.field("errors").items();
    for count in 0..hostile.len() {
        let about = format!("bad{count}");
        let named = errors
            .iter()
            .filter(|error| error.text().contains(&about) && error.text().contains("runUser"));
        assert!(named.count() > 0, "{about}: {errors:?}");
    }
}

#[test]
fn a_fifo_that_an_agents_user_puts_in_place_of_version_holds_up_nobody() {
    if !can_make_users() {
        return;
    }
    each(&[false, true], |by_sudo| {
        let (ops, user) = (User::new(), User::new());
        let mut host = if by_sudo { Host::of(&ops) } else { Host::new() };
        ops.sudoers(&host.rule());
        host.offer(&noting("demo", "1.0.0"));
        host.offer(&noting("other", "1.0.0"));
        let other = host.want("other", "1.0.0").run_user(&user.name);
        host.desire(&[host.want("demo", "1.0.0").run_user(&user.name), other]);
        host.start();
        host.wait_running("demo", "1.0.0");
        host.wait_running("other", "1.0.0");
        let version = host.agent_dir("demo").join(".version");
        let trap = user.sh(&format!("rm {0}; mkfifo {0}", version.display()));
        assert!(trap.status.success());
        let before = host.meta.count_beats();
        host.wait_within(Duration::from_secs(100), "three more heartbeats", || {
            host.meta.count_beats() >= before + 3
        });
        assert_eq!(
            host.reported("other"),
            ("1.0.0".to_owned(), "started".to_owned())
        );
        // Nobody opens the fifo meanwhile. A process that reads it would wait for ever once it is replaced.
        let is_plain = || fs::symlink_metadata(&version).is_ok_and(|meta| meta.is_file());
        host.wait_for("a plain .version", || {
            is_plain() && host.version("demo") == "1.0.0"
        });
        let processes = procs::in_sandbox(&host.dir).len();
        assert!(
            processes < 12,
            "{processes} processes: every check leaves one behind"
        );
    });
}

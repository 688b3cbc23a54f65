//! Checks that a root daemon runs every agent as its own user and passes on no privilege of root.

use crate::support::host::Host;
use crate::support::procs;
use crate::support::trial::each;
use crate::support::users::{User, can_make_users, four, not_of, noting, uid_of};
use crate::support::watch::{Running, names};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// Returns a host on which demo 1.0.0 runs as this user, and the process.
pub fn running_as(user: &User) -> (Host, Running) {
    let mut host = Host::new();
    host.env("ROOTS_SECRET", "do-not-tell");
    // A name that setenv(3) and unsetenv(3) refuse, but execve(2) does not.
    host.env("=ROOTS_ODD_SECRET", "do-not-tell");
    host.offer(&noting("demo", "1.0.0"));
    host.desire(&[host.want("demo", "1.0.0").run_user(&user.name)]);
    host.start();
    let running = host.wait_running("demo", "1.0.0");
    (host, running)
}

fn variables(pid: u32) -> BTreeMap<String, String> {
    let bytes = fs::read(format!("/proc/{pid}/environ")).expect("a process of ours");
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let pairs = text
        .split_terminator('\0')
        .filter_map(|line| line.split_once('='));
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

#[test]
fn an_agent_runs_as_its_user_with_the_users_groups_in_its_versions_directory() {
    if !can_make_users() {
        return;
    }
    let (user, team) = (User::new(), User::new());
    user.join(&team);
    let (host, running) = running_as(&user);
    let status = |key| procs::status(running.pid, key).expect("a process of ours");
    assert_eq!(status("Uid"), four(user.uid()));
    assert_eq!(status("Gid"), four(user.gid()));
    let groups: BTreeSet<u32> = status("Groups")
        .split_whitespace()
        .map(|group| group.parse().expect("a number"))
        .collect();
    assert_eq!(groups, BTreeSet::from([user.gid(), team.gid()]));
    assert_eq!(status("Umask"), "0022");
    assert_eq!(running.dir, host.agent_dir("demo").join("1.0.0"));
    assert_eq!(host.ids("demo"), [format!("1.0.0 start {}", user.uid())]);
}

#[test]
fn an_agent_of_another_user_finds_that_users_environment_and_nothing_of_roots() {
    if !can_make_users() {
        return;
    }
    let user = User::new();
    let (_host, running) = running_as(&user);
    let mut found = variables(running.pid);
    for set_by_the_shell in ["PWD", "OLDPWD", "_", "SHLVL"] {
        found.remove(set_by_the_shell);
    }
    let path = found.remove("PATH").expect("a PATH");
    assert!(path.split(':').all(|dir| dir.starts_with('/')), "{path}");
    let home = user.home().display().to_string();
    let expected = [
        ("HOME", &home),
        ("USER", &user.name),
        ("LOGNAME", &user.name),
    ];
    let expected = expected.map(|(key, value)| (key.to_owned(), value.clone()));
    assert_eq!(found, BTreeMap::from(expected));
}

#[test]
fn an_agent_of_another_user_has_no_way_back_to_root() {
    if !can_make_users() {
        return;
    }
    let user = User::new();
    let (_host, running) = running_as(&user);
    for key in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        let mask = procs::status(running.pid, key).expect("a process of ours");
        assert_eq!(u64::from_str_radix(&mask, 16), Ok(0), "{key}");
    }
    assert_eq!(procs::status(running.pid, "Uid"), Some(four(user.uid())));
    assert_eq!(procs::status(running.pid, "Gid"), Some(four(user.gid())));
    assert_eq!(
        names(format!("/proc/{}/fd", running.pid).as_ref()),
        ["0", "1", "2"]
    );
}

#[test]
fn every_file_of_an_agent_belongs_to_its_user_whatever_the_umask_of_who_started_the_updater() {
    if !can_make_users() {
        return;
    }
    each(&["000", "022", "077"], |umask| {
        let user = User::new();
        let mut host = Host::new();
        // A missing workDir is created on the way.
        host.work = host.dir.join("deep/work");
        host.offer(&noting("demo", "1.0.0").file("sub/data", "x"));
        host.desire(&[host.want("demo", "1.0.0").run_user(&user.name)]);
        let inner = host.command();
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("umask {umask}; exec \"$0\" \"$@\"")]);
        shell.arg(inner.get_program()).args(inner.get_args());
        shell.env(crate::support::host::MARK, &host.dir);
        host.start_as_is(shell.current_dir(&host.dir).stdin(Stdio::null()));
        let running = host.wait_running("demo", "1.0.0");
        assert_eq!(not_of(user.uid(), &host.agent_dir("demo")), []);
        assert_eq!(procs::status(running.pid, "Umask").as_deref(), Some("0022"));
        for dir in [
            "deep",
            "deep/work",
            "deep/work/demo",
            "deep/work/demo/1.0.0",
            "deep/work/demo/1.0.0/sub",
        ] {
            assert_eq!(bits(&host.dir.join(dir)), 0o755, "{dir}, umask {umask}");
        }
        assert_eq!(bits(&running.dir.join("sub/data")), 0o644, "umask {umask}");
        for dir in ["deep", "deep/work"] {
            assert_eq!(uid_of(&host.dir.join(dir)), Some(0), "{dir}");
        }
    });
}

fn bits(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    let meta = fs::metadata(path).expect("it is there");
    meta.permissions().mode() & 0o7777
}

#[test]
fn a_missing_user_is_made_with_a_home() {
    if !can_make_users() {
        return;
    }
    let user = User::unborn();
    let (host, running) = running_as(&user);
    assert_ne!(user.uid(), 0);
    assert_eq!(procs::status(running.pid, "Uid"), Some(four(user.uid())));
    assert_eq!(uid_of(&user.home()), Some(user.uid()));
    assert_eq!(not_of(user.uid(), &host.agent_dir("demo")), []);
}

#[test]
fn a_missing_user_is_not_made_for_an_agent_that_is_to_be_stopped() {
    if !can_make_users() {
        return;
    }
    let user = User::unborn();
    let mut host = Host::new();
    let entry = host.want("demo", "1.0.0").run_user(&user.name);
    host.desire(&[entry.cmd("stop")]);
    host.start();
    host.wait_beats(3);
    assert!(!user.exists());
    assert_eq!(names(&host.work), [""; 0]);
    assert_eq!(host.warnings("demo"), [""; 0]);
}

#[test]
fn an_agent_below_its_users_closed_directory_is_installed_and_reported() {
    if !can_make_users() {
        return;
    }
    let user = User::new();
    let mut host = Host::new();
    host.work = user.closed_dir("agents");
    host.offer(&noting("demo", "1.0.0"));
    host.desire(&[host.want("demo", "1.0.0").run_user(&user.name)]);
    host.start();
    let running = host.wait_running("demo", "1.0.0");
    assert_eq!(procs::status(running.pid, "Uid"), Some(four(user.uid())));
    assert_eq!(not_of(user.uid(), &host.work), []);
    assert_eq!(bits(&host.work), 0o700);
}

//! Checks that nobody but root and an agent's own user can change what is run for the agent: the directories on the way
//! to it, and the updater's own files.
#![expect(unsafe_code, reason = "std has no call for renameat2(2)")]

use crate::operator::control::{command, pid, succeed, unpacked};
use crate::support::agent::Agent;
use crate::support::host::Host;
use crate::support::platform::skipped;
use crate::support::prepared;
use crate::support::trial::each;
use crate::support::users::{User, can_make_users, mode, noting, uid_of};
use crate::support::watch::names;
use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a race is tried. An updater that follows paths loses it within a second or two.
const RACE: Duration = Duration::from_secs(10);

/// Swaps two names again and again, until it is dropped.
struct Exchange {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Exchange {
    fn start(one: &Path, other: &Path) -> Self {
        let name = |path: &Path| CString::new(path.as_os_str().as_bytes()).expect("a path");
        let (one, other) = (name(one), name(other));
        let is_over = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&is_over);
        let exchange = move || {
            while !stop.load(Ordering::Relaxed) {
                let (one, other) = (one.as_ptr(), other.as_ptr());
                let here = libc::AT_FDCWD;
                // SAFETY: both paths are NUL-terminated and outlive the call. 2 is RENAME_EXCHANGE of linux/fs.h.
                let done = unsafe { libc::syscall(libc::SYS_renameat2, here, one, here, other, 2) };
                assert_eq!(done, 0, "the file system exchanges names");
                // Some ten thousand exchanges a second are enough, and leave the processor to other tests.
                std::thread::sleep(Duration::from_micros(20));
            }
        };
        Self {
            is_over,
            thread: Some(std::thread::spawn(exchange)),
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Puts an agent into the user's own work directory. Its control script creates the mark, if it may.
fn forge(user: &User, work: &Path, name: &str, version: &str, mark: &Path) {
    let dir = work.join(name).join(version);
    fs::create_dir_all(&dir).expect("a directory");
    fs::write(work.join(name).join(".version"), version).expect("a file");
    let script = format!("#!/bin/sh\n: >{}\necho started\n", mark.display());
    fs::write(dir.join("control"), script).expect("a script");
    mode(&dir.join("control"), 0o755);
    user.take(work);
}

#[test]
fn a_user_who_exchanges_a_directory_above_work_dir_gets_nothing_run_as_root() {
    if !can_make_users() {
        return;
    }
    let user = User::new();
    let mut host = Host::new();
    let of_root = host.dir.join("of-root");
    fs::create_dir(&of_root).expect("a directory");
    mode(&of_root, 0o700);
    let mark = of_root.join("mark");
    let above = host.dir.join("of-user");
    fs::create_dir(&above).expect("a directory");
    host.work = above.join("work");
    let forged = above.join("forged");
    let agents: Vec<Agent> = (0..20)
        .map(|count| Agent::new(&format!("agent{count}"), "1.0.0"))
        .collect();
    prepared::settle(&host, &agents);
    for agent in &agents {
        forge(&user, &forged, &agent.name, "1.0.0", &mark);
    }
    chown(&above, Some(user.uid()), Some(user.gid())).expect("chown");
    host.start();
    let exchange = Exchange::start(&host.work, &forged);
    host.stays(RACE, "nothing run as root", || !mark.exists());
    drop(exchange);
    let error = host.wait_error("agent0");
    let chown = format!("chown root {}", above.display());
    assert!(error.contains(&chown), "{error}");
}

#[test]
fn a_stranger_who_may_write_to_work_dir_by_its_group_gets_nothing_run_as_the_agents_user() {
    if !can_make_users() {
        return;
    }
    let (user, stranger) = (User::new(), User::new());
    let mut host = Host::new();
    let mark = user.closed_dir("closed").join("mark");
    let agents = ["one", "two", "three"].map(|name| Agent::new(name, "1.0.0"));
    for agent in &agents {
        host.publish(agent);
        prepared::unpack(&host, &host.work, agent);
        fs::write(host.agent_dir(&agent.name).join(".version"), "1.0.0").expect("a file");
        user.take(&host.agent_dir(&agent.name));
    }
    let forged = host.work.join("forged");
    for agent in &agents {
        forge(&stranger, &forged, &agent.name, "1.0.0", &mark);
    }
    chown(&host.work, Some(0), Some(stranger.gid())).expect("chown");
    mode(&host.work, 0o2775);
    let entries = agents.each_ref().map(|agent| {
        let entry = host.want(&agent.name, &agent.version);
        entry.run_user(&user.name)
    });
    host.desire(&entries);
    host.start();
    let exchanges = agents.each_ref().map(|agent| {
        let name = &agent.name;
        Exchange::start(&host.agent_dir(name), &forged.join(name))
    });
    host.stays(RACE, "nothing of the stranger's run", || !mark.exists());
    drop(exchanges);
    for agent in &agents {
        // At last its directory or the stranger's has the name. Neither is used.
        let error = host.wait_error(&agent.name);
        let is_refused = error.contains("chmod go-w") || error.contains("it belongs to uid");
        assert!(is_refused, "{error}");
    }
}

/// Desires an agent of this user in a work directory that a stranger can write to. Asserts that it is refused with these
/// words, and that nothing is made or run there.
#[track_caller]
fn assert_refused(mut host: Host, run_user: &str, words: &[&str]) {
    host.offer(&noting("demo", "1.0.0"));
    host.desire(&[host.want("demo", "1.0.0").run_user(run_user)]);
    host.start();
    let error = host.wait_error("demo");
    for word in words {
        assert!(error.contains(word), "{word:?} in {error:?}");
    }
    assert!(
        error.contains(&host.work.display().to_string()),
        "which directory: {error:?}"
    );
    host.wait_beats(3);
    assert_eq!(host.warnings("demo").len(), 1);
    assert_eq!(names(&host.work), [""; 0]);
    assert_eq!(host.calls("demo"), [""; 0]);
}

#[test]
fn a_work_dir_that_a_group_can_write_to_is_refused_also_without_the_agents_user_in_it() {
    if !can_make_users() {
        return;
    }
    each(&[false, true], |of_root| {
        let (user, stranger) = (User::new(), User::new());
        let host = Host::new();
        chown(&host.work, Some(0), Some(stranger.gid())).expect("chown");
        mode(&host.work, 0o2775);
        let group = format!("gid {}", stranger.gid());
        let run_user = if of_root { "" } else { &user.name };
        assert_refused(host, run_user, &[&group, "chmod go-w"]);
    });
}

/// Runs setfacl. Returns false, and says so, where it is not installed or the file system has no ACLs.
fn set_acl(entries: &str, dir: &Path) -> bool {
    let set = Command::new("setfacl")
        .args(["-m", entries])
        .arg(dir)
        .status();
    let is_set = set.is_ok_and(|status| status.success());
    if !is_set {
        skipped("setfacl does not work here");
    }
    is_set
}

#[test]
fn a_work_dir_with_an_acl_that_lets_a_stranger_write_is_refused() {
    if !can_make_users() {
        return;
    }
    each(&[false, true], |of_root| {
        let (user, stranger) = (User::new(), User::new());
        let host = Host::new();
        if set_acl(&format!("u:{}:rwx", stranger.name), &host.work) {
            let run_user = if of_root { "" } else { &user.name };
            assert_refused(host, run_user, &["ACL", "chmod go-w"]);
        }
    });
}

#[test]
fn an_acl_whose_mask_takes_the_write_right_away_is_no_fault() {
    if !can_make_users() {
        return;
    }
    let (user, stranger) = (User::new(), User::new());
    let mut host = Host::new();
    if !set_acl(&format!("u:{}:rwx,m::rx", stranger.name), &host.work) {
        return;
    }
    let write = format!("mkdir {}", host.work.join("his").display());
    assert!(!stranger.sh(&write).status.success());
    host.offer(&noting("demo", "1.0.0"));
    host.desire(&[host.want("demo", "1.0.0").run_user(&user.name)]);
    host.start();
    host.wait_running("demo", "1.0.0");
}

#[test]
fn a_work_dir_below_a_third_users_directory_is_refused() {
    if !can_make_users() {
        return;
    }
    let (user, stranger) = (User::new(), User::new());
    let mut host = Host::new();
    let above = host.dir.join("of-stranger");
    host.work = above.join("work");
    fs::create_dir_all(&host.work).expect("a directory");
    chown(&above, Some(stranger.uid()), Some(stranger.gid())).expect("chown");
    host.offer(&noting("demo", "1.0.0"));
    host.desire(&[host.want("demo", "1.0.0").run_user(&user.name)]);
    host.start();
    let error = host.wait_error("demo");
    let owner = format!("{}: it belongs to uid {}", above.display(), stranger.uid());
    assert!(error.contains(&owner), "{error}");
    assert_eq!(host.calls("demo"), [""; 0]);
}

#[test]
fn a_version_or_staging_directory_that_others_can_write_to_is_not_used() {
    if !can_make_users() {
        return;
    }
    each(&["demo/1.0.0", "demo/.updater", "demo"], |dir| {
        let mut host = Host::new();
        let agent = Agent::new("demo", "1.0.0");
        prepared::settle(&host, &[agent]);
        host.start();
        host.wait_running("demo", "1.0.0");
        let dir = host.work.join(dir);
        mode(&dir, 0o777);
        host.wait_for("the report", || {
            let (_, status) = host.reported("demo");
            status.contains(&format!("chmod go-w {}", dir.display()))
        });
        let calls = host.calls("demo").len();
        host.wait_beats(3);
        assert!(host.calls("demo").len() <= calls + 1, "its script is run");
        mode(&dir, 0o755);
        host.wait_for("it to be well again", || {
            host.reported("demo").1 == "started"
        });
        assert_eq!(host.running("demo").len(), 1);
    });
}

#[test]
fn an_agent_is_not_stopped_for_a_version_that_others_can_write_to() {
    // As the original updater left its versions under umask 002.
    let host = Host::with_demo("1.0.0");
    host.offer(&noting("demo", "1.0.1"));
    host.desire(&[host.want("demo", "1.0.1")]);
    let before = host.wait_running("demo", "1.0.1");
    let old = host.agent_dir("demo").join("1.0.0");
    mode(&old, 0o777);
    host.desire(&[host.want("demo", "1.0.0")]);
    let error = host.wait_error("demo");
    let mend = format!("chmod go-w {}", old.display());
    assert!(error.ends_with(&mend), "{error}");
    host.wait_beats(3);
    assert_eq!(host.running("demo"), [before], "it was stopped");
    assert_eq!(host.version("demo"), "1.0.1");
    mode(&old, 0o755);
    host.run_with(&["retry", "demo"]);
    host.wait_running("demo", "1.0.0");
}

/// A place of the updater, relative to the sandbox, and its mode.
const OPEN: [(&str, u32); 8] = [
    ("bin", 0o775),
    ("bin", 0o757),
    ("bin/ops-updater", 0o775),
    ("updater", 0o775),
    ("updater/cfg.json", 0o664),
    ("updater/desired_agent.json", 0o666),
    ("updater/var", 0o777),
    ("", 0o777),
];

/// Returns a host with a program of its own, and one place that others can write to.
fn open_host(user: Option<&User>, place: &str, bits: u32) -> (Host, PathBuf) {
    let mut host = match user {
        Some(user) => Host::of(user),
        None => host_with_bin(),
    };
    fs::create_dir_all(host.own.join("var")).expect("a directory");
    fs::write(host.own.join("desired_agent.json"), "[]").expect("a file");
    host.set("interval", "1");
    if let Some(user) = user {
        user.take(&host.own);
    }
    let open = match place {
        "" => host.dir.clone(),
        place => host.dir.join(place),
    };
    mode(&open, bits);
    (host, open)
}

fn host_with_bin() -> Host {
    let mut host = Host::new();
    let bin = host.dir.join("bin");
    fs::create_dir(&bin).expect("a directory");
    let copy = bin.join("ops-updater");
    crate::support::procs::copy_binary(&copy);
    mode(&copy, 0o755);
    host.copy = Some(copy);
    host
}

#[test]
fn root_does_not_start_where_others_could_replace_a_place_of_the_updater() {
    if !can_make_users() {
        return;
    }
    each(&OPEN, |(place, bits)| {
        let (host, open) = open_host(None, place, bits);
        let desired = host.dir.join("desired.json");
        fs::write(&desired, "[]").expect("a file");
        let desired = desired.display().to_string();
        for arguments in [&["check"][..], &["once"], &["apply", &desired], &[]] {
            let output = host.run_with(arguments);
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
            assert_eq!(text.lines().count(), 1, "{text}");
            let mend = format!("chmod go-w {}\n", open.display());
            assert!(
                text.contains("cannot trust") && text.ends_with(&mend),
                "{text}"
            );
        }
        assert_eq!(host.meta.count_beats(), 0);
        mode(&open, 0o755);
        assert_eq!(host.run("once").status.code(), Some(0), "mended");
    });
}

#[test]
fn in_a_directory_where_everybody_may_create_files_root_believes_its_own_alone() {
    if !can_make_users() {
        return;
    }
    // A new tmpfs has this mode.
    let (mut host, open) = open_host(None, "updater", 0o1777);
    let var = open.join("var");
    fs::create_dir_all(&var).expect("a directory");
    mode(&var, 0o1777);
    host.start();
    host.wait_beats(1);
    assert!(host.stop().success());
    let meta = fs::metadata(&var).expect("it is there");
    assert_eq!(meta.permissions().mode() & 0o7777, 0o755);
    let stranger = User::new();
    let file = open.join("desired_agent.json");
    let _ = fs::remove_file(&file);
    fs::write(&file, "[]").expect("a file");
    stranger.take(&file);
    let output = host.run("once");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        text.contains("desired_agent.json: it belongs to uid"),
        "{text}"
    );
    assert_eq!(output.status.code(), Some(2), "{text}");
}

#[test]
fn root_does_not_start_in_a_directory_of_another_user() {
    if !can_make_users() {
        return;
    }
    let user = User::new();
    let (host, _) = open_host(None, "updater", 0o755);
    chown(&host.own, Some(user.uid()), Some(0)).expect("chown");
    let output = host.run("once");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(
        text.contains(&format!("chown root {}", host.own.display())),
        "{text}"
    );
}

#[test]
fn a_restart_keeps_an_updater_that_could_not_start_again_where_it_is() {
    if !can_make_users() {
        return;
    }
    // 0.1.0 was installed below a user's home, and every host of a fleet is restarted for the upgrade.
    let user = User::new();
    let host = unpacked();
    succeed(&host, "start");
    let before = pid(&host);
    chown(&host.dir, Some(user.uid()), None).expect("chown");
    for verb in ["check", "restart", "reload"] {
        let output = command(&host, &["sh"], verb).output().expect("sh runs");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{verb}: {text}");
        let mend = format!("chown root {}\n", host.dir.display());
        assert!(text.ends_with(&mend), "{verb}: {text}");
        assert_eq!(pid(&host), before, "{verb}");
    }
    succeed(&host, "stop");
}

#[test]
fn an_ordinary_user_is_warned_once_and_goes_on() {
    if !can_make_users() {
        return;
    }
    each(&OPEN, |(place, bits)| {
        let user = User::new();
        let (mut host, open) = open_host(Some(&user), place, bits);
        host.start();
        host.wait_beats(3);
        let log = host.log();
        let warnings: Vec<_> = log.lines().filter(|line| line.contains(" WARN ")).collect();
        assert_eq!(warnings.len(), 1, "{log}");
        let mend = format!("chmod go-w {}", open.display());
        assert!(warnings[0].ends_with(&mend), "{log}");
    });
}

#[test]
fn an_ordinary_users_own_agents_run_where_the_umask_is_002_but_not_where_strangers_write() {
    if !can_make_users() {
        return;
    }
    let (user, stranger) = (User::new(), User::new());
    let mut host = Host::of(&user);
    let (own, shared) = (host.own.join("agents"), host.own.join("shared"));
    for (dir, gid) in [(&own, user.gid()), (&shared, stranger.gid())] {
        fs::create_dir(dir).expect("a directory");
        chown(dir, Some(user.uid()), Some(gid)).expect("chown");
        mode(dir, 0o775);
    }
    let entries = [("own", &own), ("shared", &shared)].map(|(name, dir)| {
        host.offer(&noting(name, "1.0.0"));
        host.want(name, "1.0.0").work_dir(dir)
    });
    host.desire(&entries);
    host.start();
    let error = host.wait_error("shared");
    assert!(error.contains("chmod go-w"), "{error}");
    host.work = own;
    host.wait_running("own", "1.0.0");
    assert_eq!(uid_of(&host.agent_dir("own")), Some(user.uid()));
    assert_eq!(names(&shared), [""; 0]);
}

#[test]
fn an_ordinary_users_own_group_is_not_trusted_if_others_are_in_it_or_an_acl_admits_them() {
    if !can_make_users() {
        return;
    }
    each(&[false, true], |by_acl| {
        let (user, stranger) = (User::new(), User::new());
        if !by_acl {
            let mut usermod = Command::new("usermod");
            let done = usermod.args(["-g", &stranger.name, &user.name]).status();
            assert!(done.expect("usermod runs").success());
            assert_eq!(user.gid(), stranger.gid());
        }
        let mut host = Host::of(&user);
        host.work = host.own.join("agents");
        fs::create_dir(&host.work).expect("a directory");
        user.take(&host.work);
        mode(&host.work, 0o775);
        if !by_acl || set_acl(&format!("u:{}:rwx", stranger.name), &host.work) {
            assert_refused(host, "", &["chmod go-w"]);
        }
    });
}

#[test]
fn doctor_names_each_place_that_others_could_replace() {
    if !can_make_users() {
        return;
    }
    let doctor = |host: &Host| {
        let output = host.run("doctor");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    each(&OPEN, |(place, bits)| {
        let (host, open) = open_host(None, place, bits);
        let mend = format!("chmod go-w {}", open.display());
        let found = |text: &str, word: &str| {
            let mut lines = text.lines();
            lines.any(|line| line.starts_with(word) && line.ends_with(&mend))
        };
        let text = doctor(&host);
        assert!(found(&text, "fail  cannot trust"), "{text}");
        mode(&open, 0o755);
        let text = doctor(&host);
        assert!(!text.contains("cannot trust"), "{text}");
    });
    let (user, stranger) = (User::new(), User::new());
    let host = Host::new();
    let [group, third] = ["group", "third"].map(|name| host.dir.join(name));
    for dir in [&group, &third] {
        fs::create_dir(dir).expect("a directory");
    }
    mode(&group, 0o2775);
    chown(&third, Some(stranger.uid()), None).expect("chown");
    let entry = |name: &str, user: &str, dir: &Path| {
        format!(
            r#"{{"name":"{name}","version":"1","tarball":"http://127.0.0.1/","md5":"","cmd":"start","runUser":"{user}","workDir":"{}"}}"#,
            dir.display()
        )
    };
    let entries = [entry("a", "", &group), entry("b", &user.name, &third)];
    fs::write(
        host.own.join("desired_agent.json"),
        format!("[{}]", entries.join(",")),
    )
    .expect("a file");
    let text = doctor(&host);
    for mend in [
        format!("chmod go-w {}\n", group.display()),
        format!("{}\n", third.display()),
    ] {
        assert!(text.contains(&mend), "{mend} in {text}");
    }
}

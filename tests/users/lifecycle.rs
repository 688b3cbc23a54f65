//! Checks that every step on an agent of another user, from the download to the stop, runs as that user.

use crate::support::agent::Agent;
use crate::support::fault::Faults;
use crate::support::host::Host;
use crate::support::users::{User, can_make_users, four, mode, not_of, noting, uid_of};
use crate::support::watch::names;
use crate::support::wire::Desired;
use crate::support::{archive, md5_hex, platform, procs};
use crate::users::identity::running_as;
use crate::users::sudo::is_of;
use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

#[test]
fn agents_of_two_users_and_of_root_run_side_by_side() {
    if !can_make_users() {
        return;
    }
    let (one, two, both) = (User::new(), User::new(), User::unborn());
    let mut host = Host::new();
    let users = [
        ("a", one.name.as_str()),
        ("b", &two.name),
        ("c", ""),
        ("d", "root"),
    ];
    // Two agents share a user that neither of them finds, so both try to make it.
    let twins = [("e", both.name.as_str()), ("f", &both.name)];
    let entries: Vec<_> = users
        .iter()
        .chain(&twins)
        .map(|(name, user)| {
            host.offer(&noting(name, "1.0.0"));
            host.want(name, "1.0.0").run_user(user)
        })
        .collect();
    host.desire(&entries);
    host.start();
    let uids = |names: &[&str]| -> Vec<Option<String>> {
        let pids = names
            .iter()
            .map(|name| host.wait_running(name, "1.0.0").pid);
        pids.map(|pid| procs::status(pid, "Uid")).collect()
    };
    let found = uids(&["a", "b", "c", "d", "e", "f"]);
    let wanted = [one.uid(), two.uid(), 0, 0, both.uid(), both.uid()];
    assert_eq!(found, wanted.map(|uid| Some(four(uid))));
    for (name, uid) in ["a", "b", "c", "d", "e", "f"].iter().zip(wanted) {
        assert_eq!(not_of(uid, &host.agent_dir(name)), [], "{name}");
    }
}

/// useradd checks the name before it takes its lock. Without care, the second of two concurrent calls changes the uid
/// of the first.
#[test]
fn a_user_that_many_agents_lack_is_made_once() {
    if !can_make_users() {
        return;
    }
    let user = User::unborn();
    let mut host = Host::new();
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let entries = names.map(|name| {
        host.offer(&noting(name, "1.0.0"));
        host.want(name, "1.0.0").run_user(&user.name)
    });
    host.desire(&entries);
    host.start();
    for name in names {
        let pid = host.wait_running(name, "1.0.0").pid;
        assert_eq!(procs::status(pid, "Uid"), Some(four(user.uid())), "{name}");
        assert_eq!(not_of(user.uid(), &host.agent_dir(name)), [], "{name}");
    }
    assert!(!host.log().contains("WARN"), "{}", host.log());
}

/// Upgrades demo, which this user runs as 1.0.0, then kills, restarts and stops it, beside these other agents. Asserts
/// that this user does each step.
pub fn lives_on(host: &Host, user: &User, others: &[Desired]) {
    let desire = |entry: &Desired| host.desire(&[others, std::slice::from_ref(entry)].concat());
    host.offer(&noting("demo", "1.0.1"));
    let entry = host.want("demo", "1.0.1").run_user(&user.name);
    desire(&entry);
    host.wait_running("demo", "1.0.1");
    host.kill_agent("demo");
    host.wait_running("demo", "1.0.1");
    is_of(host, user);
    desire(&entry.cmd("stop"));
    host.wait_for("the stop and its report", || {
        host.running("demo").is_empty() && host.reported("demo").1 == "stoped"
    });
    let calls = [
        "1.0.0 start",
        "1.0.0 stop",
        "1.0.1 start",
        "1.0.1 start",
        "1.0.1 stop",
    ];
    let calls = calls.map(|call| format!("{call} {}", user.uid()));
    assert_eq!(host.ids("demo"), calls);
}

#[test]
fn an_agent_of_another_user_is_upgraded_stopped_and_restarted_as_that_user() {
    if !can_make_users() {
        return;
    }
    let user = User::new();
    let (host, _) = running_as(&user);
    lives_on(&host, &user, &[]);
    assert_eq!(not_of(user.uid(), &host.agent_dir("demo")), []);
}

#[test]
fn a_bad_version_of_another_users_agent_is_rolled_back_as_that_user() {
    if !can_make_users() {
        return;
    }
    let user = User::new();
    let (host, _) = running_as(&user);
    host.offer(&Agent::new("demo", "1.0.1").on_start("exit 1"));
    host.desire(&[host.want("demo", "1.0.1").run_user(&user.name)]);
    let error = host.wait_error("demo");
    assert!(error.contains("1.0.1"), "{error}");
    host.wait_for("1.0.0 to run again", || host.running("demo").len() == 1);
    assert_eq!(host.version("demo"), "1.0.0");
    let pid = host.running("demo")[0].pid;
    assert_eq!(procs::status(pid, "Uid"), Some(four(user.uid())));
    assert_eq!(not_of(user.uid(), &host.agent_dir("demo")), []);
}

#[test]
fn a_download_is_fetched_and_unpacked_as_the_agents_user() {
    if !can_make_users() {
        return;
    }
    let user = User::new();
    let mut host = Host::new();
    let mut tarball = noting("demo", "1.0.0").archive(&host.dir);
    for count in 0..2000 {
        tarball = tarball.file(&format!("data/{count}"), 0o644, archive::noise(100, count));
    }
    let bytes = tarball.stored();
    let digest = md5_hex(&bytes);
    let slow = Faults::serve(move |mut exchange| {
        exchange.head("200 OK", &[], Some(bytes.len()));
        exchange.send_slowly(&bytes, bytes.len() / 2);
    });
    host.offer(&noting("demo", "1.0.0"));
    let entry = host.want("demo", "1.0.0").run_user(&user.name);
    host.desire(&[entry.tarball(slow.releases()).md5(digest)]);
    host.start();
    let ours = host.agent_dir("demo").join(".updater");
    let mut seen = BTreeSet::new();
    // 2,000 files are synced, and each look goes through all processes.
    let long = platform::patience(Duration::from_secs(120));
    host.wait_within(long, "the installation", || {
        for name in [".updater", ".updater/1.0.0.part", ".updater/1.0.0.new"] {
            seen.extend(uid_of(&host.agent_dir("demo").join(name)));
        }
        for pid in procs::all() {
            let holds = |fd: &String| {
                let link = fs::read_link(format!("/proc/{pid}/fd/{fd}"));
                link.is_ok_and(|path| path.starts_with(&ours))
            };
            if names(format!("/proc/{pid}/fd").as_ref()).iter().any(holds) {
                assert_eq!(procs::status(pid, "Uid"), Some(four(user.uid())));
            }
        }
        host.agent_dir("demo").join("1.0.0").exists()
    });
    assert_eq!(seen, BTreeSet::from([user.uid()]));
    host.wait_running("demo", "1.0.0");
}

#[test]
fn agents_of_other_users_are_looked_at_all_at_once_by_one_child_each() {
    if !can_make_users() {
        return;
    }
    let user = User::new();
    let mut host = Host::new();
    let slow = "date +%s.%N >>\"$sandbox/checks\"; [ -e \"$sandbox/quick\" ] || sleep 1";
    fs::write(host.dir.join("checks"), "").expect("a log");
    mode(&host.dir.join("checks"), 0o666);
    fs::write(host.dir.join("quick"), "").expect("a mark");
    let many: Vec<String> = (0..12).map(|count| format!("agent{count}")).collect();
    let entries: Vec<_> = many
        .iter()
        .map(|name| {
            host.offer(&Agent::new(name, "1.0.0").on_status(slow));
            host.want(name, "1.0.0").run_user(&user.name)
        })
        .collect();
    host.desire(&entries);
    host.start();
    for name in &many {
        host.wait_running(name, "1.0.0");
    }
    host.stop();
    fs::remove_file(host.dir.join("quick")).expect("the mark");
    fs::write(host.dir.join("checks"), "").expect("a log");
    host.start();
    host.wait_beats(1);
    let text = fs::read_to_string(host.dir.join("checks")).expect("a log");
    let times: Vec<f64> = text.lines().filter_map(|line| line.parse().ok()).collect();
    assert!(times.len() >= 12, "{text}");
    let first_round = &times[..12];
    let last = first_round.iter().copied().fold(f64::MIN, f64::max);
    let took = last - times[0];
    assert!(took < 4.0, "the checks of one round began within {took} s");
    for name in &many {
        assert_eq!(host.reported(name).1, "started", "{name}");
    }
    let began = std::time::Instant::now();
    host.wait_beats(1);
    assert!(
        began.elapsed() < Duration::from_secs(6),
        "{:?}",
        began.elapsed()
    );
}

//! The updater is killed at any moment: the next start converges, and no half-installed version is ever visible.

use crate::support::agent::Agent;
use crate::support::archive::noise;
use crate::support::fault::Faults;
use crate::support::host::Host;
use crate::support::md5_hex;
use crate::support::procs;
use crate::support::watch::names;
use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Returns how often the long test kills the updater: the number in `OPS_TEST_KILLS`, or 20.
fn kills() -> usize {
    std::env::var("OPS_TEST_KILLS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(20)
}

/// A random series of moments that differs in each run. The seed is printed when a test fails.
struct Moments(u64);

impl Moments {
    fn new() -> Self {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("after 1970");
        let seed = u64::from(now.subsec_nanos()) | 1;
        eprintln!("moments begin with {seed}");
        Self(seed)
    }

    fn next(&mut self, below: u64) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        Duration::from_millis(self.0 % below)
    }
}

/// Asserts that `.version` names a whole version, and that every visible directory is one.
fn assert_whole(host: &Host, agents: &[Agent]) {
    let dir = host.agent_dir("demo");
    let version = host.version("demo");
    assert!(
        agents.iter().any(|agent| agent.version == version),
        ".version says {version:?}"
    );
    for name in names(&dir) {
        match agents.iter().find(|agent| agent.version == name) {
            Some(agent) => assert!(
                agent.is_whole_in(&dir.join(&name), &host.dir),
                "{name} is not whole"
            ),
            None => assert!(
                name == ".updater" || name.starts_with(".version"),
                "{name} is visible"
            ),
        }
    }
    assert!(
        dir.join(&version).is_dir(),
        "{version} is in force but missing"
    );
}

#[test]
fn killed_at_random_moments_of_upgrades_it_converges() {
    let agents = ["1.0.0", "1.0.1"]
        .map(|version| Agent::new("demo", version).file("data", noise(400_000, 1)));
    let mut host = Host::new();
    for agent in &agents {
        host.publish(agent);
    }
    host.desire(&[host.want("demo", "1.0.0")]);
    host.start();
    host.wait_running("demo", "1.0.0");
    let mut moments = Moments::new();
    for kill in 0..kills() {
        let wanted = &agents[(kill + 1) % 2].version;
        host.desire(&[host.want("demo", wanted)]);
        std::thread::sleep(moments.next(if kill % 4 == 3 { 8000 } else { 2500 }));
        host.kill_updater();
        assert_whole(&host, &agents);
        host.start();
    }
    host.desire(&[host.want("demo", "1.0.1")]);
    host.wait_within(Duration::from_secs(60), "1.0.1 to run alone", || {
        host.version("demo") == "1.0.1"
            && host.running("demo").len() == 1
            && host.reported("demo") == ("1.0.1".to_owned(), "started".to_owned())
    });
    host.wait_beats(2);
    assert_eq!(host.running("demo").len(), 1);
    assert_eq!(
        names(&host.agent_dir("demo")),
        [".updater", ".version", "1.0.0", "1.0.1"]
    );
    let left = names(&host.agent_dir("demo").join(".updater"));
    assert!(
        !left.iter().any(|name| name.starts_with("1.0.")),
        "{left:?}"
    );
}

#[test]
fn after_a_power_cut_in_an_upgrade_one_version_runs() {
    let mut host = Host::with_demo("1.0.0");
    host.publish(&Agent::new("demo", "1.0.1").on_start("sleep 1"));
    host.desire(&[host.want("demo", "1.0.1")]);
    host.wait_for("the old version to be stopped", || {
        host.calls("demo").len() >= 2
    });
    host.kill_updater_and_scripts();
    for running in host.running("demo") {
        procs::signal(running.pid, libc::SIGKILL);
    }
    host.start();
    host.wait_running("demo", "1.0.1");
}

#[test]
fn killed_between_stop_and_start_the_agent_is_up_again_after_the_next_start() {
    let stop = "touch \"$sandbox/stopping\"; sleep 0.5";
    let mut host = Host::with_running(&Agent::new("demo", "1.0.0").on_stop(stop));
    host.publish(&Agent::new("demo", "1.0.1"));
    host.desire(&[host.want("demo", "1.0.1")]);
    host.wait_for("the old version to stop", || {
        host.dir.join("stopping").exists()
    });
    host.kill_updater();
    host.set("server", "\"127.0.0.1:1\"");
    host.start();
    host.wait_for("one version to run without a server", || {
        host.running("demo").len() == 1
    });
}

#[test]
fn a_download_that_a_kill_broke_goes_on_where_it_was() {
    let mut host = Host::new();
    let agent = Agent::new("demo", "1.0.0").file("data", noise(300_000, 2));
    let bytes = agent.archive(&host.dir).stored();
    let digest = md5_hex(&bytes);
    let store = Faults::stalling(bytes, 200_000);
    host.desire(&[host
        .want("demo", "1.0.0")
        .tarball(store.releases())
        .md5(digest)]);
    host.start();
    let part = host.agent_dir("demo").join(".updater/1.0.0.part");
    host.wait_for("most of the download to be on disk", || {
        fs::metadata(&part).is_ok_and(|meta| meta.len() >= 150_000)
    });
    host.kill_updater();
    host.start();
    let running = host.wait_running("demo", "1.0.0");
    assert!(agent.is_whole_in(&running.dir, &host.dir));
    assert_eq!(store.heads().len(), 2);
}

#[test]
fn a_killed_child_is_no_fault_of_the_version() {
    let host = Host::with_demo("1.0.0");
    host.publish(&Agent::new("demo", "1.0.1").on_start("sleep 2"));
    host.desire(&[host.want("demo", "1.0.1")]);
    host.wait_for("the switch to begin", || host.calls("demo").len() >= 2);
    let daemon = host.daemon_pid();
    let is_step = |pid: &u32| {
        procs::parent(*pid) == Some(daemon)
            && procs::args(*pid).last().is_some_and(|role| role == "act")
    };
    let steps: Vec<_> = procs::in_sandbox(&host.dir)
        .into_iter()
        .filter(is_step)
        .collect();
    assert_eq!(steps.len(), 1);
    procs::signal(steps[0], libc::SIGKILL);
    host.wait_running("demo", "1.0.1");
    assert_eq!(host.running("demo").len(), 1);
}

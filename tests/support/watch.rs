//! Observes a sandbox from outside: waits for events and reads files and processes.

use super::host::{Host, PATIENCE};
use super::json::{self, Json as _};
use super::platform;
use super::procs;
use super::wire::Seen;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The pause between two checks of a condition. It is short, so that tests lose little time, and long enough to leave the
/// processor to the updater.
const OFTEN: Duration = Duration::from_millis(10);
const SELDOM: Duration = Duration::from_millis(40);

/// A process of an agent, and the directory of the version that it runs from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    pub pid: u32,
    pub dir: PathBuf,
}

impl Host {
    /// Waits until the condition is true. After [`PATIENCE`] it fails the test and prints `what`.
    #[track_caller]
    pub fn wait_for(&self, what: &str, condition: impl FnMut() -> bool) {
        self.wait_within(platform::patience(PATIENCE), what, condition);
    }

    #[track_caller]
    pub fn wait_within(&self, patience: Duration, what: &str, mut condition: impl FnMut() -> bool) {
        let began = Instant::now();
        while !condition() {
            assert!(
                self.daemon_is_well(),
                "the daemon ended while the test waited for {what}"
            );
            assert!(
                began.elapsed() < patience,
                "waited {patience:?} in vain for {what}"
            );
            std::thread::sleep((began.elapsed() / 20).clamp(OFTEN, SELDOM));
        }
    }

    /// Fails the test if the condition becomes false within this time.
    #[track_caller]
    pub fn stays(&self, time: Duration, what: &str, mut condition: impl FnMut() -> bool) {
        let began = Instant::now();
        while began.elapsed() < time {
            assert!(
                self.daemon_is_well(),
                "the daemon ended while it should have stayed so: {what}"
            );
            assert!(condition(), "after {:?} no longer: {what}", began.elapsed());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until only this version runs, it is in force, and a heartbeat reports this with no change in progress.
    #[track_caller]
    pub fn wait_running(&self, name: &str, version: &str) -> Running {
        self.wait_running_within(platform::patience(PATIENCE), name, version)
    }

    #[track_caller]
    pub fn wait_running_within(&self, patience: Duration, name: &str, version: &str) -> Running {
        let what = format!("{name} {version} to run and be reported");
        self.wait_within(patience, &what, || {
            let settled = self.last_beat().is_some_and(|beat| {
                let agent = beat.agent(name);
                agent.field("version").text() == version
                    && agent.field("status").text() == "started"
                    && agent.field("phase").text().is_empty()
            });
            settled && self.version(name) == version && self.running(name).len() == 1
        });
        self.running(name).remove(0)
    }

    /// Waits until no file of an unfinished install is left. Each new attempt has such files for a moment.
    #[track_caller]
    pub fn wait_without_partials(&self, name: &str, version: &str) {
        let ours = self.agent_dir(name).join(".updater");
        let is_half = |entry: &String| entry.starts_with(version);
        self.wait_for("no partial to be left", || {
            !names(&ours).iter().any(is_half)
        });
    }

    /// Kills the agent's only process and waits until it is gone.
    #[track_caller]
    pub fn kill_agent(&self, name: &str) {
        let victim = self.running(name).remove(0);
        procs::signal(victim.pid, libc::SIGKILL);
        self.wait_for("the killed agent to be gone", || !procs::alive(victim.pid));
    }

    /// Waits until the server has received this many more heartbeats.
    #[track_caller]
    pub fn wait_beats(&self, more: usize) {
        let until = self.meta.count_beats() + more;
        self.wait_for(&format!("{more} more heartbeats"), || {
            self.meta.count_beats() >= until
        });
    }

    /// Returns the version and the status of an agent in the newest heartbeat.
    pub fn reported(&self, name: &str) -> (String, String) {
        let agent = self.last_beat().map(|beat| beat.agent(name));
        agent.map_or_else(Default::default, |agent| {
            (
                agent.field("version").text().to_owned(),
                agent.field("status").text().to_owned(),
            )
        })
    }

    /// Returns the error of an agent in the newest heartbeat. It is empty if there is none.
    pub fn error(&self, name: &str) -> String {
        let agent = self.last_beat().map(|beat| beat.agent(name));
        agent.map_or_else(String::new, |agent| agent.field("error").text().to_owned())
    }

    /// Returns the bytes that the daemon has counted as downloaded.
    pub fn downloaded(&self) -> u64 {
        let status = fs::read_to_string(self.own.join("var/status.json")).unwrap_or_default();
        let counts = json::parse(&status).field("counts").clone();
        counts.field("downloadedBytes").number().unwrap_or(0)
    }

    /// Waits until a heartbeat reports an error of this agent, and returns it.
    #[track_caller]
    pub fn wait_error(&self, name: &str) -> String {
        let mut error = String::new();
        self.wait_for(&format!("an error of {name}"), || {
            error = self.error(name);
            !error.is_empty()
        });
        error
    }

    /// Waits until another version of demo was tried and 1.0.0 runs again.
    #[track_caller]
    pub fn wait_rolled_back(&self, patience: Duration) {
        self.wait_within(patience, "demo to be rolled back", || {
            let calls = self.calls("demo");
            calls.len() >= 4 && calls.last().is_some_and(|call| call == "1.0.0 start")
        });
        self.wait_running("demo", "1.0.0");
    }

    /// Waits until every child of the daemon that is dead now was reaped.
    #[track_caller]
    pub fn wait_without_zombies(&self) {
        let daemon = self.daemon_pid();
        let is_dead_child =
            |pid: &u32| procs::parent(*pid) == Some(daemon) && procs::state(*pid) == Some('Z');
        let mut dead: Vec<_> = procs::all().into_iter().filter(is_dead_child).collect();
        self.wait_for("no zombie to stay", || {
            dead.retain(is_dead_child);
            dead.is_empty()
        });
    }

    /// Makes the daemon send a heartbeat now, for a host with a long interval.
    pub fn prompt(&self) {
        self.wait_for("the daemon to be ready", || {
            self.run("pid").status.success()
        });
        self.signal_daemon(libc::SIGUSR1);
    }

    pub fn last_beat(&self) -> Option<Seen> {
        self.meta.last_beat()
    }

    /// Returns the agent's directory.
    pub fn agent_dir(&self, name: &str) -> PathBuf {
        self.work.join(name)
    }

    /// Returns the exact content of `.version`. It is empty if there is no such file.
    pub fn version(&self, name: &str) -> String {
        fs::read_to_string(self.agent_dir(name).join(".version")).unwrap_or_default()
    }

    /// Returns the agent's processes with the directories that they run in.
    pub fn running(&self, name: &str) -> Vec<Running> {
        running_below(&self.agent_dir(name))
    }

    /// Returns the calls of its control script so far, as `<version> <verb>`, without those of `status`.
    pub fn calls(&self, name: &str) -> Vec<String> {
        let mut calls = self.all_calls(name);
        calls.retain(|call| !call.ends_with(" status"));
        calls
    }

    pub fn all_calls(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.dir.join(format!("{name}.calls"))).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub fn log_file(&self) -> PathBuf {
        self.dir.join("daemon.log")
    }

    pub fn log(&self) -> String {
        fs::read(self.log_file())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }
}

/// Whether this is the process of a sample agent, not one of its control scripts.
pub fn is_agent(pid: u32) -> bool {
    matches!(procs::args(pid).as_slice(), [program, zero, _] if program == "sleep" && zero == "0")
}

pub fn running_below(dir: &Path) -> Vec<Running> {
    let places = procs::places();
    let below = places.iter().filter(|(_, place)| place.starts_with(dir));
    let agents = below.filter(|(pid, _)| is_agent(*pid) && procs::alive(*pid));
    let running = |(pid, place): &(u32, PathBuf)| Running {
        pid: *pid,
        dir: place.clone(),
    };
    agents.map(running).collect()
}

/// Returns kind, size, inode and time of every path below, so that a test can see that nothing was written.
pub fn tree(dir: &Path) -> BTreeMap<PathBuf, (u32, u64, u64, i64, i64)> {
    let mut found = BTreeMap::new();
    let mut todo = vec![dir.to_path_buf()];
    while let Some(path) = todo.pop() {
        let Ok(meta) = fs::symlink_metadata(&path) else {
            continue;
        };
        if meta.is_dir() {
            todo.extend(
                fs::read_dir(&path)
                    .into_iter()
                    .flatten()
                    .flatten()
                    .map(|entry| entry.path()),
            );
        }
        found.insert(
            path,
            (
                meta.mode(),
                meta.size(),
                meta.ino(),
                meta.mtime(),
                meta.mtime_nsec(),
            ),
        );
    }
    found
}

/// Returns the names in a directory, sorted.
pub fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

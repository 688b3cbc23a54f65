//! Looking at a sandbox from outside: waiting for what must come, reading what is there.

use super::host::{Host, PATIENCE};
use super::json::Json as _;
use super::platform;
use super::procs;
use super::wire::Seen;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A process of an agent, and the directory of the version it runs from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    pub pid: u32,
    pub dir: PathBuf,
}

impl Host {
    /// Waits until it is so. Fails the test, naming what was awaited, after [`PATIENCE`].
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
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Fails the test if the condition breaks within this time.
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

    /// Waits until exactly this version runs, is in force, and the server was told so and that nothing more is to do.
    #[track_caller]
    pub fn wait_running(&self, name: &str, version: &str) -> Running {
        let what = format!("{name} {version} to run and be reported");
        self.wait_for(&what, || {
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

    /// Waits until nothing of an unfinished install is left. An attempt that is made again has its own for a moment.
    #[track_caller]
    pub fn wait_without_partials(&self, name: &str, version: &str) {
        let ours = self.agent_dir(name).join(".updater");
        let is_half = |entry: &String| entry.starts_with(version);
        self.wait_for("no partial to be left", || {
            !names(&ours).iter().any(is_half)
        });
    }

    /// Kills the agent's one process and waits until it is gone.
    #[track_caller]
    pub fn kill_agent(&self, name: &str) {
        let victim = self.running(name).remove(0);
        procs::signal(victim.pid, libc::SIGKILL);
        self.wait_for("the killed agent to be gone", || !procs::alive(victim.pid));
    }

    /// Waits until the server has received this many more heartbeats.
    #[track_caller]
    pub fn wait_beats(&self, more: usize) {
        let until = self.meta.beats().len() + more;
        self.wait_for(&format!("{more} more heartbeats"), || {
            self.meta.beats().len() >= until
        });
    }

    /// Version and status of an agent in the newest heartbeat.
    pub fn reported(&self, name: &str) -> (String, String) {
        let agent = self.last_beat().map(|beat| beat.agent(name));
        agent.map_or_else(Default::default, |agent| {
            (
                agent.field("version").text().to_owned(),
                agent.field("status").text().to_owned(),
            )
        })
    }

    pub fn last_beat(&self) -> Option<Seen> {
        self.meta.beats().pop()
    }

    /// The agent's directory.
    pub fn agent_dir(&self, name: &str) -> PathBuf {
        self.work.join(name)
    }

    /// What `.version` says, byte for byte; empty if there is none.
    pub fn version(&self, name: &str) -> String {
        fs::read_to_string(self.agent_dir(name).join(".version")).unwrap_or_default()
    }

    /// The agent's processes, by the directory they run in.
    pub fn running(&self, name: &str) -> Vec<Running> {
        running_below(&self.agent_dir(name))
    }

    /// The calls of its control script so far, as `<version> <verb>`, without the status ones.
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

/// The process of a sample agent, not one of its control scripts.
pub fn is_agent(pid: u32) -> bool {
    matches!(procs::args(pid).as_slice(), [program, zero, _] if program == "sleep" && zero == "0")
}

pub fn running_below(dir: &Path) -> Vec<Running> {
    let mut found = Vec::new();
    for pid in procs::all() {
        let Some(cwd) = procs::cwd(pid).filter(|cwd| cwd.starts_with(dir)) else {
            continue;
        };
        if is_agent(pid) && procs::alive(pid) {
            found.push(Running { pid, dir: cwd });
        }
    }
    found
}

/// Kind, size, inode and time of every path below, to see that nothing was written.
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

/// The names in a directory, sorted.
pub fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

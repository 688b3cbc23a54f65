//! Compares the plan with reality on a real host. The updater reaches the desired state from any content of the disk,
//! then does nothing more, and did exactly the steps that it logged. `src/daemon/state/properties` tests the same in a
//! model, with faults and kills.

use crate::support::agent::Agent;
use crate::support::host::Host;
use crate::support::json::Json as _;
use crate::support::watch::tree;
use crate::support::wire::Desired;
use crate::support::{md5_hex, release_path};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const WORLDS: usize = 28;
/// The maximum number of switches. They run one after the other and take 5 s each.
const SWITCHES: usize = 4;

struct Random(u64);

impl Random {
    fn below(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).expect("small")]
    }
}

/// One agent, and its state when the updater starts.
#[derive(Clone, Debug)]
struct World {
    name: String,
    version_file: &'static str,
    /// The state of version 1 and of version 2.
    on_disk: [&'static str; 2],
    spare: bool,
    litter: bool,
    is_up: bool,
    wanted: &'static str,
    cmd: &'static str,
    md5: &'static str,
}

impl World {
    fn random(number: usize, random: &mut Random) -> Self {
        let kinds = ["", "half", "whole", "ours", "ours", "older"];
        Self {
            name: format!("a{number}"),
            version_file: random.pick(&["", "1", "1", "1\n", "9", "../1"]),
            on_disk: [random.pick(&kinds), random.pick(&kinds)],
            spare: random.below(4) == 0,
            litter: random.below(3) == 0,
            is_up: random.below(2) == 0,
            wanted: random.pick(&["1", "1", "2"]),
            cmd: random.pick(&["start", "start", "start", "stop"]),
            md5: random.pick(&["", "inline"]),
        }
        .consistent()
    }

    /// Clears `is_up` unless the agent can run: its version must be in force and complete.
    fn consistent(mut self) -> Self {
        self.is_up &= self.is_one_in_force();
        // Without a `.version` and an `.updater` it is no agent, and left alone.
        let has_neither = self.version_file.is_empty() && !self.spare;
        self.litter |= has_neither && self.on_disk != ["", ""];
        self
    }

    fn is_one_in_force(&self) -> bool {
        self.version_file.trim() == "1" && !matches!(self.on_disk[0], "" | "half")
    }

    fn is_switch(&self) -> bool {
        let is_other = self.wanted == "2" || self.on_disk[0] == "older" && self.md5 == "inline";
        self.cmd == "start" && self.is_one_in_force() && is_other
    }

    fn agent(&self, version: &str) -> Agent {
        Agent::new(&self.name, version)
    }

    /// Returns the digest of the tarball in the store.
    fn digest(&self, version: &str, host: &Host) -> String {
        md5_hex(&self.agent(version).tarball(&host.dir))
    }

    fn desired(&self, host: &Host) -> Desired {
        let want = host.want(&self.name, self.wanted).cmd(self.cmd);
        match self.md5 {
            "inline" => want.md5(self.digest(self.wanted, host)),
            _ => want,
        }
    }

    fn prepare(&self, host: &Host) {
        let dir = host.agent_dir(&self.name);
        for (version, kind) in ["1", "2"].into_iter().zip(self.on_disk) {
            let at = dir.join(version);
            match kind {
                "" => {}
                "half" => fs::create_dir_all(at.join("lib")).expect("a directory"),
                "older" => self.unpack(host, version, &at, Some(&"0".repeat(32))),
                "ours" => self.unpack(host, version, &at, Some(&self.digest(version, host))),
                _ => self.unpack(host, version, &at, None),
            }
        }
        let ours = dir.join(".updater");
        if self.spare {
            self.unpack(host, "2", &ours.join("2.other"), Some(&"1".repeat(32)));
        }
        if self.litter {
            fs::create_dir_all(ours.join("3.new/bin")).expect("a directory");
            fs::write(ours.join("3.part"), "half a tarball").expect("a file");
        }
        if !self.version_file.is_empty() {
            fs::create_dir_all(&dir).expect("a directory");
            fs::write(dir.join(".version"), self.version_file).expect("a file");
        }
        if self.is_up {
            let mut control = Command::new("./control");
            control.arg("start").current_dir(dir.join("1"));
            assert!(control.stdin(Stdio::null()).status().expect("sh").success());
        }
        host.publish(&self.agent("1"));
        host.publish(&self.agent("2"));
    }

    fn unpack(&self, host: &Host, version: &str, at: &Path, md5: Option<&str>) {
        let agent = self.agent(version);
        fs::create_dir_all(at).expect("a directory");
        fs::write(at.join("control"), agent.control(&host.dir)).expect("a file");
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(at.join("control"), mode).expect("a mode");
        for (path, content) in agent.files() {
            fs::write(at.join(path), content).expect("a file");
        }
        if let Some(md5) = md5 {
            let name = &self.name;
            let receipt = format!(
                r#"{{"name":"{name}","version":"{version}","md5":"{md5}","size":1,"url":"","time":1}}"#
            );
            fs::write(at.join(".receipt.json"), receipt).expect("a file");
        }
    }

    fn is_reached(&self, host: &Host) -> bool {
        let running = host.running(&self.name);
        let heartbeat = host.last_beat();
        if heartbeat
            .is_none_or(|heartbeat| !heartbeat.agent(&self.name).field("phase").text().is_empty())
        {
            return false;
        }
        if self.cmd == "stop" {
            return running.is_empty();
        }
        let dir = host.agent_dir(&self.name).join(self.wanted);
        host.version(&self.name).trim() == self.wanted
            && matches!(&running[..], [one] if one.dir == dir)
            && host.reported(&self.name) == (self.wanted.to_owned(), "started".to_owned())
    }

    /// Returns the tasks in the log, in order. Asserts that each task was finished before the next.
    fn logged_tasks(&self, host: &Host) -> Vec<String> {
        let about = format!(" INFO {}: ", self.name);
        let log = host.log();
        let mut lines = log
            .lines()
            .filter_map(|line| Some(line.split_once(&about)?.1));
        let mut tasks = Vec::new();
        while let Some(task) = lines.next() {
            let end = lines.next().expect("every task ends");
            assert_eq!(end, format!("{task}: done"), "{self:?}");
            tasks.push(task.to_owned());
        }
        tasks
    }

    /// Returns the control calls and the downloads that these tasks cause.
    fn effects(&self, tasks: &[String]) -> (Vec<String>, Vec<String>) {
        let mut calls = Vec::from_iter(self.is_up.then(|| "1 start".to_owned()));
        let mut downloads = Vec::new();
        let mut is_up = self.is_up;
        for task in tasks {
            let words: Vec<_> = task.split(' ').collect();
            match words[..] {
                ["install", version] => downloads.push(release_path(&self.name, version)),
                ["start", version] => calls.push(format!("{version} start")),
                ["stop", version] => calls.push(format!("{version} stop")),
                ["switch", "from", old, "to", new] => {
                    calls.extend(is_up.then(|| format!("{old} stop")));
                    calls.push(format!("{new} start"));
                }
                ["prune", "all", "but", ..] => continue,
                _ => panic!("{self:?}: {task}"),
            }
            is_up |= words[0] != "install";
        }
        (calls, downloads)
    }
}

/// Returns the ledger of an earlier run: none, an invalid one, or one whose waiting times are over.
fn ledger(worlds: &[World], random: &mut Random) -> Option<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let past = now.expect("after 1970").as_secs() - 1000;
    match random.below(3) {
        0 => None,
        1 => Some("{ no ledger".to_owned()),
        _ => {
            let mut text = "{\"agents\":{".to_owned();
            let mut before = "";
            for World { name, .. } in worlds {
                let _ = write!(
                    text,
                    r#"{before}"{name}":{{"entry":"x","host_failures":2,"version_failures":1,"retry_at":{past},"error":"old","error_at":{past},"deaths":[{past}],"restarts":2,"crash_loop":false,"restart_at":{past},"stops_in_doubt":0,"proven":null,"moving_to":[],"previous":null}}"#
                );
                before = ",";
            }
            Some(text + "}}")
        }
    }
}

fn worlds(random: &mut Random) -> Vec<World> {
    let mut switches = 0;
    let mut worlds = Vec::new();
    while worlds.len() < WORLDS {
        let world = World::random(worlds.len(), random);
        switches += usize::from(world.is_switch());
        if !world.is_switch() || switches <= SWITCHES {
            worlds.push(world);
        }
    }
    worlds
}

#[test]
fn whatever_lies_on_disk_the_wish_is_reached_as_told_and_a_second_plan_is_empty() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.expect("after 1970");
    let seed = now.as_secs() << 20 | u64::from(now.subsec_micros()) | 1;
    eprintln!("worlds of seed {seed}");
    let mut random = Random(seed);
    let mut host = Host::new();
    let worlds = worlds(&mut random);
    for world in &worlds {
        world.prepare(&host);
    }
    if let Some(text) = ledger(&worlds, &mut random) {
        fs::create_dir_all(host.own.join("var")).expect("a directory");
        fs::write(host.own.join("var/ledger.json"), text).expect("a file");
    }
    let desired: Vec<_> = worlds.iter().map(|world| world.desired(&host)).collect();
    host.desire(&desired);
    host.start();
    for world in &worlds {
        let what = format!("{world:?}");
        host.wait_within(Duration::from_secs(120), &what, || world.is_reached(&host));
    }
    // The last prune runs after the other tasks, so the test waits until the log is complete.
    let mut log = String::new();
    while log != host.log() {
        log = host.log();
        host.wait_beats(3);
    }
    let activity = || (host.log(), host.meta.downloads().len());
    let trees = || {
        let mut own = tree(&host.own);
        // The status file contains the time of the last heartbeat.
        own.retain(|path, _| !path.ends_with("var/status.json") && !path.ends_with("var"));
        (tree(&host.work), own)
    };
    let calls = || worlds.iter().map(|w| host.calls(&w.name));
    let before = (activity(), trees(), calls().collect::<Vec<_>>());
    host.wait_beats(3);
    assert_eq!(activity(), before.0, "a second plan is not empty");
    assert_eq!(trees(), before.1);
    assert_eq!(calls().collect::<Vec<_>>(), before.2);
    let fetched = host.meta.downloads();
    for world in &worlds {
        let tasks = world.logged_tasks(&host);
        let (calls, downloads) = world.effects(&tasks);
        assert_eq!(host.calls(&world.name), calls, "{world:?} {tasks:?}");
        let of_it = |path: &&str| {
            ["1", "2"]
                .iter()
                .any(|v| *path == release_path(&world.name, v))
        };
        let fetched = fetched.iter().map(|get| get.path.as_str()).filter(of_it);
        assert_eq!(
            fetched.collect::<Vec<_>>(),
            downloads,
            "{world:?} {tasks:?}"
        );
    }
}

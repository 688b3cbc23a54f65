//! Sends thousands of heartbeats. After the last quarter the daemon must hold as much as after the first one.
//!
//! `OPS_TEST_SOAK` sets the number of heartbeats, 2000 for a complete run. Each one is requested as soon as the one
//! before has arrived. With `OPS_TEST_SOAK_PACE` they come at the shortest interval. `-- --nocapture` shows the
//! figures.

use crate::operator::control::{pid, succeed, unpacked};
use crate::support::agent::Agent;
use crate::support::host::Host;
use crate::support::platform::{has_own, is_static};
use crate::support::procs;
use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

const AGENTS: [&str; 5] = ["one", "two", "three", "four", "dies"];
/// Five deaths in ten minutes would be a crash loop. One death comes in each quarter, and more in a long quarter.
const BETWEEN_DEATHS: Duration = Duration::from_secs(200);
/// A zombie of this age counts as forgotten.
const ZOMBIE_AGE: Duration = Duration::from_secs(5);

/// Measurements of the daemon in one part of the run: the maxima, and what is left at its end between two heartbeats.
#[derive(Clone, Debug, Default)]
struct Part {
    most_kilobytes: u64,
    most_fds: usize,
    most_threads: usize,
    fds_left: usize,
    processes_left: usize,
}

struct Watch {
    pid: u32,
    key: &'static str,
    zombies: BTreeMap<u32, Instant>,
    most_zombies: usize,
    next_death: Instant,
    deaths: usize,
}

impl Watch {
    fn measure(&self, part: &mut Part) {
        let size = procs::kilobytes(self.pid, self.key).expect("a daemon");
        part.most_kilobytes = part.most_kilobytes.max(size);
        part.most_fds = part.most_fds.max(self.fds());
        part.most_threads = part.most_threads.max(procs::threads(self.pid));
    }

    fn fds(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid)).map_or(0, Iterator::count)
    }

    /// Counts the children that are zombies, and those that are not. This reads the whole process table, so it does
    /// not run at every heartbeat.
    fn children(&mut self) -> (usize, usize) {
        let mut children = procs::all();
        children.retain(|pid| procs::parent(*pid) == Some(self.pid));
        let (alive, zombies): (Vec<_>, Vec<_>) =
            children.into_iter().partition(|pid| procs::alive(*pid));
        self.most_zombies = self.most_zombies.max(zombies.len());
        self.zombies.retain(|pid, _| zombies.contains(pid));
        for pid in &zombies {
            let since = *self.zombies.entry(*pid).or_insert_with(Instant::now);
            assert!(since.elapsed() < ZOMBIE_AGE, "{pid} was not reaped");
        }
        (zombies.len(), alive.len())
    }

    /// Measures several times between two heartbeats and keeps the minimum, because a child may come and go during
    /// each check.
    fn measure_at_rest(&mut self, host: &Host, part: &mut Part) {
        (part.fds_left, part.processes_left) = (usize::MAX, usize::MAX);
        let mut checks = 0;
        host.wait_for("five checks between two heartbeats", || {
            part.fds_left = part.fds_left.min(self.fds());
            let processes = procs::in_sandbox(&host.dir).len();
            part.processes_left = part.processes_left.min(processes);
            checks += usize::from(self.children() == (0, 0));
            checks == 5
        });
    }
}

/// Returns a host with five running agents, and one agent that cannot be fetched.
fn prepared() -> Host {
    let mut host = unpacked();
    // Each heartbeat logs a line or more, and the log is full before the end.
    host.set("log_level", "\"debug\"");
    host.set("log_max_size", "1");
    let mut wanted = vec![host.want("missing", "1.0.0")];
    for name in AGENTS {
        host.publish(&Agent::new(name, "1.0.0"));
        wanted.push(host.want(name, "1.0.0"));
    }
    host.desire(&wanted);
    succeed(&host, "start");
    for name in AGENTS {
        host.wait_running(name, "1.0.0");
    }
    host
}

fn calls(host: &Host) -> usize {
    let lines = |name| {
        let calls = fs::read_to_string(host.dir.join(format!("{name}.calls")));
        calls.unwrap_or_default().lines().count()
    };
    AGENTS.into_iter().map(lines).sum()
}

fn log_size(host: &Host) -> u64 {
    let size = |name| fs::metadata(host.own.join(name)).map_or(0, |meta| meta.len());
    size("var/app.log").max(size("var/app.log.1"))
}

/// Waits for the heartbeats of one part, one by one.
fn run(host: &Host, watch: &mut Watch, heartbeats: usize, is_paced: bool) -> Part {
    let mut part = Part::default();
    let mut seen = 0;
    while seen < heartbeats {
        host.wait_for("a heartbeat", || {
            let requests = host.meta.take_seen();
            let came = requests.iter().filter(|seen| seen.method == "POST").count();
            seen += came;
            came > 0
        });
        watch.measure(&mut part);
        if seen % 10 == 0 {
            watch.children();
            assert!(log_size(host) <= 1_000_000, "{} B of log", log_size(host));
        }
        if watch.next_death <= Instant::now() {
            for agent in host.running("dies") {
                procs::signal(agent.pid, libc::SIGKILL);
                watch.next_death = Instant::now() + BETWEEN_DEATHS;
                watch.deaths += 1;
            }
        }
        if !is_paced {
            procs::signal(watch.pid, libc::SIGUSR1);
        }
    }
    watch.measure_at_rest(host, &mut part);
    part
}

fn print_figures(host: &Host, watch: &Watch, parts: &[Part], began: Instant) {
    println!(
        "{} control calls, {} deaths in {:?}; a log of {} bytes; at most {} zombies at once; {}:",
        calls(host),
        watch.deaths,
        began.elapsed(),
        log_size(host),
        watch.most_zombies,
        watch.key
    );
    for part in parts {
        println!("  {part:?}");
    }
}

#[test]
fn thousands_of_heartbeats_leave_no_descriptor_no_zombie_and_no_memory_behind() {
    if !has_own("memory") {
        return;
    }
    let heartbeats: usize =
        std::env::var("OPS_TEST_SOAK").map_or(300, |n| n.parse().expect("a number"));
    let is_paced = std::env::var_os("OPS_TEST_SOAK_PACE").is_some();
    let host = prepared();
    let began = Instant::now();
    // With glibc only anonymous memory is counted, because the pages of the C library are not the daemon's own.
    let keys = [("RssAnon", 256), ("VmRSS", 64)];
    let (key, growth) = keys[usize::from(is_static())];
    let mut watch = Watch {
        pid: pid(&host),
        key,
        zombies: BTreeMap::new(),
        most_zombies: 0,
        next_death: Instant::now() + BETWEEN_DEATHS,
        deaths: 0,
    };
    let warm_up = run(&host, &mut watch, heartbeats / 10, is_paced);
    let mut parts = vec![warm_up];
    for _ in 0..4 {
        watch.next_death = Instant::now();
        parts.push(run(&host, &mut watch, heartbeats * 9 / 40, is_paced));
    }
    print_figures(&host, &watch, &parts, began);
    let (first, last) = (&parts[1], &parts[4]);
    assert_eq!(last.fds_left, first.fds_left, "descriptors");
    assert!(last.processes_left <= AGENTS.len() + 1, "processes");
    assert_eq!(last.most_threads, 1);
    let most = first.most_kilobytes + growth;
    assert!(last.most_kilobytes <= most, "{key}");
    let seen = heartbeats * 9 / 10;
    assert!(calls(&host) >= seen * AGENTS.len(), "control calls");
}

//! Nobody waits for a neighbour: what brings an agent up or down is done at once, whatever other agents download or hang in.
//! Prints the times that `docs/RELIABILITY.md` gives.

use crate::support::agent::Agent;
use crate::support::fault::Faults;
use crate::support::host::Host;
use crate::support::prepared;
use crate::support::procs;
use crate::support::wire::Desired;
use std::time::{Duration, Instant};

const DRIPPING: usize = 40;
const HANGING: usize = 20;
/// The number of deaths, and of stops.
const EACH: usize = 5;
/// Much longer than a restart takes, which is about a second on an idle machine, and much shorter than the minute that one
/// who waits for a hanging start waits.
const SOON: Duration = Duration::from_secs(15);

/// Returns a store whose tarballs come at 2 KB/s and never end.
fn dripping() -> Faults {
    Faults::serve(move |mut exchange| {
        exchange.head("200 OK", &[], Some(1 << 30));
        exchange.send(b"\x1f\x8b");
        while exchange.send_slowly(&[7; 2000], 2000) {}
    })
}

/// The desired state of the host: agents that download, that hang in their start, and that run.
struct Neighbours {
    host: Host,
    desired: Vec<Desired>,
    store: Faults,
}

impl Neighbours {
    /// Starts the updater, and waits until as many download and hang as the updater lets at once.
    fn new() -> Self {
        let (mut host, store) = (Host::new(), dripping());
        let running =
            |kind| (0..EACH).map(move |number| Agent::new(&format!("{kind}-{number}"), "1.0.0"));
        let running = running("keep").chain(running("halt")).collect::<Vec<_>>();
        prepared::settle(&host, &running);
        // Two of each kind download a new version of their own.
        let upgrades = |agent: &&Agent| agent.name.ends_with(['0', '1']);
        let mut desired = Vec::new();
        for agent in running.iter().filter(upgrades) {
            desired.push(host.want(&agent.name, "1.0.1"));
        }
        for number in 0..DRIPPING {
            desired.push(host.want(&format!("drip-{number}"), "1.0.0"));
        }
        for entry in &mut desired {
            entry.tarball = store.releases();
            entry.md5 = "0".repeat(32);
        }
        for number in 0..HANGING {
            let name = format!("hang-{number}");
            prepared::left_by_the_original(
                &host,
                &Agent::new(&name, "1.0.0").on_start("exec sleep 1000"),
            );
            desired.push(host.want(&name, "1.0.0"));
        }
        for agent in running.iter().filter(|agent| !upgrades(agent)) {
            desired.push(host.want(&agent.name, "1.0.0"));
        }
        host.desire(&desired);
        host.start();
        let neighbours = Self {
            host,
            desired,
            store,
        };
        neighbours.wait_until_crowded();
        neighbours
    }

    fn wait_until_crowded(&self) {
        let hangs = |pid: &u32| procs::args(*pid) == ["sleep", "1000"];
        self.host
            .wait_for("downloads and starts to be under way", || {
                let processes = procs::in_sandbox(&self.host.dir);
                let hanging = processes.iter().filter(|pid| hangs(pid)).count();
                self.store.heads().len() + hanging >= 16
            });
    }

    /// Kills the agent, and returns the time until it runs again.
    fn restart(&self, name: &str) -> Duration {
        self.host.kill_agent(name);
        let began = Instant::now();
        self.host
            .wait_within(SOON, &format!("{name} to run again"), || {
                self.host.running(name).len() == 1
            });
        began.elapsed()
    }

    /// Desires that the agent is stopped, and returns the time from the first answer that says so to its end.
    fn stop(&mut self, name: &str) -> Duration {
        let entry = self.desired.iter_mut().find(|entry| entry.name == name);
        "stop".clone_into(&mut entry.expect("it is desired").cmd);
        let asked = Instant::now();
        self.host.desire(&self.desired);
        self.host
            .wait_within(SOON, &format!("{name} to be stopped"), || {
                self.host.running(name).is_empty()
            });
        let ended = Instant::now();
        let heartbeats = self.host.meta.beats();
        let answered = heartbeats.iter().find(|heartbeat| heartbeat.at >= asked);
        ended - answered.map_or(asked, |heartbeat| heartbeat.at)
    }
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let times: Vec<_> = times.iter().map(Duration::as_millis).collect();
    eprintln!("{what}, in ms: {times:?}");
}

#[test]
fn downloads_and_hanging_starts_delay_neither_restarts_nor_stops() {
    let mut neighbours = Neighbours::new();
    let (mut restarts, mut stops) = (Vec::new(), Vec::new());
    for number in 0..EACH {
        restarts.push(neighbours.restart(&format!("keep-{number}")));
        stops.push(neighbours.stop(&format!("halt-{number}")));
    }
    report("from a death to the restart", restarts);
    report("from an answer to the stop", stops);
}

#[test]
fn a_switch_that_hangs_delays_neither_restarts_nor_stops() {
    let mut host = Host::new();
    let agents = ["keep", "halt"].map(|name| Agent::new(name, "1.0.0"));
    let slow = Agent::new("slow", "1.0.0").on_stop("exec sleep 1000");
    prepared::settle(&host, &[slow, agents[0].clone(), agents[1].clone()]);
    host.publish(&Agent::new("slow", "1.0.1"));
    let mut desired = [
        host.want("slow", "1.0.1"),
        host.want("keep", "1.0.0"),
        host.want("halt", "1.0.0"),
    ];
    host.desire(&desired);
    host.start();
    host.wait_for("the switch to hang", || {
        host.calls("slow").contains(&"1.0.0 stop".to_owned())
    });
    "stop".clone_into(&mut desired[2].cmd);
    host.desire(&desired);
    host.kill_agent("keep");
    host.wait_within(SOON, "one to run again and the other to be stopped", || {
        host.running("keep").len() == 1 && host.running("halt").is_empty()
    });
}

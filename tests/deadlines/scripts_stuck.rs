//! Scripts hang so that not even SIGKILL ends them, or hang by the hundreds. No other agent is affected, and heartbeats
//! leave in time.

use crate::support::agent::Agent;
use crate::support::dead_disk::DeadDisk;
use crate::support::fault::Faults;
use crate::support::host::Host;
use crate::support::json::Json as _;
use crate::support::procs;
use crate::support::wire::Desired;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

/// A time longer than the 60 s of a start and the rollback after it.
const LONG: Duration = Duration::from_secs(100);
/// The longest allowed time between two heartbeats. A check has 17 s, 1.3 s after SIGTERM and 1 s after SIGKILL. The
/// interval is 1.1 s. The rest is for a busy machine.
const GAP: Duration = Duration::from_secs(45);

/// Returns the processes of the sandbox in uninterruptible sleep.
fn stuck(host: &Host) -> Vec<u32> {
    let mut found = procs::in_sandbox(&host.dir);
    found.retain(|pid| procs::state(*pid) == Some('D'));
    found
}

fn longest_gap(host: &Host) -> Duration {
    let heartbeats = host.meta.beats();
    let last = heartbeats.last().map(|heartbeat| heartbeat.at.elapsed());
    let gaps = heartbeats.windows(2).map(|two| two[1].at - two[0].at);
    gaps.chain(last).max().unwrap_or_default()
}

/// Returns a host that runs demo 1.0.0, and odd 1.0.0 as made by this function.
fn host_with(odd: &dyn Fn(&str) -> Agent) -> (Host, Desired) {
    let mut host = Host::new();
    for version in ["1.0.0", "1.0.1"] {
        host.publish(&odd(version));
        host.publish(&Agent::new("demo", version));
    }
    let wanted = host.want("odd", "1.0.0");
    host.desire(&[wanted.clone(), host.want("demo", "1.0.0")]);
    host.start();
    host.wait_running("odd", "1.0.0");
    host.wait_running("demo", "1.0.0");
    (host, wanted)
}

/// Asserts that, while odd is stuck, demo is upgraded, heartbeats leave, and the number of stuck processes stays small.
fn others_go_on(host: &Host, odd: &Desired, says: &str) {
    host.wait_within(LONG, "odd to be reported so", || {
        host.reported("odd").1.starts_with(says)
    });
    host.kill_agent("demo");
    host.desire(&[odd.clone(), host.want("demo", "1.0.1")]);
    host.wait_within(LONG, "demo to be upgraded", || {
        host.reported("demo") == ("1.0.1".to_owned(), "started".to_owned())
    });
    host.wait_beats(12);
    let stuck = stuck(host);
    assert!((1..=3).contains(&stuck.len()), "{stuck:?}");
    assert!(longest_gap(host) < GAP, "{:?}", longest_gap(host));
    assert!(host.reported("odd").1.starts_with(says));
}

/// Asserts that odd recovers once the disk answers again.
fn is_well_again(host: &Host, version: &str) {
    host.wait_within(LONG, "odd to be reported as started", || {
        let running = host.running("odd");
        assert!(running.len() <= 1, "{running:?}");
        host.reported("odd") == (version.to_owned(), "started".to_owned()) && running.len() == 1
    });
    host.wait_for("nothing to be stuck", || stuck(host).is_empty());
    host.kill_agent("odd");
    host.wait_within(LONG, "odd to be started again", || {
        host.running("odd").len() == 1 && host.reported("odd").1 == "started"
    });
}

#[test]
fn an_agent_on_a_dead_disk_is_unknown_and_everything_else_goes_on() {
    let (mut host, odd) = host_with(&|version| Agent::new("odd", version));
    let before = host.running("odd");
    let Some(disk) = DeadDisk::over(&host.agent_dir("odd")) else {
        return;
    };
    others_go_on(&host, &odd, "unknown: ");
    let begun = Instant::now();
    assert!(host.stop().success());
    assert!(
        begun.elapsed() < Duration::from_secs(4),
        "{:?}",
        begun.elapsed()
    );
    host.start();
    let heartbeats = host.meta.count_beats();
    host.wait_within(GAP, "the first heartbeat", || {
        host.meta.count_beats() > heartbeats
    });
    host.wait_beats(3);
    assert!(host.reported("odd").1.starts_with("unknown: "));
    assert!(stuck(&host).len() <= 4, "{:?}", stuck(&host));
    drop(disk);
    host.wait_within(LONG, "odd to be reported", || {
        host.reported("odd").1 == "started"
    });
    assert_eq!(host.running("odd"), before);
    assert_eq!(host.calls("odd"), ["1.0.0 start"]);
    is_well_again(&host, "1.0.0");
}

#[test]
fn a_status_that_waits_for_a_dead_disk_is_unknown_and_everything_else_goes_on() {
    let touch = "[ ! -e \"$sandbox/touch\" ] || cat \"$sandbox/dead/file\"";
    let (host, odd) = host_with(&|version| Agent::new("odd", version).on_status(touch));
    let dead = host.dir.join("dead");
    fs::create_dir(&dead).expect("a directory");
    let Some(disk) = DeadDisk::over(&dead) else {
        return;
    };
    fs::write(host.dir.join("touch"), "").expect("a file");
    others_go_on(&host, &odd, "unknown: ");
    fs::remove_file(host.dir.join("touch")).expect("a file");
    drop(disk);
    host.wait_within(LONG, "odd to be reported", || {
        host.reported("odd").1 == "started"
    });
    assert_eq!(host.calls("odd"), ["1.0.0 start"]);
    is_well_again(&host, "1.0.0");
}

#[test]
fn a_start_that_waits_for_a_dead_disk_is_rolled_back_and_left_alone_until_it_answers() {
    let touch = "[ ! -e \"$sandbox/touch\" ] || cat \"$sandbox/dead/file\"";
    let (host, mut odd) = host_with(&|version| match version {
        "1.0.0" => Agent::new("odd", version),
        _ => Agent::new("odd", version).on_start(touch),
    });
    let dead = host.dir.join("dead");
    fs::create_dir(&dead).expect("a directory");
    let Some(disk) = DeadDisk::over(&dead) else {
        return;
    };
    fs::write(host.dir.join("touch"), "").expect("a file");
    odd.version = "1.0.1".to_owned();
    host.desire(&[odd.clone(), host.want("demo", "1.0.0")]);
    host.wait_within(LONG, "the start to be stuck", || !stuck(&host).is_empty());
    host.wait_within(LONG, "1.0.0 to run again", || {
        assert!(host.running("odd").len() <= 1);
        host.version("odd") == "1.0.0" && host.running("odd").len() == 1
    });
    others_go_on(&host, &odd, "started");
    odd.cmd = "stop".to_owned();
    host.desire(&[odd.clone(), host.want("demo", "1.0.1")]);
    host.stays(Duration::from_secs(4), "odd runs on", || {
        host.running("odd").len() == 1
    });
    drop(disk);
    host.wait_for("odd to be stopped", || host.running("odd").is_empty());
    odd.cmd = "start".to_owned();
    fs::remove_file(host.dir.join("touch")).expect("a file");
    host.desire(&[odd, host.want("demo", "1.0.1")]);
    is_well_again(&host, "1.0.1");
}

#[test]
fn acts_that_a_dead_disk_holds_take_no_turn_of_others() {
    let host = Host::with_demo("1.0.0");
    host.publish(&Agent::new("demo", "1.0.1"));
    let (dead, go) = (host.dir.join("dead"), host.dir.join("go"));
    fs::create_dir(&dead).expect("a directory");
    let bytes = Agent::new("odd", "1.0.0").tarball(&host.dir);
    let gate = go.clone();
    let store = Faults::serve(move |mut exchange| {
        while !gate.exists() {
            std::thread::sleep(Duration::from_millis(50));
        }
        exchange.serve(&bytes);
    });
    // Sixteen steps may run at once. All of them hold their turn when the disk dies.
    let mut entries: Vec<_> = (0..16)
        .map(|number| host.want(&format!("odd-{number}"), "1.0.0"))
        .map(|entry| {
            entry
                .work_dir(&dead)
                .tarball(store.releases())
                .md5("0".repeat(32))
        })
        .collect();
    entries.push(host.want("demo", "1.0.0"));
    host.desire(&entries);
    host.wait_for("all downloads to begin", || store.heads().len() == 16);
    let Some(disk) = DeadDisk::over(&dead) else {
        fs::write(&go, "").expect("a file");
        return;
    };
    fs::write(&go, "").expect("a file");
    entries[16].version = "1.0.1".to_owned();
    host.desire(&entries);
    host.wait_within(LONG, "demo to be upgraded", || {
        host.reported("demo") == ("1.0.1".to_owned(), "started".to_owned())
    });
    assert!(longest_gap(&host) < GAP, "{:?}", longest_gap(&host));
    // Each agent has a stuck step, and may have a stuck check.
    assert!(
        (16..=32).contains(&stuck(&host).len()),
        "{:?}",
        stuck(&host)
    );
    drop(disk);
    host.wait_for("nothing to be stuck", || stuck(&host).is_empty());
    host.wait_beats(2);
}

/// Returns a host with demo and with `count` installed agents whose status never ends. The updater's
/// saved state lists them all.
fn hanging(count: usize) -> Host {
    let mut host = Host::new();
    host.publish(&Agent::new("demo", "1.0.0"));
    let mut entries = vec![host.want("demo", "1.0.0")];
    for number in 0..count {
        let name = format!("hang-{number}");
        let dir = host.agent_dir(&name).join("1.0.0");
        fs::create_dir_all(&dir).expect("a directory");
        let control = dir.join("control");
        fs::write(&control, "#!/bin/sh\nexec sleep 1000\n").expect("a file");
        fs::set_permissions(control, fs::Permissions::from_mode(0o755)).expect("a mode");
        fs::write(host.agent_dir(&name).join(".version"), "1.0.0").expect("a file");
        entries.push(host.want(&name, "1.0.0"));
    }
    host.desire(&entries);
    let list: Vec<_> = entries.iter().map(Desired::json).collect();
    let file = host.own.join("desired_agent.json");
    fs::write(file, format!("[{}]", list.join(","))).expect("a file");
    host.start();
    host
}

#[test]
fn hundreds_of_agents_that_hang_keep_no_heartbeat_back() {
    let host = hanging(400);
    host.wait_within(LONG, "two heartbeats", || host.meta.count_beats() > 1);
    let heartbeat = host.last_beat().expect("a heartbeat came");
    for number in 0..400 {
        let agent = heartbeat.agent(&format!("hang-{number}"));
        let status = agent.field("status").text().to_owned();
        assert_eq!(status, "unknown: control status did not end within 10 s");
    }
    let demo = host.reported("demo").1;
    assert!(!demo.starts_with("unknown"), "{demo}");
}

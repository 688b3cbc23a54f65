//! Tests servers that accept a connection and then send nothing, or one byte a second. These tests wait for real
//! deadlines, in parallel.

use crate::network::bad_downloads::found_running;
use crate::support::agent::Agent;
use crate::support::fault::{Exchange, Faults};
use crate::support::host::Host;
use crate::support::json::{Json as _, quote};
use crate::support::md5_hex;
use crate::support::watch::Running;
use crate::support::wire::{Desired, Seen, stock_answer};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Longer than the minute after which a silent server is given up.
const LONG: Duration = Duration::from_secs(110);
const MINUTE: Duration = Duration::from_secs(60);

/// The rows: what is done to an answer, and whether it still serves.
type Case = (&'static str, bool, fn(&mut Exchange, &[u8]));

const CASES: &[Case] = &[
    ("silence", false, |x, _| x.hold()),
    ("silence-in-head", false, |x, _| {
        x.send(b"HTTP/1.1 200 OK\r\nContent-");
        x.hold();
    }),
    ("byte-a-second-head", false, |x, _| {
        x.send_slowly(
            format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(200)).as_bytes(),
            1,
        );
    }),
    ("silence-after-head", false, |x, body| {
        x.begin(body, 0);
        x.hold();
    }),
    // The last bytes come one a second here, for longer than a minute.
    ("byte-a-second", true, |x, body| {
        let soon = body.len().saturating_sub(65);
        x.begin(body, soon);
        x.send_slowly(&body[soon..], 1);
    }),
];

/// How the requested path ends, by kind of download.
const TARGETS: &[(&str, &str)] = &[
    ("md5", ".md5"),
    ("tarball", ".tar.gz"),
    ("config", "/config"),
];

fn tarball(sandbox: &Path, name: &str) -> Vec<u8> {
    Agent::new(name, "1.0.1").tarball(sandbox)
}

/// Returns a store that is bad to the first request of each case and good to all others.
fn store(host: &Host) -> Faults {
    let (dir, done) = (host.dir.clone(), Mutex::new(BTreeSet::new()));
    Faults::serve(move |mut x| {
        let name = x.path.split('/').nth(1).unwrap_or_default().to_owned();
        let bytes = tarball(&dir, &name);
        let body = match x.path.rsplit(['/', '.']).next() {
            Some("md5") => format!("{}  {}\n", md5_hex(&bytes), "x".repeat(40)).into_bytes(),
            Some("config") => vec![b' '; 80],
            _ => bytes,
        };
        let case = CASES.iter().find(|(case, ..)| name.ends_with(case));
        let target = TARGETS.iter().find(|(target, _)| name.starts_with(target));
        let is_target = target.is_some_and(|(_, end)| x.path.ends_with(end));
        let is_first = is_target && done.lock().expect("names").insert(name.clone());
        match case.filter(|_| is_first) {
            Some((.., give)) => give(&mut x, &body),
            None => x.serve(&body),
        }
    })
}

fn entry(host: &Host, store: &Faults, name: &str) -> Desired {
    let base = store.url(&format!("/{name}"));
    let entry = host.want(name, "1.0.1").tarball(&base);
    if name.starts_with("md5") {
        return entry;
    }
    let entry = entry.md5(md5_hex(&tarball(&host.dir, name)));
    if name.starts_with("config") {
        return entry.config("cfg.json", base + "/config");
    }
    entry
}

/// Returns whether any of these heartbeats reported an error of this agent.
fn reported_error(heartbeats: &[Seen], name: &str) -> bool {
    let mut agents = heartbeats.iter().map(|heartbeat| heartbeat.agent(name));
    agents.any(|agent| !agent.field("error").text().is_empty())
}

#[test]
fn a_store_that_is_silent_is_given_up_after_a_minute_and_one_that_is_slow_is_not() {
    let mut host = Host::new();
    // Each heartbeat runs 15 scripts.
    host.set("interval", "2");
    let store = store(&host);
    let mut agents = Vec::new();
    for (case, serves, _) in CASES {
        for (target, _) in TARGETS {
            let name = format!("{target}-{case}");
            agents.push((found_running(&host, &name), name, *serves));
        }
    }
    let wanted = agents.iter().map(|(_, name, _)| entry(&host, &store, name));
    host.desire(&wanted.collect::<Vec<_>>());
    let began = Instant::now();
    host.start();
    host.wait_for("the first requests", || store.heads().len() >= 10);
    let installed = |name: &str| host.agent_dir(name).join("1.0.1/control").is_file();
    host.wait_within(LONG, "the first installation", || {
        let runs =
            |(before, name, _): &(Running, String, bool)| host.running(name) == [before.clone()];
        let all_run = agents.iter().all(runs);
        // Looked at last, because an agent is stopped only after its new version is in place.
        let is_first = agents.iter().any(|(_, name, _)| installed(name));
        assert!(is_first || all_run, "an agent does not run");
        is_first
    });
    let took = began.elapsed();
    assert!(took >= MINUTE, "{took:?}");
    let heartbeats = host.meta.count_beats();
    eprintln!("given up after {took:?}, {heartbeats} heartbeats meanwhile");
    assert!(heartbeats >= 20, "{heartbeats} heartbeats");
    for (_, name, _) in &agents {
        host.wait_within(LONG, &format!("{name} to be installed"), || installed(name));
    }
    let heartbeats = host.meta.beats();
    for (_, name, serves) in &agents {
        assert_eq!(reported_error(&heartbeats, name), !serves, "{name}");
    }
    let slow = "GET /tarball-byte-a-second/";
    let heads = store.heads();
    assert_eq!(
        heads.iter().filter(|head| head.starts_with(slow)).count(),
        1
    );
}

#[test]
fn a_server_that_answers_a_byte_a_second_is_given_up_after_a_minute() {
    let mut host = Host::new();
    let before = found_running(&host, "demo");
    let stop = stock_answer(&[host.want("demo", "1.0.0").cmd("stop")]).into_bytes();
    let start = stock_answer(&[host.want("demo", "1.0.0")]).into_bytes();
    let times = Arc::new(Mutex::new(Vec::new()));
    let seen = times.clone();
    let server = Faults::serve(move |mut x| {
        seen.lock().expect("times").push(Instant::now());
        if x.count == 1 {
            x.begin(&stop, 0);
            x.send_slowly(&stop, 1);
        } else {
            x.serve(&start);
        }
    });
    host.set("server", &quote(&server.addr()));
    host.start();
    host.wait_for("the slow answer", || server.heads().len() == 2);
    assert_eq!(host.running("demo"), [before]);
    host.kill_agent("demo");
    host.wait_within(LONG, "the agent to run again", || {
        host.running("demo").len() == 1
    });
    host.wait_within(LONG, "the next heartbeat", || server.heads().len() > 2);
    let times = times.lock().expect("times");
    let took = times[2] - times[1];
    assert!(
        took >= MINUTE / 2 && took < MINUTE + Duration::from_secs(15),
        "{took:?}"
    );
    assert_eq!(host.calls("demo"), ["1.0.0 start"; 2]);
}

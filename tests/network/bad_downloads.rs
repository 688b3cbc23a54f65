//! Gives a bad answer to one download of each agent. The running version goes on, and the new version is installed
//! later without help.

use crate::network::fault_table::{CHUNKS, CUTS, ENCODINGS, Fault, HEADS, LENGTHS};
use crate::support::agent::Agent;
use crate::support::archive;
use crate::support::fault::{Exchange, Faults};
use crate::support::host::Host;
use crate::support::json::Json as _;
use crate::support::md5_hex;
use crate::support::prepared;
use crate::support::watch::{Running, names};
use crate::support::wire::Desired;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(90);

/// Returns an agent that already runs as 1.0.0 when the updater finds it.
pub fn found_running(host: &Host, name: &str) -> Running {
    let dir = prepared::left_by_the_original(host, &Agent::new(name, "1.0.0"));
    prepared::start(host, &dir);
    host.wait_for("the agent to run", || host.running(name).len() == 1);
    host.running(name).remove(0)
}

/// One download of one agent, and the fault that it suffers.
struct Case {
    fault: &'static Fault,
    target: &'static str,
    name: String,
    before: Running,
}

impl Case {
    fn is_served(&self) -> bool {
        self.fault.serves().contains(&self.target[..1])
    }

    /// Returns the entry. Its URLs contain the name of the case.
    fn entry(&self, host: &Host, store: &Faults, tarball: &[u8]) -> Desired {
        let base = store.url(&format!("/{}", self.name));
        let entry = host.want(&self.name, "1.0.1").tarball(&base);
        match self.target {
            "md5" => entry,
            "config" => entry
                .md5(md5_hex(tarball))
                .config("cfg.json", base + "/config"),
            _ => entry.md5(md5_hex(tarball)),
        }
    }

    /// Returns whether a request for this path is the one that suffers the fault.
    fn is_target(&self, path: &str) -> bool {
        path.ends_with(match self.target {
            "md5" => ".md5",
            "config" => "/config",
            _ => ".tar.gz",
        })
    }

    fn assert_untouched(&self, host: &Host) {
        let name = &self.name;
        assert_eq!(
            host.running(name),
            std::slice::from_ref(&self.before),
            "{name}"
        );
        assert_eq!(host.version(name), "1.0.0", "{name}");
        assert_eq!(host.calls(name), ["1.0.0 start"], "{name}");
        assert!(
            !host.agent_dir(name).join("1.0.1").exists(),
            "{name} is installed"
        );
    }

    /// Returns whether the new version is complete and no partial file lies beside it.
    fn is_installed(&self, host: &Host) -> bool {
        let dir = host.agent_dir(&self.name);
        let left = names(&dir.join(".updater"));
        let is_partial = |name: &String| name.contains(".part") || name.contains(".new");
        dir.join("1.0.1/control").is_file() && !left.iter().any(is_partial)
    }
}

fn config(name: &str) -> Vec<u8> {
    format!("{{\"name\": \"{name}\", \"and\": \"more that makes it longer\"}}\n").into_bytes()
}

/// Returns a store that gives the fault of each case until it is repaired.
fn store(
    cases: &Arc<Vec<Case>>,
    tarballs: BTreeMap<String, Vec<u8>>,
    is_bad: &Arc<AtomicBool>,
) -> Faults {
    let (cases, is_bad) = (cases.clone(), is_bad.clone());
    Faults::serve(move |mut exchange: Exchange| {
        let name = exchange
            .path
            .split('/')
            .nth(1)
            .unwrap_or_default()
            .to_owned();
        let Some(case) = cases.iter().find(|case| case.name == name) else {
            return;
        };
        let tarball = &tarballs[&name];
        let sum = format!("{}  {name}\n", md5_hex(tarball)).into_bytes();
        let body = match exchange.path.rsplit(['/', '.']).next() {
            Some("md5") => &sum,
            Some("config") => &config(&name),
            _ => tarball,
        };
        if is_bad.load(Ordering::Relaxed) && case.is_target(&exchange.path) {
            (case.fault.give)(&mut exchange, body);
        } else {
            exchange.serve(body);
        }
    })
}

/// Applies every fault to every download that it fits, all at the same time, with one agent for each pair.
fn assert_harmless(faults: &'static [Fault], group: &str) {
    let mut host = Host::new();
    let mut cases = Vec::new();
    for fault in faults {
        for target in ["md5", "tarball", "config"] {
            if fault.name == "body-without-end" && target == "tarball" {
                continue; // 2 GB; see `limits`.
            }
            let name = format!("{group}-{}-{target}", fault.name);
            let before = found_running(&host, &name);
            cases.push(Case {
                fault,
                target,
                name,
                before,
            });
        }
    }
    let tarballs: BTreeMap<_, _> = cases
        .iter()
        .map(|case| {
            let agent = Agent::new(&case.name, "1.0.1").file("data", archive::noise(60_000, 5));
            (case.name.clone(), agent.archive(&host.dir).stored())
        })
        .collect();
    let (cases, is_bad) = (Arc::new(cases), Arc::new(AtomicBool::new(true)));
    let store = store(&cases, tarballs.clone(), &is_bad);
    let entries: Vec<_> = cases
        .iter()
        .map(|case| case.entry(&host, &store, &tarballs[&case.name]))
        .collect();
    host.desire(&entries);
    host.start();
    for case in cases.iter() {
        host.wait_within(
            PATIENCE,
            &format!("{} to succeed or be reported", case.name),
            || {
                if case.is_served() {
                    return case.is_installed(&host);
                }
                case.assert_untouched(&host);
                let agent = host
                    .last_beat()
                    .map(|heartbeat| heartbeat.agent(&case.name));
                agent.is_some_and(|agent| !agent.field("error").text().is_empty())
            },
        );
    }
    for case in cases.iter().filter(|case| !case.is_served()) {
        case.assert_untouched(&host);
    }
    let heartbeats = host.meta.count_beats();
    is_bad.store(false, Ordering::Relaxed);
    for case in cases.iter() {
        let what = format!("{} to be installed", case.name);
        host.wait_within(PATIENCE, &what, || case.is_installed(&host));
    }
    assert!(host.meta.count_beats() > heartbeats);
    eprintln!(
        "{} downloads, {} requests",
        cases.len(),
        store.heads().len()
    );
}

#[test]
fn an_answer_that_is_cut_anywhere_harms_nothing() {
    assert_harmless(CUTS, "cut");
}

#[test]
fn an_answer_that_lies_of_its_length_harms_nothing() {
    assert_harmless(LENGTHS, "length");
}

#[test]
fn an_answer_in_bad_chunks_harms_nothing() {
    assert_harmless(CHUNKS, "chunks");
}

#[test]
fn an_answer_in_an_encoding_harms_nothing() {
    assert_harmless(ENCODINGS, "encoding");
}

#[test]
fn an_answer_with_a_bad_head_harms_nothing() {
    assert_harmless(HEADS, "head");
}

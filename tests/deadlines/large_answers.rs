//! Tests an answer with thousands of entries: heartbeats keep their interval, and a dead agent is started again in time.

use crate::support::agent::Agent;
use crate::support::host::Host;
use crate::support::json::{Json as _, quote};
use crate::support::wire::Answer;
use miniserde::json::Value;
use std::time::{Duration, Instant};

const ENTRIES: usize = 5000;
/// The number that is followed without a policy.
const FOLLOWED: usize = 1000;
/// Longer than the checks of all agents take in a debug build on a busy machine.
const INTERVAL: Duration = Duration::from_secs(15);

/// Returns an answer that names this agent first, and then thousands that no store has. It is as short as it can be: the
/// layout of the stock server would be larger than an answer may be.
fn flood(host: &Host, name: &str) -> Answer {
    let store = quote(&host.meta.releases());
    let mut entries = vec![host.want(name, "1.0.0").json()];
    for count in 1..ENTRIES {
        entries.push(format!(
            r#"{{"name":"x{count}","version":"1","tarball":{store},"cmd":"start"}}"#
        ));
    }
    let list = entries.join(",");
    Answer::new(200, format!(r#"{{"desiredAgents":[{list}]}}"#))
}

#[test]
fn five_thousand_entries_delay_neither_heartbeats_nor_restarts() {
    let mut host = Host::with_running(&Agent::new("good", "1.0.0"));
    host.set("interval", &INTERVAL.as_secs().to_string());
    host.stop();
    host.meta.answer(flood(&host, "good"));
    host.start();
    let followed = |host: &Host| {
        let heartbeat = host.last_beat().map(|heartbeat| heartbeat.json());
        heartbeat.map_or(0, |heartbeat| {
            let rows = heartbeat.field("realAgents").items().iter();
            // The first refused entries have a row for their reason.
            let is_followed = |row: &&Value| !row.field("status").text().starts_with("refused: ");
            rows.filter(is_followed).count()
        })
    };
    let long = Duration::from_secs(150);
    host.wait_within(long, "1,000 followed entries", || {
        followed(&host) == FOLLOWED
    });
    let heartbeat = host.last_beat().expect("a heartbeat came").json();
    let errors = heartbeat.field("errors").items();
    assert_eq!(errors.len(), 21, "twenty by name, and a count");
    assert_eq!(
        errors[0].text(),
        "x1000: only 1000 entries are followed, see max_agents in policy.json"
    );
    assert!(errors[20].text().ends_with("and 3980 more are refused"));
    let began = Instant::now();
    host.kill_agent("good");
    host.wait_within(long, "the agent to run again", || {
        host.running("good").len() == 1
    });
    let took = began.elapsed();
    // The next check finds it dead, and it is started at once, before what is to be installed.
    assert!(took < INTERVAL * 2, "{took:?}");
    let before = host.meta.count_beats();
    host.wait_within(long, "more heartbeats", || {
        host.meta.count_beats() >= before + 4
    });
    let beats = host.meta.beats();
    let times: Vec<Instant> = beats.iter().map(|beat| beat.at).collect();
    for pair in times[times.len() - 4..].windows(2) {
        let pause = pair[1] - pair[0];
        assert!(pause < INTERVAL * 2, "one was left out: {pause:?}");
    }
}

//! One beat, in a child of its own: look at every agent, POST what was seen, check the answer, look at what is new in
//! it. May block on DNS, on a server or on a script: the daemon keeps the deadline. Changes nothing on this host.

use std::net::{ToSocketAddrs, UdpSocket};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{At, Result};
use crate::fetch;
use crate::heartbeat;
use crate::install::{ARCH, MEMORY_LIMIT};
use crate::job::{BeatJob, Event, SeenAgent, What};
use crate::log;
use crate::model::{AgentName, Desired, Place, WireAgent};
use crate::observe;
use crate::sys::{self, MemoryLimit, Signals};

/// A longer answer is refused: 10,000 agents would fit.
const ANSWER_LIMIT: u64 = 1 << 20;
/// An orphan, whose daemon is gone, ends itself a little after the daemon would have ended it.
const ORPHAN_SECONDS: u32 = 70;

/// The role `beat`.
pub fn run(job: &BeatJob) -> Result<()> {
    sys::alarm(ORPHAN_SECONDS);
    let signals = Signals::new(&[libc::SIGCHLD]).at("catch", "signals")?;
    let known: Vec<(Desired, Option<Place>)> = job
        .agents
        .iter()
        .filter_map(|agent| {
            let desired = Desired::check(&agent.wire, &job.own_dir).ok()?;
            Some((desired, agent.there.clone()))
        })
        .collect();
    let seen = look(&known, &signals);
    report(What::Observed, |event| event.seen = Some(seen.clone()))?;
    let Some(url) = &job.url else {
        return Ok(());
    };
    match ask(job, url, &seen) {
        Ok(agents) => answered(job, &known, agents, &signals),
        Err((error, retry_after)) => report(What::Refused, |event| {
            event.error = Some(error);
            event.retry_after = retry_after;
        }),
    }
}

fn report(what: What, fill: impl FnOnce(&mut Event)) -> Result<()> {
    let mut event = Event {
        what,
        ..Event::default()
    };
    fill(&mut event);
    event.send()
}

/// Looks at every agent at its place, and where it lived before, all at once.
fn look(agents: &[(Desired, Option<Place>)], signals: &Signals) -> Vec<SeenAgent> {
    let mut wanted: Vec<(AgentName, Place)> = Vec::new();
    for (desired, there) in agents {
        wanted.push((desired.name.clone(), desired.place.clone()));
        wanted.extend(
            there
                .iter()
                .map(|place| (desired.name.clone(), place.clone())),
        );
    }
    let mut sites = observe::sites(&wanted, signals).into_iter();
    agents
        .iter()
        .filter_map(|(desired, there)| {
            Some(SeenAgent {
                name: desired.name.clone(),
                here: sites.next()?,
                there: there.as_ref().and_then(|_| sites.next()),
            })
        })
        .collect()
}

type Entries = Vec<heartbeat::Entry>;

/// One POST. The error is the one line for the log, and the server's Retry-After.
fn ask(
    job: &BeatJob,
    url: &str,
    seen: &[SeenAgent],
) -> std::result::Result<Entries, (String, Option<u64>)> {
    let _limit = MemoryLimit::set(MEMORY_LIMIT);
    let ip = if job.ip.is_empty() {
        address_toward(url).unwrap_or_default()
    } else {
        job.ip.clone()
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |now| now.as_secs());
    let body = heartbeat::request(job, seen, &ip, ARCH, now);
    log::debug(format_args!("heartbeat: {body}"));
    let answer = fetch::post(url, body, ANSWER_LIMIT).map_err(|error| (error.to_string(), None))?;
    log::debug(format_args!(
        "heartbeat: {} {}",
        answer.status,
        log::brief(&String::from_utf8_lossy(&answer.body), 4096)
    ));
    let wants_pause = matches!(answer.status, 429 | 503);
    heartbeat::answer(answer.status, &answer.reason, &answer.body).map_err(|error| {
        let error = format!("cannot use the answer of {url}: {error}");
        (error, answer.retry_after.filter(|_| wants_pause))
    })
}

/// Reports the answer, with a look at the agents that it names for the first time or at another place.
fn answered(
    job: &BeatJob,
    known: &[(Desired, Option<Place>)],
    entries: Entries,
    signals: &Signals,
) -> Result<()> {
    let (accepted, refused) = heartbeat::sort(entries, &job.own_dir);
    let fresh: Vec<(Desired, Option<Place>)> = accepted
        .iter()
        .filter_map(|wire| fresh(wire, job, known))
        .collect();
    let seen = look(&fresh, signals);
    report(What::Answered, |event| {
        event.agents = Some(accepted);
        event.refused = Some(refused);
        event.seen = Some(seen);
    })
}

/// An agent that was not looked at yet, and the place where it was last seen.
fn fresh(
    wire: &WireAgent,
    job: &BeatJob,
    known: &[(Desired, Option<Place>)],
) -> Option<(Desired, Option<Place>)> {
    let desired = Desired::check(wire, &job.own_dir).ok()?;
    let before = known.iter().find(|(known, _)| known.name == desired.name);
    match before {
        None => Some((desired, None)),
        Some((known, _)) if known.place == desired.place => None,
        Some((known, there)) => {
            let home = there.clone().unwrap_or_else(|| known.place.clone());
            let there = Some(home).filter(|home| *home != desired.place);
            Some((desired, there))
        }
    }
}

/// The address of ours that packets toward the server would carry; connecting a UDP socket sends none.
fn address_toward(url: &str) -> Option<String> {
    let host = url.strip_prefix("http://")?.split(['/', '?']).next()?;
    let host = if host.contains(':') {
        host.to_owned()
    } else {
        format!("{host}:80")
    };
    host.to_socket_addrs().ok()?.find_map(|server| {
        let any = if server.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        let socket = UdpSocket::bind(any).ok()?;
        socket.connect(server).ok()?;
        Some(socket.local_addr().ok()?.ip().to_string())
    })
}

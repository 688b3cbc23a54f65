//! One beat, in a child of its own: look at every agent, POST what was seen, check the answer, look at what is new in
//! it. May block on DNS, on a server or on a script: the daemon keeps the deadline. Changes nothing on this host.
#![expect(
    clippy::disallowed_methods,
    reason = "a beat asks the clock and the network"
)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::time::{Duration, Instant};

use crate::children::OwnProgram;
use crate::control::{self, Call};
use crate::error::At;
use crate::fetch;
use crate::heartbeat;
use crate::install::{ARCH, MEMORY_LIMIT};
use crate::job::{self, ActJob, BeatJob, Event, Role, SeenAgent, What};
use crate::log;
use crate::model::{Desired, Own, Place, Site, State, WireAgent};
use crate::observe::{self, Target};
use crate::sys::{self, MemoryLimit, Signals};

/// A longer answer is refused: 10,000 agents would fit.
const ANSWER_LIMIT: u64 = 1 << 20;
/// An orphan, whose daemon is gone, ends itself a little after the daemon would have ended it.
const ORPHAN_SECONDS: u32 = 70;
/// A look as another user: sudo and the user's look-up take some time before the look itself.
const LOOK_PATIENCE: Duration = Duration::from_secs(25);
/// A host of hundreds of agents looks at them in batches. The next one does not wait for agents that hang…
const LOOKS_AT_ONCE: usize = 64;
const BATCH_PATIENCE: Duration = Duration::from_secs(1);
/// …and all are begun in this, so that the heartbeat leaves in time even where all of them hang.
const BEGIN_PATIENCE: Duration = Duration::from_secs(15);

/// The role `beat`.
pub fn run(job: &BeatJob) -> crate::error::Result<()> {
    sys::alarm(ORPHAN_SECONDS);
    let signals = Signals::new(&[libc::SIGCHLD]).at("catch", "signals")?;
    let known: Vec<(Desired, Option<Place>)> = job
        .agents
        .iter()
        .filter_map(|agent| {
            let desired = Desired::check(&agent.wire, &own(job)).ok()?;
            Some((desired, agent.there.clone()))
        })
        .collect();
    let seen = look(job, &known, &signals);
    report(What::Observed, |event| event.seen = Some(seen.clone()))?;
    let asked = match (&job.wish, &job.url) {
        (Some(wish), _) => desired_by(wish).map_err(|error| (error, None)),
        (None, Some(url)) => ask(job, url, &seen),
        (None, None) => return Ok(()),
    };
    match asked {
        Ok(agents) => answered(job, &known, agents, &signals),
        Err((error, retry_after)) => report(What::Refused, |event| {
            event.error = Some(error);
            event.retry_after = retry_after;
        }),
    }
}

fn own(job: &BeatJob) -> Own {
    Own {
        dir: job.own_dir.clone(),
        user: job.run_user.clone(),
    }
}

fn report(what: What, fill: impl FnOnce(&mut Event)) -> crate::error::Result<()> {
    let mut event = Event {
        what,
        ..Event::default()
    };
    fill(&mut event);
    event.send()
}

/// Looks at every agent at its place, and where it lived before, all at once and through a child each: what one of them
/// does to who looks at it is not done to the beat, and directories of other users may be closed to us.
fn look(job: &BeatJob, agents: &[(Desired, Option<Place>)], signals: &Signals) -> Vec<SeenAgent> {
    let mut wanted: Vec<(Target, Role)> = Vec::new();
    let mut want = |desired: &Desired, place: &Place, other: Option<&Place>| {
        let role = Role::new(&job.run_user, place, other, !job.sudo.is_empty());
        wanted.push((Target::new(&desired.name, place), role));
    };
    for (desired, there) in agents {
        want(desired, &desired.place, there.as_ref());
        if let Some(there) = there {
            want(desired, there, Some(&desired.place));
        }
    }
    let mut sites = look_apart(job, &wanted, signals).into_iter();
    let mut seen = Vec::new();
    for (desired, there) in agents {
        let Some(here) = sites.next() else { break };
        seen.push(SeenAgent {
            name: desired.name.clone(),
            here,
            there: there.as_ref().and_then(|_| sites.next()),
        });
    }
    seen
}

/// The sites in the order in which they are wanted.
fn look_apart(job: &BeatJob, wanted: &[(Target, Role)], signals: &Signals) -> Vec<Site> {
    let _term = signals.catch_term();
    let all_begun = Instant::now() + BEGIN_PATIENCE;
    let mut sites = Vec::new();
    let (mut calls, mut called) = (Vec::new(), Vec::new());
    for (index, (target, role)) in wanted.iter().enumerate() {
        if index % LOOKS_AT_ONCE == 0 {
            let pause = (Instant::now() + BATCH_PATIENCE).min(all_begun);
            control::attend(&mut calls, signals, Some(pause));
        }
        if let Some(site) = still_stuck(job, target) {
            sites.push(site);
            continue;
        }
        let begun = match role.run_as {
            Some(_) => spawn_look(job, target, role),
            None => observe::begin(target),
        };
        sites.push(match begun {
            Ok(call) => {
                calls.push(call);
                called.push(index);
                Site::empty(target.place.clone())
            }
            Err(error) => observe::unbegun(target, &error),
        });
    }
    for (index, answer) in called.into_iter().zip(control::finish(calls, signals)) {
        sites[index] = observe::end(&wanted[index].0.place, &answer);
    }
    sites
}

/// What an earlier look saw that still hangs; one more would only join it.
fn still_stuck(job: &BeatJob, target: &Target) -> Option<Site> {
    let seen = job.stuck.iter().find(|seen| seen.name == target.name)?;
    let mut sites = seen.there.iter().chain([&seen.here]);
    let hangs = |site: &&Site| site.state == State::Silent && !site.stuck.is_empty();
    let site = sites.find(|site| site.place == target.place);
    site.filter(hangs).cloned()
}

fn spawn_look(job: &BeatJob, target: &Target, role: &Role) -> crate::error::Result<Call> {
    let mut look = ActJob::look(&target.name, &target.place, role.clone(), &job.log_level);
    let sudo = role.by_sudo.then_some(job.sudo.as_str());
    let program = OwnProgram::find()?;
    let command = program.command("act", sudo)?;
    let stdin = job::to_stdin(&mut look).at("hand over", "a job")?;
    control::spawn_look(&command, &stdin, LOOK_PATIENCE)
}

type Entries = Vec<heartbeat::Entry>;

/// The desired state itself, or from its URL: an answer of a server, or a bare list.
fn desired_by(wish: &str) -> Result<Entries, String> {
    let _limit = MemoryLimit::set(MEMORY_LIMIT);
    let body = match wish.strip_prefix("http://") {
        Some(_) => fetch::text(wish, ANSWER_LIMIT).map_err(|error| error.to_string())?,
        None => wish.to_owned(),
    };
    let entries = if body.trim_start().starts_with('[') {
        heartbeat::saved(&body).ok_or("it is no list of agents".to_owned())
    } else {
        heartbeat::answer(200, "", body.as_bytes())
    };
    entries.map_err(|error| format!("cannot use the desired state: {error}"))
}

/// One POST. The error is the one line for the log, and the server's Retry-After.
fn ask(job: &BeatJob, url: &str, seen: &[SeenAgent]) -> Result<Entries, (String, Option<u64>)> {
    let _limit = MemoryLimit::set(MEMORY_LIMIT);
    let ip = if job.ip.is_empty() {
        address_toward(url).unwrap_or_default()
    } else {
        job.ip.clone()
    };
    let body = heartbeat::request(job, seen, &ip, ARCH, sys::unix_now());
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
) -> crate::error::Result<()> {
    let (accepted, refused) = heartbeat::sort(entries, &own(job));
    let fresh: Vec<(Desired, Option<Place>)> = accepted
        .iter()
        .filter_map(|wire| fresh(wire, job, known))
        .collect();
    // The answer first: a look that somebody delays must not keep it from being followed.
    report(What::Answered, |event| {
        event.agents = Some(accepted);
        event.refused = Some(refused);
    })?;
    let seen = look(job, &fresh, signals);
    report(What::Observed, |event| event.seen = Some(seen))
}

/// An agent that was not looked at yet, and the place where it was last seen.
fn fresh(
    wire: &WireAgent,
    job: &BeatJob,
    known: &[(Desired, Option<Place>)],
) -> Option<(Desired, Option<Place>)> {
    let desired = Desired::check(wire, &own(job)).ok()?;
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

/// Where the server of an http URL listens.
pub fn host_and_port(url: &str) -> Option<(&str, u16)> {
    let host = url.strip_prefix("http://")?.split(['/', '?']).next()?;
    let (host, port) = host.split_once(':').unwrap_or((host, "80"));
    let port: u32 = port.parse().ok()?;
    Some((host, u16::try_from(port).ok()?))
}

/// One copy for all who ask: what std has for it takes half a kilobyte each time.
#[inline(never)]
pub fn look_up(host: &str, port: u16) -> std::io::Result<std::vec::IntoIter<SocketAddr>> {
    (host, port).to_socket_addrs()
}

/// The address of ours that packets toward the server would carry; connecting a UDP socket sends none.
fn address_toward(url: &str) -> Option<String> {
    let (host, port) = host_and_port(url)?;
    for server in look_up(host, port).ok()? {
        let any = if server.is_ipv4() {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        } else {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        };
        if let Some(address) = address_from(any, server) {
            return Some(written(address));
        }
    }
    None
}

pub fn written(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => words(address),
    }
}

fn address_from(any: IpAddr, server: SocketAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
    socket.connect(server).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// The address as RFC 5952 wants it written. std's, which looks for addresses of IPv4 within, takes 1.6 KB.
fn words(address: Ipv6Addr) -> String {
    let groups = address.segments();
    // The longest run of zeros, the first of equals, is left out; a single one is not.
    let (mut gap, mut length) = (8, 1);
    for from in 0..8 {
        let zeros = groups[from..].iter().take_while(|group| **group == 0);
        let zeros = zeros.count();
        if zeros > length {
            (gap, length) = (from, zeros);
        }
    }
    let mut text = String::new();
    for (at, group) in groups.iter().enumerate() {
        if at == gap {
            text += "::";
        }
        if at < gap || at >= gap + length {
            if !text.is_empty() && !text.ends_with(':') {
                text.push(':');
            }
            text = format!("{text}{group:x}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_written_as_std_would() {
        for address in [
            "::",
            "::1",
            "1::",
            "fe80::1",
            "2001:db8::",
            "2001:db8:0:1:1:1:1:1",
            "2001:0:0:1::1",
            "1:0:0:2:0:0:3:4",
            "1:2:3:4:5:6:0:0",
            "0:1:2:3:4:5:6:7",
            "1:2:3:4:5:6:7:8",
            "a:b:c:d:e:f:0:ffff",
        ] {
            let address: Ipv6Addr = address.parse().expect("an address");
            assert_eq!(words(address), address.to_string());
        }
    }
}

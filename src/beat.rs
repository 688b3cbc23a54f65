//! One beat, in a child of its own: look at every agent, POST what was seen, check the answer, look at what is new in
//! it. May block on DNS, on a server or on a script: the daemon keeps the deadline. Changes nothing on this host.
#![expect(
    clippy::disallowed_methods,
    reason = "a beat asks the clock and the network"
)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::time::Duration;

use crate::children::OwnProgram;
use crate::control::{self, Answer, Call};
use crate::error::At;
use crate::fetch;
use crate::ground;
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
/// A look as another user: its status script has 10 s and 5 s to end, sudo and the user's look-up take the rest.
const LOOK_PATIENCE: Duration = Duration::from_secs(20);

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

/// Looks at every agent at its place, and where it lived before, all at once: agents of other users through a child
/// each, since their directories may be closed to us.
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
    let mut sites = look_as_their_users(job, wanted, signals).into_iter();
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
fn look_as_their_users(job: &BeatJob, wanted: Vec<(Target, Role)>, signals: &Signals) -> Vec<Site> {
    let _term = signals.catch_term();
    let mut sites = Vec::new();
    let (mut ours, mut our_places) = (Vec::new(), Vec::new());
    let (mut others, mut other_places) = (Vec::new(), Vec::new());
    for (index, (target, role)) in wanted.into_iter().enumerate() {
        sites.push(Site::empty(target.place.clone()));
        let begun = if role.run_as.is_some() {
            spawn_look(job, &target, &role).map(|call| {
                others.push(call);
                other_places.push(index);
            })
        } else {
            // What somebody else put there nobody may look at.
            ground::check_own(&target.paths.agent).map(|()| {
                ours.push(target);
                our_places.push(index);
            })
        };
        if let Err(error) = begun {
            be_unseen(&mut sites[index], &error.to_string());
        }
    }
    for (index, site) in our_places.into_iter().zip(observe::sites(&ours, signals)) {
        sites[index] = site;
    }
    for (index, answer) in other_places
        .into_iter()
        .zip(control::finish(others, signals))
    {
        match seen_by(&answer, &sites[index].place) {
            Ok(site) => sites[index] = site,
            Err(why) => be_unseen(&mut sites[index], &why),
        }
    }
    sites
}

fn spawn_look(job: &BeatJob, target: &Target, role: &Role) -> crate::error::Result<Call> {
    let look = ActJob::look(&target.name, &target.place, role.clone(), &job.log_level);
    let sudo = role.by_sudo.then_some(job.sudo.as_str());
    let program = OwnProgram::find()?;
    let command = program.command("act", sudo)?;
    let stdin = job::to_stdin(&look).at("hand over", "a job")?;
    control::spawn_other(&command, &stdin, "the look as its user", LOOK_PATIENCE)
}

/// What a look at this place as another user has seen; the error is its last words.
fn seen_by(answer: &Answer, place: &Place) -> Result<Site, String> {
    let text = answer.whole_text();
    let event = text.lines().find_map(Event::parse);
    let Some(event) = event.filter(|event| event.what == What::Done) else {
        let sudo = text.lines().rfind(|line| line.starts_with("sudo: "));
        return Err(sudo.map_or_else(|| answer.complaint(), str::to_owned));
    };
    if let Some(error) = event.error {
        return Err(error);
    }
    site_at(place, event).ok_or_else(|| answer.complaint())
}

/// The child may belong to a hostile user: it tells of no other place than the one where it was sent to.
fn site_at(place: &Place, event: Event) -> Option<Site> {
    let seen = event.seen?.into_iter().next()?;
    Some(seen.here).filter(|site| site.place == *place)
}

/// Nobody could look at it.
fn be_unseen(site: &mut Site, why: &str) {
    site.state = State::Silent;
    site.status = log::brief(why, 200);
}

type Entries = Vec<heartbeat::Entry>;

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

/// The address of ours that packets toward the server would carry; connecting a UDP socket sends none.
fn address_toward(url: &str) -> Option<String> {
    let host = url.strip_prefix("http://")?.split(['/', '?']).next()?;
    let (host, port) = host.split_once(':').unwrap_or((host, "80"));
    let port: u32 = port.parse().ok()?;
    for server in (host, u16::try_from(port).ok()?).to_socket_addrs().ok()? {
        let any = if server.is_ipv4() {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        } else {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        };
        match address_from(any, server) {
            Some(IpAddr::V4(address)) => return Some(address.to_string()),
            Some(IpAddr::V6(address)) => return Some(words(address)),
            None => {}
        }
    }
    None
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
    use crate::model::AgentName;

    #[test]
    fn a_look_as_another_user_tells_of_the_place_where_it_was_sent_to_and_no_other() {
        let place = |run_user: &str| Place {
            work_dir: "/work".to_owned(),
            run_user: run_user.to_owned(),
        };
        let looked = |run_user: &str| Event {
            seen: Some(vec![SeenAgent {
                name: AgentName::parse("demo").expect("a name"),
                here: Site::empty(place(run_user)),
                there: None,
            }]),
            ..Event::default()
        };
        assert!(site_at(&place("falcon"), looked("falcon")).is_some());
        assert_eq!(site_at(&place("falcon"), looked("")), None);
        assert_eq!(site_at(&place("falcon"), Event::default()), None);
    }

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

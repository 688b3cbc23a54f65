//! One heartbeat: checks every agent, POSTs what was observed, checks the answer, and checks the agents that are new in
//! it. DNS, the server or a script may block it: the daemon keeps the deadline. Changes nothing on this host.

use std::path::Path;

use crate::build_info::ARCH;
use crate::error::At;
use crate::json;
use crate::log;
use crate::model::{Desired, Observation, Own, is_fetched};
use crate::net::MEMORY_LIMIT;
use crate::net::address::address_toward;
use crate::net::{http, network};
use crate::os::limits::MemoryLimit;
use crate::os::signals::Signals;
use crate::os::{clock, process};
use crate::protocol::desired::{self, Entries};
use crate::protocol::event::{Event, What};
use crate::protocol::heartbeat;
use crate::protocol::job::HeartbeatJob;
use crate::store::policy;
use crate::text;
use crate::worker::survey::{self, Checked};

/// Bytes. A longer answer is refused; 10,000 agents would fit.
const ANSWER_LIMIT: u64 = 1 << 20;
/// A worker whose daemon is gone ends itself, a little after the daemon would have ended it.
const ORPHAN_SECONDS: u32 = 70;

/// The agents of one report.
const REPORTED_AT_ONCE: usize = 100;

/// Carries out the job of the hidden subcommand `beat`.
pub fn run(job: &HeartbeatJob) -> crate::error::Result<()> {
    process::alarm(ORPHAN_SECONDS);
    network::set(job.network.clone());
    let signals = Signals::new(&[libc::SIGCHLD]).at("catch", "signals")?;
    let mut known: Vec<Checked> = Vec::new();
    for agent in &job.agents {
        known.push((&agent.desired, agent.elsewhere.as_ref()));
    }
    let observations = survey::check(job, &known, &signals, &mut report_early)?;
    report(&observations)?;
    let answer = match (&job.input, &job.url) {
        (Some(input), _) => read_input(input).map_err(|error| (error, None)),
        (None, Some(url)) => post(job, url, &observations),
        (None, None) => return Ok(()),
    };
    match answer {
        Ok(entries) => report_answer(job, &known, entries, &signals),
        Err((error, retry_after)) => {
            let mut event = Event::new(What::Refused);
            event.error = Some(error);
            event.retry_after = retry_after;
            event.send()
        }
    }
}

fn own(job: &HeartbeatJob) -> Own {
    Own {
        dir: job.updater.dir.clone(),
        user: job.run_user.clone(),
    }
}

/// Reports the agents that were checked while others hang.
fn report_early(observations: Vec<Observation>) -> crate::error::Result<()> {
    Event::of_checks(What::Phase, observations).send()
}

/// Reads the desired state that stands in place of a server's: the text itself, or the URL of the text. Both an answer
/// of a server and a bare list of agents will do.
fn read_input(input: &str) -> Result<Entries, String> {
    let _limit = MemoryLimit::set(MEMORY_LIMIT);
    let body = if is_fetched(input) {
        http::text(input, ANSWER_LIMIT).map_err(|error| error.to_string())?
    } else {
        input.to_owned()
    };
    let body = json::without_mark(&body);
    let entries = if body.trim_start().starts_with('[') {
        desired::saved(body).ok_or("it is not a list of agents".to_owned())
    } else {
        desired::answer(200, "", body.as_bytes())
    };
    entries.map_err(|error| format!("cannot use the desired state: {error}"))
}

/// POSTs once. The error has one line for the log, and the seconds of the server's Retry-After if it is overloaded.
fn post(
    job: &HeartbeatJob,
    url: &str,
    observations: &[Observation],
) -> Result<Entries, (String, Option<u64>)> {
    let _limit = MemoryLimit::set(MEMORY_LIMIT);
    let ip = if job.ip.is_empty() {
        address_toward(job.network.next_hop(url)).unwrap_or_default()
    } else {
        job.ip.clone()
    };
    let body = heartbeat::request(job, observations, &ip, ARCH, clock::unix_now());
    log::debug(format_args!("heartbeat: {body}"));
    let answer = http::post(url, body, ANSWER_LIMIT).map_err(|error| (error.to_string(), None))?;
    log::debug(format_args!(
        "heartbeat: {} {}",
        answer.status,
        text::brief(
            &text::without_passwords(&String::from_utf8_lossy(&answer.body)),
            4096
        )
    ));
    let wants_pause = matches!(answer.status, 429 | 503);
    desired::answer(answer.status, &answer.reason, &answer.body).map_err(|error| {
        let error = format!("cannot use the answer of {url}: {error}");
        (error, answer.retry_after.filter(|_| wants_pause))
    })
}

/// Reports the answer, and then a check of the agents that it names for the first time or at another location.
fn report_answer(
    job: &HeartbeatJob,
    known: &[Checked],
    entries: Entries,
    signals: &Signals,
) -> crate::error::Result<()> {
    let own = own(job);
    let policy = policy::load_or_refuse(Some(Path::new(&own.dir)));
    let sorted = desired::sort(entries, &own, &policy);
    let room = policy.max_agents.saturating_sub(sorted.accepted.len());
    let mut answered = Event::new(What::Answered);
    for (Desired { name, .. }, _) in known {
        let is_refused = sorted.names.get(name) == Some(&0);
        if is_refused && answered.kept.len() < room {
            answered.kept.push(name.clone());
        }
    }
    answered.agents = sorted.accepted;
    answered.refused = sorted.refused;
    // The answer comes first: the daemon must be able to follow it while a check hangs.
    answered.send()?;
    let mut unchecked: Vec<Checked> = Vec::new();
    for desired in &answered.agents {
        if let Some(agent) = if_unchecked(desired, known) {
            unchecked.push(agent);
        }
    }
    let observations = survey::check(job, &unchecked, signals, &mut report_early)?;
    report(&observations)
}

/// Reports the agents that were checked, a few at a time: the daemon holds what was observed before until the next replaces it.
fn report(observations: &[Observation]) -> crate::error::Result<()> {
    for part in observations.chunks(REPORTED_AT_ONCE) {
        report_early(part.to_vec())?;
    }
    Event::new(What::Observed).send()
}

/// Returns an agent that was not yet checked where the entry wants it, with the location where it was observed last.
fn if_unchecked<'a>(desired: &'a Desired, known: &[Checked<'a>]) -> Option<Checked<'a>> {
    let before = known.iter().find(|(known, _)| known.name == desired.name);
    match before {
        None => Some((desired, None)),
        Some((known, _)) if known.location == desired.location => None,
        Some((known, elsewhere)) => {
            let current = elsewhere.unwrap_or(&known.location);
            Some((desired, Some(current).filter(|at| **at != desired.location)))
        }
    }
}

//! The body of a heartbeat, from what was observed. Pure. The format is that of the original updater and of its stock
//! server, with additional fields that the stock server ignores.

use miniserde::Serialize;

use crate::build_info::VERSION;
use crate::json;
use crate::model::{AgentName, AgentState, Observation, Observed, Refusal};
use crate::protocol::event::STOPPING;
use crate::protocol::job::{HeartbeatJob, Reported};
use crate::text::brief;

/// The longest text of ours in a heartbeat, in bytes. Stock servers keep such texts in a column of a table.
pub(super) const TEXT_LIMIT: usize = 200;

/// Bytes of an agent's state that stand before the reason why its entry is refused.
const BEFORE_REFUSAL: usize = 60;
const REFUSED: &str = "refused: ";

/// The body, in the order of the original's fields. Ours follow.
#[derive(Serialize)]
struct Heartbeat<'a> {
    hostname: &'a str,
    ip: &'a str,
    #[serde(rename = "runUser")]
    run_user: &'a str,
    #[serde(rename = "updaterVersion")]
    updater_version: &'a str,
    /// Never null: the stock server crashes on null.
    #[serde(rename = "realAgents")]
    real_agents: Vec<RealAgent<'a>>,
    arch: &'a str,
    /// Why the host is held. Empty: it is not.
    hold: String,
    errors: Vec<String>,
}

#[derive(Default, Serialize)]
struct RealAgent<'a> {
    name: &'a str,
    version: &'a str,
    status: String,
    timestamp: u64,
    #[serde(rename = "runUser")]
    run_user: &'a str,
    #[serde(rename = "workDir")]
    work_dir: &'a str,
    #[serde(rename = "desiredVersion")]
    desired_version: &'a str,
    /// The version that an operator pinned. Empty: there is no pin.
    pinned: &'a str,
    phase: String,
    error: String,
}

/// Returns the body of a heartbeat. `now` is in seconds since 1970.
pub fn request(
    job: &HeartbeatJob,
    observations: &[Observation],
    ip: &str,
    arch: &str,
    now: u64,
) -> String {
    let mut real_agents = Vec::new();
    for agent in &job.agents {
        let mut observations = observations.iter();
        let observation = observations.find(|found| found.name == agent.desired.name);
        let refused = reason(&job.refused, &agent.desired.name);
        if let Some(row) = observation.and_then(|found| real_agent(agent, found, refused, now)) {
            real_agents.push(row);
        }
    }
    let mut errors = Vec::new();
    for refusal in &job.refused {
        if let Some(row) = refused_agent(refusal, &real_agents, now) {
            real_agents.push(row);
        }
        errors.push(brief(&refusal.to_string(), TEXT_LIMIT));
    }
    json::to_string(&Heartbeat {
        hostname: &job.hostname,
        ip,
        run_user: &job.run_user,
        updater_version: VERSION,
        real_agents,
        arch,
        hold: brief(&job.hold, TEXT_LIMIT),
        errors,
    })
}

/// Returns none for an agent that is not installed and should not be.
fn real_agent<'a>(
    agent: &'a Reported,
    observation: &'a Observation,
    refused: &str,
    now: u64,
) -> Option<RealAgent<'a>> {
    let wire = &agent.desired.wire;
    let observed = observation.current();
    let version = observed
        .current
        .as_ref()
        .map(|build| build.version.as_str());
    if version.is_none() && wire.cmd != "start" {
        return None;
    }
    // The spelling of the server, unless the agent still lives elsewhere.
    let (mut run_user, mut work_dir) = (&observed.location.run_user, &observed.location.work_dir);
    if observed.location == observation.at_desired.location {
        run_user = &wire.run_user;
        if !wire.work_dir.is_empty() {
            work_dir = &wire.work_dir;
        }
    }
    Some(RealAgent {
        name: &wire.name,
        version: version.unwrap_or_default(),
        status: status(observed, &agent.phase, &agent.error, refused),
        timestamp: now,
        run_user,
        work_dir,
        desired_version: &wire.version,
        pinned: &agent.pinned,
        phase: brief(&agent.phase, TEXT_LIMIT),
        error: brief(&agent.error, TEXT_LIMIT),
    })
}

/// Returns a row for the reason of an entry that is refused, unless its agent has a row.
fn refused_agent<'a>(refusal: &'a Refusal, rows: &[RealAgent], now: u64) -> Option<RealAgent<'a>> {
    AgentName::parse(&refusal.name)?;
    let is_shown = rows.iter().any(|row| row.name == refusal.name);
    (!is_shown).then(|| RealAgent {
        name: &refusal.name,
        status: brief(&(REFUSED.to_owned() + &refusal.cause), TEXT_LIMIT),
        timestamp: now,
        ..Default::default()
    })
}

/// Returns why an entry of this name is refused. Empty: none is.
pub fn reason<'a>(refused: &'a [Refusal], name: &AgentName) -> &'a str {
    let refusal = refused.iter().find(|refusal| refusal.name == name.as_str());
    refusal.map_or("", |refusal| &refusal.cause)
}

/// Returns the text of the status column: the output of the status script, or the reason why there is none. `refused` is why
/// the entry of the agent is refused, which the page of a stock server shows nowhere else.
pub fn status(observed: &Observed, phase: &str, error: &str, refused: &str) -> String {
    let mut status = status_of_agent(observed, phase, error);
    if refused.is_empty() {
        return status;
    }
    // The entry before stays in force, or of two the first: what becomes of it is still to be seen.
    status.truncate(BEFORE_REFUSAL);
    brief(&(status + "; " + REFUSED + refused), TEXT_LIMIT)
}

fn status_of_agent(observed: &Observed, phase: &str, error: &str) -> String {
    let (kind, text) = match observed.state {
        AgentState::Stopped if phase == STOPPING => ("", phase),
        AgentState::Started | AgentState::Stopped | AgentState::Unrecognized => {
            ("", observed.status.as_str())
        }
        AgentState::NoAnswer | AgentState::NotAsked => ("unknown: ", observed.status.as_str()),
        AgentState::NotInstalled if observed.current.is_some() => {
            ("failed: ", "its control cannot be run")
        }
        AgentState::NotInstalled if !error.is_empty() => ("failed: ", error),
        AgentState::NotInstalled if !phase.is_empty() => ("", phase),
        AgentState::NotInstalled => ("", "installing"),
    };
    brief(&(kind.to_owned() + text), TEXT_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AgentName, Build, Desired, Location, Own, Version, WireAgent};

    fn desired() -> Desired {
        let wire = WireAgent {
            name: "demo".into(),
            version: "1.0.1".into(),
            tarball: "http://x".into(),
            cmd: "start".into(),
            run_user: "falcon".into(),
            ..Default::default()
        };
        Desired::check(&wire, &Own::default()).expect("valid")
    }

    fn job() -> HeartbeatJob {
        HeartbeatJob {
            made_by: VERSION.into(),
            url: None,
            hostname: "h".into(),
            ip: String::new(),
            run_user: "root".into(),
            sudo: String::new(),
            updater: crate::model::Updater::default(),
            network: crate::model::Network::default(),
            log_level: "info".into(),
            hold: String::new(),
            refused: Vec::new(),
            stuck: Vec::new(),
            input: None,
            agents: vec![Reported {
                desired: desired(),
                elsewhere: None,
                pinned: String::new(),
                phase: String::new(),
                error: "cannot fetch x: 404\n\u{e9}".into(),
            }],
        }
    }

    fn observation(state: AgentState, installed: bool) -> Observation {
        let mut at_desired = Observed::empty(Location {
            work_dir: "/home/falcon".into(),
            run_user: "falcon".into(),
        });
        at_desired.state = state;
        at_desired.status = "started".into();
        at_desired.current = installed.then(|| Build {
            version: Version::parse("1.0.0").expect("valid"),
            md5: String::new(),
        });
        Observation {
            name: AgentName::parse("demo").expect("valid"),
            at_desired,
            elsewhere: None,
        }
    }

    #[test]
    fn a_request_begins_with_the_fields_of_the_original_in_their_order() {
        let body = request(
            &job(),
            &[observation(AgentState::Started, true)],
            "192.0.2.2",
            "linux_386",
            7,
        );
        let original = r#"{"hostname":"h","ip":"192.0.2.2","runUser":"root","updaterVersion":""#;
        assert!(body.starts_with(original), "{body}");
        let agent = r#""realAgents":[{"name":"demo","version":"1.0.0","status":"started","timestamp":7,"runUser":"falcon","workDir":"/home/falcon","desiredVersion":"1.0.1","pinned":"","phase":"","error":"cannot fetch x: 404 ?"}]"#;
        assert!(body.contains(agent), "{body}");
    }

    #[test]
    fn an_agent_that_is_not_installed_reports_why() {
        let body = request(
            &job(),
            &[observation(AgentState::NotInstalled, false)],
            "",
            "linux_386",
            7,
        );
        assert!(
            body.contains(r#""version":"","status":"failed: cannot fetch x: 404 ?""#),
            "{body}"
        );
    }

    #[test]
    fn an_agent_is_not_reported_as_stopped_while_its_stop_goes_on() {
        let mut stopped = Observed::empty(desired().location);
        stopped.state = AgentState::Stopped;
        stopped.status = "stoped".to_owned();
        for (phase, text) in [
            ("", "stoped"),
            ("downloading", "stoped"),
            (STOPPING, STOPPING),
        ] {
            assert_eq!(status(&stopped, phase, "", ""), text);
        }
    }

    #[test]
    fn a_refusal_stands_after_the_state_of_its_agent_and_hides_nothing_of_it() {
        let observed = |state, installed| observation(state, installed).at_desired;
        let missing = observed(AgentState::NotInstalled, false);
        let started = observed(AgentState::Started, true);
        let silent = observed(AgentState::NoAnswer, false);
        for (observed, phase, error, wanted) in [
            (&started, "", "failure", "started; refused: bad"),
            (&missing, "", "", "installing; refused: bad"),
            (&missing, "unpacking", "", "unpacking; refused: bad"),
            (&missing, "", "failure", "failed: failure; refused: bad"),
            (&silent, "", "failure", "unknown: started; refused: bad"),
        ] {
            assert_eq!(status(observed, phase, error, "bad"), wanted);
        }
        let long = "x".repeat(300);
        let mut unclear = observed(AgentState::Unrecognized, true);
        unclear.status.clone_from(&long);
        let status = status(&unclear, "", "", &long);
        assert!(status.contains("x; refused: x"), "{status}");
        assert_eq!(status.len(), TEXT_LIMIT);
    }

    #[test]
    fn the_phase_that_a_child_reports_is_cleaned_and_shortened() {
        let mut job = job();
        job.agents[0].phase = format!("swi\u{fffd}hing\n {}", "x".repeat(9000));
        let body = request(&job, &[observation(AgentState::Started, true)], "", "x", 7);
        assert!(body.contains(r#""phase":"swi?hing xxx"#), "{body}");
        assert!(body.len() < 1000, "{} bytes", body.len());
    }

    #[test]
    fn no_agents_are_an_empty_list_and_never_null() {
        let mut none = job();
        none.agents.clear();
        assert!(request(&none, &[], "", "x", 7).contains(r#""realAgents":[]"#));
    }

    #[test]
    fn a_request_is_byte_for_byte_that_of_0_1_0() {
        let odd = "a\u{0}\u{1}\u{8}\t\n\u{b}\u{c}\r\u{1f}\u{7f} \"\\/\u{e9}\u{2028}\u{1f600}";
        let mut job = job();
        job.hostname = odd.into();
        job.run_user = odd.into();
        job.hold = odd.into();
        let nameless = |cause: &str| Refusal {
            name: String::new(),
            cause: cause.to_owned(),
        };
        job.refused = vec![nameless(odd), nameless("two")];
        job.agents[0].desired.wire.work_dir = "/home/\u{e9}\\".into();
        job.agents[0].pinned = "1.0.0".into();
        job.agents[0].phase = odd.into();
        let mut observation = observation(AgentState::Started, true);
        observation.at_desired.status = odd.into();
        let body = request(&job, &[observation], "::1", "linux_amd64", 1_800_000_000);
        let old = include_str!("../../tests/compatibility/heartbeat.json");
        let body = body.replace("an entry without a name: ", "");
        assert_eq!(body, old.trim_end().replace("VERSION", VERSION));
    }
}

//! The heartbeat's bytes: what was seen → request, answer → desired agents. Pure; `beat.rs` carries them.
//! The format is that of the original updater and its stock server, with fields of ours that it ignores.

use crate::fields::{self, FromJson, written};
use crate::job::{BeatJob, Reported, SeenAgent, VERSION};
use crate::json::{self, Object, Value};
use crate::log::brief;
use crate::model::{Desired, Own, Refusal, Site, State, WireAgent};
use crate::named::Named;

/// Words of ours in a heartbeat stay within this; stock servers keep them in a column of a table.
const TEXT_LIMIT: usize = 200;
/// More refused entries than these are only counted: log and heartbeat must not grow with a server's mistake.
const REFUSALS_TOLD: usize = 20;

struct Request<'a> {
    hostname: &'a str,
    ip: &'a str,
    run_user: &'a str,
    updater_version: &'a str,
    /// Never null: the stock server dies of it.
    real_agents: Vec<RealAgent<'a>>,
    arch: &'a str,
    errors: Vec<String>,
}

written!(Request<'a> {
    hostname,
    ip,
    run_user "runUser",
    updater_version "updaterVersion",
    real_agents "realAgents",
    arch,
    errors,
});

struct RealAgent<'a> {
    name: &'a str,
    version: &'a str,
    status: String,
    timestamp: u64,
    run_user: &'a str,
    work_dir: &'a str,
    desired_version: &'a str,
    phase: String,
    error: String,
}

written!(RealAgent<'a> {
    name,
    version,
    status,
    timestamp,
    run_user "runUser",
    work_dir "workDir",
    desired_version "desiredVersion",
    phase,
    error,
});

/// The body of a heartbeat. `now` is in seconds since 1970.
pub fn request(job: &BeatJob, seen: &[SeenAgent], ip: &str, arch: &str, now: u64) -> String {
    let mut real_agents = Vec::new();
    for agent in &job.agents {
        let mut seen = seen.iter();
        if let Some(seen) = seen.find(|seen| seen.name.as_str() == agent.wire.name) {
            real_agents.extend(real_agent(agent, seen, now));
        }
    }
    let mut errors = Vec::new();
    for error in &job.errors {
        errors.push(brief(error, TEXT_LIMIT));
    }
    fields::write(&Request {
        hostname: &job.hostname,
        ip,
        run_user: &job.run_user,
        updater_version: VERSION,
        real_agents,
        arch,
        errors,
    })
}

/// None for an agent of which nothing is installed and nothing should be.
fn real_agent<'a>(agent: &'a Reported, seen: &'a SeenAgent, now: u64) -> Option<RealAgent<'a>> {
    let site = match &seen.there {
        Some(there) if there.current.is_some() => there,
        _ => &seen.here,
    };
    let version = site.current.as_ref().map(|build| build.version.as_str());
    if version.is_none() && agent.wire.cmd != "start" {
        return None;
    }
    // As the server wrote it, unless the agent still lives elsewhere.
    let (mut run_user, mut work_dir) = (&site.place.run_user, &site.place.work_dir);
    if site.place == seen.here.place {
        run_user = &agent.wire.run_user;
        if !agent.wire.work_dir.is_empty() {
            work_dir = &agent.wire.work_dir;
        }
    }
    Some(RealAgent {
        name: &agent.wire.name,
        status: status(agent, site),
        version: version.unwrap_or_default(),
        timestamp: now,
        run_user,
        work_dir,
        desired_version: &agent.wire.version,
        phase: brief(&agent.phase, TEXT_LIMIT),
        error: brief(&agent.error, TEXT_LIMIT),
    })
}

/// The status column: the script's own word where there is one, else why there is none.
fn status(agent: &Reported, site: &Site) -> String {
    let (kind, text) = match site.state {
        State::Started | State::Stopped | State::Other => ("", site.status.as_str()),
        State::Silent | State::Unasked => ("unknown: ", site.status.as_str()),
        State::Absent if site.current.is_some() => ("failed: ", "its control cannot be run"),
        State::Absent if !agent.error.is_empty() => ("failed: ", agent.error.as_str()),
        State::Absent if !agent.phase.is_empty() => ("", agent.phase.as_str()),
        State::Absent => ("", "installing"),
    };
    brief(&format!("{kind}{text}"), TEXT_LIMIT)
}

/// One entry of the desired state: as written, or why it cannot be.
pub type Entry = Result<WireAgent, Refusal>;

/// The entries of a valid answer; none when it asks for no change. The error is why the answer is not valid.
pub fn answer(status: u16, reason: &str, body: &[u8]) -> Result<Vec<Entry>, String> {
    if !(200..300).contains(&status) {
        return Err(format!("{status} {}", brief(reason, 80)).trim().to_owned());
    }
    let text = std::str::from_utf8(body).map_err(|_| "the answer is not UTF-8".to_owned())?;
    let mut object = match json::parse(text).map_err(|place| not_json(text, &place))? {
        Value::Object(object) => object,
        other => return Err(format!("the answer is {}, not an object", other.kind())),
    };
    if let Some(complaint) = complaint(&object) {
        return Err(complaint);
    }
    let is_there = object.keys().any(|key| key == "desiredAgents");
    match object.take("desiredAgents") {
        Value::List(agents) => Ok(entries(agents)),
        Value::Null if is_there => Ok(Vec::new()),
        Value::Null => Err("the answer has no desiredAgents".to_owned()),
        other => Err(format!("desiredAgents is {}, not a list", other.kind())),
    }
}

fn not_json(text: &str, place: &str) -> String {
    if text.trim_start().starts_with('<') {
        return "the answer is HTML, not JSON".to_owned();
    }
    format!("the answer is not JSON: {place}")
}

/// What a server says in place of a desired state: `errorMessage`, or the stock server's `success` and `message`.
fn complaint(object: &Object) -> Option<String> {
    let text = match object.text("errorMessage") {
        "" if !matches!(object.get("success"), Some(Value::Bool(false))) => return None,
        "" => match object.text("message") {
            "" => "no success",
            text => text,
        },
        text => text,
    };
    Some(format!("the server says: {}", brief(text, TEXT_LIMIT)))
}

/// The desired state on disk: a bare list, as the original writes it, or a whole answer.
pub fn saved(text: &str) -> Option<Vec<Entry>> {
    match json::parse(text).ok()? {
        Value::List(agents) => Some(entries(agents)),
        Value::Object(mut object) => match object.take("desiredAgents") {
            Value::List(agents) => Some(entries(agents)),
            _ => None,
        },
        _ => None,
    }
}

fn entries(agents: Vec<Value>) -> Vec<Entry> {
    let mut entries = Vec::new();
    for agent in agents {
        entries.push(entry(agent));
    }
    entries
}

/// A field that is null or missing is empty, as Go has it.
fn entry(value: Value) -> Entry {
    let refuse = |name: &str, cause: String| Refusal {
        name: name.to_owned(),
        cause,
    };
    let Value::Object(mut object) = value else {
        let cause = format!("it is {}, not an object", value.kind());
        return Err(refuse("", cause));
    };
    for key in WireAgent::KEYS {
        match object.get(key) {
            None => object.put(key, Value::Text(String::new())),
            Some(Value::Text(_)) => {}
            Some(other) => {
                let cause = format!("{key} is {}, not a string", other.kind());
                return Err(refuse(object.text("name"), cause));
            }
        }
    }
    let mut wire = WireAgent::blank();
    wire.fill(&mut Value::Object(object));
    Ok(wire)
}

/// The entries that can be followed, and why the others cannot. Of two with one name the first counts.
pub fn sort(entries: Vec<Entry>, own: &Own) -> (Vec<WireAgent>, Vec<Refusal>) {
    let mut accepted: Vec<WireAgent> = Vec::new();
    let mut names = Named::<usize>::default();
    let (mut refused, mut unsaid) = (Vec::new(), 0_u32);
    for entry in entries {
        let refusal = match entry {
            Ok(wire) => {
                let cause = match Desired::check(&wire, own) {
                    Ok(desired) if names.insert(desired.name.clone(), 0) => {
                        accepted.push(wire);
                        continue;
                    }
                    Ok(_) => "it is named twice, the first entry counts".to_owned(),
                    Err(cause) => cause,
                };
                let name = wire.name;
                Refusal { name, cause }
            }
            Err(refusal) => refusal,
        };
        if refused.len() < REFUSALS_TOLD {
            refused.push(refusal);
        } else {
            unsaid += 1;
        }
    }
    if unsaid > 0 {
        refused.push(Refusal {
            name: String::new(),
            cause: format!("and {unsaid} more are refused"),
        });
    }
    (accepted, refused)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AgentName, Build, Place, Version};

    fn job() -> BeatJob {
        BeatJob {
            made_by: VERSION.into(),
            url: None,
            hostname: "h".into(),
            ip: String::new(),
            run_user: "root".into(),
            sudo: String::new(),
            own_dir: "/opt".into(),
            log_level: "info".into(),
            errors: Vec::new(),
            stuck: Vec::new(),
            agents: vec![Reported {
                wire: WireAgent {
                    name: "demo".into(),
                    version: "1.0.1".into(),
                    cmd: "start".into(),
                    run_user: "falcon".into(),
                    ..Default::default()
                },
                there: None,
                phase: String::new(),
                error: "cannot fetch x: 404\n\u{e9}".into(),
            }],
        }
    }

    fn seen(state: State, installed: bool) -> SeenAgent {
        let mut here = Site::empty(Place {
            work_dir: "/home/falcon".into(),
            run_user: "falcon".into(),
        });
        here.state = state;
        here.status = "started".into();
        here.current = installed.then(|| Build {
            version: Version::parse("1.0.0").expect("valid"),
            md5: String::new(),
        });
        SeenAgent {
            name: AgentName::parse("demo").expect("valid"),
            here,
            there: None,
        }
    }

    #[test]
    fn a_request_begins_with_the_original_s_fields_in_their_order() {
        let body = request(
            &job(),
            &[seen(State::Started, true)],
            "192.0.2.2",
            "linux_386",
            7,
        );
        let original = r#"{"hostname":"h","ip":"192.0.2.2","runUser":"root","updaterVersion":""#;
        assert!(body.starts_with(original), "{body}");
        let agent = r#""realAgents":[{"name":"demo","version":"1.0.0","status":"started","timestamp":7,"runUser":"falcon","workDir":"/home/falcon","desiredVersion":"1.0.1","phase":"","error":"cannot fetch x: 404 ?"}]"#;
        assert!(body.contains(agent), "{body}");
    }

    #[test]
    fn an_agent_of_which_nothing_is_installed_says_why() {
        let body = request(&job(), &[seen(State::Absent, false)], "", "linux_386", 7);
        assert!(
            body.contains(r#""version":"","status":"failed: cannot fetch x: 404 ?""#),
            "{body}"
        );
    }

    #[test]
    fn what_a_child_says_that_it_does_is_as_plain_and_short_as_any_word() {
        let mut job = job();
        job.agents[0].phase = format!("swi\u{fffd}hing\n {}", "x".repeat(9000));
        let body = request(&job, &[seen(State::Started, true)], "", "x", 7);
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
    fn odd_answers_are_told_and_accepted_by_nobody() {
        let deep = "[".repeat(200_000);
        for (status, body, told) in [
            (500, "{}", "500 Oops"),
            (404, "", "404 Oops"),
            (200, "", "the answer is not JSON: line 1, column 1"),
            (200, " <html>", "the answer is HTML"),
            (200, &deep, "the answer is not JSON"),
            (200, "[]", "the answer is a list"),
            (200, "{}", "the answer has no desiredAgents"),
            (
                200,
                r#"{"message": "hostname is blank", "success": false}"#,
                "the server says: hostname is blank",
            ),
            (
                200,
                r#"{"errorMessage": "no", "desiredAgents": []}"#,
                "the server says: no",
            ),
            (
                200,
                r#"{"desiredAgents": {}}"#,
                "desiredAgents is an object",
            ),
        ] {
            let error = answer(status, "Oops", body.as_bytes()).expect_err(told);
            assert!(error.starts_with(told), "{error}");
        }
        assert!(answer(200, "", b"\xff").is_err());
    }

    #[test]
    fn an_answer_without_agents_asks_for_no_change() {
        for body in [
            r#"{"errorMessage": "", "desiredAgents": []}"#,
            r#"{"errorMessage": "", "desiredAgents": null}"#,
        ] {
            assert!(answer(200, "", body.as_bytes()).expect("valid").is_empty());
        }
    }

    #[test]
    fn one_bad_entry_does_not_take_the_others_with_it() {
        let body = r#"{"desiredAgents": [null, 7, {"name": "a", "version": 1},
            {"name": "b", "version": "1", "tarball": "http://x", "cmd": "start", "md5": null, "more": {}},
            {"name": "b", "version": "2", "tarball": "http://x", "cmd": "start"}]}"#;
        let entries = answer(200, "", body.as_bytes()).expect("valid");
        let (accepted, refused) = sort(entries, &Own::default());
        assert_eq!(accepted.len(), 1);
        assert_eq!(accepted[0].version, "1");
        let told: Vec<String> = refused.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "an entry without a name: it is null, not an object",
                "an entry without a name: it is a number, not an object",
                "a: version is a number, not a string",
                "b: it is named twice, the first entry counts",
            ]
        );
    }

    #[test]
    fn a_flood_of_bad_entries_is_counted_and_not_repeated() {
        let flood = format!("[{}0]", "0,".repeat(999));
        let (_, refused) = sort(saved(&flood).expect("a list"), &Own::default());
        assert_eq!(refused.len(), REFUSALS_TOLD + 1);
        assert!(refused[20].cause.starts_with("and 980 more"));
    }

    #[test]
    fn the_desired_state_is_read_as_the_original_wrote_it() {
        let list = r#"[{"name":"demo","version":"5.1.3","tarball":"http://x","md5":"","cmd":"start","runUser":"","workDir":"","configFileName":"","configRemoteUrl":""}]"#;
        assert_eq!(saved(list).expect("valid").len(), 1);
        let whole = format!("{{\"errorMessage\":\"\",\"desiredAgents\":{list}}}");
        assert_eq!(saved(&whole).expect("valid").len(), 1);
        assert!(saved("null").is_none());
    }
}

//! The heartbeat's bytes: what was seen → request, answer → desired agents. Pure; `beat.rs` carries them.
//! The format is that of the original updater and its stock server, with fields of ours that it ignores.

use crate::fields::{self, Json};
use crate::job::{BeatJob, Reported, SeenAgent, VERSION};
use crate::json::{self, Object, Value};
use crate::log::brief;
use crate::model::{Desired, Own, Refusal, Site, State, WireAgent};
use crate::named::Named;

/// Words of ours in a heartbeat stay within this; stock servers keep them in a column of a table.
const TEXT_LIMIT: usize = 200;
/// More refused entries than these are only counted: log and heartbeat must not grow with a server's mistake.
const REFUSALS_TOLD: usize = 20;

/// The body of a heartbeat. `now` is in seconds since 1970.
pub fn request(job: &BeatJob, seen: &[SeenAgent], ip: &str, arch: &str, now: u64) -> String {
    let mut json = Json::default();
    let keys = "hostname ip runUser updaterVersion realAgents arch hold errors";
    json.open(keys);
    json.put_text(&job.hostname);
    json.put_text(ip);
    json.put_text(&job.run_user);
    json.put_text(VERSION);
    // Never null: the stock server dies of it.
    json.open_list();
    for agent in &job.agents {
        let mut seen = seen.iter();
        if let Some(seen) = seen.find(|seen| seen.name.as_str() == agent.wire.name) {
            real_agent(agent, seen, now, &mut json);
        }
    }
    json.close();
    json.put_text(arch);
    // Why the host is held; empty: it is not.
    json.put_text(&brief(&job.hold, TEXT_LIMIT));
    json.open_list();
    for error in &job.errors {
        json.put_text(&brief(error, TEXT_LIMIT));
    }
    json.close();
    json.close();
    json.finish()
}

/// Nothing for an agent of which nothing is installed and nothing should be.
fn real_agent(agent: &Reported, seen: &SeenAgent, mut now: u64, json: &mut Json) {
    let site = match &seen.there {
        Some(there) if there.current.is_some() => there,
        _ => &seen.here,
    };
    let version = site.current.as_ref().map(|build| build.version.as_str());
    if version.is_none() && agent.wire.cmd != "start" {
        return;
    }
    // As the server wrote it, unless the agent still lives elsewhere.
    let (mut run_user, mut work_dir) = (&site.place.run_user, &site.place.work_dir);
    if site.place == seen.here.place {
        run_user = &agent.wire.run_user;
        if !agent.wire.work_dir.is_empty() {
            work_dir = &agent.wire.work_dir;
        }
    }
    let keys = "name version status timestamp runUser workDir desiredVersion pinned phase error";
    json.open(keys);
    json.put_text(&agent.wire.name);
    json.put_text(version.unwrap_or_default());
    json.put_text(&status(site, &agent.phase, &agent.error));
    json.number(&mut now);
    json.put_text(run_user);
    json.put_text(work_dir);
    json.put_text(&agent.wire.version);
    // The version that an operator keeps it at; empty: it is not pinned.
    json.put_text(&agent.pinned);
    json.put_text(&brief(&agent.phase, TEXT_LIMIT));
    json.put_text(&brief(&agent.error, TEXT_LIMIT));
    json.close();
}

/// The status column: the script's own word where there is one, else why there is none.
pub fn status(site: &Site, phase: &str, error: &str) -> String {
    let (kind, text) = match site.state {
        State::Started | State::Stopped | State::Other => ("", site.status.as_str()),
        State::Silent | State::Unasked => ("unknown: ", site.status.as_str()),
        State::Absent if site.current.is_some() => ("failed: ", "its control cannot be run"),
        State::Absent if !error.is_empty() => ("failed: ", error),
        State::Absent if !phase.is_empty() => ("", phase),
        State::Absent => ("", "installing"),
    };
    brief(&format!("{kind}{text}"), TEXT_LIMIT)
}

/// One entry of the desired state, as written.
pub type Entry = Value;

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
        Value::List(agents) => Ok(agents),
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
        Value::List(agents) => Some(agents),
        Value::Object(mut object) => match object.take("desiredAgents") {
            Value::List(agents) => Some(agents),
            _ => None,
        },
        _ => None,
    }
}

/// The entries that can be followed, and why the others cannot. Of two with one name the first counts.
pub fn sort(entries: Vec<Entry>, own: &Own) -> (Vec<WireAgent>, Vec<Refusal>) {
    let mut accepted: Vec<WireAgent> = Vec::new();
    let mut names = Named::<usize>::default();
    let (mut refused, mut unsaid) = (Vec::new(), 0_u32);
    for entry in entries {
        let mut wire = WireAgent::default();
        let Err(cause) = follow(entry, &mut wire, own, &mut names) else {
            accepted.push(wire);
            continue;
        };
        if refused.len() < REFUSALS_TOLD {
            let name = wire.name;
            refused.push(Refusal { name, cause });
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

/// The error is why the entry cannot be followed; its name is known even so, if it has one.
fn follow(
    entry: Entry,
    wire: &mut WireAgent,
    own: &Own,
    names: &mut Named<usize>,
) -> Result<(), String> {
    let kinds = kinds(&entry);
    // A field that is null or missing stays empty, as Go has it.
    fields::fill(entry, wire);
    kinds?;
    if names.insert(Desired::check(wire, own)?.name, 0) {
        return Ok(());
    }
    Err("it is named twice, the first entry counts".to_owned())
}

fn kinds(entry: &Entry) -> Result<(), String> {
    let Value::Object(object) = entry else {
        return Err(format!("it is {}, not an object", entry.kind()));
    };
    for key in WireAgent::KEYS.split(' ') {
        match object.get(key) {
            None | Some(Value::Text(_)) => {}
            Some(other) => return Err(format!("{key} is {}, not a string", other.kind())),
        }
    }
    Ok(())
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
            hold: String::new(),
            errors: Vec::new(),
            stuck: Vec::new(),
            wish: None,
            agents: vec![Reported {
                wire: WireAgent {
                    name: "demo".into(),
                    version: "1.0.1".into(),
                    cmd: "start".into(),
                    run_user: "falcon".into(),
                    ..Default::default()
                },
                there: None,
                pinned: String::new(),
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
        let agent = r#""realAgents":[{"name":"demo","version":"1.0.0","status":"started","timestamp":7,"runUser":"falcon","workDir":"/home/falcon","desiredVersion":"1.0.1","pinned":"","phase":"","error":"cannot fetch x: 404 ?"}]"#;
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

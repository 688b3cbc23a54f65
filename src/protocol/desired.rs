//! The desired state as it comes from a server or from disk: its entries, and which of them can be followed. Pure.

use std::collections::BTreeMap;

use crate::json::{self, Array, Object, Value};
use crate::model::{AgentName, Desired, Own, Policy, Refusal, WireAgent};
use crate::protocol::heartbeat::TEXT_LIMIT;
use crate::text::brief;

/// Further refused entries are only counted: log and heartbeat must not grow with the mistake of a server.
const REFUSALS_REPORTED: usize = 20;

/// The entries of an answer, as written.
pub type Entries = Array;

/// Returns the entries of a valid answer: none if it asks for no change. The error is the reason why the answer is not
/// valid.
pub fn answer(status: u16, reason: &str, body: &[u8]) -> Result<Entries, String> {
    if !(200..300).contains(&status) {
        return Err(format!("{status} {}", brief(reason, 80)).trim().to_owned());
    }
    let text = std::str::from_utf8(body).map_err(|_| "the answer is not UTF-8".to_owned())?;
    let mut object = match json::parse(text).map_err(|position| not_json(text, &position))? {
        Value::Object(object) => object,
        other => {
            let kind = json::kind(&other);
            return Err(format!("the answer is {kind}, not an object"));
        }
    };
    if let Some(complaint) = complaint(&object) {
        return Err(complaint);
    }
    match json::take(&mut object, "desiredAgents") {
        Some(Value::Array(agents)) => Ok(agents),
        Some(Value::Null) => Ok(Entries::new()),
        None => Err("the answer has no desiredAgents".to_owned()),
        Some(other) => {
            let kind = json::kind(&other);
            Err(format!("desiredAgents is {kind}, not a list"))
        }
    }
}

fn not_json(text: &str, position: &str) -> String {
    if text.trim_start().starts_with('<') {
        return "the answer is HTML, not JSON".to_owned();
    }
    format!("the answer is not JSON: {position}")
}

/// Returns the error that a server reports instead of a desired state: `errorMessage`, or `success` and `message` of the
/// stock server.
fn complaint(object: &Object) -> Option<String> {
    let text = match json::text(object, "errorMessage") {
        "" if !matches!(object.get("success"), Some(Value::Bool(false))) => return None,
        "" => match json::text(object, "message") {
            "" => "no success",
            text => text,
        },
        text => text,
    };
    Some(format!("the server says: {}", brief(text, TEXT_LIMIT)))
}

/// Returns the entries of a desired state on disk: a bare list, as the original writes it, or a whole answer.
pub fn saved(text: &str) -> Option<Entries> {
    let agents = match json::parse(text).ok()? {
        Value::Object(mut object) => json::take(&mut object, "desiredAgents")?,
        agents => agents,
    };
    match agents {
        Value::Array(agents) => Some(agents),
        _ => None,
    }
}

/// The entries of a desired state, checked.
pub struct Sorted {
    /// Those that can be followed.
    pub accepted: Vec<Desired>,
    /// Why the others cannot. Only the first ones, and a count.
    pub refused: Vec<Refusal>,
    /// Every name, with the number of its entries that are accepted: one, or none.
    pub names: BTreeMap<AgentName, usize>,
}

/// Sorts out the entries that can be followed. Of two entries with one name the first counts.
pub fn sort(entries: Entries, own: &Own, policy: &Policy) -> Sorted {
    let mut accepted: Vec<Desired> = Vec::new();
    let mut names = BTreeMap::new();
    let mut refused = Refusals::after(Vec::new());
    for entry in entries {
        let mut wire = WireAgent::default();
        let room = policy.max_agents.saturating_sub(accepted.len());
        match check(&mut wire, entry, own, policy, room, &mut names) {
            Ok(desired) => accepted.push(desired),
            Err(cause) => {
                if let Some(name) = AgentName::parse(&wire.name) {
                    names.entry(name).or_default();
                }
                refused.add(wire.name, cause);
            }
        }
    }
    Sorted {
        accepted,
        refused: refused.into_reported(),
        names,
    }
}

/// Collects refused entries: the first ones, and the number of the others.
pub struct Refusals {
    reported: Vec<Refusal>,
    unreported: u32,
}

impl Refusals {
    /// Begins with those that were collected before.
    pub fn after(reported: Vec<Refusal>) -> Self {
        Self {
            reported,
            unreported: 0,
        }
    }

    pub fn add(&mut self, name: String, cause: String) {
        if self.reported.len() < REFUSALS_REPORTED {
            self.reported.push(Refusal { name, cause });
        } else {
            self.unreported += 1;
        }
    }

    /// Returns what is reported. An entry without a name stands for the others.
    pub fn into_reported(mut self) -> Vec<Refusal> {
        if self.unreported > 0 {
            self.reported.push(Refusal {
                name: String::new(),
                cause: format!("and {} more are refused", self.unreported),
            });
        }
        self.reported
    }
}

/// Sorts out entries that were saved. The policy was asked where they entered.
pub fn sort_saved(entries: Entries, own: &Own) -> Sorted {
    let everything = Policy {
        max_agents: usize::MAX,
        ..Policy::default()
    };
    sort(entries, own, &everything)
}

/// Checks one entry, and copies its fields to `wire`. `room` is for so many more.
fn check(
    wire: &mut WireAgent,
    entry: Value,
    own: &Own,
    policy: &Policy,
    room: usize,
    names: &mut BTreeMap<AgentName, usize>,
) -> Result<Desired, String> {
    fill(wire, entry)?;
    let desired = Desired::check(wire, own)?;
    policy.check(&desired, &own.user)?;
    let accepted = names.entry(desired.name.clone()).or_default();
    if *accepted > 0 {
        return Err("it is named twice, the first entry counts".to_owned());
    }
    if room == 0 {
        let most = policy.max_agents;
        return Err(format!(
            "only {most} entries are followed, see max_agents in policy.json"
        ));
    }
    *accepted = 1;
    Ok(desired)
}

/// Copies every field that is a text. A field that is null or missing stays empty, as in the original. The error names
/// the first field of another kind.
fn fill(wire: &mut WireAgent, entry: Value) -> Result<(), String> {
    let mut object = match entry {
        Value::Object(object) => object,
        other => return Err(format!("it is {}, not an object", json::kind(&other))),
    };
    let mut wrong = Ok(());
    let mut copy = |key: &str, field: &mut String| match json::take(&mut object, key) {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) => *field = text,
        Some(other) if wrong.is_ok() => {
            let kind = json::kind(&other);
            wrong = Err(format!("{key} is {kind}, not a string"));
        }
        Some(_) => {}
    };
    copy("name", &mut wire.name);
    copy("version", &mut wire.version);
    copy("tarball", &mut wire.tarball);
    copy("md5", &mut wire.md5);
    copy("cmd", &mut wire.cmd);
    copy("runUser", &mut wire.run_user);
    copy("workDir", &mut wire.work_dir);
    copy("configFileName", &mut wire.config_file_name);
    copy("configRemoteUrl", &mut wire.config_remote_url);
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_answer_is_refused_with_its_reason() {
        let deep = "[".repeat(200_000);
        for (status, body, wanted) in [
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
            let error = answer(status, "Oops", body.as_bytes()).expect_err(wanted);
            assert!(error.starts_with(wanted), "{error}");
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
        let sorted = sort(entries, &Own::default(), &Policy::default());
        let Sorted {
            accepted, refused, ..
        } = sorted;
        assert_eq!(accepted.len(), 1);
        assert_eq!(accepted[0].wire.version, "1");
        let reported: Vec<String> = refused.iter().map(ToString::to_string).collect();
        assert_eq!(
            reported,
            [
                "an entry without a name: it is null, not an object",
                "an entry without a name: it is a number, not an object",
                "a: version is a number, not a string",
                "b: it is named twice, the first entry counts",
            ]
        );
    }

    #[test]
    fn many_bad_entries_are_counted_and_not_listed() {
        let flood = format!("[{}0]", "0,".repeat(999));
        let entries = saved(&flood).expect("a list");
        let refused = sort(entries, &Own::default(), &Policy::default()).refused;
        assert_eq!(refused.len(), REFUSALS_REPORTED + 1);
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

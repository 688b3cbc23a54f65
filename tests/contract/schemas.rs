//! The schemas in docs/schema describe what the binary sends, and what it reads.

use crate::contract::policy::set_policy;
use crate::support::agent::Agent;
use crate::support::host::Host;
use crate::support::json::{self, Json as _, quote};
use crate::support::platform::skipped;
use miniserde::json::Value;
use ops_updater::model::{Own, Policy};
use ops_updater::protocol::desired;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/schema");

fn schema(name: &str) -> Value {
    let file = format!("{DIR}/{name}.schema.json");
    json::parse(&fs::read_to_string(file).expect("a schema"))
}

/// Returns whether each document fits a schema. None, and a word about it, if nothing here can tell.
fn verdicts(host: &Host, name: &str, documents: &[String]) -> Option<Vec<bool>> {
    let dir = host.dir.join(format!("{name}-documents"));
    fs::create_dir(&dir).expect("a directory");
    let files: Vec<PathBuf> = (0..documents.len())
        .map(|at| dir.join(format!("{at}.json")))
        .collect();
    for (file, document) in files.iter().zip(documents) {
        fs::write(file, document).expect("a document");
    }
    let output = Command::new("check-jsonschema")
        .args(["--output-format", "json", "--schemafile"])
        .arg(format!("{DIR}/{name}.schema.json"))
        .args(&files)
        .stderr(Stdio::inherit())
        .output();
    let Ok(output) = output else {
        skipped("check-jsonschema (pip) is not installed");
        return None;
    };
    let report = json::parse(&String::from_utf8_lossy(&output.stdout));
    let misfits: Vec<&str> = report
        .field("errors")
        .items()
        .iter()
        .map(|error| error.field("filename").text())
        .collect();
    assert!(
        report.field("parse_errors").items().is_empty()
            && !report.field("status").text().is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    let fits = |file: &PathBuf| !misfits.iter().any(|misfit| Path::new(misfit) == file);
    Some(files.iter().map(fits).collect())
}

/// Asserts that the document fits, and that the schema describes each of its keys.
fn assert_described(host: &Host, name: &str, document: &str) {
    let root = schema(name);
    let mut unknown = Vec::new();
    find_undescribed(&json::parse(document), &root, &root, &mut unknown);
    assert!(unknown.is_empty(), "{name}: not described: {unknown:?}");
    if let Some(verdicts) = verdicts(host, name, &[document.to_owned()]) {
        assert_eq!(verdicts, [true], "{name}: {document}");
    }
}

/// Adds the keys of the document that its schema does not describe.
fn find_undescribed(document: &Value, schema: &Value, root: &Value, unknown: &mut Vec<String>) {
    let definition = schema.field("$ref").text().strip_prefix("#/$defs/");
    let schema = definition.map_or(schema, |name| root.field("$defs").field(name));
    for item in document.items() {
        find_undescribed(item, schema.field("items"), root, unknown);
    }
    if let Value::Object(object) = document {
        for (key, value) in object {
            let properties = schema.field("properties");
            if !properties.has(key) {
                unknown.push(key.clone());
            }
            find_undescribed(value, properties.field(key), root, unknown);
        }
    }
}

/// Returns a host whose agents are in as many conditions as one host can have.
fn busy_host() -> Host {
    let mut host = Host::answering().0;
    host.publish(&Agent::new("well", "1.0.0"));
    host.desire(&[
        host.want("well", "1.0.0"),
        host.want("missing", "1.0.0"),
        host.want("refused", "../1"),
    ]);
    host.wait_for("what becomes of each agent in a heartbeat", || {
        host.reported("well").1 == "started"
            && host.reported("missing").1.starts_with("failed: ")
            && host.reported("refused").1.starts_with("refused: ")
    });
    host.set("hostname", &quote("web-17"));
    host
}

#[test]
fn a_heartbeat_is_as_its_schema_says() {
    let host = busy_host();
    let sent = host.last_beat().expect("a heartbeat").body;
    assert_described(&host, "heartbeat", &sent);
    let broken = [
        sent.replacen("\"hostname\"", "\"host\"", 1),
        sent.replacen("\"errors\":[", "\"errors\":[1,", 1),
    ];
    if let Some(verdicts) = verdicts(&Host::new(), "heartbeat", &broken) {
        assert_eq!(verdicts, [false, false]);
    }
}

#[test]
fn a_status_is_as_its_schema_says_and_one_of_0_1_0_too() {
    let mut host = busy_host();
    let printed = String::from_utf8(host.run_with(&["status", "--json"]).stdout).expect("text");
    let status = json::parse(&printed);
    assert_eq!(status.field("schema").number(), Some(1));
    assert!(matches!(status.field("running"), Value::Bool(true)));
    let refusal = &status.field("refusals").items()[0];
    assert_eq!(refusal.field("name").text(), "refused");
    assert!(
        refusal
            .field("cause")
            .text()
            .starts_with("version \"../1\" is not ")
    );
    assert_described(&host, "status", &printed);
    host.stop();
    let printed = String::from_utf8(host.run_with(&["status", "--json"]).stdout).expect("text");
    let status = json::parse(&printed);
    assert!(matches!(status.field("running"), Value::Bool(false)));
    // The second agent of that document has no state and no cmd, as no updater writes it.
    let old = include_str!("../compatibility/status.json");
    let (before, odd) = old.split_once(",{\"name\":\"\"").expect("a second agent");
    let (_, after) = odd.split_once('}').expect("its end");
    let documents = [format!("{before}{after}"), old.to_owned()];
    if let Some(verdicts) = verdicts(&Host::new(), "status", &documents) {
        assert_eq!(verdicts, [true, false]);
    }
}

/// An entry with these fields in place of the usual ones.
fn entry(fields: &str) -> String {
    let usual =
        r#""name": "demo", "version": "1.0.0", "tarball": "http://store/releases", "cmd": "start""#;
    format!("{{{usual}{fields}}}")
}

#[test]
fn an_entry_fits_its_schema_if_the_updater_follows_it() {
    let texts: Vec<String> = [
        "",
        r#", "md5": "", "runUser": "", "workDir": "", "configFileName": "", "configRemoteUrl": """#,
        r#", "md5": null, "runUser": null, "workDir": null, "configFileName": null"#,
        r#", "md5": " 490AC172dabecc867289079d48e84a66 ", "workDir": "/home/..x/a", "future": [1]"#,
        r#", "md5": "https://store:8080/md5?x", "configFileName": "conf/control""#,
        r#", "runUser": "_falcon-1.x", "configFileName": "a b..c", "configRemoteUrl": "http://h""#,
        r#", "workDir": "/a//", "tarball": "http://h:/x", "configFileName": "..x/.y""#,
        r#", "tarball": "http://[::1]:80/x", "workDir": "/""#,
        r#", "name": "../demo""#,
        r#", "name": ".demo""#,
        r#", "name": """#,
        r#", "version": "1.0 0""#,
        r#", "version": 1"#,
        r#", "version": null"#,
        r#", "tarball": "ftp://store""#,
        r#", "tarball": "http://""#,
        r#", "tarball": "http://user:password@store""#,
        r#", "tarball": "http://store/a b""#,
        r#", "tarball": """#,
        r#", "tarball": "http://h:port/""#,
        r#", "tarball": "http://:80/""#,
        r#", "tarball": "http://\u0023h/""#,
        r#", "md5": "490ac172""#,
        r#", "cmd": "restart""#,
        r#", "cmd": """#,
        r#", "runUser": "-u root""#,
        r#", "runUser": "0day""#,
        r#", "workDir": "relative""#,
        r#", "workDir": "/a/../b""#,
        r#", "workDir": "/a/..""#,
        r#", "workDir": "/a ""#,
        r#", "workDir": "/a /""#,
        r#", "workDir": "/a\u007f""#,
        r#", "workDir": "/\u0085a""#,
        r#", "configFileName": "/etc/passwd""#,
        r#", "configFileName": "../x""#,
        r#", "configFileName": "a/..""#,
        r#", "configFileName": "control""#,
        r#", "configFileName": "control/x""#,
        r#", "configFileName": ".receipt.json""#,
        r#", "configFileName": "./x""#,
        r#", "configFileName": "a//b""#,
        r#", "configFileName": "a/""#,
        r#", "configFileName": "a\u007f""#,
        r#", "configFileName": " x""#,
        r#", "configRemoteUrl": "x""#,
    ]
    .map(entry)
    .into();
    let follows = |text: &String| {
        let Value::Array(entries) = json::parse(&format!("[{text}]")) else {
            panic!("no JSON: {text}");
        };
        let own = Own {
            dir: "/opt/updater".to_owned(),
            user: "root".to_owned(),
        };
        desired::sort(entries, &own, &Policy::default())
            .refused
            .is_empty()
    };
    let followed: Vec<bool> = texts.iter().map(follows).collect();
    assert!(followed[..8].iter().all(|is| *is) && followed[8..].iter().all(|is| !is));
    let Some(fit) = verdicts(&Host::new(), "entry", &texts) else {
        return;
    };
    for ((text, followed), fits) in texts.iter().zip(followed).zip(fit) {
        assert_eq!(fits, followed, "{text}");
    }
}

#[test]
fn an_answer_fits_its_schema_if_it_is_a_desired_state() {
    let documents: Vec<String> = [
        r#"{"errorMessage": null, "success": true, "desiredAgents": null}"#.to_owned(),
        r#"{"errorMessage": "", "desiredAgents": []}"#.to_owned(),
        format!(
            r#"{{"errorMessage": "", "desiredAgents": [{}]}}"#,
            entry("")
        ),
        r#"{"success": false, "message": "hostname is blank"}"#.to_owned(),
        r#"{"desiredAgents": {}}"#.to_owned(),
        r#"{"errorMessage": "no such host", "desiredAgents": []}"#.to_owned(),
        r#"{"success": false, "desiredAgents": []}"#.to_owned(),
        r#"{"errorMessage": ""}"#.to_owned(),
        "[]".to_owned(),
    ]
    .into();
    let is_desired = |text: &String| desired::answer(200, "OK", text.as_bytes()).is_ok();
    let desired: Vec<bool> = documents.iter().map(is_desired).collect();
    assert!(desired[..3].iter().all(|is| *is) && desired[3..].iter().all(|is| !is));
    if let Some(verdicts) = verdicts(&Host::new(), "answer", &documents) {
        assert_eq!(verdicts, desired);
    }
}

#[test]
fn a_policy_fits_its_schema_if_the_updater_takes_it() {
    let host = Host::new();
    let documents: Vec<String> = [
        "{}",
        r#"{"work_dirs": ["/home/falcon"], "run_users": ["falcon"], "stores": ["http://store/x"],
            "create_users": ["falcon"], "max_agents": 7,
            "public_keys": ["RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3"]}"#,
        r#"{"create_users": false, "work_dirs": []}"#,
        r#"{"create_users": 1}"#,
        r#"{"workdirs": []}"#,
        r#"{"work_dirs": null}"#,
        r#"{"work_dirs": ["a"]}"#,
        r#"{"work_dirs": ["/a/.."]}"#,
        r#"{"work_dirs": [""]}"#,
        r#"{"run_users": [""]}"#,
        r#"{"stores": ["store"]}"#,
        r#"{"max_agents": 0}"#,
        r#"{"max_agents": 10001}"#,
        r#"{"public_keys": ["RWx"]}"#,
        r#"{"public_keys": ["RWaf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3"]}"#,
        r#"{"work_dirs": ["/a /"]}"#,
        r#"{"stores": ["http://h:port/"]}"#,
    ]
    .map(str::to_owned)
    .into();
    let takes = |text: &String| {
        set_policy(&host, text);
        host.run_with(&["check"]).status.success()
    };
    let accepted: Vec<bool> = documents.iter().map(takes).collect();
    assert!(accepted[..3].iter().all(|is| *is) && accepted[3..].iter().all(|is| !is));
    if let Some(verdicts) = verdicts(&host, "policy", &documents) {
        assert_eq!(verdicts, accepted);
    }
}

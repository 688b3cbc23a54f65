//! The documents on disk stay readable both ways: those of 0.1.0 are read, and the same bytes are written today, with newer
//! fields besides. 0.1.0 refuses a document that lacks a field, and ignores a field that it does not know.

use miniserde::Serialize;

use crate::agent::receipt::Receipt;
use crate::json;
use crate::model::{Build, Deployment, Location, Version, WireAgent};
use crate::plan::history::{self, AgentHistory, UnfinishedStart};
use crate::protocol::status::{AgentStatus, Counts, HeartbeatStatus, Status};
use crate::store::ledger::Ledger;

fn version(text: &str) -> Version {
    Version::parse(text).expect("a version")
}

fn build(text: &str, md5: &str) -> Build {
    Build {
        version: version(text),
        md5: md5.to_owned(),
    }
}

fn location(work_dir: &str, run_user: &str) -> Location {
    Location {
        work_dir: work_dir.to_owned(),
        run_user: run_user.to_owned(),
    }
}

/// Every character that is escaped, and some that are not.
const ODD: &str = "a\u{0}\u{1}\u{8}\t\n\u{b}\u{c}\r\u{1f}\u{7f} \"\\/\u{e9}\u{2028}\u{1f600}";

fn ledger() -> Ledger {
    let mut ledger = Ledger::default();
    ledger.agents.insert("a-new-one".to_owned(), Box::default());
    let history = AgentHistory {
        desired_digest: "dc5f1a2f1a3ce4f1d8d5c1d2c7e8b9a0".to_owned(),
        host_failures: 1,
        version_failures: 2,
        retry_at: 1_800_000_600,
        error: ODD.to_owned(),
        error_at: 1_800_000_000,
        deaths: vec![1_799_999_000, 1_799_999_100],
        restarts: 3,
        crash_loop: true,
        restart_at: 1_800_003_600,
        stops_in_doubt: 4,
        last_good: Some(Deployment {
            location: location("/home/falcon", "falcon"),
            build: build("1.0.0", "490ac172dabecc867289079d48e84a66"),
        }),
        moving_to: vec![location("/srv/a", ""), location("/srv/b", "falcon")],
        previous: Some(version("0.9")),
        vacated: Some(location("/srv", "")),
        unfinished_start: Some(Box::new(UnfinishedStart {
            build: build("1.0.1", ""),
            boot: "5b2f4a2e-1c1e-4d5f-9c39-000000000000\n".to_owned(),
            host_crashes: 1,
        })),
        trial: None,
        set_aside: None,
        highest: None,
        turn_at: None,
    };
    ledger.agents.insert("demo".to_owned(), Box::new(history));
    ledger
}

fn status() -> Status {
    Status {
        version: "0.1.0".to_owned(),
        arch: "linux_amd64".to_owned(),
        hostname: "h".to_owned(),
        pid: 4711,
        since: 1_800_000_000,
        server: "meta.example:2000".to_owned(),
        interval: 300,
        hold: "maintenance".to_owned(),
        heartbeat: HeartbeatStatus {
            last: 1_800_000_001,
            answered: 1_800_000_002,
            next: 1_800_000_300,
            failures: 5,
            error: "why".to_owned(),
            asked: None,
        },
        agents: vec![
            AgentStatus {
                name: "demo".to_owned(),
                version: "1.0.0".to_owned(),
                desired: "1.0.1".to_owned(),
                cmd: "start".to_owned(),
                pinned: "1.0.0".to_owned(),
                state: "started".to_owned(),
                since: 1_800_000_003,
                status: "started".to_owned(),
                converged: true,
                phase: "downloading".to_owned(),
                bytes: 10,
                total: 20,
                rate: 30,
                next: "install 1.0.1".to_owned(),
                error: ODD.to_owned(),
                error_at: 1_800_000_004,
                retry_at: 1_800_000_005,
                restarts: None,
                crash_loop: None,
                run_user: "falcon".to_owned(),
                work_dir: "/home/falcon".to_owned(),
            },
            AgentStatus::default(),
        ],
        refused: vec!["x: version is a number, not a string".to_owned()],
        counts: Counts {
            heartbeats: 1,
            heartbeat_failures: 2,
            installs: 3,
            switches: 4,
            starts: 5,
            stops: 6,
            prunes: 7,
            host_failures: 8,
            version_failures: 9,
            rollbacks: 10,
            downloaded_bytes: u64::MAX,
        },
        schema: None,
        running: None,
        refusals: None,
    }
}

fn receipt() -> Receipt {
    Receipt {
        name: "demo".to_owned(),
        version: version("1.0.0"),
        md5: "490ac172dabecc867289079d48e84a66".to_owned(),
        size: 1234,
        url: "http://store.example/releases/linux_amd64/demo-1.0.0.tar.gz".to_owned(),
        time: 1_800_000_000,
        signer: None,
    }
}

fn wires() -> [WireAgent; 2] {
    [
        WireAgent {
            name: "demo".to_owned(),
            version: "1.0.1".to_owned(),
            tarball: "http://store.example/releases".to_owned(),
            md5: "490ac172dabecc867289079d48e84a66".to_owned(),
            cmd: "start".to_owned(),
            run_user: "falcon".to_owned(),
            work_dir: "/home/falcon/\u{e9}".to_owned(),
            config_file_name: "conf/cfg \"x\".json".to_owned(),
            config_remote_url: "http://conf.example/demo".to_owned(),
        },
        WireAgent {
            name: "other".to_owned(),
            version: "2".to_owned(),
            tarball: "http://x".to_owned(),
            cmd: "stop".to_owned(),
            ..WireAgent::default()
        },
    ]
}

/// Returns the document as it is on disk, without a line end.
fn document(text: &str) -> &str {
    text.trim_end()
}

/// The fields that 0.1.0 does not know, without a value.
const NEWER: [&str; 11] = [
    ",\"asked\":null",
    ",\"trial\":null",
    ",\"aside\":null",
    ",\"highest\":null",
    ",\"turn\":null",
    ",\"restarts\":null",
    ",\"crashLoop\":null",
    ",\"signer\":null",
    ",\"schema\":null",
    ",\"running\":null",
    ",\"refusals\":null",
];

/// Returns the document as 0.1.0 would write it.
fn as_written(document: &dyn Serialize) -> String {
    let text = json::to_string(document);
    NEWER
        .iter()
        .fold(text, |text, field| text.replace(field, ""))
}

fn is_read_and_written<T: Serialize + miniserde::Deserialize>(text: &str, value: &T) {
    assert_eq!(as_written(value), text);
    let read: T = json::read(text).expect("0.1.0 wrote it");
    assert_eq!(as_written(&read), text);
}

#[test]
fn a_ledger_is_read_and_written_as_0_1_0_does() {
    let text = document(include_str!("../tests/compatibility/ledger.json"));
    assert_eq!(as_written(&ledger()), text);
    let read = Ledger::read(text).expect("0.1.0 wrote it");
    assert_eq!(as_written(&read), text);
}

#[test]
fn a_status_is_read_and_written_as_0_1_0_does() {
    let text = document(include_str!("../tests/compatibility/status.json"));
    is_read_and_written(text, &status());
}

#[test]
fn a_receipt_is_read_and_written_as_0_1_0_does() {
    let text = document(include_str!("../tests/compatibility/receipt.json"));
    is_read_and_written(text, &receipt());
}

#[test]
fn a_desired_state_is_read_and_written_as_0_1_0_does() {
    let text = document(include_str!("../tests/compatibility/desired_agent.json"));
    is_read_and_written(text, &Vec::from(wires()));
}

/// A new field of the wire must not change these digests. Otherwise every host would forget at its next update which
/// versions have failed.
#[test]
fn failures_are_remembered_under_the_digest_that_0_1_0_made_of_an_entry() {
    let digests = wires().map(|wire| history::entry_digest(&wire));
    assert_eq!(
        digests,
        [
            "1a2bda3e503d13bedafb16a14db6828a",
            "cd4e33c662f65a4198d8a88de0846abc",
        ]
    );
}

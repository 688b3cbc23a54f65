//! The updater copes with unusual, invalid and duplicate entries of the desired state.

use crate::support::agent::Agent;
use crate::support::host::Host;
use crate::support::json::Json as _;
use crate::support::watch::names;
use crate::support::wire::{Answer, Desired, stock_answer};

#[test]
fn the_first_of_two_entries_with_one_name_counts() {
    let mut host = Host::new();
    host.publish(&Agent::new("demo", "1.0.0"));
    host.publish(&Agent::new("demo", "1.0.1"));
    host.desire(&[host.want("demo", "1.0.0"), host.want("demo", "1.0.1")]);
    host.start();
    host.wait_running("demo", "1.0.0");
    host.wait_beats(3);
    assert_eq!(host.calls("demo"), ["1.0.0 start"]);
    let heartbeat = host.last_beat().expect("a heartbeat came").json();
    let errors = heartbeat.field("errors").items();
    assert!(errors.iter().any(|error| error.text().contains("demo")));
}

#[test]
fn an_entry_with_a_bad_field_is_refused_and_the_others_go_on() {
    let mut host = Host::new();
    host.publish(&Agent::new("good", "1.0.0"));
    let bad = bad_entries(&host.want("bad", "1.0.0"));
    let count = bad.len();
    let entries = [bad, vec![host.want("good", "1.0.0")]].concat();
    host.desire(&entries);
    host.start();
    host.wait_running("good", "1.0.0");
    assert_eq!(names(&host.work), ["good"]);
    assert_eq!(
        names(&host.dir),
        ["daemon.log", "good.calls", "updater", "work"]
    );
    assert_eq!(host.meta.downloads().len(), 2, "one tarball, one md5");
    let heartbeat = host.last_beat().expect("a heartbeat came").json();
    let errors = heartbeat.field("errors").items();
    assert!(!errors.is_empty() && errors.len() <= count, "{errors:?}");
}

/// Returns one entry for each wrong form of each field.
fn bad_entries(good: &Desired) -> Vec<Desired> {
    [bad_names(good), bad_locations(good)].concat()
}

fn bad_names(good: &Desired) -> Vec<Desired> {
    let mut bad = Vec::new();
    let long = "x".repeat(65);
    for word in [
        "", ".", "..", "../up", "a/b", "-rf", ".hidden", "a b", "a\nb", "a\0b", "ä", "$(id)", &long,
    ] {
        bad.push(Desired {
            name: word.to_owned(),
            ..good.clone()
        });
        bad.push(Desired {
            name: "bad".to_owned(),
            version: word.to_owned(),
            ..good.clone()
        });
    }
    bad
}

fn bad_locations(good: &Desired) -> Vec<Desired> {
    let mut bad = Vec::new();
    for dir in ["relative/dir", "/tmp/../etc", "~"] {
        bad.push(Desired {
            work_dir: dir.to_owned(),
            ..good.clone()
        });
    }
    for url in [
        "",
        "ftp://127.0.0.1/x",
        "file:///etc",
        "/releases",
        "http://",
        "http://a\r\nX: y/",
    ] {
        bad.push(good.clone().tarball(url));
    }
    for file in ["/etc/passwd", "../cfg.json", "a/../../b"] {
        bad.push(good.clone().config(file, "http://127.0.0.1:1/cfg.json"));
    }
    for cmd in ["", "restart", "START", "rm -rf /"] {
        bad.push(good.clone().cmd(cmd));
    }
    for user in ["-u root", "a b", "0day", "../x"] {
        bad.push(Desired {
            run_user: user.to_owned(),
            ..good.clone()
        });
    }
    bad
}

#[test]
fn a_refused_entry_leaves_the_accepted_one_before_it_in_force() {
    let host = Host::with_demo("1.0.0");
    host.publish(&Agent::new("other", "1.0.0"));
    host.desire(&[
        host.want("demo", "../../1.0.1"),
        host.want("other", "1.0.0"),
    ]);
    host.wait_running("other", "1.0.0");
    host.kill_agent("demo");
    host.wait_for("the agent to be restarted", || {
        host.running("demo").len() == 1
    });
    assert_eq!(host.calls("demo"), ["1.0.0 start", "1.0.0 start"]);
}

#[test]
fn fields_that_nobody_knows_are_ignored() {
    let mut host = Host::new();
    host.publish(&Agent::new("demo", "1.0.0"));
    let stock = stock_answer(&[host.want("demo", "1.0.0")]);
    let odd = stock
        .replacen('{', "{ \"future\": [1, {\"a\": null}],", 1)
        .replacen("\"cmd\"", "\"priority\": -1.5, \"cmd\"", 1);
    host.meta.answer(Answer::new(200, odd));
    host.start();
    host.wait_running("demo", "1.0.0");
}

//! The updater copes with unusual, invalid and duplicate entries of the desired state.

use crate::support::agent::Agent;
use crate::support::host::Host;
use crate::support::json::{Json as _, quote};
use crate::support::md5_hex;
use crate::support::watch::names;
use crate::support::wire::{Answer, Desired, stock_answer};
use std::process::Command;

#[test]
fn the_first_of_two_entries_with_one_name_counts() {
    let mut host = Host::new();
    host.publish(&Agent::new("demo", "1.0.0"));
    host.publish(&Agent::new("demo", "1.0.1"));
    host.desire(&[host.want("demo", "1.0.0"), host.want("demo", "1.0.1")]);
    host.start();
    host.wait_for("the first entry to run", || {
        host.reported("demo").1.starts_with("started; refused: ")
    });
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

/// A blank at an end of a value is a slip that nobody sees. Only a digest is taken without it.
#[test]
fn a_blank_around_a_text_of_an_entry_is_refused_or_harmless() {
    let host = Host::new();
    host.publish(&Agent::new("demo", "1.0.0"));
    let md5 = md5_hex(&Agent::new("demo", "1.0.0").tarball(&host.dir));
    let user = own_user();
    let good = Desired {
        run_user: user.clone(),
        ..host.want("demo", "1.0.0").md5(md5)
    };
    let good = good
        .config("sub/x.json", "http://127.0.0.1:1/x.json")
        .cmd("stop");
    let fields: [(&str, Field); 9] = [
        ("name", |entry| &mut entry.name),
        ("version", |entry| &mut entry.version),
        ("runUser", |entry| &mut entry.run_user),
        ("workDir", |entry| &mut entry.work_dir),
        ("tarball", |entry| &mut entry.tarball),
        ("md5", |entry| &mut entry.md5),
        ("configFileName", |entry| &mut entry.config_file_name),
        ("configRemoteUrl", |entry| &mut entry.config_remote_url),
        ("cmd", |entry| &mut entry.cmd),
    ];
    let run = |entry: &Desired| {
        host.desire(std::slice::from_ref(entry));
        let output = host.run("once");
        let out = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&out).into_owned()
    };
    let out = run(&good);
    assert!(!out.contains(" is not "), "{out}");
    for (field, text) in fields {
        for blank in [" ", "\u{a0}"] {
            for is_before in [true, false] {
                let mut entry = good.clone();
                let text = text(&mut entry);
                text.insert_str(if is_before { 0 } else { text.len() }, blank);
                let out = run(&entry);
                let is_refused = out.contains(&format!(": {field} ")) && out.contains(" is not ");
                assert_eq!(is_refused, field != "md5", "{field} {blank:?}: {out}");
            }
        }
    }
    // The last slash of a path is not its end.
    let mut entry = good;
    entry.work_dir.push_str(" //");
    let out = run(&entry);
    assert!(out.contains("workDir"), "{out}");
}

type Field = fn(&mut Desired) -> &mut String;

fn own_user() -> String {
    let output = Command::new("id").arg("-un").output().expect("id runs");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn a_store_of_https_on_a_host_without_curl_is_reported() {
    let mut host = Host::new();
    host.set("curl", &quote("/no/curl"));
    host.desire(&[host.want("demo", "1.0.0").tarball("https://127.0.0.1:1/x")]);
    host.start();
    let error = host.wait_error("demo");
    let expected = "curl is not installed; install it or set \"curl\"";
    assert!(error.contains(expected), "{error}");
}

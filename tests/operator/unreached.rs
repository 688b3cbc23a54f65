//! Tests that nothing is called well, or done, that only a server could have confirmed, and no server has.

use crate::support::fault::Faults;
use crate::support::host::Host;
use crate::support::json::{self, Json as _, quote};
use crate::support::meta::Meta;
use crate::support::wire::{Answer, stock_answer};
use std::fs;
use std::net::TcpListener;

/// Runs the command. Returns the exit code, standard output and standard error.
fn ran(host: &Host, words: &[&str]) -> (Option<i32>, String, String) {
    let output = host.run_with(words);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// Returns an address at which nobody listens.
fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").to_string()
}

#[test]
fn a_status_without_any_answer_does_not_say_that_no_agents_are_desired() {
    let mut host = Host::new();
    host.set("server", &quote(&free_address()));
    host.start();
    host.wait_for("a failed heartbeat in the status", || {
        ran(&host, &["status"]).1.contains("Connection refused")
    });
    let (code, text, _) = ran(&host, &["status"]);
    assert_eq!(code, Some(4), "{text}");
    for words in [
        "the server has never answered",
        "it is not known which agents are desired",
    ] {
        assert!(text.contains(words), "{text}");
    }
    assert!(!text.contains("no agents are desired"), "{text}");
    assert_eq!(ran(&host, &["status", "--json"]).0, Some(4));
}

#[test]
fn a_server_that_desires_no_agents_is_taken_at_its_word() {
    let mut host = Host::new();
    host.start();
    host.wait_for("an answer", || ran(&host, &["status"]).0 == Some(0));
    let (_, text, _) = ran(&host, &["status"]);
    assert!(
        text.contains("no agents are desired on this host"),
        "{text}"
    );
}

#[test]
fn a_round_that_fails_to_reach_its_server_does_not_say_so_either() {
    let mut host = Host::new();
    host.set("server", &quote(&free_address()));
    let (code, text, _) = ran(&host, &["once"]);
    assert_eq!(code, Some(1));
    assert!(!text.contains("no agents are desired"), "{text}");
}

#[test]
fn a_plan_without_a_usable_answer_does_not_say_that_there_is_nothing_to_do() {
    let mut host = Host::new();
    let page = Faults::serve(|mut exchange| exchange.reply("200 OK", &[], b"<html></html>"));
    let gone = Faults::serve(|mut exchange| exchange.reply("404 Not Found", &[], b""));
    for server in [free_address(), page.addr(), gone.addr()] {
        host.set("server", &quote(&server));
        let (code, out, err) = ran(&host, &["plan"]);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{server}: {err}");
        let words = "it is not known what is to be done";
        assert!(err.contains(&server) && err.contains(words), "{err}");
    }
}

/// Returns the line of doctor about the answer of this server.
fn answer_line(server: &str) -> String {
    let mut host = Host::new();
    host.set("server", &quote(server));
    let (_, text, _) = ran(&host, &["doctor"]);
    let line = text.lines().find(|line| line.contains("/api/heartbeat"));
    line.unwrap_or_else(|| panic!("{text}")).to_owned()
}

#[test]
fn doctor_calls_no_server_ok_that_may_be_no_ops_meta() {
    for (status, body) in [
        ("404 Not Found", "404 page not found\n"),
        ("200 OK", "<html>It works!</html>"),
        ("200 OK", "[]"),
        ("200 OK", "{\"jobs\": []}"),
        ("403 Forbidden", ""),
        ("302 Found", ""),
    ] {
        let server = Faults::serve(move |mut exchange| {
            exchange.reply(status, &["Location: /login"], body.as_bytes());
        });
        let line = answer_line(&server.addr());
        assert!(line.starts_with("warn  "), "{status}: {line}");
        for words in [&status[..3], "not verified", "plan"] {
            assert!(line.contains(words), "{status}: {line}");
        }
    }
}

#[test]
fn doctor_takes_a_path_that_serves_other_methods_for_that_of_an_ops_meta() {
    let server = Faults::serve(|mut exchange| exchange.reply("405 Method Not Allowed", &[], b""));
    let line = answer_line(&server.addr());
    assert!(line.starts_with("ok    "), "{line}");
}

#[test]
fn doctor_knows_from_the_updater_that_the_server_answers_heartbeats_or_does_not() {
    let host = Host::with_demo("1.0.0");
    host.wait_for("the answer in what doctor says", || {
        let (code, text, _) = ran(&host, &["doctor"]);
        let words = "ok    the server answered the updater's heartbeat";
        code == Some(0) && text.contains(words)
    });
    host.meta.answer(Answer::new(404, "no such page"));
    host.wait_for("the failure in what doctor says", || {
        let (code, text, _) = ran(&host, &["doctor"]);
        let words = "fail  the updater's last heartbeat failed: ";
        code == Some(1) && text.contains(words) && text.contains("404")
    });
}

#[test]
fn a_round_without_a_server_records_no_answer_of_one() {
    let host = Host::new();
    let depot = Meta::start();
    depot.put(
        "/input.json",
        stock_answer(&[host.want("demo", "1.0.0").cmd("stop")]),
    );
    let heartbeat = || {
        let text = fs::read_to_string(host.own.join("var/status.json")).expect("a status");
        let status = json::parse(&text);
        let heartbeat = status.field("heartbeat");
        let field = |name: &str| heartbeat.field(name).number();
        let sent = status.field("counts").field("heartbeats").number();
        (field("last"), field("answered"), sent)
    };
    assert_eq!(ran(&host, &["apply", &depot.url("/input.json")]).0, Some(0));
    assert_eq!(heartbeat(), (Some(0), Some(0), Some(0)));
    host.desire(&[host.want("demo", "1.0.0").cmd("stop")]);
    assert_eq!(ran(&host, &["once"]).0, Some(0));
    let (_, answered, _) = heartbeat();
    assert!(answered > Some(0));
    assert_eq!(ran(&host, &["apply", &depot.url("/input.json")]).0, Some(0));
    assert_eq!(heartbeat().1, answered);
}

//! An invalid answer to a heartbeat changes nothing, and agents that crash are still restarted.

use crate::support::agent::Agent;
use crate::support::fault::Faults;
use crate::support::host::Host;
use crate::support::json::quote;
use crate::support::watch::names;
use crate::support::wire::{Answer, stock_answer};

/// Gives each of these answers in turn to a host that runs demo, and asserts that nothing changes there.
fn assert_nothing_changes(answers: Vec<Answer>) {
    let host = Host::with_demo("1.0.0");
    let before = host.running("demo");
    let list = std::fs::read(host.own.join("desired_agent.json")).expect("the last accepted state");
    for answer in answers {
        let head = String::from_utf8_lossy(&answer.body[..answer.body.len().min(60)]).into_owned();
        host.meta.answer(answer);
        host.signal_daemon(libc::SIGUSR1);
        host.wait_beats(1);
        host.meta.answer_normally();
        host.signal_daemon(libc::SIGUSR1);
        host.wait_beats(1);
        assert_eq!(host.running("demo"), before, "{head}");
        assert_eq!(host.calls("demo"), ["1.0.0 start"], "{head}");
        assert_eq!(names(&host.work), ["demo"], "{head}");
    }
    let now = std::fs::read(host.own.join("desired_agent.json")).expect("the last accepted state");
    assert_eq!(now, list);
}

fn ok_answers(bodies: &[&str]) -> Vec<Answer> {
    bodies.iter().map(|body| Answer::new(200, *body)).collect()
}

#[test]
fn an_answer_without_agents_changes_nothing() {
    assert_nothing_changes(ok_answers(&[
        "",
        "{}",
        "[]",
        "null",
        "{\n  \"errorMessage\": \"\",\n  \"desiredAgents\": []\n}",
        r#"{"errorMessage": "", "desiredAgents": null}"#,
        r#"{"errorMessage": ""}"#,
        r#"{"desiredAgents": [null]}"#,
        r#"{"desiredAgents": {}}"#,
    ]));
}

#[test]
fn an_answer_that_is_an_error_changes_nothing() {
    let host = Host::new();
    let stop = [host.want("demo", "1.0.0").cmd("stop")];
    let with_error = stock_answer(&stop).replacen("\"\"", "\"maintenance\"", 1);
    let mut answers = ok_answers(&[
        "{\n  \"message\": \"hostname is blank\",\n  \"success\": false\n}",
        r#"{"message": "parseForm error: unexpected end of JSON input", "success": false}"#,
        &with_error,
    ]);
    for status in [204, 302, 400, 401, 404, 500, 503] {
        answers.push(Answer::new(status, stock_answer(&stop)));
    }
    assert_nothing_changes(answers);
}

#[test]
fn an_answer_that_is_no_json_changes_nothing() {
    let host = Host::new();
    let stop = stock_answer(&[host.want("demo", "1.0.0").cmd("stop")]);
    let mut answers = ok_answers(&[
        "<!DOCTYPE html><html><body>Please log in</body></html>",
        "OK",
        "{",
        &stop[..stop.len() - 3],
        &format!("{stop}{stop}"),
        &stop.replace("\"cmd\": \"stop\"", "\"cmd\": 1"),
        &stop.replace("\"version\": \"1.0.0\"", "\"version\": 1.0"),
        &stop.replace("\"version\": \"1.0.0\"", "\"version\": null"),
        &stop.replace("desiredAgents\": [", "desiredAgents\": \"["),
    ]);
    answers.push(Answer::new(
        200,
        [b"\xff\xfe".as_slice(), stop.as_bytes()].concat(),
    ));
    let latin = stop
        .replace("\"errorMessage\": \"\"", "\"note\": \"X\"")
        .into_bytes();
    let latin: Vec<_> = latin
        .into_iter()
        .map(|byte| if byte == b'X' { 0xe4 } else { byte })
        .collect();
    answers.push(Answer::new(200, latin));
    assert_nothing_changes(answers);
}

#[test]
fn an_answer_that_is_too_large_or_too_deep_changes_nothing() {
    let host = Host::new();
    let stop = stock_answer(&[host.want("demo", "1.0.0").cmd("stop")]);
    let deep = "[".repeat(200_000) + &"]".repeat(200_000);
    let agents_deep = format!("{{\"desiredAgents\": {deep}}}");
    let unknown_deep = format!("{{\"x\": {}", &deep);
    let many = [stop.clone(), " ".repeat(2 << 20)].concat();
    assert_nothing_changes(vec![
        Answer::new(200, deep),
        Answer::new(200, agents_deep),
        Answer::new(200, unknown_deep),
        Answer::new(200, many),
        Answer::new(200, vec![b' '; 40 << 20]),
        Answer::new(200, vec![b'['; 40 << 20]),
        Answer::new(
            200,
            format!("{{\"errorMessage\": {}", quote(&"x".repeat(900_000))),
        ),
    ]);
}

#[test]
fn an_agent_that_crashes_is_restarted_whatever_the_server_answers() {
    let host = Host::with_demo("1.0.0");
    host.meta.answer(Answer::new(500, "oops"));
    host.wait_beats(2);
    host.kill_agent("demo");
    host.wait_for("the agent to run again", || host.running("demo").len() == 1);
    assert_eq!(host.calls("demo"), ["1.0.0 start", "1.0.0 start"]);
}

/// Lets a meta server misbehave below HTTP. Asserts that the daemon survives, and that it upgrades demo once the real
/// server is back.
fn survives(answer: impl Fn(crate::support::fault::Exchange) + Send + Sync + 'static) {
    let faults = Faults::serve(answer);
    let mut host = Host::with_demo("1.0.0");
    let before = host.running("demo");
    let real = quote(&host.meta.addr());
    host.set("server", &quote(&faults.addr()));
    host.signal_daemon(libc::SIGHUP);
    host.wait_for("two heartbeats to the faulty server", || {
        host.signal_daemon(libc::SIGUSR1);
        faults.heads().len() >= 2
    });
    assert_eq!(host.running("demo"), before);
    host.publish(&Agent::new("demo", "1.0.1"));
    host.desire(&[host.want("demo", "1.0.1")]);
    host.set("server", &real);
    host.signal_daemon(libc::SIGHUP);
    host.signal_daemon(libc::SIGUSR1);
    host.wait_running("demo", "1.0.1");
}

#[test]
fn a_server_that_closes_without_an_answer_harms_nothing() {
    survives(drop);
}

#[test]
fn a_server_that_cuts_its_answer_harms_nothing() {
    survives(|mut exchange| {
        exchange.head("200 OK", &[], Some(5000));
        exchange.send(b"{\"errorMessage\": \"\", \"desiredAgents\": [");
    });
}

#[test]
fn a_server_that_answers_without_end_harms_nothing() {
    survives(|mut exchange| {
        exchange.head("200 OK", &[], None);
        exchange.send_slowly(&vec![b' '; 64 << 20], 64 << 20);
    });
}

#[test]
fn a_server_whose_headers_never_end_harms_nothing() {
    survives(|mut exchange| {
        exchange.send(b"HTTP/1.1 200 OK\r\n");
        let line = format!("X-Filler: {}\r\n", "x".repeat(1000));
        for _ in 0..200_000 {
            if exchange.stopped() || !exchange.send_slowly(line.as_bytes(), 1 << 30) {
                return;
            }
        }
    });
}

/// The HTTP client counts two bytes for a line end of one byte. Here that is more than its limit has left.
#[test]
fn a_server_whose_first_header_fills_the_limit_is_not_given_more() {
    survives(|mut exchange| {
        exchange.send(format!("HTTP/1.1 200 OK\r\n{}\n", "x".repeat(8191)).as_bytes());
        while !exchange.stopped() && exchange.send_slowly(&b"no header\r\n".repeat(1000), 1 << 30) {
        }
    });
}

#[test]
fn a_server_that_is_no_web_server_harms_nothing() {
    survives(|mut exchange| exchange.send(b"SSH-2.0-OpenSSH_9.2\r\n\0\0\0\xff\xfe\r\n"));
}

//! Tests what the daemon answers over HTTP, to which clients, and at which addresses.

use crate::support::host::Host;
use crate::support::http::{free, get, outer_ip, send, try_get};
use crate::support::json::{Json as _, parse};
use crate::support::platform::skipped;
use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::process::{Command, Stdio};

const FOREIGN: &[&str] = &[
    "Host: evil.example",
    "Host: 10.0.0.1:2001",
    "Host: localhost\r\nOrigin: http://evil.example",
    "Host: localhost\r\nOrigin: null",
    "Host: 127.0.0.1\r\nSec-Fetch-Site: cross-site",
    "Host: 127.0.0.1\r\nHost: evil.example",
    "Host: 127.0.0.1\r\nX-Forwarded-For: 192.0.2.1",
    "Host: 127.0.0.1\r\nForwarded: for=192.0.2.1",
    "X-Real-IP: 192.0.2.1",
];

#[test]
fn the_originals_pages_are_answered_byte_for_byte() {
    let (host, addr) = Host::answering();
    let version = env!("CARGO_PKG_VERSION");
    for (path, body) in [
        ("/health", "ok"),
        ("/version", version),
        ("/health?x=1", "ok"),
    ] {
        let reply = get(&addr, path);
        assert_eq!((reply.status, reply.body.as_str()), (200, body));
        assert_eq!(
            reply.header("Content-Type"),
            Some("text/plain; charset=utf-8")
        );
        assert_eq!(reply.header("Connection"), Some("close"));
        assert_eq!(reply.header("Cache-Control"), Some("no-store"));
        assert_eq!(reply.header("X-Content-Type-Options"), Some("nosniff"));
    }
    let reply = get(&addr, "/workdir");
    let expected = format!(r#"{{"msg":"success","data":"{}"}}"#, host.own.display());
    assert_eq!(reply.body, expected);
    assert_eq!(
        reply.header("Content-Type"),
        Some("application/json; charset=utf-8")
    );
}

#[test]
fn the_status_is_that_of_the_file() {
    let (host, addr) = Host::answering_with_demo();
    let status = parse(&get(&addr, "/status").body);
    let file = fs::read_to_string(host.own.join("var/status.json")).expect("a status file");
    let file = parse(&file);
    for key in ["version", "arch", "hostname", "server", "pid", "since"] {
        assert!(status.has(key), "{key}");
        let text = |status: &miniserde::json::Value| miniserde::json::to_string(status.field(key));
        assert_eq!(text(&status), text(&file));
    }
    assert_eq!(status.field("hostname").text(), "sandbox");
    let agent = &status.field("agents").items()[0];
    assert_eq!(agent.field("name").text(), "demo");
    assert_eq!(agent.field("version").text(), "1.0.0");
    assert_eq!(agent.field("state").text(), "started");
}

#[test]
fn the_page_is_small_and_loads_nothing_from_elsewhere() {
    let (_host, addr) = Host::answering();
    let reply = get(&addr, "/");
    assert_eq!(
        reply.header("Content-Type"),
        Some("text/html; charset=utf-8")
    );
    let policy = reply.header("Content-Security-Policy").expect("a policy");
    assert!(
        policy.starts_with("default-src 'none'; connect-src 'self'"),
        "{policy}"
    );
    assert!(reply.body.starts_with("<!DOCTYPE html>") && reply.body.len() <= 8192);
    for word in ["://", "src=", "href=", "@import", "url(", "innerHTML"] {
        assert!(!reply.body.contains(word), "{word}");
    }
}

#[test]
fn promtool_finds_no_fault_with_the_metrics() {
    let (_host, addr) = Host::answering_with_demo();
    let reply = get(&addr, "/metrics");
    let kind = reply.header("Content-Type");
    assert_eq!(kind, Some("text/plain; version=0.0.4; charset=utf-8"));
    for line in [
        "ops_updater_agents{state=\"started\"} 1\n",
        "ops_updater_agents{state=\"stopped\"} 0\n",
        "ops_updater_steps_total{kind=\"install\"} 1\n",
        "ops_updater_step_attempts_total{step=\"install\"} 1\n",
        "ops_updater_step_attempt_failures_total{step=\"install\"} 0\n",
        "ops_updater_agent_converged{name=\"demo\"} 1\n",
        "ops_updater_agent_crash_loop{name=\"demo\"} 0\n",
        "ops_updater_agent_info{name=\"demo\",version=\"1.0.0\",desired=\"1.0.0\",state=\"started\"} 1\n",
    ] {
        assert!(reply.body.contains(line), "{line}in {}", reply.body);
    }
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = promtool else {
        skipped("there is no promtool (Debian: prometheus) to check the metrics with");
        return;
    };
    let mut stdin = promtool.stdin.take().expect("a pipe");
    stdin.write_all(reply.body.as_bytes()).expect("it reads");
    drop(stdin);
    let output = promtool.wait_with_output().expect("it ends");
    let message = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && message.is_empty(), "{message}");
}

#[test]
fn what_is_not_asked_for_well_is_refused_in_words() {
    let (_host, addr) = Host::answering();
    let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(9000));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(65));
    for (request, status) in [
        ("GET /nothing HTTP/1.1\r\n\r\n", 404),
        ("GET //health HTTP/1.1\r\n\r\n", 404),
        ("GET /../etc/passwd HTTP/1.1\r\n\r\n", 404),
        ("GET http://x/health HTTP/1.1\r\n\r\n", 404),
        ("POST /health HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 405),
        ("DELETE / HTTP/1.1\r\n\r\n", 405),
        ("POST /config/reload HTTP/1.1\r\n\r\n", 405),
        ("GET /health HTTP/1.0\r\n\r\n", 200),
        ("GET /health\r\n\r\n", 400),
        ("\x16\x03\x01\x02\r\n\r\n", 400),
        ("GET /health HTTP/2.0\r\n\r\n", 400),
        ("GET /health HTTP/1.1\r\nno header\r\n\r\n", 400),
        (&long, 431),
        (&many, 431),
    ] {
        let reply = send(&addr, request.as_bytes()).expect("an answer");
        assert_eq!(reply.status, status, "{request:?}");
        assert!(!reply.body.is_empty());
        assert_eq!(reply.header("Allow"), Some("GET, HEAD"));
    }
}

#[test]
fn a_head_has_the_length_and_no_body() {
    let (_host, addr) = Host::answering();
    for path in ["/", "/health", "/metrics", "/config/reload", "/nothing"] {
        let request = format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let reply = send(&addr, request.as_bytes()).expect("an answer");
        assert!(reply.body.is_empty());
        assert_ne!(reply.header("Content-Length"), Some("0"));
    }
}

#[test]
fn nothing_is_answered_unless_it_is_enabled() {
    let mut host = Host::new();
    let addr = free("127.0.0.1");
    host.set("http", &format!("{{\"listen\": \"{addr}\"}}"));
    host.start();
    host.wait_beats(2);
    try_get(&addr, "/health").expect_err("no process listens there");
}

#[test]
fn it_answers_on_ipv6_and_on_every_address() {
    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        skipped("this machine has no IPv6");
        return;
    };
    let addr = listener.local_addr().expect("an address").to_string();
    drop(listener);
    let mut host = Host::new();
    host.listen_at(&addr);
    host.start();
    host.wait_answers(&addr);
    assert_eq!(get(&addr, "/config/reload").status, 200);
    let addr = free("127.0.0.1");
    let port = addr.split(':').nth(1).expect("a port");
    host.listen_at(&format!(":{port}"));
    host.signal_daemon(libc::SIGHUP);
    host.wait_answers(&addr);
    host.wait_answers(&format!("[::1]:{port}"));
    assert_eq!(get(&addr, "/config/reload").status, 200);
    if let Some(ip) = outer_ip() {
        let outer = format!("{ip}:{port}");
        assert_eq!(get(&outer, "/status").status, 200);
        let reply = get(&outer, "/config/reload");
        assert_eq!((reply.status, reply.body.as_str()), (403, "no privilege"));
    }
}

#[test]
fn a_port_that_is_taken_does_not_stop_it_and_is_had_once_it_is_free() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = taken.local_addr().expect("an address").to_string();
    let mut host = Host::new();
    host.listen_at(&addr);
    host.start();
    host.wait_beats(3);
    let message = format!("ERROR cannot listen on {addr}: Address in use");
    let log = host.log();
    assert_eq!(
        log.matches(&message).count() + log.matches(&message.replace(" in", " already in")).count(),
        1,
        "{log}"
    );
    drop(taken);
    host.wait_answers(&addr);
    assert!(host.log().contains(&format!("answers HTTP on {addr}")));
}

#[test]
fn a_reload_moves_it_and_ends_it() {
    let (mut host, old) = Host::answering();
    let new = free("127.0.0.1");
    host.listen_at(&new);
    host.signal_daemon(libc::SIGHUP);
    host.wait_answers(&new);
    try_get(&old, "/health").expect_err("no process listens there any more");
    host.unset("http");
    host.signal_daemon(libc::SIGHUP);
    host.wait_for("the endpoint to close", || {
        try_get(&new, "/health").is_err()
    });
    host.wait_beats(1);
}

#[test]
fn the_settings_are_read_again_over_http() {
    let (mut host, addr) = Host::answering();
    host.set("hostname", "\"renamed\"");
    let reply = get(&addr, "/config/reload");
    assert_eq!(reply.status, 200);
    let answer = parse(&reply.body);
    assert_eq!(answer.field("msg").text(), "success");
    let data = answer.field("data");
    assert_eq!(data.field("hostname").text(), "renamed");
    assert_eq!(data.field("interval").number(), Some(1));
    assert_eq!(data.field("http").field("listen").text(), addr);
    host.wait_for("a heartbeat under the new name", || {
        let heartbeat = host.last_beat();
        heartbeat.is_some_and(|heartbeat| heartbeat.json().field("hostname").text() == "renamed")
    });
    host.set("interval", "0");
    let reply = get(&addr, "/config/reload");
    let answer = parse(&reply.body);
    let message = answer.field("msg").text();
    assert!(
        message.contains("cfg.json: interval is 0, wanted") && !message.contains('\n'),
        "{message}"
    );
    assert!(!answer.has("data"));
    host.wait_beats(2);
    // The request that moves the endpoint is answered at the old address.
    let new = free("127.0.0.1");
    host.set("interval", "1");
    host.listen_at(&new);
    assert_eq!(get(&addr, "/config/reload").status, 200);
    host.wait_answers(&new);
}

#[test]
fn a_site_whose_name_suddenly_means_this_host_reads_nothing_from_an_endpoint_on_loopback() {
    let (_host, addr) = Host::answering();
    for path in [
        "/", "/status", "/metrics", "/version", "/workdir", "/nothing",
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: evil.example:2001\r\n\r\n");
        let reply = send(&addr, request.as_bytes()).expect("an answer");
        assert_eq!(reply.status, 403, "{path}");
        let expected = "the Host must be localhost: this endpoint listens on loopback only\n";
        assert_eq!(reply.body, expected, "{path}");
    }
    for host in [addr.as_str(), "localhost", "LOCALHOST:1", "[::1]"] {
        let request = format!("GET /status HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let reply = send(&addr, request.as_bytes()).expect("an answer");
        assert_eq!(reply.status, 200, "{host}");
    }
}

#[test]
fn no_site_in_a_browser_and_no_proxy_can_have_the_settings_read_again() {
    let (mut host, addr) = Host::answering();
    host.set("hostname", "\"renamed\"");
    for headers in FOREIGN {
        let request = format!("GET /config/reload HTTP/1.1\r\n{headers}\r\n\r\n");
        let reply = send(&addr, request.as_bytes()).expect("an answer");
        assert_eq!(
            (reply.status, reply.body.as_str()),
            (403, "no privilege"),
            "{headers}"
        );
    }
    let request = "HEAD /config/reload HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(
        send(&addr, request.as_bytes()).expect("an answer").status,
        200
    );
    assert_eq!(
        parse(&get(&addr, "/status").body).field("hostname").text(),
        "sandbox"
    );
}

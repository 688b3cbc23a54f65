//! Checks that strangers who abuse the HTTP endpoint waste only their own time.

use crate::support::agent::Agent;
use crate::support::host::Host;
use crate::support::http::{connect, get};
use crate::support::{procs, watch};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const ATTACK: Duration = Duration::from_secs(8);

/// Returns the longest pause between two heartbeats during the attack.
fn longest_pause(host: &Host, attack: impl FnOnce()) -> Duration {
    host.wait_beats(1);
    let before = host.meta.count_beats() - 1;
    attack();
    let heartbeats = host.meta.beats();
    let mut pauses = heartbeats[before..]
        .windows(2)
        .map(|pair| pair[1].at - pair[0].at);
    let first = pauses.next().expect("two heartbeats");
    let longest = pauses.fold(first, Duration::max);
    longest.max(heartbeats.last().expect("a heartbeat").at.elapsed())
}

#[track_caller]
fn assert_on_time(host: &Host, attack: impl FnOnce()) {
    let pause = longest_pause(host, attack);
    // The interval and a tenth, plus the time that a machine with other tests needs to start a child.
    assert!(pause < Duration::from_secs(4), "{pause:?}");
}

fn sockets(pid: u32) -> usize {
    let dir = format!("/proc/{pid}/fd");
    let links = watch::names(dir.as_ref());
    let is_socket = |name: &&String| {
        let link = fs::read_link(format!("{dir}/{name}")).unwrap_or_default();
        link.to_string_lossy().starts_with("socket:")
    };
    links.iter().filter(is_socket).count()
}

/// Asserts that only the listener is left and that requests are answered.
fn assert_clean(host: &Host, addr: &str) {
    assert_eq!(get(addr, "/health").status, 200);
    host.wait_for("all connections to be closed", || {
        sockets(host.daemon_pid()) == 1
    });
}

#[test]
fn two_hundred_who_never_end_their_request_keep_nobody_waiting() {
    let (host, addr) = Host::answering();
    assert_on_time(&host, || {
        let mut slow: Vec<TcpStream> = (0..200).filter_map(|_| connect(&addr).ok()).collect();
        let began = Instant::now();
        while began.elapsed() < ATTACK {
            for stream in &mut slow {
                let _ = stream.write_all(b"G");
            }
            let asked = Instant::now();
            assert_eq!(get(&addr, "/health").body, "ok");
            assert!(asked.elapsed() < Duration::from_secs(2));
            std::thread::sleep(Duration::from_millis(100));
            assert!(sockets(host.daemon_pid()) <= 1 + 32);
        }
    });
    assert_clean(&host, &addr);
}

#[test]
fn a_flood_of_connections_and_garbage_delays_no_heartbeat_and_no_act() {
    let (host, addr) = Host::answering();
    host.publish(&Agent::new("demo", "1.0.0"));
    let is_over = AtomicBool::new(false);
    let flood = |bytes: &[u8]| {
        while !is_over.load(Ordering::Relaxed) {
            if let Ok(mut stream) = connect(&addr) {
                let _ = stream.write_all(bytes);
            }
        }
    };
    assert_on_time(&host, || {
        std::thread::scope(|scope| {
            scope.spawn(|| flood(b""));
            scope.spawn(|| flood(&[0xff; 9000]));
            scope.spawn(|| flood(b"GET /status HTTP/1.1\r\n\r\n"));
            host.desire(&[host.want("demo", "1.0.0")]);
            host.wait_running("demo", "1.0.0");
            std::thread::sleep(ATTACK / 2);
            is_over.store(true, Ordering::Relaxed);
        });
    });
    assert_clean(&host, &addr);
}

#[test]
fn who_stays_after_the_answer_is_dropped_and_has_all_of_it() {
    let (host, addr) = Host::answering();
    let mut lazy = Vec::new();
    for _ in 0..8 {
        let mut stream = connect(&addr).expect("a connection");
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\n\r\n")
            .expect("it reads");
        lazy.push(stream);
    }
    // The first one is read now, so that the daemon is known to have answered.
    let mut first = [0; 1];
    lazy[0].read_exact(&mut first).expect("an answer");
    host.wait_within(
        Duration::from_secs(9),
        "the connections to be dropped",
        || sockets(host.daemon_pid()) == 1,
    );
    let mut text = String::new();
    lazy[0].read_to_string(&mut text).expect("an answer");
    assert!(text.contains("ops_updater_build_info"));
    assert_clean(&host, &addr);
}

#[test]
fn an_agent_inherits_no_socket() {
    let (mut host, addr) = Host::answering();
    let _open: Vec<_> = (0..8).map(|_| connect(&addr)).collect();
    host.publish(&Agent::new("demo", "1.0.0"));
    host.desire(&[host.want("demo", "1.0.0")]);
    let running = host.wait_running("demo", "1.0.0");
    assert_eq!(sockets(running.pid), 0);
    host.stop();
    assert!(procs::alive(running.pid));
    std::net::TcpListener::bind(&addr).expect("no process holds the port");
}

#[test]
fn whoever_is_connected_does_not_keep_it_from_stopping() {
    let (mut host, addr) = Host::answering();
    let mut open: Vec<_> = (0..8).filter_map(|_| connect(&addr).ok()).collect();
    std::thread::sleep(Duration::from_millis(100));
    let began = Instant::now();
    assert!(host.stop().success());
    assert!(began.elapsed() < Duration::from_secs(3));
    assert_eq!(open[0].read(&mut [0; 8]).unwrap_or(0), 0);
}

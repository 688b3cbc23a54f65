//! Tests names that do not resolve, and names with several addresses of which not all answer.

use crate::support::agent::Agent;
use crate::support::fault::{Exchange, Faults};
use crate::support::host::Host;
use crate::support::json::{self, Json as _, quote};
use crate::support::md5_hex;
use crate::support::names::{Blackhole, NameServer, can_mount, loopback, reply, with_names};
use crate::support::wire::{Desired, stock_answer};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The name server for names that are in no file. Nobody listens there.
const NOBODY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);
/// The deadline of a heartbeat. The C library waits 5 s (musl) or 10 s (glibc) for a silent name server, and a
/// heartbeat asks twice.
const DEADLINE: Duration = Duration::from_secs(60);

/// Serves as ops-meta and store in one: answers heartbeats with these entries and serves the tarball.
fn answer(exchange: &mut Exchange, entries: &[Desired], tarball: &[u8]) {
    if exchange.method == "POST" {
        exchange.reply("200 OK", &[], stock_answer(entries).as_bytes());
    } else {
        exchange.serve(tarball);
    }
}

/// Returns the two ends of one port: nobody answers at the first address, and the other listens.
fn one_port(dead: IpAddr, alive: IpAddr) -> (Blackhole, TcpListener) {
    for _ in 0..100 {
        let blackhole = Blackhole::at(SocketAddr::new(dead, 0));
        // Another test may have the same port there.
        if let Ok(listener) = TcpListener::bind((alive, blackhole.port())) {
            return (blackhole, listener);
        }
    }
    panic!("no port is free at {dead} and {alive}");
}

/// Installs demo on a host whose server and store share one name with two addresses. The first address never answers,
/// and both listen at the second.
fn assert_installs_despite(dead: IpAddr, alive: IpAddr) {
    if !can_mount() {
        return;
    }
    let mut host = Host::new();
    let (blackhole, listener) = one_port(dead, alive);
    let port = blackhole.port();
    let bytes = Agent::new("demo", "1.0.0").tarball(&host.dir);
    let entry = host.want("demo", "1.0.0");
    let entry = entry.tarball(format!("http://twins.test:{port}/releases"));
    let entries = [entry.md5(md5_hex(&bytes))];
    let server = Faults::serve_on(listener, move |mut exchange| {
        answer(&mut exchange, &entries, &bytes);
    });
    host.set("server", &quote(&format!("twins.test:{port}")));
    let command = with_names(
        &host,
        &format!("{dead} twins.test\n{alive} twins.test\n"),
        NOBODY,
    );
    host.start_as(command);
    host.wait_within(Duration::from_secs(50), "demo to run", || {
        host.running("demo").len() == 1
    });
    drop(server);
}

#[test]
fn a_dead_first_address_keeps_nothing_from_the_second() {
    let (dead, alive) = (Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2));
    assert_installs_despite(dead.into(), alive.into());
}

#[test]
fn a_dead_address_of_ipv6_keeps_nothing_from_the_one_of_ipv4() {
    assert_installs_despite(Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into());
}

#[test]
fn a_name_with_an_address_of_ipv6_alone_is_reached_and_reported_from_one() {
    if !can_mount() {
        return;
    }
    let mut host = Host::new();
    let bytes = Agent::new("demo", "1.0.0").tarball(&host.dir);
    let digest = md5_hex(&bytes);
    let (entries, ips) = (
        Arc::new(Mutex::new(Vec::new())),
        Arc::new(Mutex::new(Vec::new())),
    );
    let (wanted, seen) = (entries.clone(), ips.clone());
    let six = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), 0);
    let server = Faults::serve_at(six, move |mut exchange| {
        if exchange.method == "POST" {
            let ip = json::parse(&exchange.body).field("ip").text().to_owned();
            seen.lock().expect("a list").push(ip);
        }
        answer(&mut exchange, &wanted.lock().expect("a list"), &bytes);
    });
    let at = format!("six.test:{}", server.port());
    let entry = host.want("demo", "1.0.0").md5(digest);
    *entries.lock().expect("a list") = vec![entry.tarball(format!("http://{at}/releases"))];
    host.set("server", &quote(&at));
    let command = with_names(&host, "::1 six.test\n", NOBODY);
    host.start_as(command);
    host.wait_for("demo to run", || host.running("demo").len() == 1);
    let ips = ips.lock().expect("a list");
    assert!(ips.iter().all(|ip| ip == "::1"), "{ips:?}");
}

/// Returns a host where demo runs. The address of its server contains no name yet.
fn host_with_names_from(name_server: &NameServer) -> Host {
    let mut host = Host::new();
    host.publish(&Agent::new("demo", "1.0.0"));
    host.desire(&[host.want("demo", "1.0.0")]);
    let command = with_names(&host, "", name_server.addr);
    host.start_as(command);
    host.wait_running("demo", "1.0.0");
    host
}

/// Changes the address of the server to a name.
fn use_a_name(host: &mut Host) {
    let addr = host.meta.addr().replace("127.0.0.1", "meta.test");
    host.set("server", &quote(&addr));
    host.signal_daemon(libc::SIGHUP);
}

#[test]
fn a_name_server_that_never_answers_delays_neither_the_end_nor_the_restart_of_an_agent() {
    if !can_mount() {
        return;
    }
    let silent = NameServer::silent();
    let mut host = host_with_names_from(&silent);
    use_a_name(&mut host);
    host.wait_for("a query", || silent.queries() > 0);
    let began = Instant::now();
    host.wait_within(DEADLINE, "the failure to be logged", || {
        host.log().contains("cannot post to http://meta.test")
    });
    eprintln!(
        "a heartbeat without a name server gave up after {:?}",
        began.elapsed()
    );
    host.kill_agent("demo");
    host.wait_within(DEADLINE, "the agent to run again", || {
        host.running("demo").len() == 1
    });
    let queries = silent.queries();
    host.wait_within(DEADLINE, "a heartbeat that waits for a name", || {
        silent.queries() > queries
    });
    let began = Instant::now();
    assert!(host.stop().success());
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(host.running("demo").len(), 1);
}

#[test]
fn heartbeats_go_on_and_tell_it_when_a_stores_name_is_never_answered() {
    if !can_mount() {
        return;
    }
    let silent = NameServer::silent();
    let host = host_with_names_from(&silent);
    let before = host.running("demo");
    let entry = host.want("demo", "1.0.1");
    host.desire(&[entry.tarball("http://store.test/releases")]);
    host.wait_for("a query", || silent.queries() > 0);
    let (heartbeats, began) = (host.meta.count_beats(), Instant::now());
    host.wait_beats(3);
    assert!(
        began.elapsed() < Duration::from_secs(6),
        "{:?}",
        began.elapsed()
    );
    assert!(host.meta.count_beats() >= heartbeats + 3);
    let error = host.wait_error("demo");
    assert!(error.contains("store.test"), "{error}");
    assert_eq!(host.running("demo"), before);
}

/// Lets the name server answer like this until it recovers. Heartbeats fail meanwhile, and nothing is harmed.
fn assert_recovers_from(answer: impl Fn(&[u8]) -> Vec<u8> + Send + 'static) {
    if !can_mount() {
        return;
    }
    let is_well = Arc::new(AtomicBool::new(false));
    let well = is_well.clone();
    let server = NameServer::serve(move |query| {
        Some(if well.load(Ordering::Relaxed) {
            loopback(query)
        } else {
            answer(query)
        })
    });
    let mut host = host_with_names_from(&server);
    let before = host.running("demo");
    use_a_name(&mut host);
    host.wait_within(DEADLINE, "the failure to be logged", || {
        host.log().contains("cannot post to http://meta.test")
    });
    assert!(server.queries() > 0);
    assert_eq!(host.running("demo"), before);
    host.publish(&Agent::new("demo", "1.0.1"));
    host.desire(&[host.want("demo", "1.0.1")]);
    is_well.store(true, Ordering::Relaxed);
    host.wait_within(DEADLINE, "1.0.1 to run", || {
        host.version("demo") == "1.0.1" && host.running("demo").len() == 1
    });
}

#[test]
fn a_name_that_does_not_exist_for_a_while_harms_nothing() {
    assert_recovers_from(|query| reply(query, 3, b""));
}

#[test]
fn a_name_server_in_trouble_harms_nothing() {
    assert_recovers_from(|query| reply(query, 2, b""));
}

#[test]
fn a_name_without_addresses_harms_nothing() {
    assert_recovers_from(|query| reply(query, 0, b""));
}

#[test]
fn a_name_server_that_answers_nonsense_harms_nothing() {
    assert_recovers_from(|query| [&query[..2], &[0xff; 400]].concat());
}

/// The name of the record points to itself, and its data claims to be longer than the answer.
#[test]
fn an_answer_that_leads_round_in_circles_harms_nothing() {
    assert_recovers_from(|query| {
        let at = u8::try_from(reply(query, 0, b"").len()).expect("a short question");
        let record = [0xc0, at, 0, 1, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 127, 0, 0, 1];
        reply(query, 0, &record)
    });
}

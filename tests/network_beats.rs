//! Bad answers to heartbeats, each of which would stop an agent of its own if it were followed: none is, the agent that
//! crashes meanwhile is started again, and the next good answer is followed.

use crate::network::found_running;
use crate::network_faults::{CHUNKS, CUTS, Fault, HEADS, LENGTHS};
use crate::support::fault::Faults;
use crate::support::host::Host;
use crate::support::json::quote;
use crate::support::wire::{Desired, stock_answer};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The fault that answers suffer from, by its place in the table; beyond the table they are good.
struct Meta {
    faults: &'static [Fault],
    at: AtomicUsize,
    /// How often each fault, and after them a good answer, was given.
    given: Vec<AtomicUsize>,
    desired: Mutex<Vec<Desired>>,
}

impl Meta {
    /// What is desired, but for the agent of this fault, which is to stop.
    fn body(&self, at: usize) -> Vec<u8> {
        let mut desired = self.desired.lock().expect("a list").clone();
        if at < self.faults.len() {
            desired[at] = desired[at].clone().cmd("stop");
        }
        stock_answer(&desired).into_bytes()
    }

    fn given(&self, at: usize) -> usize {
        self.given[at].load(Ordering::Relaxed)
    }

    /// One more answer of this kind.
    fn wait_for(&self, host: &Host, at: usize) {
        self.at.store(at, Ordering::Relaxed);
        let before = self.given(at);
        host.signal_daemon(libc::SIGUSR1);
        host.wait_for("the next heartbeat", || self.given(at) > before);
    }
}

fn serve(meta: &Arc<Meta>) -> Faults {
    let meta = meta.clone();
    Faults::serve(move |mut exchange| {
        let at = meta.at.load(Ordering::Relaxed);
        let body = meta.body(at);
        match meta.faults.get(at) {
            Some(fault) => (fault.give)(&mut exchange, &body),
            None => exchange.serve(&body),
        }
        meta.given[at].fetch_add(1, Ordering::Relaxed);
    })
}

fn harm_nothing(faults: &'static [Fault]) {
    let mut host = Host::new();
    let names: Vec<_> = faults.iter().map(|fault| fault.name).collect();
    let before: Vec<_> = names
        .iter()
        .map(|name| found_running(&host, name))
        .collect();
    let meta = Arc::new(Meta {
        faults,
        at: AtomicUsize::new(faults.len()),
        given: (0..=faults.len()).map(|_| AtomicUsize::new(0)).collect(),
        desired: Mutex::new(names.iter().map(|name| host.want(name, "1.0.0")).collect()),
    });
    let server = serve(&meta);
    host.set("server", &quote(&server.addr()));
    // So long that a heartbeat comes because this test wants it.
    host.set("interval", "300");
    host.start();
    crate::pacing::prompt(&host);
    host.wait_for("a first answer", || meta.given(faults.len()) > 0);
    let began = Instant::now();
    for (at, fault) in faults.iter().enumerate() {
        let name = fault.name;
        meta.wait_for(&host, at);
        if fault.serves.contains('b') {
            host.wait_for(&format!("{name} to be stopped"), || {
                host.running(name).is_empty()
            });
            continue;
        }
        assert_eq!(
            host.running(name),
            std::slice::from_ref(&before[at]),
            "{name}"
        );
        host.kill_agent(name);
        meta.wait_for(&host, at);
        host.wait_for(&format!("{name} to run again"), || {
            host.running(name).len() == 1
        });
        assert_eq!(host.calls(name), ["1.0.0 start"; 2], "{name}");
        meta.wait_for(&host, faults.len());
    }
    eprintln!("{} answers in {:?}", faults.len(), began.elapsed());
    let last = names[0];
    let mut desired = meta.desired.lock().expect("a list");
    desired[0] = host.want(last, "1.0.0").cmd("stop");
    drop(desired);
    meta.wait_for(&host, faults.len());
    host.wait_for("a good answer to be followed", || {
        host.running(last).is_empty()
    });
}

#[test]
fn an_answer_that_is_cut_anywhere_is_not_followed() {
    harm_nothing(CUTS);
}

#[test]
fn an_answer_that_lies_of_its_length_is_not_followed() {
    harm_nothing(LENGTHS);
}

#[test]
fn an_answer_in_bad_chunks_is_not_followed() {
    harm_nothing(CHUNKS);
}

#[test]
fn an_answer_with_a_bad_head_is_not_followed() {
    harm_nothing(HEADS);
}

/// A host with an interval too long to wait for, whose server leaves its first heartbeat unanswered until it is told,
/// and then wants to be left in peace.
fn waiting_in_vain() -> (Host, Faults, Arc<AtomicUsize>) {
    let phase = Arc::new(AtomicUsize::new(0));
    let told = phase.clone();
    let server = Faults::serve(move |mut exchange| {
        while exchange.count == 0 && told.load(Ordering::Relaxed) == 0 && !exchange.stopped() {
            std::thread::sleep(Duration::from_millis(10));
        }
        match exchange.count {
            0 => exchange.reply("503 Busy", &["Retry-After: 3600"], b""),
            _ => exchange.reply("200 OK", &[], stock_answer(&[]).as_bytes()),
        }
    });
    let mut host = Host::new();
    host.set("server", &quote(&server.addr()));
    host.set("interval", "300");
    host.start();
    crate::pacing::prompt(&host);
    host.wait_for("the first heartbeat", || server.heads().len() == 1);
    (host, server, phase)
}

#[test]
fn a_heartbeat_that_is_asked_for_while_one_fails_is_sent_after_it() {
    let (host, server, phase) = waiting_in_vain();
    host.signal_daemon(libc::SIGUSR1);
    phase.store(1, Ordering::Relaxed);
    host.wait_for("the heartbeat that was asked for", || {
        server.heads().len() == 2
    });
}

#[test]
fn a_new_server_does_not_pay_for_the_silence_of_the_one_before() {
    let (mut host, server, phase) = waiting_in_vain();
    host.set("server", &quote(&host.meta.addr()));
    host.set("interval", "2");
    host.signal_daemon(libc::SIGHUP);
    host.wait_for("it to be read", || {
        host.log().contains("settings read again")
    });
    phase.store(1, Ordering::Relaxed);
    host.wait_beats(1);
    assert_eq!(server.heads().len(), 1);
}

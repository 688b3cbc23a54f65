//! Sends bad answers to heartbeats. Each one would stop an agent if it were followed. No bad answer is followed, an
//! agent that crashes meanwhile is restarted, and the next good answer is followed.

use crate::network::bad_downloads::found_running;
use crate::network::fault_table::{CHUNKS, CUTS, ENCODINGS, Fault, HEADS, LENGTHS};
use crate::support::fault::Faults;
use crate::support::host::Host;
use crate::support::json::quote;
use crate::support::wire::{Desired, stock_answer};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Index of the fault in the table. An index beyond the table means good answers.
struct Meta {
    faults: &'static [Fault],
    at: AtomicUsize,
    /// How often the server gave each fault. The last counter is for good answers.
    given: Vec<AtomicUsize>,
    desired: Mutex<Vec<Desired>>,
}

impl Meta {
    /// Returns the desired state. The agent of this fault is to be stopped.
    fn body(&self, at: usize) -> Vec<u8> {
        let mut desired = self.desired.lock().expect("a list").clone();
        if at < self.faults.len() {
            desired[at] = desired[at].clone().cmd("stop");
        }
        stock_answer(&desired).into_bytes()
    }

    fn times_given(&self, at: usize) -> usize {
        self.given[at].load(Ordering::Relaxed)
    }

    /// Waits for one more answer of this kind.
    fn wait_for(&self, host: &Host, at: usize) {
        self.at.store(at, Ordering::Relaxed);
        let before = self.times_given(at);
        host.signal_daemon(libc::SIGUSR1);
        host.wait_for("the next heartbeat", || self.times_given(at) > before);
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

fn assert_harmless(faults: &'static [Fault]) {
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
    // The interval is so long that heartbeats come only when this test asks for them.
    host.set("interval", "300");
    host.start();
    host.prompt();
    host.wait_for("the first answer", || meta.times_given(faults.len()) > 0);
    let began = Instant::now();
    for (at, fault) in faults.iter().enumerate() {
        let name = fault.name;
        meta.wait_for(&host, at);
        if fault.serves().contains('b') {
            host.wait_for(&format!("{name} to stop"), || host.running(name).is_empty());
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
    assert_harmless(CUTS);
}

#[test]
fn an_answer_that_lies_of_its_length_is_not_followed() {
    assert_harmless(LENGTHS);
}

#[test]
fn an_answer_in_bad_chunks_is_not_followed() {
    assert_harmless(CHUNKS);
}

#[test]
fn an_answer_in_an_encoding_is_followed_only_if_it_is_gzip() {
    assert_harmless(ENCODINGS);
}

#[test]
fn an_answer_with_a_bad_head_is_not_followed() {
    assert_harmless(HEADS);
}

/// Returns a host whose interval is too long to wait for. Its server leaves the first heartbeat unanswered until the
/// phase changes, and then desires no change.
fn host_without_answer() -> (Host, Faults, Arc<AtomicUsize>) {
    let phase = Arc::new(AtomicUsize::new(0));
    let server_phase = phase.clone();
    let server = Faults::serve(move |mut exchange| {
        while exchange.count == 0
            && server_phase.load(Ordering::Relaxed) == 0
            && !exchange.stopped()
        {
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
    host.prompt();
    host.wait_for("the first heartbeat", || server.heads().len() == 1);
    (host, server, phase)
}

#[test]
fn a_heartbeat_that_is_asked_for_while_one_fails_is_sent_after_it() {
    let (host, server, phase) = host_without_answer();
    host.signal_daemon(libc::SIGUSR1);
    phase.store(1, Ordering::Relaxed);
    host.wait_for("the heartbeat that was asked for", || {
        server.heads().len() == 2
    });
}

#[test]
fn a_new_server_does_not_pay_for_the_silence_of_the_one_before() {
    let (mut host, server, phase) = host_without_answer();
    host.set("server", &quote(&host.meta.addr()));
    host.set("interval", "2");
    host.signal_daemon(libc::SIGHUP);
    host.wait_for("the settings to be read again", || {
        host.log().contains("settings read again")
    });
    phase.store(1, Ordering::Relaxed);
    host.wait_beats(1);
    assert_eq!(server.heads().len(), 1);
}

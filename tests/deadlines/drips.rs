//! A download that only drips is given up after five minutes. The test makes the clock of the download show them.

use crate::deadlines::clock::Jump;
use crate::support::fault::Faults;
use crate::support::host::Host;
use crate::support::trace;
use crate::support::{agent::Agent, platform, prepared};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

#[test]
fn a_download_that_drips_is_given_up_and_goes_on_where_it_was() {
    if !trace::is_possible(&platform::binary()) {
        return;
    }
    let mut host = Host::new();
    prepared::settle(&host, &[Agent::new("demo", "1.0.0")]);
    host.start();
    let before = host.wait_running("demo", "1.0.0");
    host.stop();
    let store = Faults::serve(|mut exchange| {
        let from = exchange.range().unwrap_or(0);
        let range = format!("Content-Range: bytes {from}-999999/1000000");
        match from {
            0 => exchange.head("200 OK", &[], Some(1_000_000)),
            _ => exchange.head("206 Partial Content", &[&range], Some(1_000_000 - from)),
        }
        exchange.send(&b"\x1f\x8b"[from.min(2)..]);
        while exchange.send_slowly(&[7; 50], 50) {}
    });
    let seconds = Arc::new(AtomicI64::new(0));
    let of_downloads = Jump::new(&seconds, &[libc::CLOCK_MONOTONIC], |role| role == "act");
    let entry = host.want("demo", "1.0.1").tarball(store.releases());
    host.desire(&[entry.md5("0".repeat(32))]);
    let traced = host.start_traced(true, of_downloads);
    host.wait_for("the download to begin", || host.downloaded() > 100);
    seconds.store(300, Ordering::Relaxed);
    let error = host.wait_error("demo");
    assert!(error.contains("bytes came in 5 minutes"), "{error}");
    host.wait_for("the download to go on", || store.heads().len() > 1);
    let again = store.heads().remove(1);
    assert!(again.contains("Range: bytes="), "{again}");
    assert_eq!(host.running("demo"), [before]);
    traced.end();
}

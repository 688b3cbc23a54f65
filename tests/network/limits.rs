//! Checks that a flood from a server or a store is bounded in memory, on disk, in the log and on the wire.

use crate::archives::hostile::spoiled;
use crate::support::archive::{BLOCK, gzip, header};
use crate::support::fault::Faults;
use crate::support::host::Host;
use crate::support::json::Json as _;
use crate::support::memory::InMemory;
use crate::support::platform::{patience, skipped};
use crate::support::watch::names;
use crate::support::wire::Answer;
use std::fmt::Write as _;
use std::fs;
use std::time::Duration;
use tar::EntryType;

#[test]
fn names_that_come_and_go_do_not_make_the_ledger_grow() {
    let mut host = Host::new();
    host.start();
    let ledger = host.own.join("var/ledger.json");
    let mut largest = 0;
    for round in 0..6 {
        // Each of them costs a worker, which takes 50 ms in an emulator.
        let names = (0..100).map(|n| host.want(&format!("a{round}-{n}"), "1").cmd("stop"));
        host.desire(&names.collect::<Vec<_>>());
        host.wait_beats(2);
        largest = largest.max(fs::metadata(&ledger).map_or(0, |meta| meta.len()));
    }
    assert!(largest < 70_000, "{largest} bytes");
    host.desire(&[host.want("demo", "1").cmd("stop")]);
    host.wait_for("the ledger to be small again", || {
        fs::metadata(&ledger).is_ok_and(|meta| meta.len() < 10_000)
    });
}

#[test]
fn thousands_of_bad_entries_are_counted_and_not_repeated() {
    let mut host = Host::new();
    let mut entries = String::new();
    for n in 0..20_000 {
        let _ = write!(entries, "{{\"name\":\"a{n}\"}},");
    }
    let body = format!("{{\"desiredAgents\":[{}]}}", entries.trim_end_matches(','));
    host.meta.answer(Answer::new(200, body));
    host.start();
    host.wait_beats(4);
    let largest = host
        .meta
        .beats()
        .iter()
        .map(|heartbeat| heartbeat.body.len())
        .max();
    assert!(
        largest.expect("a heartbeat came") < 100_000,
        "{largest:?} bytes"
    );
    let heartbeat = host.last_beat().expect("a heartbeat came").json();
    let errors = heartbeat.field("errors").items();
    assert!(errors.iter().any(|error| error.text().contains("more")));
    let lines = host.log().lines().count();
    assert!(lines < 60, "{lines} lines in the log");
}

/// Offers demo with files this deep in directories that have no entry. It must be refused once, soon, and leave
/// nothing behind.
fn assert_refused_soon(files: u32, depth: usize) -> String {
    let mut bytes = spoiled();
    for n in 0..files {
        bytes = bytes.gnu_long_name(&format!("{n}/{}x", "a/".repeat(depth)), 0o644, b"x");
    }
    let mut host = Host::new();
    let work = InMemory::of(&host);
    host.meta.publish("demo", "1.0.0", bytes.gzip());
    // The interval is so long that there is only one attempt.
    host.set("interval", "60");
    host.desire(&[host.want("demo", "1.0.0").work_dir(&work.dir)]);
    host.start();
    host.prompt();
    host.wait_for("the download", || !host.meta.downloads().is_empty());
    // Alone it takes 5 s. The machine makes and removes 70,000 directories, while two dozen other tests keep it busy.
    let soon = patience(Duration::from_secs(100));
    host.wait_within(soon, "the refusal", || !host.error("demo").is_empty());
    let error = host.error("demo");
    assert!(host.calls("demo").is_empty());
    assert_eq!(names(&work.dir.join("demo/.updater")), ["lock", "owner"]);
    error
}

#[test]
fn directories_that_no_entry_names_are_counted_too() {
    let error = assert_refused_soon(1200, 60);
    assert!(error.contains("cannot unpack"), "{error}");
}

#[test]
fn a_path_without_end_is_refused_in_no_time() {
    let error = assert_refused_soon(200, 450);
    assert!(error.contains("cannot unpack"), "{error}");
}

/// Returns a sparse file whose map is larger than the memory that an archive may take.
fn endless_map() -> Vec<u8> {
    let mut start = header(EntryType::GNUSparse, "sparse", "", 0o644, 0);
    let gnu = start.as_gnu_mut().expect("a GNU header");
    gnu.realsize[..11].copy_from_slice(b"00000000000");
    gnu.isextended = [1];
    start.set_cksum();
    let mut block = [0; BLOCK];
    for slot in block[..504].chunks_mut(12) {
        slot[..11].copy_from_slice(b"00000000000");
    }
    block[504] = 1;
    // These gzip members follow one another. Packing one of them and repeating it saves half a minute.
    let begin = gzip(&spoiled().raw(&start, b"").unfinished());
    let more = gzip(&block.repeat(2000));
    [begin, more.repeat(100)].concat()
}

#[test]
fn a_map_without_end_takes_no_memory() {
    let host = Host::with_demo("1.0.0");
    let before = host.running("demo");
    host.meta.publish("demo", "1.0.1", endless_map());
    host.desire(&[host.want("demo", "1.0.1")]);
    let error = host.wait_error("demo");
    assert!(error.contains("the map of its holes is bad"), "{error}");
    assert_eq!(host.running("demo"), before);
}

#[test]
fn a_body_without_end_leaves_nothing_behind() {
    if std::env::var_os("OPS_TEST_SLOW").is_none() {
        skipped("writes 2 GB, set OPS_TEST_SLOW to run it");
        return;
    }
    let mut host = Host::new();
    let store = Faults::serve(|mut exchange| {
        exchange.head("200 OK", &["Transfer-Encoding: chunked"], None);
        let chunk = [b"10000\r\n\x1f\x8b".as_slice(), &vec![7; 65_534], b"\r\n"].concat();
        while exchange.send_slowly(&chunk, 1 << 30) {}
    });
    host.set("interval", "60");
    let entry = host.want("demo", "1.0.0").tarball(store.releases());
    host.desire(&[entry.md5("0".repeat(32))]);
    host.start();
    host.prompt();
    let error = host.wait_error("demo");
    assert!(error.contains("more than"), "{error}");
    assert_eq!(names(&host.agent_dir("demo").join(".updater")), ["lock"]);
}

//! The updater refuses archives that are small on the wire and huge to unpack.

use crate::archives::hostile::{refused, refused_on, spoiled};
use crate::support::agent::Agent;
use crate::support::archive::{BLOCK, Tarball, gzip, header};
use crate::support::host::Host;
use crate::support::json::Json as _;
use crate::support::memory::InMemory;
use crate::support::procs;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use tar::EntryType;

#[test]
fn a_bomb_is_refused() {
    let zeros = vec![0; 1 << 20];
    let mut bomb = gzip(&spoiled().raw(&sized("zeros", 64 << 20), b"").unfinished());
    let member = gzip(&zeros);
    for _ in 0..64 {
        bomb.extend_from_slice(&member);
    }
    bomb.extend(gzip(&[0; 2 * BLOCK]));
    let huge = gzip(&spoiled().raw(&sized("huge", 5 << 30), b"").unfinished());
    refused(vec![
        ("ratio", bomb),
        ("huge", huge),
        ("sparse-8g", sparse(b"77777777000", b"77777776000")),
    ]);
}

fn sized(path: &str, size: u64) -> tar::Header {
    let mut header = header(EntryType::Regular, path, "", 0o644, size);
    header.set_cksum();
    header
}

/// Returns an archive with a sparse file of this size (eleven octal digits) and one block of data at this offset.
fn sparse(size: &[u8; 11], offset: &[u8; 11]) -> Vec<u8> {
    let mut header = header(EntryType::GNUSparse, "sparse", "", 0o644, BLOCK as u64);
    let gnu = header.as_gnu_mut().expect("a GNU header");
    gnu.realsize[..11].copy_from_slice(size);
    gnu.sparse[0].offset[..11].copy_from_slice(offset);
    gnu.sparse[0].numbytes[..11].copy_from_slice(b"00000001000");
    header.set_cksum();
    spoiled().raw(&header, &[0; BLOCK]).gzip()
}

#[test]
fn the_holes_of_a_sparse_file_are_no_bomb() {
    let mut host = Host::new();
    let bytes = sparse(b"20000000000", b"17777777000");
    host.meta.publish("demo", "1.0.0", bytes);
    host.desire(&[host.want("demo", "1.0.0")]);
    host.start();
    let file = host.agent_dir("demo").join("1.0.0/sparse");
    host.wait_for("demo to be installed", || file.exists());
    let meta = fs::symlink_metadata(file).expect("a file");
    assert_eq!(meta.len(), 2 << 30);
    assert!(meta.blocks() < 1000, "{} blocks", meta.blocks());
}

#[test]
fn more_than_65536_entries_are_refused() {
    let mut tarball = spoiled();
    for i in 0..65_536 {
        tarball = tarball.file(&format!("{:02x}/{i}", i % 256), 0o644, "");
    }
    let mut host = Host::new();
    let memory = InMemory::of(&host);
    host.work.clone_from(&memory.dir);
    refused_on(host, vec![("many", tarball.stored())]);
}

/// Returns an archive of about 300 KB with an extended header of 300 MB.
fn giant_header(kind: EntryType) -> Vec<u8> {
    let mut giant = header(kind, "././@LongLink", "", 0o644, 300 << 20);
    giant.set_cksum();
    let mut bytes = gzip(&Tarball::new().raw(&giant, b"").unfinished());
    let member = gzip(&vec![b'a'; 1 << 20]);
    for _ in 0..300 {
        bytes.extend_from_slice(&member);
    }
    bytes.extend(gzip(&spoiled().tar()));
    bytes
}

#[test]
fn a_long_name_of_300_megabytes_ends_one_child_and_nothing_else() {
    let host = Host::with_demo("1.0.0");
    let before = host.running("demo");
    let kinds = [
        EntryType::GNULongName,
        EntryType::GNULongLink,
        EntryType::XHeader,
        EntryType::XGlobalHeader,
    ];
    let giants = ["name", "link", "pax", "global"];
    for (name, kind) in giants.into_iter().zip(kinds) {
        host.meta.publish(name, "1.0.0", giant_header(kind));
    }
    host.publish(&Agent::new("good", "1.0.0"));
    host.desire(
        &["demo", "good", "name", "link", "pax", "global"].map(|name| host.want(name, "1.0.0")),
    );
    let mut most = 0;
    host.wait_for("the giants to be refused", || {
        let sizes = procs::in_sandbox(&host.dir)
            .into_iter()
            .filter_map(|pid| procs::kilobytes(pid, "VmRSS"));
        most = sizes.max().unwrap_or(0).max(most);
        let heartbeat = host.last_beat();
        heartbeat.is_some_and(|heartbeat| {
            giants
                .iter()
                .all(|name| !heartbeat.agent(name).field("error").text().is_empty())
        })
    });
    assert!(most < 80_000, "a process took {most} KB");
    host.wait_running("good", "1.0.0");
    assert_eq!(host.running("demo"), before);
}

#[test]
fn names_of_megabytes_are_told_in_a_line_and_keep_no_heartbeat_from_leaving() {
    let mut host = Host::new();
    // Together these names are larger than the job of a heartbeat, or the ledger, may be.
    let names: Vec<String> = (0..8).map(|at| format!("long{at}")).collect();
    let path = "n".repeat(5 << 19);
    let archive = spoiled().gnu_long_name(&path, 0o644, b"x").stored();
    for name in &names {
        host.meta.publish(name, "1.0.0", archive.clone());
    }
    let entries: Vec<_> = names.iter().map(|name| host.want(name, "1.0.0")).collect();
    host.desire(&entries);
    host.start();
    for name in &names {
        host.wait_for("the name to be reported", || {
            let error = host.last_beat().map(|heartbeat| heartbeat.agent(name));
            error.is_some_and(|agent| agent.field("error").text().contains("\"nnnnn"))
        });
    }
    host.wait_beats(2);
    let ledger = fs::metadata(host.own.join("var/ledger.json")).expect("a ledger");
    assert!(ledger.len() < 64 << 10, "{} bytes", ledger.len());
    let warnings = host.warnings("long0");
    assert!(
        warnings[0].contains("longer than 1024 bytes"),
        "{warnings:?}"
    );
}

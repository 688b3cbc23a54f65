//! The updater refuses archives that are made to do harm, and leaves no file of them behind.

use crate::support::archive::{Tarball, pax_record};
use crate::support::host::Host;
use crate::support::json::Json as _;
use crate::support::md5_hex;
use crate::support::watch::names;
use std::fs;
use std::time::Duration;
use tar::EntryType;

/// A long time, because the updater makes and removes 65,536 files before it refuses an archive for one file too many.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// Offers each archive as a new agent. Asserts that each is refused with an error and leaves nothing behind.
pub fn refused(archives: Vec<(&str, Vec<u8>)>) {
    refused_on(Host::new(), archives);
}

pub fn refused_on(mut host: Host, archives: Vec<(&str, Vec<u8>)>) {
    fs::write(host.dir.join("canary"), "alive").expect("a file");
    let outside = names(&host.dir);
    let mut entries = Vec::new();
    for (name, bytes) in archives {
        host.meta.publish(name, "1.0.0", bytes);
        entries.push(host.want(name, "1.0.0"));
    }
    host.desire(&entries);
    host.start();
    for entry in &entries {
        assert_refused(&host, &entry.name);
    }
    let canary = fs::read_to_string(host.dir.join("canary")).expect("a file");
    assert_eq!(canary, "alive");
    let mut now = names(&host.dir);
    now.retain(|name| name != "daemon.log");
    assert_eq!(now, outside);
}

fn assert_refused(host: &Host, name: &str) {
    host.wait_within(PATIENCE, &format!("{name} to be refused"), || {
        let agent = host.last_beat().map(|heartbeat| heartbeat.agent(name));
        agent.is_some_and(|agent| !agent.field("error").text().is_empty())
    });
    assert_eq!(host.version(name), "", "{name} was installed");
    let dir = host.agent_dir(name);
    assert!(!dir.join("1.0.0").exists(), "{name} was installed");
    assert!(host.calls(name).is_empty(), "{name} was started");
    host.wait_within(PATIENCE, &format!("nothing of {name} to be left"), || {
        let left = names(&dir.join(".updater"));
        !left.iter().any(|file| file.contains(".new"))
    });
}

/// Returns a valid tarball, to which the caller adds something harmful.
pub fn spoiled() -> Tarball {
    Tarball::new().file("control", 0o755, "#!/bin/sh\necho started\n")
}

#[test]
fn names_that_lead_outside_are_refused() {
    let pax = pax_record("path", "../../pax-escape");
    refused(vec![
        (
            "absolute",
            spoiled().file("/tmp/ops-updater-escape", 0o644, "x").gzip(),
        ),
        ("dotdot", spoiled().file("../escape", 0o644, "x").gzip()),
        (
            "inner-dotdot",
            spoiled().file("a/../../escape", 0o644, "x").gzip(),
        ),
        ("dir-dotdot", spoiled().dir("../escape").gzip()),
        (
            "long-dotdot",
            spoiled()
                .gnu_long_name(&format!("../{}", "x".repeat(120)), 0o644, b"x")
                .gzip(),
        ),
        (
            "pax-dotdot",
            spoiled()
                .entry(EntryType::XHeader, "p", "", 0o644, pax.as_bytes())
                .file("x", 0o644, "x")
                .gzip(),
        ),
    ]);
    assert!(!std::path::Path::new("/tmp/ops-updater-escape").exists());
}

#[test]
fn links_that_lead_outside_are_refused() {
    let pax = pax_record("linkpath", "/etc/passwd");
    refused(vec![
        ("absolute", spoiled().symlink("link", "/etc/passwd").gzip()),
        (
            "dotdot",
            spoiled().symlink("link", "../../../canary").gzip(),
        ),
        ("deep", spoiled().symlink("a/b/link", "../../../x").gzip()),
        (
            "by-pax",
            spoiled()
                .entry(EntryType::XHeader, "p", "", 0o644, pax.as_bytes())
                .symlink("link", "control")
                .gzip(),
        ),
        (
            "via-link",
            spoiled()
                .symlink("a", "b")
                .symlink("b", "..")
                .file("a/escape", 0o644, "x")
                .gzip(),
        ),
        (
            "chain",
            spoiled()
                .dir("d")
                .symlink("here", "d")
                .symlink("here/up", "../..")
                .gzip(),
        ),
    ]);
}

#[test]
fn hard_links_that_lead_outside_are_refused() {
    refused(vec![
        (
            "hard-absolute",
            spoiled().hardlink("link", "/etc/passwd").gzip(),
        ),
        (
            "hard-dotdot",
            spoiled().hardlink("link", "../../../canary").gzip(),
        ),
    ]);
}

#[test]
fn files_written_through_a_link_are_refused() {
    refused(vec![
        (
            "through",
            spoiled()
                .dir("d")
                .symlink("link", "d")
                .file("link/x", 0o644, "x")
                .gzip(),
        ),
        (
            "replaced",
            spoiled()
                .dir("d")
                .symlink("x", "d")
                .file("x", 0o644, "x")
                .gzip(),
        ),
        (
            "hard",
            spoiled()
                .symlink("link", "control")
                .hardlink("x", "link")
                .file("x", 0o644, "x")
                .gzip(),
        ),
    ]);
}

#[test]
fn devices_fifos_and_unknown_kinds_are_refused() {
    refused(vec![
        (
            "char",
            spoiled()
                .entry(EntryType::Char, "dev", "", 0o644, b"")
                .gzip(),
        ),
        (
            "block",
            spoiled()
                .entry(EntryType::Block, "dev", "", 0o644, b"")
                .gzip(),
        ),
        (
            "fifo",
            spoiled()
                .entry(EntryType::Fifo, "pipe", "", 0o644, b"")
                .gzip(),
        ),
        (
            "unknown",
            spoiled()
                .entry(EntryType::new(b'Z'), "odd", "", 0o644, b"")
                .gzip(),
        ),
    ]);
}

#[test]
fn names_that_come_twice_are_refused() {
    refused(vec![
        (
            "file",
            spoiled().file("x", 0o644, "1").file("x", 0o644, "2").gzip(),
        ),
        (
            "control",
            spoiled().file("control", 0o755, "#!/bin/sh\n").gzip(),
        ),
        (
            "dotted",
            spoiled()
                .file("x", 0o644, "1")
                .file("./x", 0o644, "2")
                .gzip(),
        ),
    ]);
}

#[test]
fn a_refused_archive_is_not_fetched_every_round() {
    let host = Host::with_demo("1.0.0");
    let bytes = spoiled().file("../escape", 0o644, "x").gzip();
    host.desire(&[host.want("demo", "1.0.1").md5(md5_hex(&bytes))]);
    host.meta.publish("demo", "1.0.1", bytes);
    host.wait_error("demo");
    let before = host.meta.downloads().len();
    host.stays(Duration::from_secs(8), "few downloads", || {
        host.meta.downloads().len() <= before + 4
    });
}

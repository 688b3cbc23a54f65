//! Tests servers that serve the wrong content. The old version runs on untouched, and the upgrade happens later
//! without help.

use crate::support::agent::Agent;
use crate::support::archive::Tarball;
use crate::support::fault::Faults;
use crate::support::host::Host;
use crate::support::json::Json as _;
use crate::support::watch::names;
use crate::support::wire::Desired;
use crate::support::{md5_hex, release_path};

/// Waits until the newest heartbeat reports an error of demo that contains this word.
fn wait_error(host: &Host, word: &str) {
    host.wait_for(&format!("an error with {word:?} in the heartbeat"), || {
        host.last_beat().is_some_and(|heartbeat| {
            let error = heartbeat.agent("demo").field("error").text().to_lowercase();
            error.contains(&word.to_lowercase())
        })
    });
}

/// Breaks the store for 1.0.1 while demo runs as 1.0.0. The upgrade must fail with this word, harm nothing, and
/// succeed once the store is repaired.
fn assert_harmless(word: &str, break_store: impl FnOnce(&Host, &Agent)) {
    let host = Host::with_demo("1.0.0");
    let before = host.running("demo");
    let new = Agent::new("demo", "1.0.1");
    break_store(&host, &new);
    host.desire(&[host.want("demo", "1.0.1")]);
    wait_error(&host, word);
    assert_eq!(host.running("demo"), before);
    assert_eq!(host.version("demo"), "1.0.0");
    assert_eq!(host.calls("demo"), ["1.0.0 start"]);
    assert!(!host.agent_dir("demo").join("1.0.1").exists());
    host.publish(&new);
    host.wait_running("demo", "1.0.1");
    assert_eq!(host.calls("demo")[1..], ["1.0.0 stop", "1.0.1 start"]);
    let left = names(&host.agent_dir("demo").join(".updater"));
    assert!(
        !left
            .iter()
            .any(|name| name.contains(".part") || name.contains(".new")),
        "{left:?}"
    );
}

/// Publishes this body as the tarball, with the right md5 for it.
fn put_with_its_md5(host: &Host, body: &[u8]) {
    host.meta.publish("demo", "1.0.1", body.to_vec());
}

#[test]
fn a_running_agent_is_not_stopped_when_the_tarball_is_missing() {
    assert_harmless("404", |_, _| {});
}

#[test]
fn a_running_agent_is_not_stopped_when_the_md5_file_is_missing() {
    assert_harmless("404", |host, new| {
        host.meta
            .put(&release_path("demo", "1.0.1"), new.tarball(&host.dir));
    });
}

#[test]
fn a_running_agent_is_not_stopped_when_the_md5_is_wrong() {
    assert_harmless("md5", |host, new| {
        host.publish(new);
        let path = release_path("demo", "1.0.1") + ".md5";
        host.meta.put(
            &path,
            "0123456789abcdef0123456789abcdef  demo-1.0.1.tar.gz\n",
        );
    });
}

#[test]
fn a_running_agent_is_not_stopped_when_the_md5_file_is_a_page() {
    assert_harmless("md5", |host, new| {
        host.publish(new);
        host.meta.put(
            &(release_path("demo", "1.0.1") + ".md5"),
            "<html><body>Not Found</body></html>",
        );
    });
}

#[test]
fn a_running_agent_is_not_stopped_when_the_tarball_is_a_page() {
    assert_harmless("html", |host, _| {
        put_with_its_md5(
            host,
            b"<!DOCTYPE html>\n<html><body>Please log in</body></html>",
        );
    });
}

#[test]
fn a_running_agent_is_not_stopped_when_the_tarball_is_no_gzip() {
    assert_harmless("gzip", |host, new| {
        put_with_its_md5(host, &new.archive(&host.dir).tar());
    });
}

#[test]
fn a_running_agent_is_not_stopped_when_the_tarball_is_cut() {
    assert_harmless("", |host, new| {
        let whole = new
            .clone()
            .file("data", vec![b'x'; 9000])
            .archive(&host.dir)
            .stored();
        put_with_its_md5(host, &whole[..whole.len() - 5000]);
    });
}

#[test]
fn a_running_agent_is_not_stopped_when_the_tarball_is_cut_between_two_entries() {
    assert_harmless("", |host, new| {
        let tar = new.archive(&host.dir).tar();
        let end_of_control = 512 + new.control(&host.dir).len().next_multiple_of(512);
        let gzip = crate::support::archive::gzip(&tar[..end_of_control]);
        put_with_its_md5(host, &gzip);
    });
}

#[test]
fn a_running_agent_is_not_stopped_when_the_gzip_checksum_is_wrong() {
    assert_harmless("", |host, new| {
        let mut bytes = new.tarball(&host.dir);
        let crc = bytes.len() - 8;
        bytes[crc] ^= 0xff;
        put_with_its_md5(host, &bytes);
    });
}

#[test]
fn a_running_agent_is_not_stopped_when_the_tarball_is_empty() {
    assert_harmless("", |host, _| put_with_its_md5(host, b""));
}

#[test]
fn a_running_agent_is_not_stopped_when_the_archive_has_no_control() {
    assert_harmless("control", |host, _| {
        put_with_its_md5(host, &Tarball::new().file("program", 0o755, "x").gzip());
    });
}

#[test]
fn a_control_that_cannot_be_executed_is_no_control() {
    assert_harmless("control", |host, new| {
        let script = new.control(&host.dir);
        put_with_its_md5(host, &Tarball::new().file("control", 0o644, script).gzip());
    });
}

#[test]
fn a_control_that_is_a_directory_is_no_control() {
    assert_harmless("control", |host, _| {
        let archive = Tarball::new().dir("control").file("control/x", 0o755, "x");
        put_with_its_md5(host, &archive.gzip());
    });
}

#[test]
fn a_control_that_is_a_link_is_no_control() {
    assert_harmless("control", |host, new| {
        let archive = Tarball::new().file("real", 0o755, new.control(&host.dir));
        put_with_its_md5(host, &archive.symlink("control", "real").gzip());
    });
}

#[test]
fn a_running_agent_is_not_stopped_when_its_configuration_cannot_be_fetched() {
    let host = Host::with_demo("1.0.0");
    let before = host.running("demo");
    host.publish(&Agent::new("demo", "1.0.1"));
    let entry = host
        .want("demo", "1.0.1")
        .config("cfg.json", host.meta.url("/conf/demo.json"));
    host.desire(&[entry]);
    wait_error(&host, "404");
    assert_eq!(host.running("demo"), before);
    assert!(!host.agent_dir("demo").join("1.0.1").exists());
    host.meta.put("/conf/demo.json", "{}");
    let running = host.wait_running("demo", "1.0.1");
    assert!(running.dir.join("cfg.json").is_file());
}

/// Upgrades demo to this entry, whose server always answers badly.
fn assert_refused(word: &str, entry: impl FnOnce(&Host) -> Desired) {
    let host = Host::with_demo("1.0.0");
    let before = host.running("demo");
    host.desire(&[entry(&host)]);
    wait_error(&host, word);
    host.wait_beats(2);
    assert_eq!(host.running("demo"), before);
    assert_eq!(host.calls("demo"), ["1.0.0 start"]);
    assert!(!host.agent_dir("demo").join("1.0.1").exists());
}

#[test]
fn a_running_agent_is_not_stopped_when_the_store_is_down() {
    assert_refused("", |host| {
        host.want("demo", "1.0.1")
            .tarball("http://127.0.0.1:1/releases")
    });
}

#[test]
fn a_running_agent_is_not_stopped_when_the_stores_name_does_not_resolve() {
    assert_refused("", |host| {
        host.want("demo", "1.0.1")
            .tarball("http://store.invalid/releases")
    });
}

#[test]
fn a_running_agent_is_not_stopped_when_the_store_says_500() {
    let store = Faults::serve(|mut exchange| exchange.reply("500 Oops", &[], b"no"));
    assert_refused("500", |host| {
        host.want("demo", "1.0.1").tarball(store.releases())
    });
}

#[test]
fn an_inline_md5_of_another_build_is_an_error_that_names_md5() {
    assert_refused("md5", |host| {
        let new = Agent::new("demo", "1.0.1");
        host.publish(&new);
        host.want("demo", "1.0.1")
            .md5(md5_hex(b"a build for another arch"))
    });
}

#[test]
fn a_tarball_larger_than_two_gigabytes_is_refused_before_it_is_taken() {
    let store = Faults::serve(|mut exchange| {
        exchange.head("200 OK", &[], Some(3_000_000_000));
        exchange.send(b"\x1f\x8b\x08");
        exchange.hold();
    });
    assert_refused("", |host| {
        host.want("demo", "1.0.1")
            .tarball(store.releases())
            .md5(md5_hex(b""))
    });
}

#[test]
fn an_error_in_the_heartbeat_is_at_most_200_printable_characters() {
    let mut host = Host::new();
    let page = "\u{1b}[31m\u{7}<html>ä\r\n".repeat(500);
    let store =
        Faults::serve(move |mut exchange| exchange.reply("404 \u{1b}[31mNo", &[], page.as_bytes()));
    host.desire(&[host.want("demo", "1.0.1").tarball(store.releases())]);
    host.start();
    wait_error(&host, "404");
    let agent = host.last_beat().expect("a heartbeat came").agent("demo");
    assert_eq!(agent.field("version").text(), "");
    let status = agent.field("status").text();
    assert!(status.starts_with("failed: "), "{status}");
    assert!(
        status.len() <= 200 && status.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
        "{status:?}"
    );
    assert!(
        !host.log().contains('\u{1b}'),
        "the log holds an escape sequence of the server"
    );
}

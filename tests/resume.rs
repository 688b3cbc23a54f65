//! Downloads that break: they go on where they broke, and nothing wrong is ever put together.

use crate::downloads::{install, store, tarball};
use crate::support::fault::Exchange;
use crate::support::host::Host;
use std::fs;

#[test]
fn a_broken_download_goes_on_where_it_broke() {
    let mut host = Host::new();
    let bytes = tarball(&host);
    let store = store(&bytes, |exchange, bytes| match exchange.count {
        0 => exchange.begin(bytes, 120_000),
        _ => exchange.serve(bytes),
    });
    install(&mut host, &store, &bytes);
    let heads = store.heads();
    assert_eq!(heads.len(), 2);
    let line = heads[1]
        .lines()
        .find(|line| line.to_lowercase().starts_with("range:"));
    assert_eq!(
        line.map(str::to_lowercase).as_deref(),
        Some("range: bytes=120000-")
    );
}

#[test]
fn a_server_that_ignores_range_gives_the_whole_from_its_beginning() {
    let mut host = Host::new();
    let bytes = tarball(&host);
    let store = store(&bytes, |exchange, bytes| match exchange.count {
        0 => exchange.begin(bytes, 120_000),
        _ => exchange.reply("200 OK", &[], bytes),
    });
    install(&mut host, &store, &bytes);
}

#[test]
fn a_range_that_starts_elsewhere_than_asked_is_not_appended() {
    let mut host = Host::new();
    let bytes = tarball(&host);
    let store = store(&bytes, |exchange, bytes| {
        match (exchange.count, exchange.range()) {
            (0, _) => exchange.begin(bytes, 120_000),
            (_, None) => exchange.reply("200 OK", &[], bytes),
            (_, Some(from)) => {
                let range = format!(
                    "Content-Range: bytes {}-{}/{}",
                    from - 1,
                    bytes.len() - 1,
                    bytes.len()
                );
                exchange.reply("206 Partial Content", &[&range], &bytes[from - 1..]);
            }
        }
    });
    install(&mut host, &store, &bytes);
}

#[test]
fn a_206_without_content_range_is_not_appended() {
    let mut host = Host::new();
    let bytes = tarball(&host);
    let store = store(&bytes, |exchange, bytes| {
        match (exchange.count, exchange.range()) {
            (0, _) => exchange.begin(bytes, 120_000),
            (_, None) => exchange.reply("200 OK", &[], bytes),
            (_, Some(_)) => exchange.reply("206 Partial Content", &[], bytes),
        }
    });
    install(&mut host, &store, &bytes);
}

#[test]
fn a_416_starts_over() {
    let mut host = Host::new();
    let bytes = tarball(&host);
    let store = store(&bytes, |exchange, bytes| {
        match (exchange.count, exchange.range()) {
            (0, _) => exchange.begin(bytes, 120_000),
            (_, None) => exchange.reply("200 OK", &[], bytes),
            (_, Some(_)) => exchange.reply(
                "416 Range Not Satisfiable",
                &["Content-Range: bytes */10"],
                b"",
            ),
        }
    });
    install(&mut host, &store, &bytes);
}

#[test]
fn a_connection_that_closes_before_any_byte_is_tried_again() {
    let mut host = Host::new();
    let bytes = tarball(&host);
    let store = store(&bytes, |exchange, bytes| match exchange.count {
        0 => {}
        1 => exchange.begin(bytes, 0),
        _ => exchange.serve(bytes),
    });
    install(&mut host, &store, &bytes);
}

#[test]
fn a_connection_that_closes_within_the_head_or_at_the_last_byte_is_tried_again() {
    let mut host = Host::new();
    let bytes = tarball(&host);
    let store = store(&bytes, |exchange, bytes| match exchange.count {
        0 => exchange.send(b"HTTP/1.1 200 OK\r\nContent-Le"),
        1 => exchange.begin(bytes, bytes.len() - 1),
        _ => exchange.serve(bytes),
    });
    install(&mut host, &store, &bytes);
}

#[test]
fn a_partial_file_of_something_else_is_not_built_upon() {
    let mut host = Host::new();
    let bytes = tarball(&host);
    let updater = host.agent_dir("demo").join(".updater");
    fs::create_dir_all(updater.join("1.0.0.new/junk")).expect("a directory");
    fs::write(updater.join("1.0.0.part"), vec![b'x'; 50_000]).expect("a file");
    let store = store(&bytes, Exchange::serve);
    install(&mut host, &store, &bytes);
    assert!(!host.agent_dir("demo").join("1.0.0/junk").exists());
}

#[test]
fn a_body_in_chunks_is_a_body() {
    let mut host = Host::new();
    let bytes = tarball(&host);
    let store = store(&bytes, |exchange, bytes| {
        exchange.head("200 OK", &["Transfer-Encoding: chunked"], None);
        let cut = if exchange.count == 0 {
            bytes.len() / 2
        } else {
            bytes.len()
        };
        for chunk in bytes[..cut].chunks(7000) {
            exchange.send(format!("{:x}\r\n", chunk.len()).as_bytes());
            exchange.send(chunk);
            exchange.send(b"\r\n");
        }
        if exchange.count > 0 {
            exchange.send(b"0\r\n\r\n");
        }
    });
    install(&mut host, &store, &bytes);
}

#[test]
fn a_body_without_length_is_bounded_by_its_md5() {
    let mut host = Host::new();
    let bytes = tarball(&host);
    let store = store(&bytes, |exchange, bytes| {
        exchange.head("200 OK", &[], None);
        exchange.send(if exchange.count == 0 {
            &bytes[..70_000]
        } else {
            bytes
        });
    });
    install(&mut host, &store, &bytes);
}

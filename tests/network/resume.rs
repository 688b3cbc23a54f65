//! Tests downloads that break. They resume where they broke, and wrong parts are never combined.

use crate::network::downloads::{install, store, tarball};
use crate::support::archive::noise;
use crate::support::fault::{Exchange, Faults};
use crate::support::host::Host;
use crate::support::md5_hex;
use std::fs;

/// What a store does with each request, starting with the first.
type Answers = fn(&mut Exchange, &[u8]);

/// Breaks at the first request. Later it sends everything, except to requests with a Range.
fn breaks_then(exchange: &mut Exchange, bytes: &[u8], with_range: impl Fn(&mut Exchange, usize)) {
    match (exchange.count, exchange.range()) {
        (0, _) => exchange.begin(bytes, BROKEN_AT),
        (_, None) => exchange.reply("200 OK", &[], bytes),
        (_, Some(from)) => with_range(exchange, from),
    }
}

const BROKEN_AT: usize = 120_000;

/// The rows: the name of an agent says what its store does. Each agent is installed completely in the end.
const ROWS: [(&str, Answers); 8] = [
    ("ignores-range", |x, bytes| {
        breaks_then(x, bytes, |x, _| x.reply("200 OK", &[], bytes));
    }),
    ("starts-elsewhere-than-asked", |x, bytes| {
        breaks_then(x, bytes, |x, from| {
            let (first, last, all) = (from - 1, bytes.len() - 1, bytes.len());
            let range = format!("Content-Range: bytes {first}-{last}/{all}");
            x.reply("206 Partial Content", &[&range], &bytes[first..]);
        });
    }),
    ("206-without-content-range", |x, bytes| {
        breaks_then(x, bytes, |x, _| x.reply("206 Partial Content", &[], bytes));
    }),
    ("416", |x, bytes| {
        breaks_then(x, bytes, |x, _| {
            let range = "Content-Range: bytes */10";
            x.reply("416 Range Not Satisfiable", &[range], b"");
        });
    }),
    ("closes-before-any-byte", |x, bytes| match x.count {
        0 => {}
        1 => x.begin(bytes, 0),
        _ => x.serve(bytes),
    }),
    (
        "closes-in-the-head-and-at-the-last-byte",
        |x, bytes| match x.count {
            0 => x.send(b"HTTP/1.1 200 OK\r\nContent-Le"),
            1 => x.begin(bytes, bytes.len() - 1),
            _ => x.serve(bytes),
        },
    ),
    ("chunks", |x, bytes| {
        x.head("200 OK", &["Transfer-Encoding: chunked"], None);
        let is_whole = x.count > 0;
        let cut = if is_whole {
            bytes.len()
        } else {
            bytes.len() / 2
        };
        for chunk in bytes[..cut].chunks(7000) {
            x.send(format!("{:x}\r\n", chunk.len()).as_bytes());
            x.send(chunk);
            x.send(b"\r\n");
        }
        if is_whole {
            x.send(b"0\r\n\r\n");
        }
    }),
    ("no-length-bounded-by-its-md5", |x, bytes| {
        x.head("200 OK", &[], None);
        let sent = if x.count == 0 { 70_000 } else { bytes.len() };
        x.send(&bytes[..sent]);
    }),
];

#[test]
fn however_a_download_breaks_the_right_bytes_are_put_together() {
    let mut host = Host::new();
    let bytes = tarball(&host);
    let stores = ROWS.map(|(_, answers)| store(&bytes, answers));
    let digest = md5_hex(&bytes);
    let entry = |((name, _), store): (&(&str, Answers), &Faults)| {
        let entry = host.want(name, "1.0.0").tarball(store.releases());
        entry.md5(&digest)
    };
    host.desire(&ROWS.iter().zip(&stores).map(entry).collect::<Vec<_>>());
    host.start();
    for (name, _) in ROWS {
        host.wait_running(name, "1.0.0");
        let data = fs::read(host.agent_dir(name).join("1.0.0/data")).expect("its data");
        assert!(
            data == noise(200_000, 3),
            "{name}: the data is not what was published"
        );
    }
}

#[test]
fn a_broken_download_goes_on_where_it_broke() {
    let mut host = Host::new();
    let bytes = tarball(&host);
    let store = store(&bytes, |exchange, bytes| match exchange.count {
        0 => exchange.begin(bytes, BROKEN_AT),
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

/// Serves the rest of these bytes from the offset in Range on, or all of them, with these headers.
fn serve_with(x: &mut Exchange, headers: &[&str], bytes: &[u8], is_ranged: bool) {
    match x.range() {
        Some(from) if is_ranged => {
            let (last, all) = (bytes.len() - 1, bytes.len());
            let range = format!("Content-Range: bytes {from}-{last}/{all}");
            let headers = [headers, &[&range]].concat();
            x.reply("206 Partial Content", &headers, &bytes[from..]);
        }
        _ => x.reply("200 OK", headers, bytes),
    }
}

const DATE: &str = "Date: Mon, 30 Nov 2026 12:00:00 GMT";
const SAME_SECOND: &str = "Last-Modified: Mon, 30 Nov 2026 12:00:00 GMT";
const OLDER: &str = "Last-Modified: Mon, 30 Nov 2026 11:59:59 GMT";

/// What a store does, the headers that it sends first, the `If-Range` that it must get for them, the headers that it sends from
/// then on, and whether it obeys `If-Range` and `Range`.
struct Replaced {
    name: &'static str,
    first: &'static [&'static str],
    if_range: Option<&'static str>,
    then: &'static [&'static str],
    obeys: (bool, bool),
}

const REPLACED: [Replaced; 8] = [
    Replaced {
        name: "strong-tag",
        first: &["ETag: \"1\"", DATE, OLDER],
        if_range: Some("\"1\""),
        then: &["ETag: \"2\""],
        obeys: (true, true),
    },
    Replaced {
        name: "tag-that-is-ignored",
        first: &["ETag: \"1\""],
        if_range: Some("\"1\""),
        then: &["ETag: \"2\""],
        obeys: (false, true),
    },
    Replaced {
        name: "date",
        first: &[DATE, OLDER],
        if_range: Some("Mon, 30 Nov 2026 11:59:59 GMT"),
        then: &[DATE, SAME_SECOND],
        obeys: (true, true),
    },
    Replaced {
        name: "weak-tag",
        first: &["ETag: W/\"1\"", DATE, OLDER],
        if_range: None,
        then: &["ETag: W/\"2\""],
        obeys: (true, true),
    },
    Replaced {
        name: "date-of-now",
        first: &[DATE, SAME_SECOND],
        if_range: None,
        then: &[DATE, SAME_SECOND],
        obeys: (true, true),
    },
    Replaced {
        name: "tag-with-a-tab",
        first: &["ETag: \"1\t\""],
        if_range: None,
        then: &[],
        obeys: (true, true),
    },
    Replaced {
        name: "no-validator",
        first: &[],
        if_range: None,
        then: &[],
        obeys: (false, true),
    },
    Replaced {
        name: "no-range",
        first: &[],
        if_range: None,
        then: &[],
        obeys: (false, false),
    },
];

#[test]
fn a_file_that_is_replaced_while_it_is_fetched_is_fetched_anew_in_the_same_attempt() {
    let mut host = Host::new();
    let bytes = tarball(&host);
    let mut old = bytes.clone();
    old[100_000] ^= 1;
    let stores = REPLACED.map(|row| {
        let old = old.clone();
        store(&bytes, move |x, bytes| {
            if x.count == 0 {
                x.head("200 OK", row.first, Some(old.len()));
                return x.send(&old[..BROKEN_AT]);
            }
            let is_refused = row.obeys.0 && x.head.contains("If-Range: ");
            serve_with(x, row.then, bytes, row.obeys.1 && !is_refused);
        })
    });
    let digest = md5_hex(&bytes);
    let entry = |(row, store): (&Replaced, &Faults)| {
        let entry = host.want(row.name, "1.0.0").tarball(store.releases());
        entry.md5(&digest)
    };
    host.desire(&REPLACED.iter().zip(&stores).map(entry).collect::<Vec<_>>());
    // The interval is so long that there is only one attempt.
    host.set("interval", "60");
    host.start();
    host.prompt();
    for (row, store) in REPLACED.iter().zip(&stores) {
        host.wait_for(&format!("{} to be installed", row.name), || {
            host.version(row.name) == "1.0.0"
        });
        let second = &store.heads()[1];
        let sent = second
            .lines()
            .find_map(|line| line.strip_prefix("If-Range: "));
        assert_eq!(sent, row.if_range, "{}", row.name);
    }
}

#[test]
fn a_file_that_stays_the_same_is_resumed_whatever_validator_it_has() {
    let mut host = Host::new();
    let bytes = tarball(&host);
    let stores = REPLACED.map(|row| {
        store(&bytes, move |x, bytes| match x.count {
            0 => {
                x.head("200 OK", row.first, Some(bytes.len()));
                x.send(&bytes[..BROKEN_AT]);
            }
            _ => serve_with(x, row.first, bytes, true),
        })
    });
    let digest = md5_hex(&bytes);
    let entry = |(row, store): (&Replaced, &Faults)| {
        let entry = host.want(row.name, "1.0.0").tarball(store.releases());
        entry.md5(&digest)
    };
    host.desire(&REPLACED.iter().zip(&stores).map(entry).collect::<Vec<_>>());
    host.start();
    for (row, store) in REPLACED.iter().zip(&stores) {
        host.wait_for(&format!("{} to be installed", row.name), || {
            host.version(row.name) == "1.0.0"
        });
        assert_eq!(store.heads().len(), 2, "{}", row.name);
    }
}

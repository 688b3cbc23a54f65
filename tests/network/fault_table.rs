//! Tables of everything that a network or a bad server can do to an answer: where it is cut, which length it claims,
//! how it is chunked and encoded, and which head it has.

use crate::support::archive;
use crate::support::fault::Exchange;
use std::time::Duration;

pub struct Fault {
    pub name: &'static str,
    /// The requests that this answer still serves, by letter: `b` heartbeat, `m` md5 file, `t` tarball, `c`
    /// configuration. All others must refuse it.
    pub serves: &'static str,
    /// Sends this body, or a wrong answer instead.
    pub give: fn(&mut Exchange, &[u8]),
}

impl Fault {
    /// Returns the requests that it still serves.
    pub fn serves(&self) -> &str {
        // curl believes no chunk that is cut.
        let is_stricter = is_by_curl() && self.name == "size-too-large";
        if is_stricter { "" } else { self.serves }
    }
}

fn is_by_curl() -> bool {
    std::env::var("OPS_TEST_TRANSPORT").is_ok_and(|transport| transport == "curl")
}

const fn fault(name: &'static str, serves: &'static str, give: fn(&mut Exchange, &[u8])) -> Fault {
    Fault { name, serves, give }
}

const ALL: &str = "bmtc";

/// Computes where an answer is cut from the lengths of its head and its body.
type CutPoint = fn(usize, usize) -> usize;

/// Returns the status line and the headers without the length, and the requested part of the body.
fn proper<'a>(x: &Exchange, body: &'a [u8]) -> (String, &'a [u8]) {
    let close = "Connection: close\r\n";
    match x.range() {
        None => (format!("HTTP/1.1 200 OK\r\n{close}"), body),
        Some(from) => {
            let (last, all) = (body.len() - 1, body.len());
            let from = from.min(all);
            let range = format!("Content-Range: bytes {from}-{last}/{all}\r\n");
            let head = format!("HTTP/1.1 206 Partial Content\r\n{close}{range}");
            (head, &body[from..])
        }
    }
}

fn cut(x: &mut Exchange, body: &[u8], cut_point: CutPoint) {
    let (head, rest) = proper(x, body);
    let head = format!("{head}Content-Length: {}\r\n\r\n", rest.len());
    let end = cut_point(head.len(), rest.len());
    x.send(&[head.as_bytes(), rest].concat()[..end]);
}

fn reset(x: &mut Exchange, body: &[u8], cut_point: CutPoint) {
    cut(x, body, cut_point);
    x.reset();
}

/// Sends a whole answer with these headers.
fn with(x: &mut Exchange, body: &[u8], headers: &str) {
    let (head, rest) = proper(x, body);
    x.send(format!("{head}{headers}\r\n").as_bytes());
    x.send(rest);
}

/// Sends a whole answer with this word as its length.
fn length(x: &mut Exchange, body: &[u8], word: &str) {
    with(x, body, &format!("Content-Length: {word}\r\n"));
}

fn asked_for(x: &Exchange, body: &[u8]) -> usize {
    body.len() - x.range().unwrap_or(0)
}

fn chunked(x: &mut Exchange, body: &[u8], size: impl Fn(usize) -> String, end: &str) {
    let (head, rest) = proper(x, body);
    x.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes());
    for chunk in rest.chunks(10_000) {
        x.send((size(chunk.len()) + "\r\n").as_bytes());
        x.send(chunk);
        x.send(b"\r\n");
    }
    x.send(end.as_bytes());
}

fn hex(length: usize) -> String {
    format!("{length:x}")
}

/// Sends lines until the peer closes the connection. The amount is far more than the peer may take.
fn endless(x: &mut Exchange, line: &[u8]) {
    let lines = line.repeat(1000);
    for _ in 0..20_000 {
        if !x.send_slowly(&lines, 1 << 30) {
            return;
        }
    }
}

const AT_ONCE: CutPoint = |_, _| 0;
const IN_STATUS: CutPoint = |_, _| 10;
const AFTER_STATUS: CutPoint = |_, _| 17;
const IN_HEADER: CutPoint = |head, _| head - 10;
const AFTER_HEADERS: CutPoint = |head, _| head - 2;
const AFTER_HEAD: CutPoint = |head, _| head;
const FIRST_BYTE: CutPoint = |head, _| head + 1;
const MIDDLE: CutPoint = |head, body| head + body / 2;
const LAST_BUT_ONE: CutPoint = |head, body| head + body - 1;
const AFTER_ALL: CutPoint = |head, body| head + body;

pub const CUTS: &[Fault] = &[
    fault("reset-at-once", "", |x, b| reset(x, b, AT_ONCE)),
    fault("reset-in-status", "", |x, b| reset(x, b, IN_STATUS)),
    fault("reset-after-status", "", |x, b| reset(x, b, AFTER_STATUS)),
    fault("reset-in-header", "", |x, b| reset(x, b, IN_HEADER)),
    fault("reset-after-headers", "", |x, b| reset(x, b, AFTER_HEADERS)),
    fault("reset-after-head", "", |x, b| reset(x, b, AFTER_HEAD)),
    fault("reset-at-first-byte", "", |x, b| reset(x, b, FIRST_BYTE)),
    fault("reset-in-middle", "", |x, b| reset(x, b, MIDDLE)),
    fault("reset-at-last-byte", "", |x, b| reset(x, b, LAST_BUT_ONE)),
    fault("reset-after-all", ALL, |x, b| reset(x, b, AFTER_ALL)),
    fault("close-at-once", "", |x, b| cut(x, b, AT_ONCE)),
    fault("close-in-status", "", |x, b| cut(x, b, IN_STATUS)),
    fault("close-after-status", "", |x, b| cut(x, b, AFTER_STATUS)),
    fault("close-in-header", "", |x, b| cut(x, b, IN_HEADER)),
    fault("close-after-headers", "", |x, b| cut(x, b, AFTER_HEADERS)),
    fault("close-after-head", "", |x, b| cut(x, b, AFTER_HEAD)),
    fault("close-at-first-byte", "", |x, b| cut(x, b, FIRST_BYTE)),
    fault("close-in-middle", "", |x, b| cut(x, b, MIDDLE)),
    fault("close-at-last-byte", "", |x, b| cut(x, b, LAST_BUT_ONE)),
];

pub const LENGTHS: &[Fault] = &[
    // The rest is never read. Without another measure, a file is as long as the server says.
    fault("too-small", "c", |x, b| {
        let half = asked_for(x, b) / 2;
        length(x, b, &half.to_string());
    }),
    fault("too-large", "", |x, b| {
        let more = asked_for(x, b) + 1;
        length(x, b, &more.to_string());
    }),
    fault("negative", "", |x, b| length(x, b, "-1")),
    fault("not-a-number", "", |x, b| length(x, b, "12a")),
    fault("no-word", "", |x, b| length(x, b, "")),
    fault("larger-than-any-disk", "", |x, b| {
        length(x, b, "999999999999999");
    }),
    fault("larger-than-64-bits", "", |x, b| {
        length(x, b, "99999999999999999999");
    }),
    fault("twice-the-same", ALL, |x, b| {
        let right = asked_for(x, b);
        with(x, b, &format!("Content-Length: {right}\r\n").repeat(2));
    }),
    // The last length counts, also for noticing a cut.
    fault("small-and-too-large", "", |x, b| {
        let more = asked_for(x, b) + 1;
        with(
            x,
            b,
            &format!("Content-Length: 1\r\nContent-Length: {more}\r\n"),
        );
    }),
    fault("none", ALL, |x, b| with(x, b, "")),
    fault("none-and-reset", "t", |x, b| {
        with(x, b, "");
        x.reset();
    }),
    fault("of-compressed-that-is-not", ALL, |x, b| {
        let right = asked_for(x, b);
        with(
            x,
            b,
            &format!("Content-Encoding: gzip\r\nContent-Length: {right}\r\n"),
        );
    }),
    fault("zero", "c", |x, b| length(x, b, "0")),
];

pub const CHUNKS: &[Fault] = &[
    fault("right", ALL, |x, b| chunked(x, b, hex, "0\r\n\r\n")),
    fault("with-extensions", ALL, |x, b| {
        chunked(
            x,
            b,
            |length| hex(length) + ";a=b",
            "0;c\r\nTrailer: x\r\n\r\n",
        );
    }),
    fault("with-length-too", ALL, |x, b| {
        let (head, rest) = proper(x, b);
        let both = "Content-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n";
        x.send(format!("{head}{both}{:x}\r\n", rest.len()).as_bytes());
        x.send(rest);
        x.send(b"\r\n0\r\n\r\n");
    }),
    fault("no-size", "", |x, b| {
        chunked(x, b, |_| "zz".to_owned(), "0\r\n\r\n");
    }),
    fault("negative", "", |x, b| {
        chunked(x, b, |length| format!("-{length:x}"), "0\r\n\r\n");
    }),
    fault("larger-than-64-bits", "", |x, b| {
        chunked(x, b, |_| "f".repeat(17), "");
    }),
    fault("size-without-end", "", |x, b| {
        chunked(x, b, |_| "0".repeat(1 << 20), "");
    }),
    fault("size-too-small", "", |x, b| {
        chunked(x, b, |length| hex(length / 2), "0\r\n\r\n");
    }),
    // Everything that comes belongs to the chunk. Text after an md5 is ignored, and a file has no other measure.
    fault("size-too-large", "mc", |x, b| {
        chunked(x, b, |length| hex(length + 100), "0\r\n\r\n");
    }),
    fault("reset-in-chunk", "", |x, b| {
        let (head, rest) = proper(x, b);
        x.send(
            format!(
                "{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n",
                rest.len()
            )
            .as_bytes(),
        );
        x.send(&rest[..rest.len() / 2]);
        x.reset();
    }),
    fault("trailers-without-end", "t", |x, b| {
        if is_by_curl() {
            // It keeps what nobody reads, until the deadline of its worker.
            return chunked(x, b, hex, "0\r\nX-Trailer: x\r\n");
        }
        chunked(x, b, hex, "0\r\n");
        endless(x, b"X-Trailer: x\r\n");
    }),
];

/// The digest of a tarball is that of the bytes as they are sent, whatever they are called.
pub const ENCODINGS: &[Fault] = &[
    fault("identity", ALL, |x, b| {
        with(x, b, "Content-Encoding: identity\r\n");
    }),
    fault("gzip", "bmc", |x, b| {
        x.reply("200 OK", &["Content-Encoding: gzip"], &archive::gzip(b));
    }),
    fault("x-gzip-in-chunks", "bmc", |x, b| {
        x.head(
            "200 OK",
            &["Content-Encoding: X-GZIP", "Transfer-Encoding: chunked"],
            None,
        );
        for chunk in archive::gzip(b).chunks(7) {
            x.send(&[format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
        }
        x.send(b"0\r\n\r\n");
    }),
    fault("gzip-that-is-cut", "", |x, b| {
        let bytes = archive::gzip(b);
        x.reply(
            "200 OK",
            &["Content-Encoding: gzip"],
            &bytes[..bytes.len() - 3],
        );
    }),
    fault("gzip-of-too-much", "", |x, _| {
        // The members of a gzip file are read as one.
        let bytes = archive::gzip(&vec![b' '; 1 << 20]).repeat(17);
        x.reply("200 OK", &["Content-Encoding: gzip"], &bytes);
    }),
    fault("br", "t", |x, b| with(x, b, "Content-Encoding: br\r\n")),
    fault("zstd", "t", |x, b| with(x, b, "Content-Encoding: zstd\r\n")),
    fault("deflate", "t", |x, b| {
        with(x, b, "Content-Encoding: deflate\r\n");
    }),
];

pub const HEADS: &[Fault] = &[
    fault("of-http-1-0", ALL, |x, b| {
        let (head, rest) = proper(x, b);
        x.send((head.replacen("1.1", "1.0", 1) + "\r\n").as_bytes());
        x.send(rest);
    }),
    fault("with-bare-line-feeds", ALL, |x, b| {
        let (head, rest) = proper(x, b);
        x.send((head.replace('\r', "") + "\n").as_bytes());
        x.send(rest);
    }),
    fault("after-100", ALL, |x, b| {
        x.send(b"HTTP/1.1 100 Continue\r\n\r\n");
        with(x, b, "");
    }),
    fault("after-103", ALL, |x, b| {
        x.send(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n");
        with(x, b, "");
    }),
    fault("after-several-103-in-pieces", ALL, |x, b| {
        for byte in b"HTTP/1.1 103 Early Hints\r\nLink: </\xe9>\r\n\r\n".repeat(2) {
            x.send(&[byte]);
            std::thread::sleep(Duration::from_millis(1));
        }
        with(x, b, "");
    }),
    fault("103-and-no-more", "", |x, _| {
        x.send(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n");
    }),
    fault("103-without-end", "", |x, _| {
        endless(x, b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n");
    }),
    fault("with-latin-1-in-a-header", ALL, |x, b| {
        let (head, rest) = proper(x, b);
        x.send(&[head.as_bytes(), b"Via: soci\xe9t\xe9\r\n\r\n"].concat());
        x.send(rest);
    }),
    fault("with-gbk-as-reason", ALL, |x, b| {
        let (head, rest) = proper(x, b);
        let (status, more) = head.split_once("\r\n").expect("several lines");
        x.send(&[status.as_bytes(), b" \xb3\xc9\xb9\xa6\r\n"].concat());
        x.send((more.to_owned() + "\r\n").as_bytes());
        x.send(rest);
    }),
    fault("with-60-kb-of-headers", ALL, |x, b| {
        let header = format!("X-Policy: {}\r\n", "p".repeat(2988));
        with(x, b, &header.repeat(20));
    }),
    fault("with-70-kb-of-headers", "", |x, b| {
        let header = format!("X-Policy: {}\r\n", "p".repeat(2988));
        with(x, b, &header.repeat(23));
    }),
    fault("204-and-open", "", |x, _| {
        x.send(b"HTTP/1.1 204 No Content\r\n\r\n");
        x.hold();
    }),
    fault("304", "", |x, _| x.reply("304 Not Modified", &[], b"")),
    fault("206-unasked", "bt", |x, b| {
        let from = x.range().unwrap_or(0);
        let range = format!("Content-Range: bytes {from}-{}/{}", b.len() - 1, b.len());
        x.reply("206 Partial Content", &[&range], &b[from..]);
    }),
    fault("206-of-elsewhere", "b", |x, b| {
        let range = format!("Content-Range: bytes 1-{}/{}", b.len() - 1, b.len());
        x.reply("206 Partial Content", &[&range], b);
    }),
    fault("206-of-no-range", "b", |x, b| {
        x.reply("206 Partial Content", &[], b);
    }),
    fault("redirect-to-itself", "", |x, _| {
        let location = format!("Location: {}", x.path);
        x.reply("302 Found", &[&location], b"");
    }),
    fault("redirect-with-endless-body", "", |x, _| {
        let location = format!("Location: {}", x.path);
        x.head("302 Found", &[&location], None);
        endless(x, b"moved, moved, moved");
    }),
    fault("headers-without-end", "", |x, _| {
        x.send(b"HTTP/1.1 200 OK\r\n");
        endless(x, b"X-Filler: x\r\n");
    }),
    fault("one-header-without-end", "", |x, _| {
        x.send(b"HTTP/1.1 200 OK\r\nX-Filler: ");
        endless(x, b"xxxxxxxxxxxx");
    }),
    fault("status-without-end", "", |x, _| {
        endless(x, b"HTTP/1.1 200 O");
    }),
    fault("status-of-no-number", "", |x, b| {
        x.send(b"HTTP/1.1 OK 200\r\n\r\n");
        x.send(b);
    }),
    fault("no-http", "", |x, _| {
        x.send(b"SSH-2.0-OpenSSH_9.2\r\n\0\0\0\xff\xfe\r\n");
    }),
    fault("body-without-end", "", |x, _| {
        x.head("200 OK", &[], None);
        endless(x, b"{\"errorMessage\": \"\"} ");
    }),
];

//! The status, the headers and the body of an answer, read without trust, whatever has sent the request.

use std::io::{self, Read};

use minreq::ResponseLazy;

use super::curl::Transfer;
use crate::error::Error;
use crate::text::brief;

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) reason: String,
    /// Names and values, as the server has sent them.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Body,
}

/// Where the rest of an answer comes from.
pub(super) enum Body {
    Socket(Box<ResponseLazy>),
    Curl(Box<Transfer>),
}

impl Answer {
    /// Reads a head, which may be followed by the headers behind a body. None: it has no status.
    pub(super) fn read(head: &str, body: Body) -> Option<Self> {
        let mut lines = head.lines();
        let (_, status) = lines.next()?.split_once(' ')?;
        let (status, reason) = status.split_once(' ').unwrap_or((status, ""));
        let mut headers = Vec::new();
        for line in lines.take_while(|line| !line.trim().is_empty()) {
            if let Some((name, value)) = line.split_once(':') {
                headers.push((name.to_owned(), value.trim().to_owned()));
            }
        }
        Some(Self {
            status: status.trim().parse().ok()?,
            reason: reason.to_owned(),
            headers,
            body,
        })
    }
}

/// Reads the body, without the framing of chunks. A body that was cut may end without an error.
impl Read for Answer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.body {
            Body::Socket(response) => response.read(buffer),
            Body::Curl(transfer) => transfer.read(buffer),
        }
    }
}

/// Returns the error for a status that the caller cannot use.
pub(super) fn refusal(url: &str, answer: &Answer) -> Error {
    Error::new("fetch", url, status(answer))
}

/// Returns the status as one short line.
pub(super) fn status(answer: &Answer) -> String {
    let status = format!("{} {}", answer.status, answer.reason);
    brief(&status, 100)
}

/// Returns the Location of a redirect, empty if it has none.
pub(super) fn location(answer: &Answer) -> Option<&str> {
    matches!(answer.status, 301 | 302 | 303 | 307 | 308)
        .then(|| header(answer, "location").unwrap_or_default())
}

/// Returns the last header of that name, as minreq does for the length.
pub(super) fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    let mut headers = answer.headers.iter().rev();
    headers
        .find(|(key, _)| key.trim().eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}

/// Returns the announced length of the body. A chunked body has none.
pub(super) fn content_length(answer: &Answer) -> Option<u64> {
    if header(answer, "transfer-encoding").is_some() {
        return None;
    }
    header(answer, "content-length")?.parse().ok()
}

/// Returns what identifies the version of a file for `If-Range`: a strong `ETag`, or the date of the last change if it is older
/// than the answer (sections 8.8 and 13.1.5 of RFC 9110). Empty: nothing does.
pub(super) fn validator(answer: &Answer) -> &str {
    let value = |name| header(answer, name).unwrap_or_default();
    let validator = match value("etag") {
        "" if value("date") != value("last-modified") => value("last-modified"),
        tag if tag.starts_with('"') => tag,
        _ => "",
    };
    // It is sent back.
    let is_plain = validator.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if is_plain { validator } else { "" }
}

//! The status and the headers of an answer, read without trust. Pure.

use minreq::ResponseLazy;

use crate::error::Error;
use crate::text::brief;

/// Returns the error for a status that the caller cannot use.
pub(super) fn refusal(url: &str, answer: &ResponseLazy) -> Error {
    Error::new("fetch", url, status(answer))
}

/// Returns the status as one short line.
pub(super) fn status(answer: &ResponseLazy) -> String {
    let status = format!("{} {}", answer.status_code, answer.reason_phrase);
    brief(&status, 100)
}

/// Returns the Location of a redirect, empty if it has none.
pub(super) fn location(answer: &ResponseLazy) -> Option<&str> {
    matches!(answer.status_code, 301 | 302 | 303 | 307 | 308)
        .then(|| header(answer, "location").unwrap_or_default())
}

/// Returns the last header of that name, as minreq itself does for the length.
pub(super) fn header<'a>(answer: &'a ResponseLazy, name: &str) -> Option<&'a str> {
    let mut headers = answer.headers.iter().rev();
    headers
        .find(|(key, _)| key.trim().eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}

/// Returns the announced length of the body. A chunked body has none.
pub(super) fn content_length(answer: &ResponseLazy) -> Option<u64> {
    if header(answer, "transfer-encoding").is_some() {
        return None;
    }
    header(answer, "content-length")?.parse().ok()
}

/// Returns what identifies the version of a file for `If-Range`: a strong `ETag`, or the date of the last change if it is older
/// than the answer (sections 8.8 and 13.1.5 of RFC 9110). Empty: nothing does.
pub(super) fn validator(answer: &ResponseLazy) -> &str {
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

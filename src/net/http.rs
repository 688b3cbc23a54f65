//! One HTTP request at a time: a POST, a GET with its redirects, and bodies that fit into memory.
//! Nothing here has a timeout, but a body that drips is given up. Responses are read without trust: lengths are checked, and
//! every body has a limit.
#![expect(
    clippy::disallowed_methods,
    reason = "this is the network, and a file for what it sends"
)]

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Instant;

use minreq::{Request, ResponseLazy};

use super::pace::Pace;
use super::reach::{self, Redirected};
use crate::build_info::VERSION;
use crate::error::{At, Cause, Error, Result};
use crate::model::is_url;
use crate::net::stores;

const REDIRECTS: u32 = 5;
/// The largest configuration file, in bytes.
const CONFIG_LIMIT: u64 = 16 << 20;
/// How much is read from a connection at once, in bytes.
pub(super) const CHUNK: usize = 64 << 10;
/// minreq reports a connection that closes without a byte as a response with status 503 and this reason. It offers no
/// other sign of it, and a real 503 must stay one, so the text is compared. A real response has headers besides.
const CLOSED_WITHOUT_ANSWER: &str = "Server did not provide a status line";

/// How far a transfer is, in bytes.
pub struct Received {
    /// What has come from the network since the last report.
    pub fresh: u64,
    /// What is there, the part of an earlier attempt included.
    pub have: u64,
    /// What will be there in the end, if known.
    pub total: Option<u64>,
}

/// Is told whenever bytes have come. An error from it ends the transfer.
pub type Progress<'a> = &'a mut dyn FnMut(Received) -> Result<()>;

/// The response to a POST.
pub struct Answer {
    pub status: u16,
    pub reason: String,
    /// The Retry-After header, if it is a number of seconds.
    pub retry_after: Option<u64>,
    pub body: Vec<u8>,
}

/// POSTs JSON. Fails if the body of the response is longer than `limit` bytes.
pub fn post(url: &str, body: String, limit: u64) -> Result<Answer> {
    let request = prepared(minreq::post(url)).with_header("Content-Type", "application/json");
    let request = request.with_body(body);
    let mut answer = request.send_lazy().at("post to", url)?;
    check_answered("post to", url, &answer)?;
    let retry_after = header(&answer, "retry-after").and_then(|value| value.parse().ok());
    let body = match answer.status_code {
        // 204 has no body, but minreq would wait for one until the server closes the connection.
        204 => Vec::new(),
        _ => read_up_to(&mut answer, limit, &mut |_| Ok(())).at("read the answer of", url)?,
    };
    Ok(Answer {
        status: answer.status_code,
        reason: answer.reason_phrase.clone(),
        retry_after,
        body,
    })
}

/// Sends a GET and returns the status and the Date header of the response. Does not read the body.
pub fn status_and_date(url: &str) -> Result<(u16, String)> {
    let answer = prepared(minreq::get(url)).send_lazy().at("ask", url)?;
    check_answered("ask", url, &answer)?;
    let date = header(&answer, "date").unwrap_or_default();
    Ok((answer.status_code, date.to_owned()))
}

/// GETs a small text. A body without a length may have been cut short; the caller must be able to notice.
pub fn text(url: &str, limit: u64) -> Result<String> {
    let body = self::body(url, limit, &mut |_| Ok(()))?.bytes;
    String::from_utf8(body).map_err(|error| Error::new("fetch", url, error.to_string()))
}

/// Fetches a configuration file to `path`, which must not exist yet. A body without a length is fetched twice and must
/// be the same both times, because a connection cut in the middle looks like the end of the body.
pub fn small_file(url: &str, path: &Path, progress: Progress) -> Result<()> {
    let body = self::body(url, CONFIG_LIMIT, progress)?;
    if !body.has_length {
        let cause = if body.bytes.is_empty() {
            "it is empty, and no length says that it should be"
        } else if self::body(url, CONFIG_LIMIT, progress)?.bytes != body.bytes {
            "it has no length, and two fetches of it differ"
        } else {
            ""
        };
        if !cause.is_empty() {
            return Err(Error::new("fetch", url, cause));
        }
    }
    // It may hold a password, and the agent's user is its owner.
    let mut options = File::options();
    options.write(true).create_new(true).mode(0o600);
    let mut file = options.open(path).at("create", path)?;
    file.write_all(&body.bytes).at("write", path)?;
    file.sync_all().at("sync", path)
}

/// The body of a response, and whether the server announced its length.
pub(super) struct Body {
    pub(super) bytes: Vec<u8>,
    has_length: bool,
}

/// GETs a body of at most `limit` bytes. Any status but 200 is an error.
pub(super) fn body(url: &str, limit: u64, progress: Progress) -> Result<Body> {
    let mut answer = open(url, 0)?;
    if answer.status_code != 200 {
        return Err(refusal(url, &answer));
    }
    let has_length = content_length(&answer).is_some();
    let bytes = read_up_to(&mut answer, limit, progress).at("fetch", url)?;
    Ok(Body { bytes, has_length })
}

/// GETs from `offset` on. Redirects are followed here, because minreq would send every header on to any host.
pub(super) fn open(url: &str, offset: u64) -> Result<ResponseLazy> {
    let mut at = url.to_owned();
    let mut redirected = None;
    for _ in 0..=REDIRECTS {
        stores::check(&at)?;
        if at.starts_with("https://") {
            let cause = "https is not supported, use http";
            return Err(Error::new("fetch", at, cause));
        }
        let mut request = prepared(minreq::get(&at)).with_header("Accept-Encoding", "identity");
        if offset > 0 {
            request = request.with_header("Range", format!("bytes={offset}-"));
        }
        let answer = request.send_lazy();
        if reach::was_refused() {
            let cause = format!("{url} redirects to it, an address of this host or its link");
            return Err(Error::new("fetch", at, cause));
        }
        let answer = answer.at("fetch", &at)?;
        check_answered("fetch", &at, &answer)?;
        match answer.status_code {
            301 | 302 | 303 | 307 | 308 => {
                let location = header(&answer, "location").unwrap_or_default();
                at = target_of_redirect(&at, location)
                    .ok_or_else(|| Error::new("fetch", &at, "it redirects to no http URL"))?;
                redirected.get_or_insert_with(Redirected::begin);
            }
            _ => return Ok(answer),
        }
    }
    let cause = format!("more than {REDIRECTS} redirects");
    Err(Error::new("fetch", url, cause))
}

fn prepared(request: Request) -> Request {
    request
        .with_follow_redirects(false)
        .with_header("Connection", "close")
        .with_header("User-Agent", format!("ops-updater/{VERSION}"))
}

fn check_answered(what: &'static str, url: &str, answer: &ResponseLazy) -> Result<()> {
    if answer.headers.is_empty() && answer.reason_phrase == CLOSED_WITHOUT_ANSWER {
        let cause = "the connection was closed without an answer";
        return Err(Error::new(what, url, cause));
    }
    Ok(())
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

/// Returns the error for a status that the caller cannot use.
pub(super) fn refusal(url: &str, answer: &ResponseLazy) -> Error {
    let cause = format!("{} {}", answer.status_code, answer.reason_phrase);
    Error::new("fetch", url, cause.trim())
}

/// Reads the whole body of at most `limit` bytes. minreq ends a truncated body without an error, so the bytes are
/// counted here.
fn read_up_to(
    answer: &mut ResponseLazy,
    limit: u64,
    progress: Progress,
) -> std::result::Result<Vec<u8>, Cause> {
    let length = content_length(answer);
    let too_large = || format!("it is larger than {limit} bytes").into();
    if length.is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let mut body = Vec::new();
    let mut chunk = vec![0; CHUNK];
    let mut pace = Pace::new(Instant::now());
    while body.len() as u64 <= limit {
        let got = answer.read(&mut chunk)?;
        if got == 0 {
            break;
        }
        body.extend_from_slice(&chunk[..got]);
        let fresh = got as u64;
        progress(Received {
            fresh,
            have: body.len() as u64,
            total: length,
        })?;
        pace.count(Instant::now(), fresh)?;
    }
    let got = body.len() as u64;
    match length {
        _ if got > limit => Err(too_large()),
        Some(length) if got < length => {
            Err(format!("it ended after {got} of {length} bytes").into())
        }
        _ => Ok(body),
    }
}

impl From<minreq::Error> for Cause {
    fn from(error: minreq::Error) -> Self {
        match error {
            minreq::Error::IoError(error) => error.into(),
            error => error.to_string().into(),
        }
    }
}

/// Resolves a Location header against the URL that sent it (RFC 3986, without dot segments). Returns `None` if the
/// result is no URL that we follow.
fn target_of_redirect(from: &str, location: &str) -> Option<String> {
    let rest = from.strip_prefix("http://")?;
    let (host, path) = rest.split_at(up_to(rest, &['/', '?']));
    let path = &path[..up_to(path, &['?'])];
    let folder = path.rfind('/').map_or("/", |end| &path[..=end]);
    // Only a scheme before the path makes it absolute: a query may hold another URL.
    let (scheme, host, folder) =
        if location[up_to(location, &[':', '/', '?', '#'])..].starts_with(':') {
            ("", "", "")
        } else if location.starts_with("//") {
            ("http:", "", "")
        } else if location.starts_with('/') {
            ("http://", host, "")
        } else if location.is_empty() {
            return None;
        } else {
            ("http://", host, folder)
        };
    let target = format!("{scheme}{host}{folder}{location}");
    is_url(&target).then_some(target)
}

/// Returns the length of the text before the first of these characters.
fn up_to(text: &str, ends: &[char]) -> usize {
    text.find(ends).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_resolve_as_in_a_browser_and_never_leave_http() {
        let from = "http://store:80/a/b/c.tar.gz?x=/y";
        for (location, target) in [
            ("http://other/x", Some("http://other/x")),
            ("//other/x", Some("http://other/x")),
            ("/x", Some("http://store:80/x")),
            ("x", Some("http://store:80/a/b/x")),
            (
                "/x?from=http://y/",
                Some("http://store:80/x?from=http://y/"),
            ),
            ("?y", Some("http://store:80/a/b/?y")),
            ("ftp://other/x", None),
            ("file:///etc/passwd", None),
            ("http://o\u{e9}/", None),
            ("", None),
        ] {
            assert_eq!(
                target_of_redirect(from, location).as_deref(),
                target,
                "{location}"
            );
        }
        assert_eq!(
            target_of_redirect("http://h", "x").as_deref(),
            Some("http://h/x")
        );
    }
}

//! One HTTP request at a time: a POST, a GET with its redirects, and bodies that fit into memory.
//! Nothing here has a timeout, but a body that drips is given up. Responses are read without trust: lengths are checked, and
//! every body has a limit.
#![expect(
    clippy::disallowed_methods,
    reason = "this is the network, and a file for what it sends"
)]

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Instant;

use super::answer::{Answer, content_length, header, location, refusal, status};
use super::content::{decoded, is_html, too_large};
use super::network;
use super::pace::Pace;
use super::rate::Throttle;
use super::reach::{self, Redirected};
use super::redirect;
use super::request::Request;
use super::transport::send;
use crate::error::{At, Cause, Error, Result};
use crate::model::{HAS_USER, has_same_origin, has_user, is_url};
use crate::net::stores;
use crate::text::{before, without_passwords};

const REDIRECTS: u32 = 5;
/// The largest configuration file, in bytes.
const CONFIG_LIMIT: u64 = 16 << 20;
pub(super) const IS_HTML: &str = "it is an HTML page; does the store want a login?";
/// How much is read from a connection at once, in bytes.
pub(super) const CHUNK: usize = 64 << 10;
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

/// Refuses a body.
pub type Check<'a> = &'a dyn Fn(&[u8]) -> Result<()>;

/// The response to a POST.
pub struct Response {
    pub status: u16,
    pub reason: String,
    /// The Retry-After header, if it is a number of seconds.
    pub retry_after: Option<u64>,
    pub body: Vec<u8>,
}

/// POSTs JSON. Fails if the body of the response is longer than `limit` bytes, or for a redirect: it is not followed.
pub fn post(url: &str, body: String, limit: u64) -> Result<Response> {
    let request = Request::new("post to", url, url);
    let mut request = request.with("Content-Type", "application/json".to_owned());
    request.body = Some(body);
    let mut answer = send(with_token(request, url))?;
    if let Some(location) = location(&answer) {
        let target = redirect::target(url, location);
        let (text, target, hint) = match &target {
            Ok(target) => ("redirects to ", target, "; put that into server"),
            Err(cause) => ("", cause, ""),
        };
        let cause = format!("{}, {text}{target}{hint}", status(&answer));
        return Err(Error::new("use the answer of", url, cause));
    }
    let retry_after = header(&answer, "retry-after").and_then(|value| value.parse().ok());
    let body = match answer.status {
        // 204 has no body, but minreq would wait for one until the server closes the connection.
        204 => Vec::new(),
        _ => read_up_to(&mut answer, limit, &mut |_| Ok(()))
            .and_then(|body| content(&answer, body, limit))
            .at("read the answer of", url)?,
    };
    Ok(Response {
        status: answer.status,
        reason: answer.reason.clone(),
        retry_after,
        body,
    })
}

/// Sends a GET and returns the status and the Date header of the response. Does not read the body.
pub fn status_and_date(url: &str) -> Result<(u16, String)> {
    let answer = send(with_token(Request::new("ask", url, url), url))?;
    let date = header(&answer, "date").unwrap_or_default();
    Ok((answer.status, date.to_owned()))
}

/// GETs a small text. A body without a length may have been cut short; the caller must be able to notice.
pub fn text(url: &str, limit: u64) -> Result<String> {
    let body = self::body(url, limit, false, &mut |_| Ok(()))?.bytes;
    String::from_utf8(body).map_err(|error| Error::new("fetch", url, error.to_string()))
}

/// Fetches a configuration file to `path`, which must not exist yet. A body without a length is fetched twice and must
/// be the same both times, because a connection cut in the middle looks like the end of the body. A page for browsers is
/// refused, unless the name of the file says that it is one. What `check` refuses is not written either.
pub fn small_file(url: &str, path: &Path, check: Check, progress: Progress) -> Result<()> {
    let name = path.file_name().unwrap_or_default().as_bytes();
    let name = name.to_ascii_lowercase();
    let is = |end: &str| name.ends_with(end.as_bytes());
    // Apache calls a file encoded that ends so, although it is meant to be a gzip file.
    let is_gzip = is(".gz") || is(".tgz");
    let body = self::body(url, CONFIG_LIMIT, is_gzip, progress)?;
    // Also a template, such as page.html.j2.
    if body.is_html && !name.windows(4).any(|part| part == b".htm") {
        return Err(Error::new("use", url, IS_HTML));
    }
    if !body.has_length {
        let cause = if body.bytes.is_empty() {
            "it is empty, and no length says that it should be"
        } else if self::body(url, CONFIG_LIMIT, is_gzip, progress)?.bytes != body.bytes {
            "it has no length, and two fetches of it differ"
        } else {
            ""
        };
        if !cause.is_empty() {
            return Err(Error::new("fetch", url, cause));
        }
    }
    check(&body.bytes)?;
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
    pub(super) is_html: bool,
    has_length: bool,
}

/// GETs a body of at most `limit` bytes, and undoes its encoding, unless a gzip file is wanted. Any status but 200 is an error.
pub(super) fn body(url: &str, limit: u64, is_gzip: bool, progress: Progress) -> Result<Body> {
    let mut answer = open(url, 0, "")?;
    if answer.status != 200 {
        return Err(refusal(url, &answer));
    }
    let has_length = content_length(&answer).is_some();
    let mut bytes = read_up_to(&mut answer, limit, progress).at("fetch", url)?;
    if !is_gzip || !bytes.starts_with(&gzip::MAGIC) {
        bytes = content(&answer, bytes, limit).at("fetch", url)?;
    }
    let kind = header(&answer, "content-type").unwrap_or_default();
    Ok(Body {
        is_html: is_html(kind, &bytes),
        bytes,
        has_length,
    })
}

/// GETs from `offset` on, if the file is still the one of the validator, which may be empty. Redirects are followed here,
/// because minreq would send every header on to any host.
pub(super) fn open(url: &str, offset: u64, validator: &str) -> Result<Answer> {
    check(url)?;
    let (mut at, mut shown) = (url.to_owned(), url.to_owned());
    let mut redirected = None;
    for _ in 0..=REDIRECTS {
        stores::check(&at, &shown)?;
        let mut request = Request::new("fetch", &at, &shown);
        if offset > 0 {
            request = request.with("Range", format!("bytes={offset}-"));
            if !validator.is_empty() {
                request = request.with("If-Range", validator.to_owned());
            }
        }
        let answer = send(with_token(request, url));
        if reach::was_refused() {
            let cause = format!("{url} redirects to it, an address of this host or its link");
            return Err(Error::new("fetch", shown, cause));
        }
        let answer = answer?;
        let Some(location) = location(&answer) else {
            return Ok(answer);
        };
        let target = redirect::target(&at, location);
        at = target.map_err(|cause| Error::new("fetch", shown.as_str(), cause))?;
        // What a store signs into the query is a password for a while.
        before(&at, b"?").clone_into(&mut shown);
        redirected.get_or_insert_with(Redirected::begin);
    }
    let cause = format!("more than {REDIRECTS} redirects");
    Err(Error::new("fetch", url, cause))
}

/// Adds the token for the URL, if there is one. `first` is the URL that was asked first: no store can send the token of
/// another one there.
fn with_token<'a>(request: Request<'a>, first: &str) -> Request<'a> {
    let token = network::get().and_then(|network| network.token(request.url));
    match token {
        Some(token) if has_same_origin(first, request.url) => {
            request.with("Authorization", format!("Bearer {token}"))
        }
        _ => request,
    }
}

/// Entries are checked where they enter, but an operator may give any URL to `apply`. minreq would look up half a password.
fn check(url: &str) -> Result<()> {
    if is_url(url) {
        return Ok(());
    }
    let cause = if has_user(url) {
        HAS_USER
    } else {
        "no http URL in ASCII"
    };
    let cause = format!("it is {cause}");
    Err(Error::new("fetch", without_passwords(url).as_str(), cause))
}

/// Undoes the encoding of a body. The content has at most `limit` bytes too.
fn content(answer: &Answer, body: Vec<u8>, limit: u64) -> std::result::Result<Vec<u8>, Cause> {
    let encoding = header(answer, "content-encoding").unwrap_or_default();
    decoded(encoding, body, limit)
}

/// Reads the whole body of at most `limit` bytes. minreq ends a truncated body without an error, so the bytes are
/// counted here.
fn read_up_to(
    answer: &mut Answer,
    limit: u64,
    progress: Progress,
) -> std::result::Result<Vec<u8>, Cause> {
    let length = content_length(answer);
    if length.is_some_and(|length| length > limit) {
        return Err(too_large(limit));
    }
    let mut body = Vec::new();
    let mut chunk = vec![0; CHUNK];
    let mut pace = Pace::new(Instant::now());
    let mut throttle = Throttle::new(Instant::now());
    while body.len() as u64 <= limit {
        let got = answer.read(throttle.part(&mut chunk))?;
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
        throttle.count(fresh);
    }
    let got = body.len() as u64;
    match length {
        _ if got > limit => Err(too_large(limit)),
        Some(length) if got < length => {
            Err(format!("it ended after {got} of {length} bytes").into())
        }
        _ => Ok(body),
    }
}

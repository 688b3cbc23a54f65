//! HTTP: one POST, small bodies, and one resumable download in constant memory. No timeouts here: the deadline is the
//! process's, kept by the daemon. Knows nothing of agents.
#![expect(
    clippy::disallowed_methods,
    reason = "this is the network, and a file for what it sends"
)]

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use minreq::{Request, ResponseLazy};

use crate::digest::Digest;
use crate::disk;
use crate::error::{At, Error, Result};
use crate::job::VERSION;
use crate::model::{is_md5, is_url};
use crate::sys;

const REDIRECTS: u32 = 5;
/// An agent's tarball; the largest known ones are a tenth of it.
pub const TARBALL_LIMIT: u64 = 2 << 30;
/// An `.md5` file is one line; an error page that a proxy sends instead is told as such.
const MD5_LIMIT: u64 = 64 << 10;
const CONFIG_LIMIT: u64 = 16 << 20;
/// Left free on the agent's filesystem whatever we install.
pub const SPACE_RESERVE: u64 = 50 << 20;
/// A tarball of binaries unpacks to three or four times its size; checked exactly once it is here.
const UNPACKED_ESTIMATE: u64 = 4;
/// Broken connections in a row that bring next to nothing; one that brings more starts the count again.
const BARREN_TRIES: u32 = 3;
const FRUITFUL: u64 = 16 << 10;
/// From the beginning of a fruitful connection to the next one, and after one that was not: a store in trouble has many
/// of us.
const RECONNECT_PAUSE: Duration = Duration::from_secs(1);
/// How often a download may begin again from nothing within one attempt.
const FRESH_STARTS: u32 = 2;
const CHUNK: usize = 64 << 10;
const IS_HTML: &str = "the body is HTML, not a gzip archive; does the store want a login?";

/// An answer to a POST.
pub struct Answer {
    pub status: u16,
    pub reason: String,
    /// The Retry-After header, when it is a number of seconds.
    pub retry_after: Option<u64>,
    pub body: Vec<u8>,
}

/// POSTs JSON and takes at most `limit` bytes of the answer; a longer one is an error.
pub fn post(url: &str, body: String, limit: u64) -> Result<Answer> {
    let request = prepared(minreq::post(url)).with_header("Content-Type", "application/json");
    let request = request.with_body(body);
    let mut answer = request.send_lazy().at("post to", url)?;
    check_answered("post to", url, &answer)?;
    let retry_after = header(&answer, "retry-after").and_then(|value| value.trim().parse().ok());
    let body = match answer.status_code {
        // It has none, and minreq would wait for the server to close.
        204 => Vec::new(),
        _ => read_up_to(&mut answer, limit, &mut |_, _| Ok(())).at("read the answer of", url)?,
    };
    Ok(Answer {
        status: answer.status_code,
        reason: answer.reason_phrase.clone(),
        retry_after,
        body,
    })
}

/// The status of an answer to a GET, and its Date; the body is left alone.
pub fn greet(url: &str) -> Result<(u16, String)> {
    let answer = prepared(minreq::get(url)).send_lazy().at("ask", url)?;
    check_answered("ask", url, &answer)?;
    let date = header(&answer, "date").unwrap_or_default();
    Ok((answer.status_code, date.to_owned()))
}

fn prepared(request: Request) -> Request {
    request
        .with_follow_redirects(false)
        .with_header("Connection", "close")
        .with_header("User-Agent", format!("ops-updater/{VERSION}"))
}

/// minreq makes a 503 of a connection that is closed without an answer.
fn check_answered(what: &'static str, url: &str, answer: &ResponseLazy) -> Result<()> {
    if answer.headers.is_empty() && answer.reason_phrase.starts_with("Server did not provide") {
        return Err(Error::new(
            what,
            url,
            "the connection was closed without an answer",
        ));
    }
    Ok(())
}

/// The last of that name: minreq, too, takes the last of several lengths.
fn header<'a>(answer: &'a ResponseLazy, name: &str) -> Option<&'a str> {
    let mut headers = answer.headers.iter().rev();
    headers
        .find(|(key, _)| key.trim().eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}

/// The body, if it is whole and not longer than `limit`. minreq ends a truncated body without an error, so the bytes
/// are counted here.
fn read_up_to(
    answer: &mut ResponseLazy,
    limit: u64,
    progress: Progress,
) -> std::result::Result<Vec<u8>, String> {
    let length = content_length(answer);
    if length.is_some_and(|length| length > limit) {
        return Err(format!("it is larger than {limit} bytes"));
    }
    let mut body = Vec::new();
    let mut chunk = vec![0; CHUNK];
    while body.len() as u64 <= limit {
        match answer.read(&mut chunk).map_err(|error| error.to_string())? {
            0 => break,
            got => body.extend_from_slice(&chunk[..got]),
        }
        progress(body.len() as u64, length).map_err(|error| error.to_string())?;
    }
    let got = body.len() as u64;
    match length {
        _ if got > limit => Err(format!("it is larger than {limit} bytes")),
        Some(length) if got < length => Err(format!("it ended after {got} of {length} bytes")),
        _ => Ok(body),
    }
}

/// The length that bounds the body; a chunked body has none.
fn content_length(answer: &ResponseLazy) -> Option<u64> {
    if header(answer, "transfer-encoding").is_some() {
        return None;
    }
    header(answer, "content-length")?.parse().ok()
}

/// GETs from `offset`, following redirects by hand: minreq would resend everything anywhere.
fn open(url: &str, offset: u64) -> Result<ResponseLazy> {
    let mut at = url.to_owned();
    for _ in 0..=REDIRECTS {
        if at.starts_with("https://") {
            return Err(Error::new(
                "fetch",
                at,
                "https is not spoken here, use http",
            ));
        }
        let mut request = prepared(minreq::get(&at)).with_header("Accept-Encoding", "identity");
        if offset > 0 {
            request = request.with_header("Range", format!("bytes={offset}-"));
        }
        let answer = request.send_lazy().at("fetch", &at)?;
        check_answered("fetch", &at, &answer)?;
        match answer.status_code {
            301 | 302 | 303 | 307 | 308 => {
                let location = header(&answer, "location").unwrap_or_default();
                at = redirected(&at, location)
                    .ok_or_else(|| Error::new("fetch", &at, "it redirects to no http URL"))?;
            }
            _ => return Ok(answer),
        }
    }
    Err(Error::new(
        "fetch",
        url,
        format!("more than {REDIRECTS} redirects"),
    ))
}

/// Resolves a Location against the URL that gave it (RFC 3986, without dot segments).
fn redirected(from: &str, location: &str) -> Option<String> {
    let rest = from.strip_prefix("http://")?;
    let (host, path) = rest.split_at(up_to(rest, b"/?"));
    let path = &path[..up_to(path, b"?")];
    let slash = path.bytes().rposition(|byte| byte == b'/');
    let folder = slash.map_or("/", |end| &path[..=end]);
    // Absolute is what has a scheme before its path; a query may name another URL.
    let (scheme, host, folder) = if location[up_to(location, b":/?#")..].starts_with(':') {
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

/// How much of the text stands before the first of these characters.
fn up_to(text: &str, ends: &[u8]) -> usize {
    let end = text.bytes().position(|byte| ends.contains(&byte));
    end.unwrap_or(text.len())
}

fn refusal(url: &str, answer: &ResponseLazy) -> Error {
    let cause = format!("{} {}", answer.status_code, answer.reason_phrase);
    Error::new("fetch", url, cause.trim())
}

/// The digest in an `.md5` file, as `md5sum` prints it: 32 hex digits first (a `\` before them marks an odd name).
pub fn md5_file(url: &str, progress: Progress) -> Result<String> {
    let (body, _) = body(url, MD5_LIMIT, progress)?;
    let cause = "it does not begin with 32 hex digits, as md5sum prints them";
    digest_in(&body).ok_or_else(|| Error::new("use", url, cause))
}

/// The digest that the text of an `.md5` file begins with, in lower case.
pub fn digest_in(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    // Windows editors begin a file with a mark.
    let text = text.trim_start_matches('\u{feff}');
    let first = text.split_whitespace().next().unwrap_or_default();
    let digest = first.trim_start_matches('\\').to_ascii_lowercase();
    is_md5(&digest).then_some(digest)
}

/// Fetches a small file to `path`, which must not exist. A body that nothing bounds is fetched twice and must be the
/// same, for a connection cut in the middle looks like its end.
pub fn small_file(url: &str, path: &Path, progress: Progress) -> Result<()> {
    let (body, bounded) = self::body(url, CONFIG_LIMIT, progress)?;
    if !bounded {
        let cause = if body.is_empty() {
            "it is empty, and nothing says that it should be"
        } else if self::body(url, CONFIG_LIMIT, progress)?.0 != body {
            "it has no length, and two fetches of it differ"
        } else {
            ""
        };
        if !cause.is_empty() {
            return Err(Error::new("fetch", url, cause));
        }
    }
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL;
    let mut file = sys::open(path, flags, 0o666).at("create", path)?;
    file.write_all(&body).at("write", path)?;
    file.sync_all().at("sync", path)
}

/// GETs a small text. One that nothing bounds may be cut short: what it is for must be able to tell.
pub fn text(url: &str, limit: u64) -> Result<String> {
    let (body, _) = body(url, limit, &mut |_, _| Ok(()))?;
    String::from_utf8(body).at("fetch", url)
}

/// What a GET brings, and whether its length was announced.
fn body(url: &str, limit: u64, progress: Progress) -> Result<(Vec<u8>, bool)> {
    let mut answer = open(url, 0)?;
    if answer.status_code != 200 {
        return Err(refusal(url, &answer));
    }
    let bounded = content_length(&answer).is_some();
    let body = read_up_to(&mut answer, limit, progress).at("fetch", url)?;
    Ok((body, bounded))
}

/// A tarball whose bytes have the wanted digest. Only `tarball` makes one, so that nothing else can be unpacked.
pub struct Verified {
    pub file: File,
    pub md5: String,
    pub size: u64,
}

/// Called with the bytes that are here and the bytes in all; an error ends the download.
pub type Progress<'a> = &'a mut dyn FnMut(u64, Option<u64>) -> Result<()>;

/// Downloads to `part`, going on where an earlier attempt ended, and verifies the digest on the way.
pub fn tarball(url: &str, md5: &str, part: &Path, progress: Progress) -> Result<Verified> {
    let mut download = Download::resume(url, part, progress)?;
    let inherited = download.have > 0;
    download.complete(md5, progress)?;
    if download.have == 0 {
        return Err(Error::new("use", url, "the body is empty"));
    }
    if !download.matches(md5) && inherited {
        // The beginning came from an earlier attempt, perhaps from another file of that name.
        download.begin_again()?;
        download.complete(md5, progress)?;
    }
    if download.matches(md5) {
        let size = download.have;
        let file = sys::open(part, libc::O_RDONLY, 0).at("open", part)?;
        let md5 = md5.to_owned();
        return Ok(Verified { file, md5, size });
    }
    let got = download.digest();
    // What is wrong now is wrong to resume from.
    let _ = fs::remove_file(part);
    Err(Error::new(
        "verify",
        url,
        format!("its md5 is {got}, wanted {md5}"),
    ))
}

/// Why one connection ended.
enum Cut {
    /// The body ended where it should.
    Complete,
    /// Worth another connection.
    Broken(Error),
    /// Not worth one now.
    Fatal(Error),
}

struct Download<'a> {
    url: &'a str,
    part: &'a Path,
    file: File,
    sum: Digest,
    have: u64,
    total: Option<u64>,
    fresh_starts: u32,
}

impl<'a> Download<'a> {
    /// Opens the part and digests what it holds.
    fn resume(url: &'a str, part: &'a Path, progress: Progress) -> Result<Self> {
        let mut file = disk::open_or_create(part, 0o644).at("open", part)?;
        let mut sum = Digest::new();
        let mut have = 0;
        let mut chunk = vec![0; CHUNK];
        loop {
            let got = file.read(&mut chunk).at("read", part)?;
            if got == 0 {
                break;
            }
            sum.add(&chunk[..got]);
            have += got as u64;
            progress(have, None)?;
        }
        Ok(Self {
            url,
            part,
            file,
            sum,
            have,
            total: None,
            fresh_starts: 0,
        })
    }

    fn begin_again(&mut self) -> Result<()> {
        self.fresh_starts += 1;
        self.file.set_len(0).at("empty", self.part)?;
        self.file.seek(SeekFrom::Start(0)).at("rewind", self.part)?;
        self.sum = Digest::new();
        self.have = 0;
        Ok(())
    }

    fn digest(&self) -> String {
        self.sum.clone().hex()
    }

    fn matches(&self, md5: &str) -> bool {
        self.digest() == md5
    }

    /// Connection after connection until the body is whole.
    fn complete(&mut self, md5: &str, progress: Progress) -> Result<()> {
        let mut barren = 0;
        let mut without_length = String::new();
        loop {
            let (before, began) = (self.have, Instant::now());
            let error = match self.connection(progress) {
                Cut::Complete => return Ok(()),
                Cut::Fatal(error) => return Err(error),
                Cut::Broken(error) => error,
            };
            if self.total.is_none() && self.have > 0 {
                // It may be whole or cut: the digest knows, and so does a second body that ends at the same place.
                let digest = self.digest();
                if digest == md5 || digest == without_length {
                    return Ok(());
                }
                without_length = digest;
            }
            let is_fruitful = self.have >= before + FRUITFUL;
            barren = if is_fruitful { 0 } else { barren + 1 };
            if barren >= BARREN_TRIES || self.fresh_starts > FRESH_STARTS {
                return Err(error);
            }
            let pause = match barren {
                0 => RECONNECT_PAUSE.saturating_sub(began.elapsed()),
                _ => RECONNECT_PAUSE * barren,
            };
            std::thread::sleep(pause);
        }
    }

    fn connection(&mut self, progress: Progress) -> Cut {
        let answer = match open(self.url, self.have) {
            Ok(answer) => answer,
            Err(error) if self.have > 0 => return Cut::Broken(error),
            Err(error) => return Cut::Fatal(error),
        };
        match self.accept(&answer) {
            Ok(true) => self.receive(answer, progress),
            Ok(false) => Cut::Complete,
            Err(cut) => cut,
        }
    }

    /// Decides from the head where the body belongs; false when there is nothing left to fetch.
    fn accept(&mut self, answer: &ResponseLazy) -> std::result::Result<bool, Cut> {
        match answer.status_code {
            200 => {
                let kind = header(answer, "content-type").unwrap_or_default();
                if kind.starts_with("text/html") {
                    return Err(Cut::Fatal(Error::new("use", self.url, IS_HTML)));
                }
                if self.have > 0 {
                    self.begin_again().map_err(Cut::Fatal)?;
                }
                self.total = content_length(answer);
            }
            206 => self.accept_range(answer)?,
            416 if self.have > 0 => {
                let total = header(answer, "content-range")
                    .and_then(|range| range.strip_prefix("bytes */"));
                if total.and_then(|total| total.parse().ok()) == Some(self.have) {
                    return Ok(false);
                }
                self.begin_again().map_err(Cut::Fatal)?;
                return Err(Cut::Broken(refusal(self.url, answer)));
            }
            _ => return Err(Cut::Fatal(refusal(self.url, answer))),
        }
        let total = self.total.unwrap_or(0);
        if total > TARBALL_LIMIT {
            let cause = format!("it is {total} bytes, the limit is {TARBALL_LIMIT}");
            return Err(Cut::Fatal(Error::new("fetch", self.url, cause)));
        }
        self.check_space().map_err(Cut::Fatal)?;
        Ok(true)
    }

    /// A 206 must continue exactly where we are, in a file as long as before.
    fn accept_range(&mut self, answer: &ResponseLazy) -> std::result::Result<(), Cut> {
        let range = header(answer, "content-range").unwrap_or_default();
        let total = range
            .strip_prefix(&format!("bytes {}-", self.have))
            .and_then(|rest| rest.split_once('/'))
            .and_then(|(_, total)| total.parse::<u64>().ok());
        let agrees = self.total.is_none() || self.total == total;
        if let Some(total) = total.filter(|total| agrees && *total > self.have) {
            self.total = Some(total);
            return Ok(());
        }
        let cause = format!(
            "asked for bytes from {}, the server sent {range:?}",
            self.have
        );
        self.begin_again().map_err(Cut::Fatal)?;
        self.total = None;
        Err(Cut::Broken(Error::new("resume", self.url, cause)))
    }

    fn check_space(&self) -> Result<()> {
        let total = self.total.unwrap_or(0);
        let needed = (total - self.have.min(total)) + total * UNPACKED_ESTIMATE + SPACE_RESERVE;
        check_space(self.part, needed)
    }

    fn receive(&mut self, mut answer: ResponseLazy, progress: Progress) -> Cut {
        let mut chunk = vec![0; CHUNK];
        loop {
            let got = match answer.read(&mut chunk) {
                Ok(0) => return self.ended(),
                Ok(got) => got,
                Err(error) => return Cut::Broken(Error::new("fetch", self.url, error)),
            };
            if let Err(error) = self.take(&chunk[..got], progress) {
                return Cut::Fatal(error);
            }
        }
    }

    fn take(&mut self, bytes: &[u8], progress: Progress) -> Result<()> {
        if self.have == 0 {
            self.check_beginning(bytes)?;
        }
        if self.have + bytes.len() as u64 > self.total.unwrap_or(TARBALL_LIMIT) {
            // Nothing of it is worth being kept.
            self.begin_again()?;
            let cause = match self.total {
                Some(total) => format!("more than the announced {total} bytes come"),
                None => format!("more than {TARBALL_LIMIT} bytes come"),
            };
            return Err(Error::new("fetch", self.url, cause));
        }
        self.file.write_all(bytes).at("write", self.part)?;
        self.sum.add(bytes);
        self.have += bytes.len() as u64;
        progress(self.have, self.total)
    }

    /// Names what is commonly served in place of a tarball. The two magic bytes are RFC 1952's.
    fn check_beginning(&self, bytes: &[u8]) -> Result<()> {
        let text = bytes.trim_ascii_start();
        let cause = if text.first() == Some(&b'<') {
            IS_HTML
        } else if bytes.starts_with(&[0x1f]) && (bytes.len() == 1 || bytes[1] == 0x8b) {
            return Ok(());
        } else {
            "the body is not a gzip archive"
        };
        Err(Error::new("use", self.url, cause))
    }

    fn ended(&self) -> Cut {
        let cause = match self.total {
            Some(total) if self.have == total => return Cut::Complete,
            Some(total) => format!("the connection ended after {} of {total} bytes", self.have),
            None => format!(
                "the body ended after {} bytes, and had no length",
                self.have
            ),
        };
        Cut::Broken(Error::new("fetch", self.url, cause))
    }
}

/// Fails with the numbers when the filesystem of `path` has less room than this.
pub fn check_space(path: &Path, needed: u64) -> Result<()> {
    let folder = if disk::is_dir(path) {
        path
    } else {
        disk::parent(path)
    };
    match sys::free_bytes(folder) {
        Some(free) if free < needed => {
            let cause = format!("{} MB are needed, {} MB are free", needed >> 20, free >> 20);
            Err(Error::new("install below", folder, cause))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_resolve_like_a_browser_and_leave_http_never() {
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
            assert_eq!(redirected(from, location).as_deref(), target, "{location}");
        }
        assert_eq!(redirected("http://h", "x").as_deref(), Some("http://h/x"));
    }

    #[test]
    fn an_md5_file_begins_with_its_digest_and_is_nothing_otherwise() {
        let digest = "490ac172dabecc867289079d48e84a66";
        for text in [
            "490ac172dabecc867289079d48e84a66  demo-1.0.1.tar.gz\n",
            "490AC172DABECC867289079D48E84A66",
            " \r\n490ac172dabecc867289079d48e84a66 *demo\r\n",
            "\\490ac172dabecc867289079d48e84a66  odd\\nname\n",
            "\u{feff}490ac172dabecc867289079d48e84a66\nmore lines\n",
        ] {
            assert_eq!(
                digest_in(text.as_bytes()).as_deref(),
                Some(digest),
                "{text}"
            );
        }
        for text in [
            "",
            "\n",
            "490ac172dabecc867289079d48e84a6",
            "490ac172dabecc867289079d48e84a660",
            "490ac172dabecc867289079d48e84a6g",
            "MD5 (demo) = 490ac172dabecc867289079d48e84a66",
            "<html>490ac172dabecc867289079d48e84a66</html>",
        ] {
            assert_eq!(digest_in(text.as_bytes()), None, "{text}");
        }
        assert_eq!(digest_in(b"\xff490ac172dabecc867289079d48e84a66"), None);
    }
}

//! Resolves the Location of a redirect against the URL that sent it (section 5 of RFC 3986). Pure.

use crate::model::{HAS_USER, has_tls, has_user, is_url, url_parts};
use crate::text::{before, printable, without_passwords};

/// Characters of a refused Location that are shown.
const SHOWN: usize = 200;

/// Returns the URL to ask instead. The error says why it cannot be asked.
pub(super) fn target(from: &str, location: &str) -> Result<String, String> {
    let url = resolve(from, location).unwrap_or_default();
    if is_url(&url) {
        let is_downgrade = has_tls(from) && !has_tls(&url);
        let cause = "it redirects from https to http";
        return (!is_downgrade).then_some(url).ok_or(cause.to_owned());
    }
    if has_user(&url) {
        return Err(format!("it redirects to {HAS_USER}"));
    }
    let shown = without_passwords(&printable(location));
    Err(format!(
        "it redirects to no http URL, but to \"{shown:.SHOWN$}\""
    ))
}

/// Returns the absolute form of the Location, without dot segments and fragment, and with the characters encoded that
/// servers send as they are: spaces and UTF-8.
fn resolve(from: &str, location: &str) -> Option<String> {
    let location = before(location, b"#");
    let (scheme, base, path) = url_parts(from)?;
    let path = before(path, b"?#");
    // Only a scheme before the path makes it absolute: a query may hold another URL.
    let is_absolute = before(location, b"/?").contains(':');
    let (slashes, base, path) = match location.as_bytes() {
        [] => return None,
        _ if is_absolute => ("", "", ""),
        [b'/', b'/', ..] => (":", "", ""),
        [b'/', ..] => ("://", base, ""),
        [b'?', ..] => ("://", base, path),
        _ => (
            "://",
            base,
            path.rfind('/').map_or("/", |end| &path[..=end]),
        ),
    };
    let scheme = if is_absolute { "" } else { scheme };
    let absolute = format!("{scheme}{slashes}{base}{path}{location}");
    let (scheme, host, rest) = url_parts(&absolute)?;
    let path = before(rest, b"?");
    let mut url = format!("{}://{host}", scheme.to_ascii_lowercase()).into_bytes();
    push_without_dots(&mut url, path);
    push_encoded(&mut url, &rest[path.len()..]);
    String::from_utf8(url).ok()
}

/// Adds the path without `.` and `..`, which a server may take for a way out of its files (section 5.2.4).
fn push_without_dots(url: &mut Vec<u8>, path: &str) {
    let host_end = url.len();
    let mut is_folder = false;
    for segment in path.strip_prefix('/').unwrap_or(path).split('/') {
        is_folder = matches!(segment, "." | "..");
        if segment == ".." {
            let slash = url[host_end..].iter().rposition(|byte| *byte == b'/');
            url.truncate(host_end + slash.unwrap_or(0));
        } else if segment != "." {
            url.push(b'/');
            push_encoded(url, segment);
        }
    }
    if is_folder {
        url.push(b'/');
    }
}

fn push_encoded(url: &mut Vec<u8>, text: &str) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        // A control character stays, so that the URL is refused.
        if byte == b' ' || !byte.is_ascii() {
            let [high, low] = [byte >> 4, byte & 15].map(|half| DIGITS[usize::from(half)]);
            url.extend([b'%', high, low]);
        } else {
            url.push(byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_resolve_as_in_a_browser() {
        let from = "http://store:80/a/b/c.tar.gz?x=/y";
        for (location, wanted) in [
            ("http://other/x", "http://other/x"),
            ("HTTP://other/x", "http://other/x"),
            ("Http://Other:81", "http://Other:81/"),
            ("https://other/x", "https://other/x"),
            ("//other/x", "http://other/x"),
            ("//other?x", "http://other/?x"),
            ("/x", "http://store:80/x"),
            ("x", "http://store:80/a/b/x"),
            ("./x", "http://store:80/a/b/x"),
            ("../x", "http://store:80/a/x"),
            ("../../../x", "http://store:80/x"),
            ("..", "http://store:80/a/"),
            (".", "http://store:80/a/b/"),
            ("d/../e/./f/", "http://store:80/a/b/e/f/"),
            ("/a/./b/../../c", "http://store:80/c"),
            ("/a//../b", "http://store:80/a/b"),
            ("//other/../..", "http://other/"),
            ("http://other/a/../b?c=../d", "http://other/b?c=../d"),
            ("/...", "http://store:80/..."),
            ("/x?from=http://y/", "http://store:80/x?from=http://y/"),
            ("?y", "http://store:80/a/b/c.tar.gz?y"),
            ("x#part?y", "http://store:80/a/b/x"),
            ("/a b.tar.gz", "http://store:80/a%20b.tar.gz"),
            (
                "/\u{e9}/%20?q=\u{4e2d} 1",
                "http://store:80/%C3%A9/%20?q=%E4%B8%AD%201",
            ),
            ("/@scope/x", "http://store:80/@scope/x"),
        ] {
            assert_eq!(target(from, location).as_deref(), Ok(wanted), "{location}");
        }
        for (location, wanted) in [
            ("/x", Ok("https://store/x")),
            ("//other/x", Ok("https://other/x")),
            ("https://other/x", Ok("https://other/x")),
            ("http://store/x", Err("it redirects from https to http")),
        ] {
            let target = target("https://store/a", location);
            assert_eq!(target.as_deref().map_err(String::as_str), wanted);
        }
        assert_eq!(target("http://h", "x").as_deref(), Ok("http://h/x"));
        assert_eq!(target("http://h/a#b/c", "x").as_deref(), Ok("http://h/x"));
        assert_eq!(target("http://h/a#b", "?x").as_deref(), Ok("http://h/a?x"));
        let query = format!("http://other/x?X-Amz-Signature={}", "f".repeat(3000));
        assert_eq!(target(from, &query).as_deref(), Ok(query.as_str()));
    }

    #[test]
    fn a_redirect_that_cannot_be_followed_is_quoted_without_passwords() {
        let no_url = "it redirects to no http URL, but to ";
        for (location, error) in [
            ("ftp://other/x", format!("{no_url}\"ftp://other/x\"")),
            (
                "file:///etc/passwd",
                format!("{no_url}\"file:///etc/passwd\""),
            ),
            ("http:/x", format!("{no_url}\"http:/x\"")),
            ("http:///x", format!("{no_url}\"http:///x\"")),
            ("http://o\u{e9}/", format!("{no_url}\"http://o\u{e9}/\"")),
            ("/a\x1b[31mb\rc", format!("{no_url}\"/a?[31mb c\"")),
            ("ftp://other/a@b", format!("{no_url}\"***@b\"")),
            (
                "ftp://user:canary@other/",
                format!("it redirects to {HAS_USER}"),
            ),
            (
                "http://user:can/ary@other/",
                format!("{no_url}\"***@other/\""),
            ),
            (
                "ftp:user:can\"ary@other/",
                format!("{no_url}\"***@other/\""),
            ),
            (
                "http://user:canary@other/",
                format!("it redirects to {HAS_USER}"),
            ),
            ("//canary@other", format!("it redirects to {HAS_USER}")),
            ("", format!("{no_url}\"\"")),
        ] {
            assert_eq!(target("http://store/x", location), Err(error));
        }
        let long = format!("ftp://{}", "x".repeat(9000));
        let error = target("http://store/x", &long).expect_err("no http URL");
        assert_eq!(error.len(), no_url.len() + SHOWN + 2);
    }
}

//! Undoes the encoding of a body, and recognizes pages for browsers. Pure.

use std::io::{self, Read};

use crate::error::Cause;
use crate::text::brief;
use gzip::Gzip;

/// Bytes that are inflated at once.
const CHUNK: usize = 64 << 10;
/// How much of a body is searched for `TAGS`, in bytes.
const SEARCHED: usize = 4096;
/// Beginnings of tags, one of which each page has.
const TAGS: [&[u8]; 6] = [b"<html", b"<head", b"<h1", b"<body", b"<script", b"<title"];

/// Undoes the Content-Encoding, which some servers apply although they were asked not to. The content has `limit` bytes at
/// most.
pub(super) fn decoded(
    encoding: &str,
    body: Vec<u8>,
    limit: u64,
) -> std::result::Result<Vec<u8>, Cause> {
    let is = |name| encoding.eq_ignore_ascii_case(name);
    if encoding.is_empty() || is("identity") {
        return Ok(body);
    }
    if !is("gzip") && !is("x-gzip") {
        let encoding = brief(encoding, 40);
        return Err(format!("Content-Encoding {encoding} is not supported, only gzip").into());
    }
    // Apache calls x.tar.gz.md5 compressed too, for the .gz in its name.
    if !body.starts_with(&gzip::MAGIC) {
        return Ok(body);
    }
    let content =
        inflated(&body, limit).map_err(|error| format!("Content-Encoding gzip: {error}"))?;
    content.ok_or_else(|| too_large(limit))
}

/// Returns nothing if the content is too large.
fn inflated(body: &[u8], limit: u64) -> io::Result<Option<Vec<u8>>> {
    let mut gzip = Gzip::new(body)?;
    let (mut content, mut chunk) = (Vec::new(), vec![0; CHUNK]);
    while content.len() as u64 <= limit {
        let got = gzip.read(&mut chunk)?;
        if got == 0 {
            return Ok(Some(content));
        }
        content.extend_from_slice(&chunk[..got]);
    }
    Ok(None)
}

pub(super) fn too_large(limit: u64) -> Cause {
    format!("it is larger than {limit} bytes").into()
}

/// Returns whether a body is a page for a browser, such as a login. The Content-Type alone does not tell: frameworks label
/// all that they send as HTML, also XML and the configuration of Apache, which begins with a `<` too.
pub(super) fn is_html(content_type: &str, body: &[u8]) -> bool {
    let mark = if begins(body, b"\xef\xbb\xbf") { 3 } else { 0 };
    let body = body[mark..].trim_ascii_start();
    if begins(body, b"<!doctype html") || begins(body, b"<html") {
        return true;
    }
    let body = &body[..body.len().min(SEARCHED)];
    begins(content_type.as_bytes(), b"text/html")
        && begins(body, b"<")
        && !begins(body, b"<?xml")
        && (0..body.len()).any(|at| TAGS.iter().any(|tag| begins(&body[at..], tag)))
}

fn begins(text: &[u8], with: &[u8]) -> bool {
    text.get(..with.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(with))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_known_by_its_text_and_its_type() {
        for (kind, body) in [
            ("", "<!DOCTYPE html>\n<html>"),
            ("application/json", "\u{feff} \r\n<!doctype HTML PUBLIC"),
            ("text/plain", "\n<HTML lang=en>"),
            ("text/html; charset=utf-8", "<!-- login --><html>"),
            ("Text/HTML", "  <script>location = '/login'</script>"),
            ("text/html", "<center><h1>502</h1>\n<TITLE>x</title>"),
            ("text/html", "<head><meta http-equiv=refresh></head>"),
            ("text/html", "<h1>Forbidden</h1>"),
        ] {
            assert!(is_html(kind, body.as_bytes()), "{kind} {body}");
        }
        for (kind, body) in [
            ("text/html", "{\"a\": 1}"),
            ("text/html", "key = value\n"),
            ("text/html", ""),
            ("text/html", "<?xml version='1.0'?><config/>"),
            ("text/html", "<configuration><appender/></configuration>"),
            ("text/html", "<!-- our license -->\n<Server port='80'/>"),
            (
                "text/html; charset=utf-8",
                "<VirtualHost *:80>\n</VirtualHost>",
            ),
            ("application/xml", "<config/>"),
            ("", "<"),
            ("", "# <html>"),
        ] {
            assert!(!is_html(kind, body.as_bytes()), "{kind} {body}");
        }
    }

    #[test]
    fn an_encoding_is_undone_or_named() {
        let decode = |encoding: &str, body: &[u8]| {
            let decoded = decoded(encoding, body.to_vec(), 10);
            decoded.map_err(|cause| crate::error::Error::new("fetch", "x", cause).to_string())
        };
        // printf '{"a": 1}' | gzip -n
        let gzip: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xab\x56\x4a\x54\xb2\x52\x30\xac\x05\x00\x97\x8e\xa1\xfb\x08\x00\x00\x00";
        for encoding in ["gzip", "x-gzip", "GZip"] {
            assert_eq!(decode(encoding, gzip), Ok(b"{\"a\": 1}".to_vec()));
            assert_eq!(decode(encoding, b"{}"), Ok(b"{}".to_vec()));
            assert_eq!(decode(encoding, b""), Ok(Vec::new()));
        }
        for encoding in ["", "identity"] {
            assert_eq!(decode(encoding, gzip), Ok(gzip.to_vec()));
        }
        for encoding in ["br", "deflate", "gzip, br", "zst\x1bd"] {
            let error = decode(encoding, gzip).expect_err(encoding);
            let shown = encoding.replace('\x1b', "?");
            let wanted = format!("Content-Encoding {shown} is not supported, only gzip");
            assert!(error.ends_with(&wanted), "{error}");
        }
        let error = decode("gzip", &gzip[..gzip.len() - 3]).expect_err("it is cut");
        assert!(
            error.starts_with("cannot fetch x: Content-Encoding gzip: "),
            "{error}"
        );
        let bomb = decoded("gzip", gzip.to_vec(), 7).expect_err("it is too large");
        let error = crate::error::Error::new("fetch", "x", bomb).to_string();
        assert_eq!(error, "cannot fetch x: it is larger than 7 bytes");
    }
}

//! The request and the response as text: parses what a client has sent so far, and writes the response. Pure.

use std::net::IpAddr;

use httparse::{EMPTY_HEADER, Error, Header, Status};

/// Bytes of a request without its body. The endpoint has no use for a body.
const REQUEST_LIMIT: usize = 8 << 10;
const HEADER_LIMIT: usize = 64;
/// The status page may run its own script and query this endpoint only. No other page may embed it.
const POLICY: &str = "default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; \
    style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub struct Request<'a> {
    pub method: &'a str,
    pub target: &'a str,
    pub headers: &'a [Header<'a>],
    pub route: Route,
}

/// The two ends of a connection.
#[derive(Clone, Copy)]
pub struct Route {
    /// Whether the client connected from a loopback address.
    pub is_local: bool,
    /// The address that the endpoint listens at, which may be that of all addresses.
    pub listens_at: IpAddr,
}

/// Returns whether the address is one of this host alone.
pub(super) fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// The status and the content type of a response.
pub struct Head {
    pub status: &'static str,
    pub kind: &'static str,
}

/// Writes the body into the string. If it leaves the string empty, the status becomes the body.
pub type Answer<'a> = &'a mut dyn FnMut(&Request, &mut String) -> Head;

/// Returns the response to the bytes received so far; `None` while the request is incomplete.
pub(super) fn respond(received: &[u8], route: Route, answer: Answer) -> Option<String> {
    let end = received.iter().position(|byte| *byte == b'\n');
    let (line, rest) = received.split_at(end.map_or(received.len(), |end| end + 1));
    let request_line = parse_request_line(line);
    let (method, target) = request_line.unwrap_or_default();
    let mut headers = [EMPTY_HEADER; HEADER_LIMIT];
    let mut body = String::new();
    let head = match httparse::parse_headers(rest, &mut headers) {
        Ok(Status::Complete((_, headers))) if request_line.is_some() => {
            let request = Request {
                method,
                target,
                headers,
                route,
            };
            answer(&request, &mut body)
        }
        Ok(Status::Partial) if received.len() < REQUEST_LIMIT => return None,
        Ok(Status::Partial) | Err(Error::TooManyHeaders) => {
            Head::text("431 Request Header Fields Too Large")
        }
        Ok(Status::Complete(_)) | Err(_) => Head::text("400 Bad Request"),
    };
    if body.is_empty() {
        body.push_str(head.status);
        body.push('\n');
    }
    let mut response = head.write(body.len());
    if method != "HEAD" {
        response.push_str(&body);
    }
    Some(response)
}

/// Returns method and target.
fn parse_request_line(line: &[u8]) -> Option<(&str, &str)> {
    let line = std::str::from_utf8(line).ok()?.trim_ascii_end();
    let line = line
        .strip_suffix(" HTTP/1.1")
        .or(line.strip_suffix(" HTTP/1.0"))?;
    line.split_once(' ')
}

impl Head {
    pub(super) fn text(status: &'static str) -> Self {
        Self {
            status,
            kind: "text/plain",
        }
    }

    /// Returns everything above a body of this many bytes, including the empty line.
    fn write(&self, length: usize) -> String {
        let Self { status, kind } = self;
        format!(
            "HTTP/1.1 {status}\r\n\
             Content-Type: {kind}; charset=utf-8\r\n\
             Content-Length: {length}\r\n\
             Connection: close\r\n\
             Allow: GET, HEAD\r\n\
             Cache-Control: no-store\r\n\
             X-Content-Type-Options: nosniff\r\n\
             Content-Security-Policy: {POLICY}\r\n\
             \r\n"
        )
    }
}

//! Sends a request by minreq, or by curl if minreq cannot, and returns the answer without its body. A plain request goes by
//! minreq, because it needs no program of the host.

use super::answer::{Answer, Body, header};
use super::request::Request;
use super::{curl, head, network};
use crate::error::{At, Cause, Error, Kind, Result};
use crate::model::{Network, has_tls};

/// minreq reports a connection that closes without a byte as a response with status 503 and this reason. It offers no
/// other sign of it, and a real 503 must stay one, so the text is compared. A real response has headers besides.
const CLOSED_WITHOUT_ANSWER: &str = "Server did not provide a status line";

/// Sends a request. Redirects are left to the caller.
pub(super) fn send(request: Request) -> Result<Answer> {
    match network::get() {
        Some(network) if network.needs_curl(request.url) => by_curl(&request, network),
        None if has_tls(request.url) => {
            let cause = "curl is not run as root for another user";
            Err(Error::new(request.what, request.shown, cause).with_kind(Kind::NeedsCurl))
        }
        Some(_) | None => by_socket(request),
    }
}

fn by_curl(request: &Request, network: &Network) -> Result<Answer> {
    let (head, transfer) = curl::start(request, network)?;
    let answer = Answer::read(&head, Body::Curl(Box::new(transfer)));
    // curl ignores a length that it cannot read, and then a body that was cut looks complete.
    let is_clear = |answer: &Answer| {
        let length = header(answer, "content-length");
        answer.status >= 200 && length.is_none_or(|length| length.parse::<u64>().is_ok())
    };
    let cause = "the head of the answer has no final status or a bad length";
    answer
        .filter(is_clear)
        .ok_or_else(|| Error::new(request.what, request.shown, cause))
}

#[expect(clippy::disallowed_methods, reason = "this is the network")]
fn by_socket(request: Request) -> Result<Answer> {
    let (what, shown) = (request.what, request.shown);
    let mut sent = match request.body {
        Some(body) => minreq::post(request.url).with_body(body),
        None => minreq::get(request.url),
    };
    for (name, value) in request.headers {
        sent = sent.with_header(name, value);
    }
    let sent = sent
        .with_follow_redirects(false)
        .with_max_headers_size(head::LIMIT);
    let mut response = sent.send_lazy().at(what, shown)?;
    if response.headers.is_empty() && response.reason_phrase == CLOSED_WITHOUT_ANSWER {
        let cause = "the connection was closed without an answer";
        return Err(Error::new(what, shown, cause));
    }
    Ok(Answer {
        status: response.status_code,
        reason: std::mem::take(&mut response.reason_phrase),
        headers: std::mem::take(&mut response.headers),
        body: Body::Socket(Box::new(response)),
    })
}

impl From<minreq::Error> for Cause {
    fn from(error: minreq::Error) -> Self {
        match error {
            minreq::Error::IoError(error) => error.into(),
            minreq::Error::HeadersOverflow => head::TOO_LARGE.into(),
            error => error.to_string().into(),
        }
    }
}

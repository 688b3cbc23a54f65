//! What the HTTP endpoint answers: the original's pages, status and metrics, and one for people. Pure: all it knows is
//! handed to it. What it tells is no secret; the one page that does something is for this host alone.

use std::path::Path;

use crate::config::Config;
use crate::endpoint::{self, Head, Request};
use crate::error::Error;
use crate::fields::{self, Json};
use crate::metrics;
use crate::report::Status;
use crate::texts::{self, Name};

const TEXT: &str = "text/plain";
const JSON: &str = "application/json";

pub struct Facts<'a> {
    pub status: &'a mut Status,
    pub config: &'a Config,
    pub own_dir: &'a Path,
    /// Seconds since 1970.
    pub now: u64,
}

/// Whether the settings are to be read again before this is answered. A look by HEAD changes nothing.
pub fn asks_to_reload(request: &Request) -> bool {
    request.method == "GET" && path(request) == "/config/reload" && may_reload(request)
}

pub fn answer(
    request: &Request,
    refusal: Option<&Error>,
    facts: &mut Facts,
    body: &mut String,
) -> Head {
    if !matches!(request.method, "GET" | "HEAD") {
        return Head::text("405 Method Not Allowed");
    }
    let mut kind = JSON;
    match path(request) {
        "/" => {
            kind = "text/html";
            *body = texts::text(Name::Page);
        }
        "/health" => {
            kind = TEXT;
            body.push_str("ok");
        }
        "/version" => {
            kind = TEXT;
            body.push_str(&facts.status.version);
        }
        "/metrics" => {
            kind = metrics::KIND;
            metrics::write(facts.status, facts.now, body);
        }
        "/status" => *body = fields::write(facts.status),
        "/workdir" => {
            *body = written("msg data", &|json| {
                json.put_text("success");
                json.put_text(&facts.own_dir.to_string_lossy());
            });
        }
        "/config/reload" if may_reload(request) => {
            *body = match refusal {
                Some(error) => written("msg", &|json| json.put_text(&error.to_string())),
                None => written("msg data", &|json| {
                    json.put_text("success");
                    facts.config.write(json);
                }),
            }
        }
        "/config/reload" => {
            body.push_str("no privilege");
            return Head::text("403 Forbidden");
        }
        _ => return Head::text("404 Not Found"),
    }
    Head {
        status: "200 OK",
        kind,
    }
}

fn path<'a>(request: &Request<'a>) -> &'a str {
    let target = request.target;
    &target[..target.find('?').unwrap_or(target.len())]
}

/// The form of the original's answers.
fn written(keys: &'static str, fields: &dyn Fn(&mut Json)) -> String {
    let mut json = Json::default();
    json.open(keys);
    fields(&mut json);
    json.close();
    json.finish()
}

/// The original trusts whoever connects from this host. A browser on it does so for any site that its user looks at, be it
/// with an image, a form, or a name of the site's own that leads to 127.0.0.1 all of a sudden. What it sends along tells.
fn may_reload(request: &Request) -> bool {
    let mut headers = request.headers.iter();
    request.is_local && headers.all(|header| is_of_this_host(header.name, header.value))
}

fn is_of_this_host(name: &str, value: &[u8]) -> bool {
    let is = |known| name.eq_ignore_ascii_case(known);
    let value = std::str::from_utf8(value).unwrap_or_default();
    if is("host") {
        is_loopback(value)
    } else if is("origin") {
        value.strip_prefix("http://").is_some_and(is_loopback)
    } else if is("sec-fetch-site") {
        matches!(value, "none" | "same-origin")
    } else {
        true
    }
}

/// Of a host with or without a port.
fn is_loopback(host: &str) -> bool {
    let (name, end) = match host.strip_prefix('[') {
        Some(rest) => (rest, ']'),
        None => (host, ':'),
    };
    let name = &name[..name.find(end).unwrap_or(name.len())];
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(endpoint::is_loopback)
}

#[cfg(test)]
mod tests {
    use super::*;
    use httparse::Header;

    fn request<'a>(method: &'a str, target: &'a str, headers: &'a [Header<'a>]) -> Request<'a> {
        Request {
            method,
            target,
            headers,
            is_local: true,
        }
    }

    #[test]
    fn only_this_host_and_no_site_in_a_browser_on_it_may_reload() {
        for (name, value, may) in [
            ("Host", "localhost", true),
            ("host", "LOCALHOST:2001", true),
            ("Host", "127.0.0.1:2001", true),
            ("Host", "127.9.9.9", true),
            ("Host", "[::1]:2001", true),
            ("Host", "[::ffff:127.0.0.1]", true),
            ("Host", "", false),
            ("Host", "evil.example:2001", false),
            ("Host", "127.0.0.1.evil.example", false),
            ("Host", "localhost.evil.example", false),
            ("Host", "192.168.0.1:2001", false),
            ("Host", "[::2]", false),
            ("Host", "\u{e4}", false),
            ("Origin", "http://localhost:2001", true),
            ("Origin", "http://evil.example", false),
            ("Origin", "http://localhost.evil.example", false),
            ("Origin", "null", false),
            ("Sec-Fetch-Site", "none", true),
            ("Sec-Fetch-Site", "same-origin", true),
            ("Sec-Fetch-Site", "same-site", false),
            ("sec-fetch-site", "cross-site", false),
            ("User-Agent", "curl", true),
        ] {
            let value = value.as_bytes();
            let headers = [Header { name, value }];
            let mut asked = request("GET", "/config/reload", &headers);
            assert_eq!(asks_to_reload(&asked), may, "{name}: {value:?}");
            asked.is_local = false;
            assert!(!asks_to_reload(&asked));
        }
    }

    #[test]
    fn only_a_get_of_its_own_page_reloads() {
        for (method, target, reloads) in [
            ("GET", "/config/reload", true),
            ("GET", "/config/reload?x", true),
            ("HEAD", "/config/reload", false),
            ("POST", "/config/reload", false),
            ("GET", "/config/reload/", false),
            ("GET", "/config", false),
            ("GET", "/", false),
        ] {
            let asked = request(method, target, &[]);
            assert_eq!(asks_to_reload(&asked), reloads, "{method} {target}");
        }
    }
}

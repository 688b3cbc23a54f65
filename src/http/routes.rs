//! The answer for each path: the original's paths, the status, the metrics, and a page for people. Pure.
//! The answers contain no secrets. Only clients on this host may use the one path that changes something.

use std::path::Path;

use httparse::Header;
use miniserde::Serialize;

use super::message::{self, Head, Request};
use super::metrics::{self, Failures};
use crate::error::Error;
use crate::json;
use crate::os::usage::Usage;
use crate::protocol::status::Status;
use crate::store::config::Config;

const TEXT: &str = "text/plain";
const JSON: &str = "application/json";
/// A proxy adds at least one of these: RFC 7239, RFC 9110 section 7.6.3, and the customs before them.
const PROXY_HEADERS: [&str; 6] = [
    "forwarded",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
];
/// Shows `/status` to people.
const PAGE: &str = include_str!("page.html");

/// The form of the original's answers.
#[derive(Serialize)]
struct Success<'a> {
    msg: &'static str,
    data: &'a dyn Serialize,
}

fn success(data: &dyn Serialize) -> String {
    let msg = "success";
    json::to_string(&Success { msg, data })
}

#[derive(Serialize)]
struct Refused {
    msg: String,
}

/// Everything that an answer is made from.
pub struct Facts<'a> {
    pub status: &'a Status,
    pub config: &'a Config,
    pub own_dir: &'a Path,
    /// Seconds since 1970.
    pub now: u64,
    pub failures: &'a Failures,
    /// What the updater uses, if the system tells it. Only the metrics look.
    pub usage: fn() -> Option<Usage>,
}

/// Returns whether to read the settings again before this request is answered. A HEAD request changes nothing.
pub fn asks_to_reload(request: &Request) -> bool {
    request.method == "GET" && path(request) == "/config/reload" && may_reload(request)
}

/// Writes the body and returns the head. `refusal` is why the settings that the request asked to read were refused.
pub fn answer(
    request: &Request,
    refusal: Option<&Error>,
    facts: &Facts,
    body: &mut String,
) -> Head {
    if !matches!(request.method, "GET" | "HEAD") {
        return Head::text("405 Method Not Allowed");
    }
    let (kind, text) = match path(request) {
        "/config/reload" if !may_reload(request) => {
            body.push_str("no privilege");
            return Head::text("403 Forbidden");
        }
        _ if !is_meant_for_us(request) => {
            body.push_str("the Host must be localhost: this endpoint listens on loopback only\n");
            return Head::text("403 Forbidden");
        }
        "/" => ("text/html", PAGE.to_owned()),
        "/health" => (TEXT, "ok".to_owned()),
        "/version" => (TEXT, facts.status.version.clone()),
        "/metrics" => (metrics::KIND, metrics(facts)),
        "/status" => (JSON, json::to_string(facts.status)),
        "/workdir" => {
            let dir = facts.own_dir.to_string_lossy();
            (JSON, success(&dir))
        }
        "/config/reload" => (JSON, settings(refusal, facts.config)),
        _ => return Head::text("404 Not Found"),
    };
    *body = text;
    Head {
        status: "200 OK",
        kind,
    }
}

fn settings(refusal: Option<&Error>, config: &Config) -> String {
    match refusal {
        Some(error) => json::to_string(&Refused {
            msg: error.to_string(),
        }),
        None => success(&config.in_force()),
    }
}

fn metrics(facts: &Facts) -> String {
    let usage = (facts.usage)();
    metrics::page(facts.status, facts.now, facts.failures, usage.as_ref())
}

fn path<'a>(request: &Request<'a>) -> &'a str {
    let target = request.target;
    &target[..target.find('?').unwrap_or(target.len())]
}

/// Returns whether the request names this host, if the endpoint listens at a loopback address.
///
/// A web site can read every answer if its host name suddenly resolves to 127.0.0.1: the browser on this host takes the
/// answer for the site's own. The Host of such a request is still that of the site.
fn is_meant_for_us(request: &Request) -> bool {
    let is_foreign = |header: &Header| {
        header.name.eq_ignore_ascii_case("host") && !is_loopback(text(header.value))
    };
    let is_private = message::is_loopback(request.route.listens_at);
    !is_private || !request.headers.iter().any(is_foreign)
}

/// Returns whether the request may have the settings read again.
///
/// The original trusts every client on this host. A browser on this host is such a client, and any web site can make it send
/// a request: with an image, with a form, or with a host name of the site that suddenly resolves to 127.0.0.1. A proxy on
/// this host is such a client too, and forwards requests of others. The headers show where such a request comes from.
fn may_reload(request: &Request) -> bool {
    let mut headers = request.headers.iter();
    request.route.is_local && headers.all(|header| is_harmless(header.name, header.value))
}

/// Returns false for a header that only a request from another site or through a proxy has.
fn is_harmless(name: &str, value: &[u8]) -> bool {
    let is = |known| name.eq_ignore_ascii_case(known);
    let value = text(value);
    if is("host") {
        is_loopback(value)
    } else if is("origin") {
        value.strip_prefix("http://").is_some_and(is_loopback)
    } else if is("sec-fetch-site") {
        matches!(value, "none" | "same-origin")
    } else {
        !PROXY_HEADERS.iter().any(|known| is(known))
    }
}

/// Returns the empty text for a value that is not UTF-8.
fn text(value: &[u8]) -> &str {
    std::str::from_utf8(value).unwrap_or_default()
}

/// Takes a host name or address, with or without a port.
fn is_loopback(host: &str) -> bool {
    let (name, end) = match host.strip_prefix('[') {
        Some(rest) => (rest, ']'),
        None => (host, ':'),
    };
    let name = &name[..name.find(end).unwrap_or(name.len())];
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(message::is_loopback)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::message::Route;
    use std::net::Ipv4Addr;

    fn request<'a>(method: &'a str, target: &'a str, headers: &'a [Header<'a>]) -> Request<'a> {
        Request {
            method,
            target,
            headers,
            route: Route {
                is_local: true,
                listens_at: Ipv4Addr::UNSPECIFIED.into(),
            },
        }
    }

    #[test]
    fn an_endpoint_on_loopback_answers_only_who_names_this_host() {
        for (value, on_loopback) in [
            ("localhost:2001", true),
            ("127.0.0.1", true),
            ("[::1]:2001", true),
            ("evil.example:2001", false),
            ("10.0.0.1", false),
            ("", false),
        ] {
            let name = "Host";
            let value = value.as_bytes();
            let headers = [Header { name, value }];
            let mut asked = request("GET", "/status", &headers);
            assert!(is_meant_for_us(&asked), "on all addresses: {value:?}");
            asked.route.listens_at = Ipv4Addr::LOCALHOST.into();
            assert_eq!(is_meant_for_us(&asked), on_loopback, "{value:?}");
        }
    }

    #[test]
    fn only_clients_on_this_host_may_reload_and_web_sites_in_a_browser_may_not() {
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
            ("Forwarded", "for=192.0.2.1", false),
            ("X-Forwarded-For", "192.0.2.1", false),
            ("x-real-ip", "", false),
            ("Via", "1.1 proxy", false),
            ("User-Agent", "curl", true),
        ] {
            let value = value.as_bytes();
            let headers = [Header { name, value }];
            let mut asked = request("GET", "/config/reload", &headers);
            assert_eq!(asks_to_reload(&asked), may, "{name}: {value:?}");
            asked.route.is_local = false;
            assert!(!asks_to_reload(&asked));
        }
    }

    #[test]
    fn only_a_get_of_the_reload_path_reloads() {
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

//! The settings that are addresses. Nothing here resolves a name.

use std::net::{IpAddr, SocketAddr};

use crate::model::{HAS_USER, has_user, is_url};
use crate::text::{before, printable, without_passwords};

/// The value of `server` in cfg.example.json is `${meta_server}`.
const PLACEHOLDER: &[u8] = b"${";
const DEFAULT_PATH: &str = "/api/heartbeat";

/// Whether nobody has replaced the example's value yet.
pub(super) fn is_placeholder(server: &str) -> bool {
    let mut pairs = server.as_bytes().windows(2);
    pairs.any(|pair| pair == PLACEHOLDER)
}

/// Returns the URL of heartbeats. `host:port` is the original's form; a scheme and a path are kept if they are given.
/// The error says what was found instead.
pub(super) fn heartbeat_url(server: &str) -> std::result::Result<String, String> {
    let (scheme, address) = match server.strip_prefix("https://") {
        Some(address) => ("https", address),
        None => ("http", server.strip_prefix("http://").unwrap_or(server)),
    };
    let (host, path) = address.split_at(address.find('/').unwrap_or(address.len()));
    let (name, port) = host.split_once(':').unwrap_or((host, "80"));
    let path = if path.len() > 1 { path } else { DEFAULT_PATH };
    let url = format!("{scheme}://{host}{path}");
    if is_host(name) && parse_port(port).is_some() && is_url(&url) {
        return Ok(url);
    }
    if host.contains('@') || has_user(server) {
        return Err(HAS_USER.to_owned());
    }
    let (before, after) = if is_placeholder(server) {
        ("still the placeholder ", "")
    } else if host.starts_with('[') || port.contains(':') {
        ("", ", an IPv6 address, which is not supported")
    } else {
        ("", "")
    };
    let server = without_passwords(&printable(server));
    Err(format!("{before}{server:?}{after}"))
}

/// Whether neither a port nor a scheme says which port this valid `server` has. The colon of a scheme counts too.
pub(super) fn lacks_port(server: &str) -> bool {
    !before(server, b"/").contains(':')
}

/// Whether the name is made of labels with one dot between two.
fn is_host(name: &str) -> bool {
    let mut last = b'.';
    for byte in name.bytes() {
        let is_fine = match byte {
            b'.' => last != b'.',
            b'-' | b'_' => true,
            _ => byte.is_ascii_alphanumeric(),
        };
        if !is_fine {
            return false;
        }
        last = byte;
    }
    last != b'.'
}

fn parse_port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port| *port > 0)
}

/// Returns the address to listen on. `:port` means every address of the host, as in the original. Names are not
/// resolved.
pub(super) fn listen_address(listen: &str) -> Option<SocketAddr> {
    let (host, port) = listen.rsplit_once(':')?;
    let port = parse_port(port)?;
    let (host, is_v6) = match host.strip_prefix('[') {
        Some(inner) => (inner.strip_suffix(']')?, true),
        None if host.is_empty() => ("::", true),
        None => (host, false),
    };
    let address: IpAddr = host.parse().ok()?;
    (address.is_ipv6() == is_v6).then(|| SocketAddr::new(address, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheme_and_a_path_of_the_server_are_kept() {
        for (server, url) in [
            ("m:1", "http://m:1/api/heartbeat"),
            ("m", "http://m/api/heartbeat"),
            ("http://m:1", "http://m:1/api/heartbeat"),
            ("http://m:1/", "http://m:1/api/heartbeat"),
            ("https://m", "https://m/api/heartbeat"),
            ("https://m:8443/ops", "https://m:8443/ops"),
            ("m:1/ops/beat", "http://m:1/ops/beat"),
            ("http://m/ops/beat?x=1", "http://m/ops/beat?x=1"),
        ] {
            assert_eq!(heartbeat_url(server).as_deref(), Ok(url));
        }
    }

    #[test]
    fn a_server_with_a_password_is_refused_and_the_password_is_not_shown() {
        for server in [
            "http://user:canary@m:1",
            "https://user:canary@m/x",
            "user:canary@m:1",
            "canary@m",
            "user:canary/canary@m",
        ] {
            let found = heartbeat_url(server).expect_err(server);
            assert!(!found.contains("canary"), "{found}");
        }
        assert_eq!(heartbeat_url("http://u:p@m"), Err(HAS_USER.to_owned()));
        let path = heartbeat_url("m:1/@ops");
        assert_eq!(path.as_deref(), Ok("http://m:1/@ops"));
    }

    #[test]
    fn an_address_to_listen_on_needs_a_port_and_brackets_around_ipv6() {
        for wrong in [
            "", "1", "1.2.3.4", ":", ":0", ":65536", "::1:80", "[::1]", "a:1",
        ] {
            assert_eq!(listen_address(wrong), None, "{wrong}");
        }
    }
}

//! Tests where a redirect may lead. The store of these tests is at an outer address of this machine, so its packets stay on
//! this machine all the same.

use crate::network::downloads::{store, tarball};
use crate::support::agent::Agent;
use crate::support::fault::Faults;
use crate::support::host::Host;
use crate::support::http::outer_ip;
use crate::support::json::{Json as _, quote};
use crate::support::platform::skipped;
use crate::support::{md5_hex, release_path};
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;

const SECRET: &[u8] = b"{\"password\": \"of a service on loopback\"}\n";

/// Returns a store at an outer address, which redirects each request for a configuration, and the address.
fn store_elsewhere(tarball: Vec<u8>, target: &str) -> Option<Faults> {
    let ip: IpAddr = outer_ip()?.parse().expect("an address");
    let location = format!("Location: {target}");
    Some(Faults::serve_at(
        SocketAddr::new(ip, 0),
        move |mut exchange| {
            if exchange.path.ends_with(".tar.gz") {
                exchange.serve(&tarball);
            } else {
                exchange.reply("302 Found", &[&location], b"");
            }
        },
    ))
}

#[test]
fn a_store_elsewhere_cannot_make_a_service_on_loopback_the_source_of_a_configuration() {
    let service = Faults::serve(|mut exchange| exchange.serve(SECRET));
    let port = service.port();
    let targets = [
        format!("http://127.0.0.1:{port}/"),
        format!("http://localhost:{port}/"),
        format!("http://0.0.0.0:{port}/"),
        "http://169.254.169.254/latest/meta-data".to_owned(),
    ];
    for target in targets {
        let mut host = Host::new();
        let bytes = Agent::new("demo", "1.0.0").tarball(&host.dir);
        let digest = md5_hex(&bytes);
        let Some(store) = store_elsewhere(bytes, &target) else {
            skipped("this machine has no address but loopback");
            return;
        };
        let config = store.url("/cfg.json");
        host.desire(&[host
            .want("demo", "1.0.0")
            .tarball(store.releases())
            .md5(&digest)
            .config("cfg.json", &config)]);
        host.start();
        let message = format!("{config} redirects to it, an address of this host or its link");
        host.wait_for(&format!("{target} to be refused"), || {
            let heartbeat = host.last_beat();
            heartbeat.is_some_and(|heartbeat| {
                let error = heartbeat.agent("demo").field("error").text().to_owned();
                error.contains(&message)
            })
        });
        assert!(service.heads().is_empty(), "{target}");
        assert_eq!(host.version("demo"), "", "{target}");
    }
}

#[test]
fn a_fetched_configuration_is_for_the_agents_user_alone() {
    let mut host = Host::new();
    let agent = Agent::new("demo", "1.0.0").file("cfg.json", "{}\n");
    let bytes = agent.tarball(&host.dir);
    let digest = md5_hex(&bytes);
    host.meta.put(&release_path("demo", "1.0.0"), bytes);
    let store = Faults::serve(|mut exchange| exchange.serve(SECRET));
    host.desire(&[host
        .want("demo", "1.0.0")
        .md5(&digest)
        .config("cfg.json", store.url("/cfg.json"))]);
    host.start();
    host.wait_running("demo", "1.0.0");
    let path = host.agent_dir("demo").join("1.0.0/cfg.json");
    assert_eq!(fs::read(&path).expect("it is there"), SECRET);
    let meta = fs::metadata(&path).expect("it is there");
    assert_eq!(meta.permissions().mode() & 0o777, 0o600);
}

/// The rows: an agent, the Location that its store sends, and the path that is asked for then. `{addr}` is the store's address,
/// `{long}` a query of 3 KB.
const FOLLOWED: [(&str, &str, &str); 8] = [
    (
        "signed",
        "/signed?X-Amz-Signature={long}",
        "/signed?X-Amz-Signature={long}",
    ),
    (
        "spaces",
        "/a file of/spaces.tar.gz",
        "/a%20file%20of/spaces.tar.gz",
    ),
    (
        "utf-8",
        "/\u{e9}t\u{e9}?q=\u{4e2d}",
        "/%C3%A9t%C3%A9?q=%E4%B8%AD",
    ),
    ("scheme", "HTTP://{addr}/scheme", "/scheme"),
    ("dots", "../../x/./y/../dots", "/dots/x/dots"),
    ("out", "../../../../../../etc/passwd", "/etc/passwd"),
    ("absolute", "http://{addr}/a/../../absolute", "/absolute"),
    ("fragment", "/fragment#part", "/fragment"),
];

#[test]
fn a_redirect_is_followed_as_a_browser_follows_it() {
    let mut host = Host::new();
    let bytes = tarball(&host);
    let filled = |text: &str, addr: &str| {
        let long = "0123456789abcdef".repeat(190);
        text.replace("{addr}", addr).replace("{long}", &long)
    };
    let store = store(&bytes, move |exchange, bytes| {
        let host = exchange
            .head
            .lines()
            .find_map(|line| line.strip_prefix("Host: "));
        let addr = host.expect("a Host header").to_owned();
        let is_first =
            |(name, ..): &&(&str, &str, &str)| exchange.path.starts_with(&format!("/{name}/deep/"));
        let is_second = |(.., path): &(&str, &str, &str)| exchange.path == filled(path, &addr);
        if FOLLOWED.iter().any(is_second) {
            exchange.serve(bytes);
        } else if let Some((_, location, _)) = FOLLOWED.iter().find(is_first) {
            let location = format!("Location: {}", filled(location, &addr));
            exchange.reply("302 Found", &[&location], b"");
        }
    });
    let digest = md5_hex(&bytes);
    host.desire(&FOLLOWED.map(|(name, ..)| {
        let base = store.url(&format!("/{name}/deep"));
        host.want(name, "1.0.0").tarball(base).md5(&digest)
    }));
    host.start();
    for (name, ..) in FOLLOWED {
        host.wait_for(&format!("{name} to be installed"), || {
            host.version(name) == "1.0.0"
        });
    }
}

#[test]
fn a_redirect_that_cannot_be_followed_is_quoted() {
    let mut host = Host::new();
    let locations: [(&str, &[u8], &str); 4] = [
        (
            "ftp",
            b"ftp://other/x",
            "it redirects to no http URL, but to \"ftp://other/x\"",
        ),
        (
            "latin-1",
            b"/caf\xe9",
            "it redirects to no http URL, but to \"/caf?\"",
        ),
        (
            "secure",
            b"https://other/x?signed",
            "cannot fetch https://other/x: curl is not installed; install it or set \"curl\"",
        ),
        ("none", b"", "it redirects to no http URL, but to \"\""),
    ];
    host.set("transport", &quote("auto"));
    host.set("curl", &quote("/no/curl"));
    let store = Faults::serve(move |mut exchange| {
        let name = exchange.path.split('/').nth(1).unwrap_or_default();
        let row = locations.iter().find(|row| row.0 == name).expect("a row");
        exchange.send(&[b"HTTP/1.1 302 Found\r\nLocation: ", row.1, b"\r\n\r\n"].concat());
    });
    host.desire(&locations.map(|(name, ..)| {
        host.want(name, "1.0.0")
            .tarball(store.url(&format!("/{name}")))
    }));
    host.start();
    for (name, _, message) in locations {
        let error = host.wait_error(name);
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn a_redirected_heartbeat_is_not_sent_on_and_names_its_target() {
    let elsewhere = Faults::serve(|mut exchange| exchange.reply("200 OK", &[], b"{}"));
    let target = elsewhere.url("/v2/heartbeat");
    for (location, shown) in [
        (
            target.clone(),
            format!("302 Found, redirects to {target}; put that into server"),
        ),
        (
            "https://meta.test/api".to_owned(),
            "302 Found, redirects to https://meta.test/api; put that into server".to_owned(),
        ),
        (
            "http://user:canary@meta.test/".to_owned(),
            "302 Found, it redirects to a URL with user and password".to_owned(),
        ),
    ] {
        let location = format!("Location: {location}");
        let server = Faults::serve(move |mut x| x.reply("302 Found", &[&location], b""));
        let mut host = Host::new();
        host.set("server", &quote(&server.addr()));
        host.start();
        host.wait_for(&shown, || host.log().contains(&shown));
        assert!(!host.log().contains("canary"));
    }
    assert!(elsewhere.heads().is_empty());
}

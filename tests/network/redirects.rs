//! Tests where a redirect may lead. The store of these tests is at an outer address of this machine, so its packets stay on
//! this machine all the same.

use crate::support::agent::Agent;
use crate::support::fault::Faults;
use crate::support::host::Host;
use crate::support::http::outer_ip;
use crate::support::json::Json as _;
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

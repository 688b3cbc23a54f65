//! Names that lead nowhere, or to several addresses of which not all answer.

use crate::support::agent::Agent;
use crate::support::fault::{Exchange, Faults};
use crate::support::host::Host;
use crate::support::json::quote;
use crate::support::names::{Blackhole, can_mount, with_names};
use crate::support::wire::{Desired, stock_answer};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// Where names are asked that no file knows: nobody listens.
const NOBODY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);

/// Ops-meta and store in one: heartbeats are answered by these entries, a tarball is served.
fn answer(exchange: &mut Exchange, entries: &[Desired], tarball: &[u8]) {
    if exchange.method == "POST" {
        exchange.reply("200 OK", &[], stock_answer(entries).as_bytes());
    } else {
        exchange.serve(tarball);
    }
}

/// demo is installed by a host whose server and store are one name with two addresses: from the first nothing ever
/// comes, at the second they are.
fn installs_in_spite_of(dead: IpAddr, alive: IpAddr) {
    if !can_mount() {
        return;
    }
    let mut host = Host::new();
    let blackhole = Blackhole::at(SocketAddr::new(dead, 0));
    let port = blackhole.port();
    let bytes = Agent::new("demo", "1.0.0").tarball(&host.dir);
    let entry = host.want("demo", "1.0.0");
    let entry = entry.tarball(format!("http://twins.test:{port}/releases"));
    let entries = [entry.md5(crate::support::md5_hex(&bytes))];
    let server = Faults::serve_at(SocketAddr::new(alive, port), move |mut exchange| {
        answer(&mut exchange, &entries, &bytes);
    });
    host.set("server", &quote(&format!("twins.test:{port}")));
    let command = with_names(
        &host,
        &format!("{dead} twins.test\n{alive} twins.test\n"),
        NOBODY,
    );
    host.start_as(command);
    host.wait_within(Duration::from_secs(50), "demo to run", || {
        host.running("demo").len() == 1
    });
    drop(server);
}

#[test]
fn a_dead_first_address_keeps_nothing_from_the_second() {
    let (dead, alive) = (Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2));
    installs_in_spite_of(dead.into(), alive.into());
}

#[test]
fn a_dead_address_of_ipv6_keeps_nothing_from_the_one_of_ipv4() {
    installs_in_spite_of(Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into());
}

//! Addresses: of the server that a URL names, and of this host as that server sees it. A lookup may block on DNS.
#![expect(
    clippy::disallowed_methods,
    reason = "it asks the network for an address"
)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};

use crate::model::{has_tls, url_parts};

/// Returns the host and the port of a URL. That of a proxy may have a user and a password.
pub fn host_and_port(url: &str) -> Option<(&str, u16)> {
    let (_, authority, _) = url_parts(url)?;
    let usual = if has_tls(url) { "443" } else { "80" };
    let (_, address) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (host, port) = address.split_once(':').unwrap_or((address, usual));
    Some((host, port.parse().ok()?))
}

/// Returns the address from which this host sends packets to the server. Connecting a UDP socket sends none.
pub fn address_toward(url: &str) -> Option<String> {
    let (host, port) = host_and_port(url)?;
    for server in (host, port).to_socket_addrs().ok()? {
        let any = if server.is_ipv4() {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        } else {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        };
        if let Some(address) = address_from(any, server) {
            return Some(address.to_string());
        }
    }
    None
}

fn address_from(any: IpAddr, server: SocketAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
    socket.connect(server).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

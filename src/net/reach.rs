//! Which addresses a redirect may lead to. A store elsewhere must not be able to make this host ask its own services, which
//! trust whoever is on the host, or those of its link, such as a cloud's metadata.
//!
//! The address is judged when the connection is made, by the `connect` of the program: a name could resolve to one address
//! when it is checked and to another when it is used. For curl it is judged before, and curl is told to use no other.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the newest connection led to an inner address.
static IS_INSIDE: AtomicBool = AtomicBool::new(false);
/// Whether connections to inner addresses are refused now.
static OUTSIDE_ONLY: AtomicBool = AtomicBool::new(false);
/// Whether one was refused.
static WAS_REFUSED: AtomicBool = AtomicBool::new(false);

/// Returns whether a connection to this address may be made now. The program's `connect` asks before each.
pub fn permits(ip: IpAddr) -> bool {
    let is_inner = is_inner(ip);
    let is_refused = is_inner && OUTSIDE_ONLY.load(Ordering::Relaxed);
    if is_refused {
        WAS_REFUSED.store(true, Ordering::Relaxed);
    } else {
        IS_INSIDE.store(is_inner, Ordering::Relaxed);
    }
    !is_refused
}

/// Does the same for all addresses of a name, of which curl chooses one. The connection leads inside only if each of them does.
/// None: a proxy connects.
pub(super) fn permit_all(addresses: &[SocketAddr]) -> bool {
    let mut is_inside = !addresses.is_empty();
    for address in addresses {
        if !permits(address.ip()) {
            return false;
        }
        is_inside &= is_inner(address.ip());
    }
    IS_INSIDE.store(is_inside, Ordering::Relaxed);
    true
}

/// Loopback and link-local addresses, and those that mean "this host".
fn is_inner(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_link_local() || ip.is_unspecified(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local() || ip.is_unspecified(),
    }
}

/// While it exists, no connection to an inner address is made, unless the chain of redirects began at one.
pub(super) struct Redirected(());

impl Redirected {
    /// Call it after an answer that redirects, and before the next connection.
    pub(super) fn begin() -> Self {
        if !IS_INSIDE.load(Ordering::Relaxed) {
            OUTSIDE_ONLY.store(true, Ordering::Relaxed);
        }
        Self(())
    }
}

/// Returns whether a connection was refused since the redirects of this request began.
pub(super) fn was_refused() -> bool {
    WAS_REFUSED.load(Ordering::Relaxed)
}

impl Drop for Redirected {
    fn drop(&mut self) {
        OUTSIDE_ONLY.store(false, Ordering::Relaxed);
        WAS_REFUSED.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permitted(ip: &str) -> bool {
        permits(ip.parse().expect("an address"))
    }

    #[test]
    fn a_redirect_leads_inside_only_from_inside() {
        let inner = [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "169.254.169.254",
            "::1",
            "::",
            "::ffff:127.0.0.1",
            "fe80::1",
        ];
        for ip in inner {
            assert!(permitted("192.0.2.1"));
            let redirected = Redirected::begin();
            assert!(permitted("198.51.100.1") && permitted("10.0.0.1"), "{ip}");
            assert!(!was_refused());
            assert!(!permitted(ip), "{ip}");
            assert!(was_refused());
            drop(redirected);
            assert!(permitted(ip), "an entry may name {ip}");
            let redirected = Redirected::begin();
            assert!(permitted(ip) && permitted("192.0.2.1"), "{ip}");
            drop(redirected);
        }
        let ips = |texts: &[&str]| {
            let ip = |text: &&str| text.parse::<IpAddr>().expect("an address");
            let parsed = texts.iter().map(|text| SocketAddr::new(ip(text), 80));
            parsed.collect::<Vec<_>>()
        };
        for (first, is_inside) in [
            (ips(&["127.0.0.1", "::1"]), true),
            // Whoever names an inner address beside an outer one is outside.
            (ips(&["192.0.2.1", "127.0.0.1"]), false),
            (ips(&["192.0.2.1"]), false),
            (ips(&[]), false),
        ] {
            assert!(permit_all(&first));
            let _redirected = Redirected::begin();
            assert_eq!(permit_all(&ips(&["10.0.0.1", "::1"])), is_inside);
            assert_eq!(was_refused(), !is_inside, "{first:?}");
        }
    }
}

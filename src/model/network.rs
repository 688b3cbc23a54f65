//! How this host reaches servers: the program for TLS, certificates, a proxy, and what identifies the host. Pure.

use std::fmt;
use std::net::Ipv4Addr;

use super::checks::url_parts;
use super::policy::is_in_stores;

/// The settings of cfg.json that a worker needs to reach a server. An empty text is a setting that is not set.
#[derive(Clone, Default, miniserde::Serialize, miniserde::Deserialize)]
pub struct Network {
    /// The program. Empty: it is searched for in the usual places.
    pub curl: String,
    /// The authorities that sign the certificates of servers. Empty: those of the host.
    pub ca_file: String,
    pub client_cert: String,
    pub client_key: String,
    /// The proxy for `http://`: a URL, which may have a user and a password.
    pub proxy: String,
    /// The proxy for `https://`. Only variables of the environment can give it another value.
    pub tls_proxy: String,
    /// Hosts and domains that are reached without the proxy.
    pub no_proxy: String,
    /// What a worker may download, in bytes per second, if nothing more recent was granted to it. 0: there is no limit.
    pub download_share: u64,
    /// Plain HTTP goes through curl too.
    pub always_curl: bool,
    /// Lines of a URL, and the token that is sent as `Authorization: Bearer` to what lies below it.
    pub tokens: String,
}

/// It shows nothing: the fields hold secrets.
impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("Network")
    }
}

impl Network {
    /// Returns whether a URL cannot be asked without curl.
    pub fn needs_curl(&self, url: &str) -> bool {
        self.always_curl || has_tls(url) || self.proxy_for(url).is_some()
    }

    pub fn has_proxy(&self) -> bool {
        !self.proxy.is_empty() || !self.tls_proxy.is_empty()
    }

    /// Returns the proxy through which a URL is asked.
    pub fn proxy_for(&self, url: &str) -> Option<&str> {
        let (_, authority, _) = url_parts(url)?;
        let host = authority.split(':').next().unwrap_or_default();
        let proxy = if has_tls(url) {
            &self.tls_proxy
        } else {
            &self.proxy
        };
        let is_direct = proxy.is_empty()
            || self
                .no_proxy
                .split([',', ' ', '\t'])
                .any(|name| is_excepted(host, name));
        (!is_direct).then_some(proxy)
    }

    /// Returns the URL of what is connected to for a URL: its proxy, or itself.
    pub fn next_hop<'a>(&'a self, url: &'a str) -> &'a str {
        self.proxy_for(url).unwrap_or(url)
    }

    /// Returns the token for a URL, if it lies below one that has a token.
    pub fn token(&self, url: &str) -> Option<&str> {
        let mut lines = self.tokens.lines();
        lines.find_map(|line| {
            let (prefix, token) = line.split_once(' ')?;
            is_in_stores(&[prefix.to_owned()], url).then_some(token)
        })
    }
}

/// Returns whether a host is what an exception names: `*`, a name, all names below one, an address, or a network of IPv4.
fn is_excepted(host: &str, exception: &str) -> bool {
    if let Some((network, bits)) = exception.split_once('/') {
        return is_in_network(host, network, bits).unwrap_or_default();
    }
    let name = exception.trim_start_matches('.');
    name == "*" || !name.is_empty() && is_in_domain(host, name)
}

/// Returns whether the first bits of two addresses are equal. `None`: these are no addresses, or no number of bits.
fn is_in_network(host: &str, network: &str, bits: &str) -> Option<bool> {
    let host: Ipv4Addr = host.parse().ok()?;
    let network: Ipv4Addr = network.parse().ok()?;
    let other_bits = 32_u32.checked_sub(bits.parse().ok()?)?;
    let difference = u32::from(host) ^ u32::from(network);
    Some(difference.checked_shr(other_bits).unwrap_or_default() == 0)
}

/// Returns whether a host has this name, or one that ends with it after a dot.
fn is_in_domain(host: &str, name: &str) -> bool {
    let start = host.len().wrapping_sub(name.len());
    let end = host.get(start..);
    end.is_some_and(|end| end.eq_ignore_ascii_case(name))
        && (start == 0 || host.as_bytes()[start - 1] == b'.')
}

/// Returns whether a text is to be fetched, and is not a path or a document.
pub fn is_fetched(text: &str) -> bool {
    text.starts_with("http://") || has_tls(text)
}

pub fn has_tls(url: &str) -> bool {
    url.starts_with("https://")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_reached_directly_if_no_proxy_names_it_or_its_domain() {
        let network = Network {
            proxy: "http://proxy:3128".into(),
            tls_proxy: "http://proxy:3128".into(),
            no_proxy: "localhost, .corp.example,10.0.0.5 192.0.2.0/25,/1,x/8,10.1.1.1/33".into(),
            ..Network::default()
        };
        for url in [
            "http://localhost:1/x",
            "https://corp.example",
            "http://Store.Corp.Example:8080/y",
            "http://10.0.0.5/",
            "http://192.0.2.127:8000/",
        ] {
            assert_eq!(network.proxy_for(url), None, "{url}");
        }
        for url in [
            "http://notcorp.example/",
            "http://corp.example.org/",
            "http://10.0.0.50/",
            "http://192.0.2.128/",
            "http://10.1.1.1/",
            "http://x/localhost",
        ] {
            assert_eq!(network.proxy_for(url), Some("http://proxy:3128"), "{url}");
        }
        let everywhere = Network {
            no_proxy: "*".into(),
            ..network
        };
        assert_eq!(everywhere.proxy_for("http://x/"), None);
        assert_eq!(Network::default().proxy_for("http://x/"), None);
    }

    #[test]
    fn curl_is_needed_for_tls_and_proxies_or_if_it_is_wanted() {
        let mut network = Network::default();
        assert!(network.needs_curl("https://x/"));
        assert!(!network.needs_curl("http://x/"));
        network.proxy = "http://p".into();
        assert!(network.needs_curl("http://x/"));
        network.no_proxy = "x".into();
        assert!(!network.needs_curl("http://x/"));
        network.always_curl = true;
        assert!(network.needs_curl("http://x/"));
    }

    #[test]
    fn a_token_is_for_what_lies_below_its_url_only() {
        let network = Network {
            tokens: "https://store/a one\nhttp://store two\n".into(),
            ..Network::default()
        };
        for (url, token) in [
            ("https://store/a/b.tar.gz", Some("one")),
            ("https://store:443/a", Some("one")),
            ("http://store/x", Some("two")),
            ("https://store/ab", None),
            ("https://store.evil/a", None),
            ("https://store:8443/a", None),
            ("https://evil/https://store/a", None),
        ] {
            assert_eq!(network.token(url), token, "{url}");
        }
    }

    #[test]
    fn no_secret_is_printed_for_debugging() {
        let network = Network {
            tokens: "canary".into(),
            ..Network::default()
        };
        assert_eq!(format!("{network:?}"), "Network");
    }
}

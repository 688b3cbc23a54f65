//! The settings about how servers are reached, which follow the others.

use super::settings::{Config, SETTINGS, Setting};
use super::value::Plain;
use crate::model::url_parts;
use crate::text::without_passwords;

/// The schemes of a proxy that curl knows.
const PROXY_SCHEMES: [&str; 6] = ["http", "https", "socks4", "socks4a", "socks5", "socks5h"];

static NETWORK_SETTINGS: [Setting; 9] = [
    TRANSPORT,
    CURL,
    CA_FILE,
    CLIENT_CERT,
    CLIENT_KEY,
    PROXY,
    NO_PROXY,
    TOKEN_FILE,
    STORE_TOKEN_FILE,
];

/// Returns every setting, in the order of the file.
pub(super) fn all() -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().chain(&NETWORK_SETTINGS)
}

const TRANSPORT: Setting = Setting {
    wanted: "auto, or curl to send plain HTTP through curl too",
    set: |config, value| {
        config.network.always_curl = match value.text() {
            "auto" => false,
            "curl" => true,
            _ => return Err(value.to_string()),
        };
        Ok(())
    },
    get: |config| {
        let is_curl = config.network.always_curl;
        Plain::Text(if is_curl { "curl" } else { "auto" })
    },
    key: "transport",
    default: Plain::Text("auto"),
    line: Some(13),
    unit: "",
    if_empty: String::new,
};

const CURL: Setting = row(
    "curl",
    14,
    PATH,
    |config, value| set_path(&mut config.network.curl, &value),
    |config| Plain::Text(&config.network.curl),
    || "searched for in the usual places".to_owned(),
);

const CA_FILE: Setting = row(
    "ca_file",
    15,
    PATH,
    |config, value| set_path(&mut config.network.ca_file, &value),
    |config| Plain::Text(&config.network.ca_file),
    || "those that curl trusts".to_owned(),
);

const CLIENT_CERT: Setting = row(
    "client_cert",
    16,
    "the absolute path of a file, without a colon",
    |config, value| {
        // curl takes what follows a colon for a password.
        if value.text().contains(':') {
            return Err(value.to_string());
        }
        set_path(&mut config.network.client_cert, &value)
    },
    |config| Plain::Text(&config.network.client_cert),
    none,
);

const CLIENT_KEY: Setting = row(
    "client_key",
    17,
    PATH,
    |config, value| {
        if !value.text().is_empty() && config.network.client_cert.is_empty() {
            return Err(format!("{value} without client_cert"));
        }
        set_path(&mut config.network.client_key, &value)
    },
    |config| Plain::Text(&config.network.client_key),
    none,
);

const PROXY: Setting = row(
    "proxy",
    18,
    "the URL of a proxy with its port, such as http://proxy:3128",
    |config, value| {
        let proxy = value.text();
        config.shown_proxy = without_passwords(proxy);
        if !proxy.is_empty() && !is_proxy(proxy) {
            return Err(format!("{:?}", config.shown_proxy));
        }
        proxy.clone_into(&mut config.network.proxy);
        Ok(())
    },
    |config| Plain::Text(&config.shown_proxy),
    none,
);

const NO_PROXY: Setting = row(
    "no_proxy",
    19,
    "hosts and domains with commas between them",
    |config, value| {
        value.text().clone_into(&mut config.network.no_proxy);
        Ok(())
    },
    |config| Plain::Text(&config.network.no_proxy),
    none,
);

const TOKEN_FILE: Setting = row(
    "token_file",
    20,
    PATH,
    |config, value| set_path(&mut config.token_file, &value),
    |config| Plain::Text(&config.token_file),
    none,
);

const STORE_TOKEN_FILE: Setting = row(
    "store_token_file",
    21,
    PATH,
    |config, value| set_path(&mut config.store_token_file, &value),
    |config| Plain::Text(&config.store_token_file),
    none,
);

const PATH: &str = "the absolute path of a file";

/// Returns a row for a text that is empty by default.
const fn row(
    key: &'static str,
    line: usize,
    wanted: &'static str,
    set: fn(&mut Config, Plain) -> Result<(), String>,
    get: fn(&Config) -> Plain,
    if_empty: fn() -> String,
) -> Setting {
    Setting {
        key,
        default: Plain::Text(""),
        wanted,
        set,
        get,
        line: Some(line),
        unit: "",
        if_empty,
    }
}

fn none() -> String {
    "none".to_owned()
}

fn set_path(field: &mut String, value: &Plain) -> Result<(), String> {
    let path = value.text();
    if !path.is_empty() && !path.starts_with('/') {
        return Err(value.to_string());
    }
    path.clone_into(field);
    Ok(())
}

/// Returns whether this is a proxy for curl: printable ASCII, a host, and no path.
fn is_proxy(url: &str) -> bool {
    let is_plain = url.bytes().all(|byte| byte.is_ascii_graphic());
    let Some((scheme, authority, path)) = url_parts(url) else {
        return false;
    };
    let (_, address) = authority.rsplit_once('@').unwrap_or(("", authority));
    // curl and this program would take another port if there is none.
    let Some((host, port)) = address.split_once(':') else {
        return false;
    };
    is_plain
        && PROXY_SCHEMES.contains(&scheme)
        && !host.is_empty()
        && port.parse::<u16>().is_ok()
        && matches!(path, "" | "/")
}

#[cfg(test)]
mod tests {
    use super::super::settings::Config;
    use super::*;

    #[test]
    fn a_proxy_has_a_scheme_and_a_host_and_perhaps_a_password() {
        for proxy in [
            "http://proxy:3128",
            "http://proxy:3128/",
            "https://user:p%40ss@proxy:3128",
            "socks5h://127.0.0.1:1080",
        ] {
            assert!(is_proxy(proxy), "{proxy}");
        }
        for wrong in [
            "proxy:3128",
            "ftp://proxy",
            "http://",
            "http://:3128",
            "http://proxy/path",
            "http://user@",
            "http://proxy",
            "http://proxy:x",
            "http://a b",
        ] {
            assert!(!is_proxy(wrong), "{wrong}");
        }
        let mut config = Config::default();
        let set = PROXY.set;
        let error = set(&mut config, Plain::Text("u:canary@proxy")).expect_err("no scheme");
        assert_eq!(error, "\"***@proxy\"");
        set(&mut config, Plain::Text("http://u:canary@proxy:1")).expect("valid");
        assert_eq!((PROXY.get)(&config).text(), "***@proxy:1");
        assert_eq!(config.network.proxy, "http://u:canary@proxy:1");
    }
}

//! The settings about how servers are reached, which follow the others.

use std::mem;

use super::settings::{Config, SETTINGS, Setting};
use super::value::Plain;
use crate::model::{is_plain_host, url_parts};
use crate::net::curl;
use crate::os::environment;
use crate::text::without_passwords;

/// The variables of curl, the first one that is set counts. `HTTP_PROXY` is not one of them: in a CGI program a client chooses it.
const PLAIN_PROXIES: [&str; 3] = ["http_proxy", "all_proxy", "ALL_PROXY"];
const TLS_PROXIES: [&str; 4] = ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
const EXCEPTIONS: [&str; 2] = ["no_proxy", "NO_PROXY"];
const AUTHORITIES: [&str; 2] = ["CURL_CA_BUNDLE", "SSL_CERT_FILE"];
/// The schemes of a proxy. With `https` curl would verify the proxy by settings of its own.
const PROXY_SCHEMES: [&str; 5] = ["http", "socks4", "socks4a", "socks5", "socks5h"];

static NETWORK_SETTINGS: [Setting; 10] = [
    TRANSPORT,
    CURL,
    CA_FILE,
    CLIENT_CERT,
    CLIENT_KEY,
    PROXY,
    NO_PROXY,
    TOKEN_FILE,
    STORE_TOKEN_FILE,
    DOWNLOAD_RATE,
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
    line: Some(14),
    unit: "",
    if_empty: String::new,
};

const CURL: Setting = row(
    "curl",
    15,
    PATH,
    |config, value| set_path(&mut config.network.curl, &value),
    |config| Plain::Text(&config.network.curl),
    || "searched for in the usual places".to_owned(),
);

const CA_FILE: Setting = row(
    "ca_file",
    16,
    CURL_PATH,
    |config, value| set_curl_path(&mut config.network.ca_file, &value),
    |config| Plain::Text(&config.network.ca_file),
    || "those that curl trusts".to_owned(),
);

const CLIENT_CERT: Setting = row(
    "client_cert",
    17,
    CURL_PATH,
    |config, value| set_curl_path(&mut config.network.client_cert, &value),
    |config| Plain::Text(&config.network.client_cert),
    none,
);

const CLIENT_KEY: Setting = row(
    "client_key",
    18,
    CURL_PATH,
    |config, value| {
        if !value.text().is_empty() && config.network.client_cert.is_empty() {
            return Err(format!("{value} without client_cert"));
        }
        set_curl_path(&mut config.network.client_key, &value)
    },
    |config| Plain::Text(&config.network.client_key),
    none,
);

const PROXY: Setting = row(
    "proxy",
    19,
    "the URL of a proxy with its port, such as http://proxy:3128",
    |config, value| {
        let proxy = value.text();
        config.shown_proxy = without_passwords(proxy);
        if !proxy.is_empty() && !is_proxy(proxy) {
            return Err(format!("{:?}", config.shown_proxy));
        }
        proxy.clone_into(&mut config.network.proxy);
        proxy.clone_into(&mut config.network.tls_proxy);
        Ok(())
    },
    |config| Plain::Text(&config.shown_proxy),
    none,
);

const NO_PROXY: Setting = row(
    "no_proxy",
    20,
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
    21,
    PATH,
    |config, value| set_path(&mut config.token_file, &value),
    |config| Plain::Text(&config.token_file),
    none,
);

const STORE_TOKEN_FILE: Setting = row(
    "store_token_file",
    22,
    PATH,
    |config, value| set_path(&mut config.store_token_file, &value),
    |config| Plain::Text(&config.store_token_file),
    none,
);

const DOWNLOAD_RATE: Setting = Setting {
    key: "download_rate",
    default: Plain::Number(0),
    wanted: "whole bytes per second from 20000 on, or 0 for no limit",
    set: |config, value| {
        config.download_rate = match value {
            Plain::Number(rate @ (0 | LEAST_RATE..)) => rate,
            other => return Err(other.to_string()),
        };
        Ok(())
    },
    get: |config| Plain::Number(config.download_rate),
    line: Some(24),
    unit: " bytes/s",
    if_empty: String::new,
};

/// The lowest download rate, in bytes per second. A transfer of less than 1 KB/s is given up, and 16 may share this rate.
const LEAST_RATE: u64 = 20_000;
const CURL_PATH: &str = "the absolute path of a file, without a colon";
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

/// curl takes what follows a colon for a password, and some names for things that are no files.
fn set_curl_path(field: &mut String, value: &Plain) -> Result<(), String> {
    if value.text().contains(':') {
        return Err(value.to_string());
    }
    set_path(field, value)
}

fn set_path(field: &mut String, value: &Plain) -> Result<(), String> {
    let path = value.text();
    if !path.is_empty() && !path.starts_with('/') {
        return Err(value.to_string());
    }
    path.clone_into(field);
    Ok(())
}

/// Returns whether this is a proxy for curl: printable ASCII, a plain host, its port, and no path. For some others curl would
/// go without a proxy.
fn is_proxy(url: &str) -> bool {
    let is_printable = url.bytes().all(|byte| byte.is_ascii_graphic());
    let Some((scheme, authority, path)) = url_parts(url) else {
        return false;
    };
    let (user, address) = authority.rsplit_once('@').unwrap_or(("", authority));
    // curl and this program would take another port if there is none.
    let Some((host, port)) = address.split_once(':') else {
        return false;
    };
    is_printable
        && PROXY_SCHEMES.contains(&scheme)
        && user.split('%').skip(1).all(is_code_of_a_character)
        && !host.is_empty()
        && is_plain_host(host)
        && port.bytes().all(|byte| byte.is_ascii_digit())
        && port.parse::<u16>().is_ok()
        && matches!(path, "" | "/")
}

/// Returns whether the text begins with the two hexadecimal digits of a character that is no control character.
fn is_code_of_a_character(text: &str) -> bool {
    let code = text.get(..2);
    let byte = code.and_then(|code| u8::from_str_radix(code, 16).ok());
    byte.is_some_and(|byte| !byte.is_ascii_control())
}

/// Takes what the file leaves open from the variables that curl knows. One of no use is a warning: an updater that has worked
/// must not stop because of the shell that starts it. For the same reason no variable leads plain HTTP to a proxy on a host without
/// curl. As with the original updater, none leads loopback to one.
pub(super) fn follow_environment(config: &mut Config, variable: &dyn Fn(&str) -> String) {
    if config.network.ca_file.is_empty() {
        take(config, &CA_FILE, &AUTHORITIES, variable);
    }
    if config.network.no_proxy.is_empty() {
        take(config, &NO_PROXY, &EXCEPTIONS, variable);
    }
    if config.network.proxy.is_empty() {
        take_proxies(config, variable);
    }
}

fn take_proxies(config: &mut Config, variable: &dyn Fn(&str) -> String) {
    take(config, &PROXY, &TLS_PROXIES, variable);
    let tls_proxy = config.network.tls_proxy.clone();
    let tls_shown = mem::take(&mut config.shown_proxy);
    config.network.proxy.clear();
    match first_set(&PLAIN_PROXIES, variable) {
        Some(name) if curl::find(&config.network).is_none() => {
            let warning = format!("the variable {name} is ignored for http: curl is not installed");
            config.warnings.push(warning);
        }
        _ => take(config, &PROXY, &PLAIN_PROXIES, variable),
    }
    if config.network.proxy != tls_proxy {
        config.network.tls_proxy = tls_proxy;
        let mut words = Vec::new();
        for (scheme, shown) in [("http", &config.shown_proxy), ("https", &tls_shown)] {
            if !shown.is_empty() {
                words.push(format!("{scheme}: {shown}"));
            }
        }
        config.shown_proxy = words.join(", ");
    }
    if config.network.has_proxy() {
        let exceptions = &mut config.network.no_proxy;
        if !exceptions.is_empty() {
            exceptions.push(',');
        }
        exceptions.push_str("localhost,127.0.0.0/8");
    }
}

/// Returns the first variable of this process that names a proxy.
pub fn proxy_variable() -> Option<&'static str> {
    let of_http = first_set(&PLAIN_PROXIES[..1], &environment::variable);
    of_http.or_else(|| first_set(&TLS_PROXIES, &environment::variable))
}

fn first_set<'a>(names: &[&'a str], variable: &dyn Fn(&str) -> String) -> Option<&'a str> {
    let mut names = names.iter().copied();
    names.find(|name| !variable(name).is_empty())
}

/// Sets what the first of these variables says.
fn take(config: &mut Config, setting: &Setting, names: &[&str], variable: &dyn Fn(&str) -> String) {
    let name = first_set(names, variable).unwrap_or_default();
    let mut value = variable(name);
    if setting.key == PROXY.key && !value.is_empty() && url_parts(&value).is_none() {
        value.insert_str(0, "http://");
    }
    if let Err(found) = (setting.set)(config, Plain::Text(&value)) {
        config.shown_proxy.clear();
        let wanted = setting.wanted;
        let warning = format!("the variable {name} is {found}, wanted {wanted}, and ignored");
        config.warnings.push(warning);
    }
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
            "http://user:p%40ss@proxy:3128",
            "socks5h://127.0.0.1:1080",
        ] {
            assert!(is_proxy(proxy), "{proxy}");
        }
        for wrong in [
            "proxy:3128",
            "ftp://proxy:1",
            "https://proxy:1",
            "http://proxy:+3128",
            "http://pro{xy:3128",
            "http://u:p%0a@proxy:3128",
            "http://u:p%7F@proxy:3128",
            "http://u:p%4@proxy:3128",
            "http://u:100%@proxy:3128",
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

    fn from_environment(file: &[(&Setting, &str)], variables: &[(&str, &str)]) -> Config {
        let mut config = Config::default();
        for (setting, value) in file {
            (setting.set)(&mut config, Plain::Text(value)).expect("valid");
        }
        // A path that is there on every host.
        config.network.curl = "/".into();
        follow_environment(&mut config, &|name| {
            let mut variables = variables.iter();
            let found = variables.find(|(variable, _)| *variable == name);
            found.map_or_else(String::new, |(_, value)| (*value).to_owned())
        });
        config
    }

    #[test]
    fn the_variables_of_curl_count_where_the_file_says_nothing() {
        let both = [
            ("http_proxy", "http://plain:1"),
            ("https_proxy", "http://u:canary@tls:2"),
            ("no_proxy", "corp.example"),
            ("SSL_CERT_FILE", "/ca.pem"),
        ];
        let Config {
            network,
            shown_proxy,
            ..
        } = from_environment(&[], &both);
        assert_eq!(network.proxy_for("http://m/"), Some("http://plain:1"));
        assert_eq!(
            network.proxy_for("https://m/"),
            Some("http://u:canary@tls:2")
        );
        assert_eq!(shown_proxy, "http: http://plain:1, https: ***@tls:2");
        assert_eq!(network.proxy_for("https://m.corp.example/"), None);
        assert_eq!(network.ca_file, "/ca.pem");

        let file = [
            (&CA_FILE, "/own.pem"),
            (&PROXY, "http://own:3"),
            (&NO_PROXY, "x"),
        ];
        let Config { network, .. } = from_environment(&file, &both);
        for url in ["http://m.corp.example/", "https://m/"] {
            assert_eq!(network.proxy_for(url), Some("http://own:3"));
        }
        assert_eq!(network.ca_file, "/own.pem");
        assert_eq!(network.no_proxy, "x");

        let of_all = from_environment(&[], &[("ALL_PROXY", "all:4")]);
        assert_eq!(of_all.shown_proxy, "http://all:4");
        assert_eq!(of_all.network.tls_proxy, "http://all:4");
    }

    #[test]
    fn no_variable_leads_loopback_to_a_proxy() {
        let config = from_environment(&[], &[("http_proxy", "http://p:1")]);
        for url in ["http://127.0.1.1:6090/", "http://localhost/"] {
            assert_eq!(config.network.proxy_for(url), None, "{url}");
        }
        assert!(from_environment(&[], &[]).network.no_proxy.is_empty());
    }

    #[test]
    fn a_proxy_for_https_is_none_for_http_if_that_of_http_is_of_no_use() {
        let variables = [("https_proxy", "http://tls:1"), ("http_proxy", "http://p")];
        let config = from_environment(&[], &variables);
        assert_eq!(config.network.proxy_for("http://m/"), None);
        assert_eq!(config.shown_proxy, "https: http://tls:1");
        assert_eq!(config.warnings.len(), 1);
    }

    #[test]
    fn without_curl_no_variable_leads_plain_http_to_a_proxy() {
        let mut config = Config::default();
        config.network.curl = "/no/curl".into();
        follow_environment(&mut config, &|name| match name {
            "all_proxy" => "http://p:1".to_owned(),
            _ => String::new(),
        });
        assert_eq!(config.network.proxy_for("http://m/"), None);
        let expected = ["the variable all_proxy is ignored for http: curl is not installed"];
        assert_eq!(config.warnings, expected);
        assert_eq!(config.network.proxy_for("https://m/"), Some("http://p:1"));
    }

    #[test]
    fn a_variable_of_no_use_is_a_warning_without_its_password() {
        for (name, value, shown) in [
            ("http_proxy", "http://u:canary@p", "\"***@p\""),
            ("https_proxy", "p", "\"http://p\""),
            ("CURL_CA_BUNDLE", "ca.pem", "\"ca.pem\""),
        ] {
            let config = from_environment(&[], &[(name, value)]);
            let [warning] = &config.warnings[..] else {
                panic!("{:?}", config.warnings);
            };
            let expected = format!("the variable {name} is {shown}, wanted the ");
            assert!(warning.starts_with(&expected), "{warning}");
            assert_eq!(config.network.proxy_for("http://m/"), None);
            assert!(config.network.ca_file.is_empty());
            assert!(config.shown_proxy.is_empty());
        }
    }
}

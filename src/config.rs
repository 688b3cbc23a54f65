//! cfg.json: the text as written → checked settings. An error is one line that names file, key and what is wanted;
//! keys that nobody knows are warned of, for a typo must not pass in silence.

use std::ffi::OsString;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::disk;
use crate::error::{At, Error, Result};
use crate::json::{self, Object, Value};
use crate::log::{Level, holds, printable};
use crate::model::{is_url, one_spelling};

const FILE_LIMIT: u64 = 1 << 20;
const SUDO_DEFAULT: &str = "/usr/bin/sudo";
const INTERVAL_DEFAULT: u64 = 300;
const INTERVAL_LONGEST: u64 = 86_400;
const LOG_MEGABYTES_DEFAULT: u64 = 10;
const LOG_MEGABYTES_MOST: u64 = 1024;
pub const MEGABYTE: u64 = 1_000_000;

/// The settings in force.
#[derive(Debug)]
pub struct Config {
    pub log_level: Level,
    /// Bytes that var/app.log may have.
    pub log_limit: u64,
    /// Empty: the system's.
    pub hostname: String,
    /// Empty: the address toward the server.
    pub ip: String,
    /// The program that runs a child as root, for agents of other users.
    pub sudo: String,
    /// As written.
    pub server: String,
    /// Where heartbeats go.
    pub url: String,
    pub interval: Duration,
    /// What is odd but no reason to stop.
    pub warnings: Vec<String>,
}

/// The file, and the directory it is in: there are `var/` and `desired_agent.json`.
pub struct Source {
    pub file: PathBuf,
    pub own_dir: PathBuf,
}

impl Source {
    pub fn new(file: &Path) -> Result<Self> {
        let mut whole = PathBuf::new();
        if !file.is_absolute() {
            whole = std::env::current_dir().at("find", file)?;
        }
        whole.push(file);
        let path = one_spelling(whole.into_os_string().as_bytes());
        let end = path.iter().rposition(|byte| *byte == b'/');
        // The first slash is the root's name.
        let own_dir = path[..end.unwrap_or(0).max(1)].to_vec();
        let as_path = |bytes| PathBuf::from(OsString::from_vec(bytes));
        Ok(Self {
            own_dir: as_path(own_dir),
            file: as_path(path),
        })
    }

    pub fn load(&self) -> Result<Config> {
        let text = disk::read_small(&self.file, FILE_LIMIT).at("read", &self.file)?;
        parse(&text).map_err(|cause| Error::new("use", &self.file, cause))
    }
}

fn parse(text: &str) -> std::result::Result<Config, String> {
    // Editors of another world begin a file with a mark that is no JSON.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let object = match json::parse(text)? {
        Value::Object(object) => object,
        other => return Err(format!("it is {}, wanted an object: {{…}}", other.kind())),
    };
    let mut config = checked(&object)?;
    config.warnings = unknown_keys(&object);
    if is_http_enabled(&object)? {
        let warning = "http.enabled is true, but this version answers no HTTP";
        config.warnings.push(warning.to_owned());
    }
    Ok(config)
}

fn checked(object: &Object) -> std::result::Result<Config, String> {
    let mut config = Config {
        log_level: Level::Info,
        log_limit: 0,
        hostname: String::new(),
        ip: String::new(),
        sudo: String::new(),
        server: text(object, "server", "host:port of the ops-meta server")?,
        url: String::new(),
        interval: Duration::ZERO,
        warnings: Vec::new(),
    };
    let wanted = "an IP address, or empty for the one toward the server";
    config.ip = text(object, "ip", wanted)?;
    if !config.ip.is_empty() && config.ip.parse::<IpAddr>().is_err() {
        return Err(format!("ip is {:?}, wanted {wanted}", config.ip));
    }
    config.log_level = log_level(object)?;
    config.hostname = text(object, "hostname", "a host name, or empty for the system's")?;
    config.sudo = sudo(object)?;
    config.url = heartbeat_url(&config.server)?;
    config.interval = interval(object)?;
    config.log_limit = log_limit(object)?;
    Ok(config)
}

fn text(object: &Object, key: &str, wanted: &str) -> std::result::Result<String, String> {
    match object.get(key) {
        None => Ok(String::new()),
        Some(Value::Text(text)) if !text.chars().any(char::is_control) => {
            Ok(text.trim().to_owned())
        }
        Some(Value::Text(_)) => Err(format!("{key} holds control characters, wanted {wanted}")),
        Some(other) => Err(format!(
            "{key} is {}, wanted a string: {wanted}",
            other.kind()
        )),
    }
}

fn log_level(object: &Object) -> std::result::Result<Level, String> {
    let name = text(object, "log_level", "debug, info, warn or error")?;
    let level = match name.as_str() {
        "" => Level::Info,
        name => Level::parse(name)
            .ok_or_else(|| format!("log_level is {name:?}, wanted debug, info, warn or error"))?,
    };
    match object.get("debug") {
        Some(Value::Bool(true)) => Ok(Level::Debug),
        None | Some(Value::Bool(false)) => Ok(level),
        Some(other) => Err(format!("debug is {}, wanted true or false", other.kind())),
    }
}

/// Never looked for in PATH: whoever could write there would be run as root.
fn sudo(object: &Object) -> std::result::Result<String, String> {
    let wanted = "the absolute path of sudo";
    match text(object, "sudo", wanted)? {
        path if path.is_empty() => Ok(SUDO_DEFAULT.to_owned()),
        path if path.starts_with('/') => Ok(path),
        path => Err(format!("sudo is {path:?}, wanted {wanted}")),
    }
}

fn interval(object: &Object) -> std::result::Result<Duration, String> {
    let wanted = "wanted whole seconds from 1 to 86400";
    let range = 1..=INTERVAL_LONGEST;
    let seconds = number(object, "interval", INTERVAL_DEFAULT, range, wanted)?;
    Ok(Duration::from_secs(seconds))
}

fn log_limit(object: &Object) -> std::result::Result<u64, String> {
    let wanted = "wanted whole megabytes from 1 to 1024";
    let range = 1..=LOG_MEGABYTES_MOST;
    let most = number(object, "log_max_size", LOG_MEGABYTES_DEFAULT, range, wanted)?;
    Ok(most * MEGABYTE)
}

fn number(
    object: &Object,
    key: &str,
    default: u64,
    range: RangeInclusive<u64>,
    wanted: &str,
) -> std::result::Result<u64, String> {
    let found = match object.get(key) {
        None => return Ok(default),
        Some(Value::Number(number)) if range.contains(number) => return Ok(*number),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::Negative(number)) => number.to_string(),
        Some(other) => other.kind().to_owned(),
    };
    Err(format!("{key} is {found}, {wanted}"))
}

/// `host:port` is the original's form; a scheme or a path of its own is taken as given.
fn heartbeat_url(server: &str) -> std::result::Result<String, String> {
    let wanted = "wanted host:port of the ops-meta server";
    if server.is_empty() {
        return Err(format!("server is missing, {wanted}"));
    }
    if holds(server, "${") {
        return Err(format!(
            "server is still the placeholder {server:?}, {wanted}"
        ));
    }
    if server.starts_with("https://") {
        return Err(format!(
            "server is {server:?}, but https is not spoken here; {wanted}"
        ));
    }
    let address = server.strip_prefix("http://").unwrap_or(server);
    let (host, path) = address.split_at(address.find('/').unwrap_or(address.len()));
    if address.contains('[') || host.bytes().filter(|byte| *byte == b':').count() > 1 {
        return Err(format!(
            "server is {server:?}, an IPv6 address, which is not spoken here; use a name"
        ));
    }
    let path = if matches!(path, "" | "/") {
        "/api/heartbeat"
    } else {
        path
    };
    let (name, port) = match host.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (host, None),
    };
    let is_name = name.split('.').all(|label| !label.is_empty())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    let url = format!("http://{host}{path}");
    if !is_name
        || !is_url(&url)
        || port.is_some_and(|port| port.parse::<u16>().map_or(true, |port| port == 0))
    {
        return Err(format!("server is {:?}, {wanted}", printable(server)));
    }
    Ok(url)
}

fn unknown_keys(object: &Object) -> Vec<String> {
    let known = [
        "log_level",
        "log_max_size",
        "debug",
        "hostname",
        "ip",
        "server",
        "interval",
        "http",
        "sudo",
    ];
    let mut warnings = Vec::new();
    for key in object.keys() {
        if !known.contains(&key) {
            warnings.push(format!("the key {key:?} is unknown and ignored"));
        }
    }
    warnings
}

/// The original's HTTP settings are checked, so that a later version may use them; whether they are switched on.
fn is_http_enabled(object: &Object) -> std::result::Result<bool, String> {
    let http = match object.get("http") {
        None => return Ok(false),
        Some(Value::Object(http)) => http,
        Some(other) => return Err(format!("http is {}, wanted an object: {{…}}", other.kind())),
    };
    text(http, "listen", "address:port to listen on").map_err(|error| format!("http.{error}"))?;
    match http.get("enabled") {
        None => Ok(false),
        Some(Value::Bool(enabled)) => Ok(*enabled),
        Some(other) => Err(format!(
            "http.enabled is {}, wanted true or false",
            other.kind()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_and_its_directory_have_one_spelling() {
        for (given, file, dir) in [
            ("/a/b/cfg.json", "/a/b/cfg.json", "/a/b"),
            ("//a/./b//cfg.json", "/a/b/cfg.json", "/a/b"),
            ("/a/../cfg.json", "/a/../cfg.json", "/a/.."),
            ("/cfg.json", "/cfg.json", "/"),
        ] {
            let source = Source::new(Path::new(given)).expect("valid");
            let expected = (Path::new(file), Path::new(dir));
            assert_eq!((&*source.file, &*source.own_dir), expected);
        }
        let here = std::env::current_dir().expect("a directory");
        let source = Source::new(Path::new("./cfg.json")).expect("valid");
        assert_eq!(source.own_dir, here);
        assert_eq!(source.file, here.join("cfg.json"));
    }

    #[test]
    fn a_file_of_the_original_works_unchanged() {
        let config = parse(
            r#"{"log_level": "debug", "hostname": "", "server": "meta.example:2000", "interval": 300,
                "http": {"enabled": false, "listen": "0.0.0.0:2001"}}"#,
        )
        .expect("valid");
        assert_eq!(config.url, "http://meta.example:2000/api/heartbeat");
        assert_eq!(config.log_level, Level::Debug);
        assert_eq!(config.interval.as_secs(), 300);
        assert_eq!(config.log_limit, 10_000_000);
        assert!(config.warnings.is_empty());
    }

    #[test]
    fn a_server_with_a_scheme_or_a_path_is_taken_as_given() {
        for (server, url) in [
            ("m:1", "http://m:1/api/heartbeat"),
            ("m", "http://m/api/heartbeat"),
            ("http://m:1", "http://m:1/api/heartbeat"),
            ("http://m:1/", "http://m:1/api/heartbeat"),
            ("m:1/ops/beat", "http://m:1/ops/beat"),
            ("http://m/ops/beat?x=1", "http://m/ops/beat?x=1"),
        ] {
            assert_eq!(heartbeat_url(server).as_deref(), Ok(url));
        }
    }

    #[test]
    fn every_mistake_names_its_key_and_what_is_wanted() {
        for (text, told) in [
            ("{}", "server is missing, wanted host:port"),
            (
                r#"{"server": "${meta_server}"}"#,
                "server is still the placeholder \"${meta_server}\"",
            ),
            (
                r#"{"server": "[::1]:2000"}"#,
                "server is \"[::1]:2000\", an IPv6 address",
            ),
            (r#"{"server": "::1"}"#, "an IPv6 address"),
            (r#"{"server": "https://m"}"#, "https is not spoken here"),
            (
                r#"{"server": "m:x"}"#,
                "server is \"m:x\", wanted host:port",
            ),
            (
                r#"{"server": "m:0"}"#,
                "server is \"m:0\", wanted host:port",
            ),
            (r#"{"server": "a b"}"#, "wanted host:port"),
            (r#"{"server": "a..b:1"}"#, "wanted host:port"),
            (r#"{"server": "m#x"}"#, "wanted host:port"),
            (r#"{"server": "user@m"}"#, "wanted host:port"),
            (r#"{"server": 1}"#, "server is a number, wanted a string"),
            (
                r#"{"server": "m", "interval": "60"}"#,
                "interval is a string, wanted whole seconds",
            ),
            (
                r#"{"server": "m", "interval": 0}"#,
                "interval is 0, wanted whole seconds",
            ),
            (
                r#"{"server": "m", "interval": 86401}"#,
                "interval is 86401, wanted whole seconds",
            ),
            (
                r#"{"server": "m", "interval": -1}"#,
                "interval is -1, wanted whole seconds",
            ),
            (
                r#"{"server": "m", "interval": 1.5}"#,
                "interval is a fraction, wanted whole seconds",
            ),
            (
                r#"{"server": "m", "log_max_size": 0}"#,
                "log_max_size is 0, wanted whole megabytes from 1 to 1024",
            ),
            (
                r#"{"server": "m", "log_max_size": 1025}"#,
                "log_max_size is 1025, wanted whole megabytes",
            ),
            (
                r#"{"server": "m", "log_max_size": "10M"}"#,
                "log_max_size is a string, wanted whole megabytes",
            ),
            (
                r#"{"server": "m", "log_level": "loud"}"#,
                "log_level is \"loud\", wanted debug",
            ),
            (
                r#"{"server": "m", "debug": 1}"#,
                "debug is a number, wanted true or false",
            ),
            (
                r#"{"server": "m", "ip": "here"}"#,
                "ip is \"here\", wanted an IP address",
            ),
            (
                r#"{"server": "m", "http": []}"#,
                "http is a list, wanted an object",
            ),
            (
                r#"{"server": "m", "http": {"listen": 1}}"#,
                "http.listen is a number, wanted a string",
            ),
            (
                r#"{"server": "m", "http": {"enabled": 1}}"#,
                "http.enabled is a number, wanted true or false",
            ),
            ("[]", "it is a list, wanted an object"),
            ("{\n\"server\": \"m\",\n}", "line 3, column 1"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(told), "{text}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn a_key_that_nobody_knows_is_warned_of_by_name() {
        let config =
            parse(r#"{"server": "m", "intervall": 5, "http": {"enabled": true}}"#).expect("valid");
        assert_eq!(config.warnings.len(), 2);
        assert!(config.warnings[0].contains("\"intervall\""));
        assert!(config.warnings[1].contains("http.enabled"));
    }
}

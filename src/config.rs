//! cfg.json: the text as written → checked settings. An error is one line that names file, key and what is wanted;
//! keys that nobody knows are warned of, for a typo must not pass in silence.

use std::ffi::OsString;
use std::io::ErrorKind::NotFound;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::disk;
use crate::error::{At, Error, Result};
use crate::fields::Json;
use crate::json::{self, Object, Value};
use crate::log::{Level, holds, printable};
use crate::model::{is_url, one_spelling};

const FILE_LIMIT: u64 = 1 << 20;
const SUDO_DEFAULT: &str = "/usr/bin/sudo";
const INTERVAL_DEFAULT: u64 = 300;
const INTERVAL_LONGEST: u64 = 86_400;
const LOG_MEGABYTES_DEFAULT: u64 = 10;
const LISTEN_DEFAULT: &str = "127.0.0.1:2001";
const MEGABYTE: u64 = 1_000_000;
/// What cfg.example.json has for a server is `${meta_server}`.
const PLACEHOLDER: &str = "${";
const DEFAULT_PATH: &str = "/api/heartbeat";
const SERVER_WANTED: &str = "host:port of the ops-meta server";
const OBJECT_WANTED: &str = "an object: {…}";

/// What cfg.json may hold.
pub const KEYS: [&str; 9] = [
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
    pub http: Http,
    /// Where HTTP is answered; nowhere while it is not enabled.
    pub listen: Option<SocketAddr>,
    /// What is odd but no reason to stop.
    pub warnings: Vec<String>,
    /// What the file says, for whoever wants to know what comes from there.
    pub written: Object,
}

/// As written, or the default.
#[derive(Debug)]
pub struct Http {
    pub enabled: bool,
    pub listen: String,
}

impl Config {
    /// What is in force, under the keys of cfg.json.
    pub fn write(&self, json: &mut Json) {
        let keys = "log_level log_max_size debug hostname ip server interval http sudo";
        json.open(keys);
        json.put_text(&self.log_level.name().to_ascii_lowercase());
        json.number(&mut (self.log_limit / MEGABYTE));
        json.truth(&mut (self.log_level == Level::Debug));
        json.put_text(&self.hostname);
        json.put_text(&self.ip);
        json.put_text(&self.server);
        json.number(&mut self.interval.as_secs());
        json.open("enabled listen");
        json.truth(&mut self.http.enabled.clone());
        json.put_text(&self.http.listen);
        json.close();
        json.put_text(&self.sudo);
        json.close();
    }
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
        self.load_if(true)
    }

    /// For who needs no server: there may be no file, or none named in it.
    pub fn load_without_server(&self) -> Result<Config> {
        self.load_if(false)
    }

    fn load_if(&self, needs_server: bool) -> Result<Config> {
        let text = match disk::read_small(&self.file, FILE_LIMIT) {
            Err(error) if !needs_server && error.kind() == NotFound => "{}".to_owned(),
            text => text.at("read", &self.file)?,
        };
        let config = parse(&text, needs_server);
        config.map_err(|cause| Error::new("use", &self.file, cause))
    }
}

/// The value under a key, `http.listen` being that of `listen` within `http`. An empty text is as good as none.
pub fn find<'a>(object: &'a Object, key: &str) -> Option<&'a Value> {
    let found = match (key.strip_prefix("http."), object.get("http")) {
        (Some(key), Some(Value::Object(http))) => http.get(key),
        _ => object.get(key),
    };
    found.filter(|value| !matches!(value, Value::Text(text) if text.trim().is_empty()))
}

fn parse(text: &str, needs_server: bool) -> std::result::Result<Config, String> {
    // Editors of another world begin a file with a mark that is no JSON.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match json::parse(text)? {
        Value::Object(object) => {
            let mut config = checked(&object, needs_server)?;
            config.written = object;
            Ok(config)
        }
        other => Err(wrong("it", other.kind(), OBJECT_WANTED)),
    }
}

fn wrong(key: &str, found: &str, wanted: &str) -> String {
    format!("{key} is {found}, wanted {wanted}")
}

fn checked(object: &Object, needs_server: bool) -> std::result::Result<Config, String> {
    let mut reader = Reader {
        object,
        wrong: String::new(),
    };
    let mut server = reader.text("server", "", SERVER_WANTED);
    if !needs_server && holds(server, PLACEHOLDER) {
        server = "";
    }
    let mut url = String::new();
    if needs_server || !server.is_empty() {
        match heartbeat_url(server) {
            Ok(valid) => url = valid,
            Err(found) => reader.refuse("server", &found, SERVER_WANTED),
        }
    }
    let wanted = "an IP address, or empty for the one toward the server";
    let ip = reader.text("ip", "", wanted);
    if !ip.is_empty() && ip.parse::<IpAddr>().is_err() {
        reader.refuse_text("ip", ip, wanted);
    }
    let wanted = "debug, info, warn or error";
    let name = reader.text("log_level", "info", wanted);
    let mut log_level = Level::parse(name).unwrap_or_else(|| {
        reader.refuse_text("log_level", name, wanted);
        Level::Info
    });
    if reader.flag("debug") {
        log_level = Level::Debug;
    }
    let hostname = reader.text("hostname", "", "a host name, or empty for the system's");
    // Never looked for in PATH: whoever could write there would be run as root.
    let wanted = "the absolute path of sudo";
    let sudo = reader.text("sudo", SUDO_DEFAULT, wanted);
    if !sudo.starts_with('/') {
        reader.refuse_text("sudo", sudo, wanted);
    }
    let wanted = "whole seconds from 1 to 86400";
    let interval = reader.number("interval", INTERVAL_DEFAULT, INTERVAL_LONGEST, wanted);
    let wanted = "whole megabytes from 1 to 1024";
    let megabytes = reader.number("log_max_size", LOG_MEGABYTES_DEFAULT, 1024, wanted);
    if let Some(other) = object.get("http")
        && !matches!(other, Value::Object(_))
    {
        reader.refuse("http", other.kind(), OBJECT_WANTED);
    }
    let enabled = reader.flag("http.enabled");
    let wanted = "address:port, [address]:port or :port";
    let listen = reader.text("http.listen", LISTEN_DEFAULT, wanted);
    let address = listen_address(listen).filter(|_| enabled);
    if enabled && address.is_none() {
        reader.refuse_text("http.listen", listen, wanted);
    }
    if !reader.wrong.is_empty() {
        return Err(reader.wrong);
    }
    let mut warnings = Vec::new();
    for key in object.keys() {
        if !KEYS.contains(&key) {
            warnings.push(format!("the key {key:?} is unknown and ignored"));
        }
    }
    Ok(Config {
        log_level,
        log_limit: megabytes * MEGABYTE,
        hostname: hostname.to_owned(),
        ip: ip.to_owned(),
        sudo: sudo.to_owned(),
        server: server.to_owned(),
        url,
        interval: Duration::from_secs(interval),
        http: Http {
            enabled,
            listen: listen.to_owned(),
        },
        listen: address,
        warnings,
        written: Object::default(),
    })
}

/// Reads one setting after the other. What is wrong first is kept; from then on nothing counts.
struct Reader<'a> {
    object: &'a Object,
    wrong: String,
}

impl<'a> Reader<'a> {
    fn text(&mut self, key: &str, default: &'a str, wanted: &str) -> &'a str {
        match find(self.object, key) {
            None => {}
            Some(Value::Text(text)) if !text.chars().any(char::is_control) => return text.trim(),
            Some(Value::Text(_)) => self.refuse(key, "a text with control characters", wanted),
            Some(other) => self.refuse(key, other.kind(), &format!("a string: {wanted}")),
        }
        default
    }

    fn flag(&mut self, key: &str) -> bool {
        match find(self.object, key) {
            None => false,
            Some(Value::Bool(flag)) => *flag,
            Some(other) => {
                self.refuse(key, other.kind(), "true or false");
                false
            }
        }
    }

    fn number(&mut self, key: &str, default: u64, most: u64, wanted: &str) -> u64 {
        let found = match find(self.object, key) {
            None => return default,
            Some(Value::Number(number)) if (1..=most).contains(number) => return *number,
            Some(Value::Number(number)) => number.to_string(),
            Some(Value::Negative(number)) => number.to_string(),
            Some(other) => other.kind().to_owned(),
        };
        self.refuse(key, &found, wanted);
        default
    }

    fn refuse_text(&mut self, key: &str, text: &str, wanted: &str) {
        self.refuse(key, &format!("{text:?}"), wanted);
    }

    fn refuse(&mut self, key: &str, found: &str, wanted: &str) {
        if self.wrong.is_empty() {
            self.wrong = wrong(key, found, wanted);
        }
    }
}

/// `host:port` is the original's form; a scheme or a path of its own is taken as given. The error tells what it is.
fn heartbeat_url(server: &str) -> std::result::Result<String, String> {
    let address = server.strip_prefix("http://").unwrap_or(server);
    let (host, path) = address.split_at(address.find('/').unwrap_or(address.len()));
    let (name, port) = host.split_once(':').unwrap_or((host, "80"));
    let path = if path.len() > 1 { path } else { DEFAULT_PATH };
    let url = format!("http://{host}{path}");
    if is_host(name) && number_of_port(port).is_some() && is_url(&url) {
        return Ok(url);
    }
    let (before, after) = if server.is_empty() {
        return Err("missing".to_owned());
    } else if holds(server, PLACEHOLDER) {
        ("still the placeholder ", "")
    } else if server.starts_with("https://") {
        ("", ", but https is not spoken here")
    } else if host.starts_with('[') || holds(port, ":") {
        ("", ", an IPv6 address, which is not spoken here")
    } else {
        ("", "")
    };
    Err(format!("{before}{:?}{after}", printable(server)))
}

/// Labels with a dot between.
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

fn number_of_port(text: &str) -> Option<u16> {
    let port: u32 = text.parse().ok()?;
    u16::try_from(port).ok().filter(|port| *port > 0)
}

/// `:port` is every address of the host, as it was to the original. Names are not looked up.
fn listen_address(listen: &str) -> Option<SocketAddr> {
    let at = listen.bytes().rposition(|byte| byte == b':')?;
    let (host, port) = listen.split_at(at);
    let port = number_of_port(&port[1..])?;
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
            true,
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
            (
                r#"{"server": "m", "http": {"enabled": true, "listen": "localhost:2001"}}"#,
                "http.listen is \"localhost:2001\", wanted address:port",
            ),
            ("[]", "it is a list, wanted an object"),
            ("{\n\"server\": \"m\",\n}", "line 3, column 1"),
        ] {
            let error = parse(text, true).expect_err(text);
            assert!(error.contains(told), "{text}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn a_key_that_nobody_knows_is_warned_of_by_name() {
        let config = parse(r#"{"server": "m", "intervall": 5}"#, true).expect("valid");
        assert_eq!(config.warnings.len(), 1);
        assert!(config.warnings[0].contains("\"intervall\""));
    }

    #[test]
    fn http_is_answered_where_it_is_said_and_only_when_enabled() {
        for (http, listen) in [
            ("{}", None),
            (r#"{"enabled": false, "listen": "anywhere"}"#, None),
            (r#"{"enabled": true}"#, Some("127.0.0.1:2001")),
            (r#"{"enabled": true, "listen": ""}"#, Some("127.0.0.1:2001")),
            (
                r#"{"enabled": true, "listen": "0.0.0.0:80"}"#,
                Some("0.0.0.0:80"),
            ),
            (
                r#"{"enabled": true, "listen": "[::1]:80"}"#,
                Some("[::1]:80"),
            ),
            (r#"{"enabled": true, "listen": ":80"}"#, Some("[::]:80")),
        ] {
            let text = format!(r#"{{"server": "m", "http": {http}}}"#);
            let config = parse(&text, true).expect("valid");
            let expected = listen.map(|listen| listen.parse().expect("an address"));
            assert_eq!(config.listen, expected, "{http}");
        }
        for wrong in [
            "", "1", "1.2.3.4", ":", ":0", ":65536", "::1:80", "[::1]", "a:1",
        ] {
            assert_eq!(listen_address(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_in_force_is_a_configuration_itself() {
        let text = r#"{"log_level":"debug","log_max_size":3,"debug":true,"hostname":"h","ip":"::1","server":"m:1","interval":7,"http":{"enabled":true,"listen":":81"},"sudo":"/s"}"#;
        let config = parse(text, true).expect("valid");
        let mut json = Json::default();
        config.write(&mut json);
        assert_eq!(json.finish(), text);
        assert!(config.warnings.is_empty());
    }
}

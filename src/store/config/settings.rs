//! `Config`, and the table of its settings: the key, default, check and text of each are in its row.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::address::{heartbeat_url, lacks_port, listen_address};
use super::value::Plain;
use crate::json::Object;
use crate::log::Level;
use crate::model::{Network, is_public_key};
use crate::os::host;
use crate::text::brief;

const INTERVAL_LONGEST: u64 = 86_400;
/// An agent that died is found within this time, in seconds.
const CHECK_INTERVAL: u64 = 30;
/// In seconds.
const SPREAD_LONGEST: u64 = 7 * 86_400;
const LOG_MEGABYTES_MOST: u64 = 1024;
const MEGABYTE: u64 = 1_000_000;
pub const PUBLIC_KEYS_WANTED: &str =
    "a list of public keys of minisign (the line that begins with RW)";

/// The settings in force.
#[derive(Debug, Default)]
pub struct Config {
    pub log_level: Level,
    /// The largest size of var/app.log, in bytes.
    pub log_limit: u64,
    /// Log lines are JSON, not text.
    pub log_json: bool,
    /// Empty: the system's.
    pub hostname: String,
    /// Empty: the address from which this host reaches the server.
    pub ip: String,
    /// The program that runs a worker as root, for agents of other users.
    pub sudo: String,
    /// As written. Empty only if the command needs no server.
    pub server: String,
    /// Where heartbeats go.
    pub url: String,
    pub interval: Duration,
    /// One of these keys of minisign must have signed a release. Empty: it needs no signature.
    pub public_keys: Vec<String>,
    /// Between checks of the agents. Zero, or not less than `interval`: they are checked with heartbeats only.
    pub check_interval: Duration,
    /// The hosts of a fleet download a release over this time, in seconds. 0: each when the server desires it.
    pub download_spread: u64,
    /// A server may desire a lower version than one that ran here.
    pub allow_downgrade: bool,
    pub http: Http,
    /// Where the HTTP endpoint listens; `None` while it is not enabled.
    pub listen: Option<SocketAddr>,
    /// Without the tokens, which are read whenever they are sent.
    pub network: Network,
    /// The proxy without user and password.
    pub(super) shown_proxy: String,
    /// Empty: heartbeats have no token.
    pub token_file: String,
    /// Empty: requests to stores have no token.
    pub store_token_file: String,
    /// The most that this host downloads, in bytes per second. 0: there is no limit.
    pub download_rate: u64,
    /// What is suspicious, but no error.
    pub warnings: Vec<String>,
    /// The file as written, to tell its values from defaults.
    pub(super) written: Object,
}

impl Config {
    /// Returns the name under which this host reports. It may be empty.
    pub fn reported_hostname(&self) -> String {
        match self.hostname.as_str() {
            "" => host::hostname().unwrap_or_default(),
            name => name.to_owned(),
        }
    }

    /// Adds a warning if nobody has given this host a name. The last one is the kernel's.
    pub(super) fn warn_of_hostname(&mut self) {
        let name = self.reported_hostname();
        if matches!(
            name.as_str(),
            "" | "localhost" | "localhost.localdomain" | "(none)"
        ) {
            self.warnings.push(format!(
                "the hostname {name:?} is not unique: set \"hostname\""
            ));
        }
    }
}

/// The object `http` of cfg.json.
#[derive(Debug, Default)]
pub struct Http {
    pub enabled: bool,
    /// As written.
    pub listen: String,
}

/// One setting. The rows are in the order of `/config/reload`.
pub(super) struct Setting {
    /// The key in cfg.json; `http.listen` is `listen` within `http`.
    pub(super) key: &'static str,
    /// Used if the file has no value. It decides the kind of the setting, too.
    pub(super) default: Plain<'static>,
    /// What a valid value is, for the error.
    pub(super) wanted: &'static str,
    /// Checks a value of the right kind and stores it. The error says what was found instead.
    pub(super) set: fn(&mut Config, Plain) -> Result<(), String>,
    pub(super) get: fn(&Config) -> Plain<'_>,
    /// The position of its line in the output of `check`, if it has one: 1 and up, without gaps.
    pub(super) line: Option<usize>,
    /// What `check` prints after a number.
    pub(super) unit: &'static str,
    /// What `check` prints for an empty text: the value that the system gives.
    pub(super) if_empty: fn() -> String,
}

/// The settings, without those about how servers are reached. A setting is checked and stored after those above it.
pub(super) static SETTINGS: [Setting; 15] = [
    Setting {
        key: "log_level",
        default: Plain::Text("info"),
        wanted: "debug, info, warn or error",
        set: |config, value| {
            config.log_level = Level::parse(value.text()).ok_or_else(|| value.to_string())?;
            Ok(())
        },
        get: |config| {
            Plain::Text(match config.log_level {
                Level::Debug => "debug",
                Level::Info => "info",
                Level::Warn => "warn",
                Level::Error => "error",
            })
        },
        line: Some(6),
        unit: "",
        if_empty: String::new,
    },
    Setting {
        key: "log_max_size",
        default: Plain::Number(10),
        wanted: "whole megabytes from 1 to 1024",
        set: |config, value| {
            config.log_limit = value.number_up_to(LOG_MEGABYTES_MOST)? * MEGABYTE;
            Ok(())
        },
        get: |config| Plain::Number(config.log_limit / MEGABYTE),
        line: Some(7),
        unit: " MB",
        if_empty: String::new,
    },
    Setting {
        key: "log_format",
        default: Plain::Text("text"),
        wanted: "text or json",
        set: |config, value| {
            config.log_json = match value.text() {
                "text" => false,
                "json" => true,
                _ => return Err(value.to_string()),
            };
            Ok(())
        },
        get: |config| Plain::Text(if config.log_json { "json" } else { "text" }),
        line: Some(8),
        unit: "",
        if_empty: String::new,
    },
    Setting {
        // Another way to say log_level, so it has no line of its own.
        key: "debug",
        default: Plain::Flag(false),
        wanted: "true or false",
        set: |config, value| {
            if value.flag() {
                config.log_level = Level::Debug;
            }
            Ok(())
        },
        get: |config| Plain::Flag(config.log_level == Level::Debug),
        line: None,
        unit: "",
        if_empty: String::new,
    },
    Setting {
        key: "hostname",
        default: Plain::Text(""),
        wanted: "a host name, or empty for the system's",
        set: |config, value| {
            value.text().clone_into(&mut config.hostname);
            Ok(())
        },
        get: |config| Plain::Text(&config.hostname),
        line: Some(4),
        unit: "",
        if_empty: || host::hostname().unwrap_or_default(),
    },
    Setting {
        key: "ip",
        default: Plain::Text(""),
        wanted: "an IP address, or empty for the one toward the server",
        set: |config, value| {
            let ip = value.text();
            if !ip.is_empty() && ip.parse::<IpAddr>().is_err() {
                return Err(value.to_string());
            }
            ip.clone_into(&mut config.ip);
            Ok(())
        },
        get: |config| Plain::Text(&config.ip),
        line: Some(5),
        unit: "",
        if_empty: || "the address toward the server".to_owned(),
    },
    Setting {
        key: "server",
        default: Plain::Text(""),
        wanted: "host:port of the ops-meta server",
        set: |config, value| {
            let server = value.text();
            if !server.is_empty() {
                config.url = heartbeat_url(server)?;
                if lacks_port(server) {
                    let warning = "server has no port, so it is asked at port 80";
                    config.warnings.push(warning.to_owned());
                }
            }
            server.clone_into(&mut config.server);
            Ok(())
        },
        get: |config| Plain::Text(&config.server),
        line: Some(1),
        unit: "",
        if_empty: String::new,
    },
    Setting {
        key: "interval",
        default: Plain::Number(300),
        wanted: "whole seconds from 1 to 86400",
        set: |config, value| {
            config.interval = Duration::from_secs(value.number_up_to(INTERVAL_LONGEST)?);
            Ok(())
        },
        get: |config| Plain::Number(config.interval.as_secs()),
        line: Some(2),
        unit: " s",
        if_empty: String::new,
    },
    Setting {
        key: "check_interval",
        default: Plain::Number(CHECK_INTERVAL),
        wanted: "whole seconds from 0 to 86400, 0 for checks with heartbeats only",
        set: |config, value| {
            config.check_interval = Duration::from_secs(value.number_or_none(INTERVAL_LONGEST)?);
            Ok(())
        },
        get: |config| Plain::Number(config.check_interval.as_secs()),
        line: Some(3),
        unit: " s",
        if_empty: String::new,
    },
    Setting {
        key: "http.enabled",
        default: Plain::Flag(false),
        wanted: "true or false",
        set: |config, value| {
            config.http.enabled = value.flag();
            Ok(())
        },
        get: |config| Plain::Flag(config.http.enabled),
        line: Some(10),
        unit: "",
        if_empty: String::new,
    },
    Setting {
        key: "http.listen",
        default: Plain::Text("127.0.0.1:2001"),
        wanted: "address:port, [address]:port or :port",
        set: |config, value| {
            if config.http.enabled {
                let address = listen_address(value.text());
                config.listen = Some(address.ok_or_else(|| value.to_string())?);
            }
            value.text().clone_into(&mut config.http.listen);
            Ok(())
        },
        get: |config| Plain::Text(&config.http.listen),
        line: Some(11),
        unit: "",
        if_empty: String::new,
    },
    Setting {
        // It is never searched for in PATH: whoever can write there would have a program run as root.
        key: "sudo",
        default: Plain::Text("/usr/bin/sudo"),
        wanted: "the absolute path of sudo",
        set: |config, value| {
            if !value.text().starts_with('/') {
                return Err(value.to_string());
            }
            value.text().clone_into(&mut config.sudo);
            Ok(())
        },
        get: |config| Plain::Text(&config.sudo),
        line: Some(9),
        unit: "",
        if_empty: String::new,
    },
    Setting {
        key: "allow_downgrade",
        default: Plain::Flag(true),
        wanted: "true or false",
        set: |config, value| {
            config.allow_downgrade = value.flag();
            Ok(())
        },
        get: |config| Plain::Flag(config.allow_downgrade),
        line: Some(12),
        unit: "",
        if_empty: String::new,
    },
    Setting {
        key: "download_spread",
        default: Plain::Number(0),
        wanted: "whole seconds from 0 to 604800",
        set: |config, value| {
            config.download_spread = value.number_or_none(SPREAD_LONGEST)?;
            Ok(())
        },
        get: |config| Plain::Number(config.download_spread),
        line: Some(23),
        unit: " s",
        if_empty: String::new,
    },
    Setting {
        key: "public_keys",
        default: Plain::List(Vec::new()),
        wanted: PUBLIC_KEYS_WANTED,
        set: |config, value| {
            config.public_keys = value.list();
            for key in &config.public_keys {
                if !is_public_key(key) {
                    // Somebody may take the secret key for the public one, so little of it is shown.
                    return Err(format!("a list with {:?}", brief(key, 12)));
                }
            }
            Ok(())
        },
        get: |config| Plain::List(config.public_keys.clone()),
        line: Some(13),
        unit: "",
        if_empty: String::new,
    },
];

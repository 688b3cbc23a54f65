//! The file, its directory, and how it is read.

use std::ffi::OsString;
use std::io::ErrorKind::NotFound;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::address::is_placeholder;
use super::network_settings;
use super::settings::{Config, Setting};
use super::value::{Plain, find};
use crate::error::{At, Error, Result};
use crate::json::{self, Object, Value};
use crate::model::one_spelling;
use crate::os::{disk, environment};
use crate::text;

/// The largest cfg.json, in bytes.
const FILE_LIMIT: u64 = 1 << 20;
const OBJECT_WANTED: &str = "an object: {…}";

/// The configuration file, and the directory that holds it and everything else that is ours.
pub struct Source {
    pub file: PathBuf,
    pub own_dir: PathBuf,
}

impl Source {
    /// Makes the path absolute. Fails if the current directory cannot be found.
    pub fn new(file: &Path) -> Result<Self> {
        let mut whole = PathBuf::new();
        if !file.is_absolute() {
            whole = std::env::current_dir().at("find", file)?;
        }
        whole.push(file);
        let path = one_spelling(whole.into_os_string().as_bytes());
        let end = path.iter().rposition(|byte| *byte == b'/');
        // The name of the root directory is its slash, so at least one byte stays.
        let own_dir = path[..end.unwrap_or(0).max(1)].to_vec();
        let as_path = |bytes| PathBuf::from(OsString::from_vec(bytes));
        Ok(Self {
            own_dir: as_path(own_dir),
            file: as_path(path),
        })
    }

    pub fn load(&self) -> Result<Box<Config>> {
        self.load_if(true)
    }

    /// Loads the settings for a command that needs no server: the file may be missing, and so may `server` in it.
    pub fn load_without_server(&self) -> Result<Box<Config>> {
        self.load_if(false)
    }

    fn load_if(&self, needs_server: bool) -> Result<Box<Config>> {
        let text = match disk::read_small(&self.file, FILE_LIMIT) {
            Err(error) if !needs_server && error.kind() == NotFound => "{}".to_owned(),
            text => text.at("read", &self.file)?,
        };
        let config = parse(&text, needs_server);
        let mut config = config.map_err(|cause| Error::new("use", &self.file, cause))?;
        network_settings::follow_environment(&mut config, &environment::variable);
        if needs_server {
            config.warn_of_hostname();
        }
        Ok(config)
    }
}

fn parse(text: &str, needs_server: bool) -> std::result::Result<Box<Config>, String> {
    let mut object = match json::parse(text)? {
        Value::Object(object) => object,
        other => return Err(wrong("it", json::kind(&other), OBJECT_WANTED)),
    };
    if !needs_server && is_placeholder(json::text(&object, "server")) {
        json::take(&mut object, "server");
    }
    let mut config = checked(&object, needs_server)?;
    config.written = object;
    Ok(config)
}

fn checked(object: &Object, needs_server: bool) -> std::result::Result<Box<Config>, String> {
    if let Some(other) = json::get(object, "http")
        && !matches!(other, Value::Object(_))
    {
        return Err(wrong("http", json::kind(other), OBJECT_WANTED));
    }
    let mut config = Box::<Config>::default();
    for setting in network_settings::all() {
        let found = find(object, setting.key);
        if needs_server && setting.key == "server" && found.is_none() {
            return Err(wrong(setting.key, "missing", setting.wanted));
        }
        set(&mut config, setting, found)?;
    }
    let is_known = |key: &str| {
        let mut keys = network_settings::all().map(|setting| setting.key);
        keys.any(|known| known.split('.').next() == Some(key))
    };
    for key in object.keys().filter(|key| !is_known(key)) {
        let mut keys = network_settings::all().map(|setting| setting.key);
        let hint = text::did_you_mean(key, &mut keys);
        let warning = format!("the key {key:?} is unknown and ignored{hint}");
        config.warnings.push(warning);
    }
    Ok(config)
}

fn set(
    config: &mut Config,
    setting: &Setting,
    found: Option<&Value>,
) -> std::result::Result<(), String> {
    let value = match found {
        None => Ok(setting.default.clone()),
        Some(found) => Plain::read(found, &setting.default),
    };
    let result = value.and_then(|value| (setting.set)(config, value));
    result.map_err(|what| match (&setting.default, found) {
        (Plain::Text(_), Some(Value::String(_)) | None)
        | (Plain::Number(_) | Plain::Flag(_) | Plain::List(_), _) => {
            wrong(setting.key, &what, setting.wanted)
        }
        (Plain::Text(_), Some(_)) => {
            let wanted = format!("a string: {}", setting.wanted);
            wrong(setting.key, &what, &wanted)
        }
    })
}

fn wrong(key: &str, found: &str, wanted: &str) -> String {
    format!("{key} is {found}, wanted {wanted}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Level;

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
    fn every_mistake_names_its_key_and_what_is_wanted() {
        for (text, expected) in [
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
            (r#"{"server": "ftp://m"}"#, "wanted host:port"),
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
            assert!(error.contains(expected), "{text}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn what_is_no_public_key_is_refused_and_hardly_shown() {
        let wanted = "wanted a list of public keys of minisign (the line that begins with RW)";
        for (keys, found) in [
            ("\"RW\"", "a string"),
            ("{}", "an object"),
            ("[1]", "a list with a number"),
            ("[\"RWRTY0IyMaybeSecret\"]", "a list with \"RWRTY0IyMayb\""),
            ("[\"\"]", "a list with \"\""),
        ] {
            let text = format!(r#"{{"server": "m", "public_keys": {keys}}}"#);
            let error = parse(&text, true).expect_err(keys);
            assert_eq!(error, format!("public_keys is {found}, {wanted}"));
        }
    }

    #[test]
    fn every_mistake_about_the_network_names_its_key_and_shows_no_password() {
        for (text, expected) in [
            (
                r#"{"server": "m", "transport": "x"}"#,
                "transport is \"x\", wanted auto, or curl",
            ),
            (
                r#"{"server": "m", "curl": "curl"}"#,
                "curl is \"curl\", wanted the absolute path",
            ),
            (
                r#"{"server": "m", "client_cert": "/a:b"}"#,
                "client_cert is \"/a:b\", wanted the absolute path of a file, without a colon",
            ),
            (
                r#"{"server": "m", "client_key": "/a"}"#,
                "client_key is \"/a\" without client_cert",
            ),
            (
                r#"{"server": "m", "proxy": "u:canary@proxy"}"#,
                "proxy is \"***@proxy\", wanted the URL of a proxy",
            ),
        ] {
            let error = parse(text, true).expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn an_unknown_key_is_a_warning_with_its_name() {
        for (key, hint) in [
            ("intervall", " (did you mean interval?)"),
            ("http_listen", " (did you mean http.listen?)"),
            ("frobnicate", ""),
        ] {
            let text = format!(r#"{{"server": "m:1", "{key}": 5}}"#);
            let config = parse(&text, true).expect("valid");
            let warning = format!("the key {key:?} is unknown and ignored{hint}");
            assert_eq!(config.warnings, [warning]);
        }
    }

    #[test]
    fn a_server_without_a_port_is_a_warning_unless_a_scheme_says_which() {
        for (server, warnings) in [
            ("m:1", 0),
            ("m:1/ops", 0),
            ("http://m", 0),
            ("https://m", 0),
            ("m", 1),
            ("m/ops:1", 1),
        ] {
            let text = format!(r#"{{"server": "{server}"}}"#);
            let config = parse(&text, true).expect("valid");
            assert_eq!(config.warnings.len(), warnings, "{server}");
        }
    }

    #[test]
    fn the_endpoint_listens_only_if_it_is_enabled() {
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
    }

    #[test]
    fn the_settings_in_force_are_a_valid_configuration() {
        let text = r#"{"log_level":"debug","log_max_size":3,"log_format":"json","debug":true,"hostname":"h","ip":"::1","server":"m:1","interval":7,"check_interval":30,"http":{"enabled":true,"listen":":81"},"sudo":"/s","allow_downgrade":false,"download_spread":60,"public_keys":["RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3"],"transport":"curl","curl":"/c","ca_file":"/ca","client_cert":"/cc","client_key":"/ck","proxy":"http://p:1","no_proxy":"x,y","token_file":"/t","store_token_file":"/st","download_rate":625000}"#;
        let config = parse(text, true).expect("valid");
        assert_eq!(json::to_string(&config.in_force()), text);
        assert!(config.warnings.is_empty());
    }

    #[test]
    fn every_line_of_check_has_a_position_of_its_own() {
        let config = parse(r#"{"server": "m", "debug": true}"#, true).expect("valid");
        let lines = config.lines();
        let keys: Vec<&str> = lines.iter().map(|line| line.key).collect();
        let expected = [
            "server",
            "interval",
            "check_interval",
            "hostname",
            "ip",
            "log_level",
            "log_max_size",
            "log_format",
            "sudo",
            "http.enabled",
            "http.listen",
            "allow_downgrade",
            "public_keys",
            "transport",
            "curl",
            "ca_file",
            "client_cert",
            "client_key",
            "proxy",
            "no_proxy",
            "token_file",
            "store_token_file",
            "download_spread",
            "download_rate",
        ];
        assert_eq!(keys, expected);
        assert_eq!(lines[5].from, "cfg.json", "debug decides the log level");
    }
}

//! One agent of the desired state: the entry as the server wrote it, and the value that is checked once and then
//! travels instead of it.

use std::fmt;

use miniserde::{Deserialize, Serialize};

use super::checks::{
    HAS_USER, has_user, is_config_path, is_md5_source, is_url, is_url_or_empty, is_user,
    is_work_dir,
};
use super::location::{Location, Own};
use super::names::{AgentName, NAME_LIMIT, Version};
use super::release::{Build, Release, inline_md5};
use crate::text::{brief, printable, without_passwords};

/// One entry of the desired state in wire format. Every field is as the server wrote it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct WireAgent {
    pub name: String,
    pub version: String,
    pub tarball: String,
    pub md5: String,
    pub cmd: String,
    #[serde(rename = "runUser")]
    pub run_user: String,
    #[serde(rename = "workDir")]
    pub work_dir: String,
    #[serde(rename = "configFileName")]
    pub config_file_name: String,
    #[serde(rename = "configRemoteUrl")]
    pub config_remote_url: String,
}

/// An entry that is not followed, and why. The name is as written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Refusal {
    pub name: String,
    pub cause: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let name = brief(&self.name, NAME_LIMIT);
        let name = if name.is_empty() {
            "an entry without a name"
        } else {
            &name
        };
        write!(f, "{name}: {}", self.cause)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Cmd {
    Start,
    Stop,
}

/// One agent of the desired state, checked. Nothing checks it again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Desired {
    /// The entry that was checked.
    pub wire: WireAgent,
    pub name: AgentName,
    pub cmd: Cmd,
    pub version: Version,
    pub location: Location,
}

impl Desired {
    /// Checks an entry. The error names the first wrong field, its value, and the value that is wanted.
    pub fn check(wire: &WireAgent, own: &Own) -> Result<Self, String> {
        let wanted = "1 to 64 of A-Z a-z 0-9 . _ + - that begin with a letter or digit";
        let name =
            AgentName::parse(&wire.name).ok_or_else(|| refused("name", &wire.name, wanted))?;
        let version = Version::parse(&wire.version)
            .ok_or_else(|| refused("version", &wire.version, wanted))?;
        let cmd = match wire.cmd.as_str() {
            "start" => Cmd::Start,
            "stop" => Cmd::Stop,
            other => return Err(refused("cmd", other, "start or stop")),
        };
        check_texts(wire)?;
        let location = Location::of(&wire.work_dir, &wire.run_user, own);
        let var = format!("{}/var/", own.dir);
        if format!("{}/{name}/", location.work_dir).starts_with(&var) {
            let wanted = "a place outside of the updater's own var";
            return Err(refused("workDir", &wire.work_dir, wanted));
        }
        Ok(Self {
            name,
            cmd,
            version,
            location,
            wire: wire.clone(),
        })
    }

    /// Returns what is to be fetched. It is made of the entry each time: few agents are installed at once, and a host may have
    /// a thousand.
    pub fn release(&self) -> Release {
        let wire = &self.wire;
        Release {
            version: self.version.clone(),
            tarball: wire.tarball.trim_end_matches('/').to_owned(),
            md5: wire.md5.trim().to_owned(),
            config_file_name: wire.config_file_name.clone(),
            config_remote_url: wire.config_remote_url.clone(),
        }
    }

    /// Returns the build that is to be in force.
    pub fn build(&self) -> Build {
        Build::wanted(&self.version, &self.wire.md5)
    }

    /// Returns the same agent at another version. A digest that the entry names belongs to its own version, so it is
    /// left out.
    pub fn at_version(&self, version: &Version) -> Self {
        let mut other = self.clone();
        if inline_md5(&other.wire.md5).is_some() {
            other.wire.md5.clear();
        }
        other.wire.version = version.to_string();
        other.version = version.clone();
        other
    }
}

/// Checks the fields that keep their text.
fn check_texts(wire: &WireAgent) -> Result<(), String> {
    let check = |field: &str, value: &str, is_good: fn(&str) -> bool, wanted: &str| {
        if is_good(value) {
            Ok(())
        } else if field != "runUser" && has_user(value) {
            Err(format!("{field} is {HAS_USER}"))
        } else {
            Err(refused(field, value, wanted))
        }
    };
    check("runUser", &wire.run_user, is_user, "a user name")?;
    let wanted = "an absolute path without .. or blanks around it";
    check("workDir", &wire.work_dir, is_work_dir, wanted)?;
    check("tarball", &wire.tarball, is_url, "an http URL")?;
    let wanted = "32 hex digits, an http URL or empty";
    check("md5", &wire.md5, is_md5_source, wanted)?;
    let wanted = "a relative path without .. or blanks around it, nor control";
    let path = &wire.config_file_name;
    check("configFileName", path, is_config_path, wanted)?;
    let url = &wire.config_remote_url;
    check("configRemoteUrl", url, is_url_or_empty, "an http URL")
}

fn refused(field: &str, value: &str, wanted: &str) -> String {
    let value = format!("{:.80}", without_passwords(&printable(value)));
    format!("{field} {value:?} is not {wanted}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Own {
        Own {
            dir: "/opt/updater".into(),
            user: "ops".into(),
        }
    }

    #[test]
    fn a_location_has_one_spelling() {
        let location = |work_dir: &str, run_user: &str| {
            let mut wire = demo();
            wire.work_dir = work_dir.into();
            wire.run_user = run_user.into();
            Desired::check(&wire, &own()).expect("valid").location
        };
        let plain = location("/a/b", "");
        assert_eq!(plain.work_dir, "/a/b");
        for (work_dir, run_user) in [("/a/b/", "ops"), ("//a/./b", ""), ("/a//b/.", "ops")] {
            assert_eq!(location(work_dir, run_user), plain);
        }
        assert_eq!(location("/", "falcon").work_dir, "/");
        assert_ne!(location("/a/b", "falcon"), plain);
    }

    fn demo() -> WireAgent {
        WireAgent {
            name: "demo".into(),
            version: "1.0.1".into(),
            tarball: "http://127.0.0.1:18080/releases/".into(),
            cmd: "start".into(),
            ..Default::default()
        }
    }

    #[test]
    fn an_entry_of_the_stock_server_is_accepted() {
        let desired = Desired::check(&demo(), &own()).expect("valid");
        assert_eq!(desired.location.work_dir, "/opt/updater");
        assert_eq!(desired.release().tarball, "http://127.0.0.1:18080/releases");
        assert_eq!(desired.release().inline_md5(), None);
    }

    #[test]
    fn hostile_fields_are_refused_by_name() {
        let long = "a".repeat(65);
        for (field, value) in [
            ("name", ""),
            ("name", "../x"),
            ("name", ".hidden"),
            ("name", "-rf"),
            ("name", &long),
            ("version", "1/2"),
            ("version", ".."),
            ("version", "1.0\n"),
            ("version", "ünicode"),
            ("cmd", "restart"),
            ("cmd", ""),
            ("runUser", "-u"),
            ("runUser", "root; touch /tmp/x"),
            ("runUser", "99999999999"),
            ("runUser", &long),
            ("workDir", "relative"),
            ("workDir", "/a/../etc"),
            ("workDir", "/a\0b"),
            ("workDir", "/a "),
            ("workDir", "/a //"),
            ("workDir", " /a"),
            ("tarball", ""),
            ("tarball", "ftp://x/y"),
            ("tarball", "http://"),
            ("tarball", "http://x/\r\nHost: y"),
            ("md5", "zz"),
            ("md5", "490ac172dabecc867289079d48e84a6"),
            ("configFileName", "../cfg.json"),
            ("configFileName", "/etc/passwd"),
            ("configFileName", "a/./b"),
            ("configFileName", "a "),
            ("configFileName", " a"),
            ("configFileName", "control"),
            ("configFileName", "control/x"),
            ("configFileName", ".receipt.json"),
            ("workDir", "/opt/updater/var"),
            ("workDir", "/opt//updater/./var/x"),
            ("configRemoteUrl", "file:///etc/passwd"),
        ] {
            let mut wire = demo();
            *match field {
                "name" => &mut wire.name,
                "version" => &mut wire.version,
                "cmd" => &mut wire.cmd,
                "runUser" => &mut wire.run_user,
                "workDir" => &mut wire.work_dir,
                "tarball" => &mut wire.tarball,
                "md5" => &mut wire.md5,
                "configFileName" => &mut wire.config_file_name,
                _ => &mut wire.config_remote_url,
            } = value.to_owned();
            let error = Desired::check(&wire, &own()).expect_err(value);
            assert!(error.starts_with(field), "{error}");
            assert!(!error.contains('\n') && error.len() < 300, "{error}");
        }
    }

    #[test]
    fn a_url_with_a_password_is_refused_and_the_password_is_not_shown() {
        for url in [
            "http://user:canary@store/x",
            "http://canary@store",
            "https://user:canary@store:443/x?y",
            "http://user:can@ry-canary@store/x",
            "http://user:canary/canary@store/x",
            "http://user:canary?canary@store/x",
            "ftp://user:canary@store/x",
            "user:canary@store/x",
            " http://user:canary@store/x ",
        ] {
            for field in ["tarball", "md5", "configRemoteUrl"] {
                let mut wire = demo();
                *match field {
                    "tarball" => &mut wire.tarball,
                    "md5" => &mut wire.md5,
                    _ => &mut wire.config_remote_url,
                } = url.to_owned();
                let error = Desired::check(&wire, &own()).expect_err(url);
                assert!(error.starts_with(field), "{error}");
                assert!(!error.contains("canary"), "{error}");
            }
        }
        let mut wire = demo();
        wire.tarball = "http://user:canary@store/x".into();
        let error = Desired::check(&wire, &own()).expect_err("a password");
        let wanted = "tarball is a URL with user and password, which is not supported";
        assert_eq!(error, wanted);
        for url in [
            "http://store/@scope/a@1",
            "http://store?to=a@b",
            "http://store:/x",
        ] {
            wire.tarball = url.into();
            assert!(Desired::check(&wire, &own()).is_ok(), "{url}");
        }
    }

    #[test]
    fn another_version_keeps_no_digest_of_the_first() {
        let md5 = "490ac172dabecc867289079d48e84a66";
        for (given, kept) in [
            (md5, ""),
            (" 490ac172dabecc867289079d48e84a66 ", ""),
            ("http://x", "http://x"),
        ] {
            let mut wire = demo();
            wire.md5 = given.into();
            let desired = Desired::check(&wire, &own()).expect("valid");
            let other = desired.at_version(&Version::parse("0.9").expect("valid"));
            wire.version = "0.9".into();
            wire.md5 = kept.into();
            assert_eq!(other, Desired::check(&wire, &own()).expect("valid"));
        }
    }
}

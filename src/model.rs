//! The nouns: what a server may ask for, what a host has, and the steps between. Checked once, here, and then safe
//! in a path and in an argument list. No input, no output.

use std::fmt;

use crate::fields::{Field, Json, fields, words};
use crate::log::{brief, printable};

/// The longest name and version; a directory entry holds 255 bytes, and we append to both.
const NAME_LIMIT: usize = 64;
/// The longest URL that we take; common servers refuse longer ones.
const URL_LIMIT: usize = 2048;
/// Words of a status that are kept and reported.
pub const STATUS_LIMIT: usize = 200;
/// The longest path that we take from a server, far below every system's `PATH_MAX`.
const PATH_LIMIT: usize = 512;

macro_rules! checked_name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub struct $name(String);

        impl $name {
            pub fn parse(text: &str) -> Option<Self> {
                is_plain_name(text).then(|| Self(text.to_owned()))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Field for $name {
            fn blank() -> Self {
                Self(String::new())
            }

            fn pass(&mut self, json: &mut Json) {
                json.text(&mut self.0);
                json.want(is_plain_name(&self.0));
            }
        }
    };
}

checked_name!(
    /// `[A-Za-z0-9][A-Za-z0-9._+-]{0,63}`: a directory below workDir.
    AgentName
);
checked_name!(
    /// `[A-Za-z0-9][A-Za-z0-9._+-]{0,63}`: a directory below the agent's, and what `.version` holds.
    Version
);

fn is_plain_name(text: &str) -> bool {
    text.len() <= NAME_LIMIT
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._+-".contains(&b))
}

/// One agent of the desired state in wire format, every field as the server wrote it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct WireAgent {
    pub name: String,
    pub version: String,
    pub tarball: String,
    pub md5: String,
    pub cmd: String,
    pub run_user: String,
    pub work_dir: String,
    pub config_file_name: String,
    pub config_remote_url: String,
}

fields!(WireAgent {
    name,
    version,
    tarball,
    md5,
    cmd,
    run_user "runUser",
    work_dir "workDir",
    config_file_name "configFileName",
    config_remote_url "configRemoteUrl",
});

/// An entry that is not followed, and why. The name is as written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    pub name: String,
    pub cause: String,
}

fields!(Refusal { name, cause });

/// Whose updater this is: what an empty workDir and an empty runUser stand for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Own {
    pub dir: String,
    pub user: String,
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

/// Where an agent lives: `<work_dir>/<name>`, run as `run_user` (empty: the updater's own user). Only `Place::of` and
/// what was saved of it make one, so that equal places are equal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    pub work_dir: String,
    pub run_user: String,
}

fields!(Place { work_dir, run_user });

impl Place {
    /// One spelling for one place: another would look like a move.
    fn of(wire: &WireAgent, own: &Own) -> Self {
        let work_dir = match wire.work_dir.as_str() {
            "" => own.dir.clone(),
            // What is cut at slashes stays UTF-8.
            path => String::from_utf8(one_spelling(path.as_bytes())).unwrap_or_default(),
        };
        let run_user = if wire.run_user == own.user {
            ""
        } else {
            &wire.run_user
        };
        Self {
            work_dir,
            run_user: run_user.to_owned(),
        }
    }
}

/// What can be fetched and installed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Release {
    pub version: Version,
    pub tarball: String,
    /// 32 hex digits, or the base URL of an `.md5` file, or empty for the tarball's own.
    pub md5: String,
    pub config_file_name: String,
    pub config_remote_url: String,
}

fields!(Release {
    version,
    tarball,
    md5,
    config_file_name,
    config_remote_url,
});

impl Release {
    /// The digest that the desired state names itself, in lower case; none where it lies in a file beside the tarball.
    pub fn inline_md5(&self) -> Option<String> {
        is_md5(&self.md5).then(|| self.md5.to_ascii_lowercase())
    }

    pub fn build(&self) -> Build {
        Build {
            version: self.version.clone(),
            md5: self.inline_md5().unwrap_or_default(),
        }
    }
}

/// A version, and which build of it: the digest of its tarball, or empty where nobody knows or cares.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Build {
    pub version: Version,
    pub md5: String,
}

fields!(Build { version, md5 });

impl Build {
    /// Whether `self`, on disk, is what `wanted` asks for; an unknown digest on either side is no difference.
    pub fn satisfies(&self, wanted: &Self) -> bool {
        self.version == wanted.version
            && (self.md5 == wanted.md5 || self.md5.is_empty() || wanted.md5.is_empty())
    }
}

impl fmt::Display for Build {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.version.fmt(f)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cmd {
    Start,
    Stop,
}

/// One agent of the desired state, checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Desired {
    pub name: AgentName,
    pub cmd: Cmd,
    pub place: Place,
    pub release: Release,
}

impl Desired {
    /// Checks an entry. The error names the field and what is wanted.
    pub fn check(wire: &WireAgent, own: &Own) -> Result<Self, String> {
        let refuse = |field: &str, value: &str, wanted: &str| {
            let value = format!("{:.80}", printable(value));
            format!("{field} {value:?} is not {wanted}")
        };
        let wanted = "1 to 64 of A-Z a-z 0-9 . _ + - that begin with a letter or digit";
        let name =
            AgentName::parse(&wire.name).ok_or_else(|| refuse("name", &wire.name, wanted))?;
        let version = Version::parse(&wire.version)
            .ok_or_else(|| refuse("version", &wire.version, wanted))?;
        let cmd = match wire.cmd.as_str() {
            "start" => Cmd::Start,
            "stop" => Cmd::Stop,
            other => return Err(refuse("cmd", other, "start or stop")),
        };
        let check = |field: &str, value: &str, is_good: fn(&str) -> bool, wanted: &str| {
            if is_good(value) {
                Ok(())
            } else {
                Err(refuse(field, value, wanted))
            }
        };
        check("runUser", &wire.run_user, is_user, "a user name")?;
        let wanted = "an absolute path without ..";
        check("workDir", &wire.work_dir, is_work_dir, wanted)?;
        check("tarball", &wire.tarball, is_url, "an http URL")?;
        let wanted = "32 hex digits, an http URL or empty";
        check("md5", &wire.md5, is_md5_source, wanted)?;
        let wanted = "a relative path without .., nor control";
        let path = &wire.config_file_name;
        check("configFileName", path, is_config_path, wanted)?;
        let url = &wire.config_remote_url;
        check("configRemoteUrl", url, is_url_or_empty, "an http URL")?;
        let place = Place::of(wire, own);
        let ours = format!("{}/var/", own.dir);
        if format!("{}/{name}/", place.work_dir).starts_with(&ours) {
            let wanted = "a place outside of the updater's own var";
            return Err(refuse("workDir", &wire.work_dir, wanted));
        }
        Ok(Self {
            name,
            cmd,
            place,
            release: Release {
                version,
                tarball: wire.tarball.trim_end_matches('/').to_owned(),
                md5: wire.md5.trim().to_owned(),
                config_file_name: wire.config_file_name.clone(),
                config_remote_url: wire.config_remote_url.clone(),
            },
        })
    }
}

/// An absolute path without empty parts and `.`, and without a slash at its end.
pub fn one_spelling(path: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        if !matches!(part, b"" | b".") {
            plain.push(b'/');
            plain.extend(part);
        }
    }
    if plain.is_empty() {
        plain.push(b'/');
    }
    plain
}

pub fn is_md5(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn is_md5_source(text: &str) -> bool {
    let text = text.trim();
    text.is_empty() || is_md5(text) || is_url(text)
}

/// A whole http or https URL in printable ASCII; that minreq can speak only the first is told when it is fetched.
pub fn is_url(text: &str) -> bool {
    let rest = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"));
    text.len() <= URL_LIMIT
        && text.bytes().all(|b| b.is_ascii_graphic())
        && rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['/', ':', '?', '#']))
}

fn is_url_or_empty(text: &str) -> bool {
    text.is_empty() || is_url(text)
}

fn is_user(text: &str) -> bool {
    text.is_empty()
        || text.len() <= NAME_LIMIT
            && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

fn is_work_dir(text: &str) -> bool {
    text.is_empty()
        || text.len() <= PATH_LIMIT
            && text.starts_with('/')
            && !text.chars().any(char::is_control)
            && text.split('/').all(|part| part != "..")
}

/// A file below the version's directory, and not one of those that make it a version.
fn is_config_path(text: &str) -> bool {
    let first = text.split('/').next();
    !matches!(first, Some("control" | ".receipt.json")) && is_inner_path(text)
}

fn is_inner_path(text: &str) -> bool {
    text.is_empty()
        || text.len() <= PATH_LIMIT
            && !text.starts_with('/')
            && !text.ends_with('/')
            && !text.chars().any(char::is_control)
            && text.split('/').all(|part| !matches!(part, ".." | "." | ""))
}

words! {
    /// What `control status` said.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub enum State {
        /// There is no version in force whose script could be asked.
        Absent,
        Started,
        Stopped,
        /// It answered, but neither word: not started.
        Other,
        /// No answer: the script hangs or cannot be run. Nobody knows.
        Silent,
        /// The host lacked what it takes to ask: a process, a descriptor. Nobody knows, and the agent had no part in it.
        Unasked,
    }
}

/// What one place of an agent holds, seen in one look.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Site {
    pub place: Place,
    /// The version in force, named by `.version`, and the digest in its receipt.
    pub current: Option<Build>,
    /// Whether the version in force has a `control` that can be run.
    pub whole: bool,
    pub state: State,
    /// The words of the status script, or why there are none.
    pub status: String,
    /// Whole versions with a receipt, newest first; the one in force among them if it has one.
    pub builds: Vec<Build>,
    /// The other build of a version, while the two change places.
    pub spare: Option<Build>,
    /// Leftovers of an install that was cut short.
    pub litter: bool,
    /// The trace of a process that not even KILL ends, as on a dead disk; empty: there is none.
    pub stuck: String,
}

fields!(Site {
    place,
    current,
    whole,
    state,
    status,
    builds,
    spare,
    litter,
    stuck,
});

impl Site {
    pub fn empty(place: Place) -> Self {
        Self {
            place,
            current: None,
            whole: false,
            state: State::Absent,
            status: String::new(),
            builds: Vec::new(),
            spare: None,
            litter: false,
            stuck: String::new(),
        }
    }

    /// Nobody knows how it is.
    pub fn be_silent(&mut self, why: &str) {
        self.state = State::Silent;
        self.status = brief(why, STATUS_LIMIT);
    }

    /// Whether the build lies here whole, in force or not.
    pub fn has(&self, wanted: &Build) -> bool {
        let current = self.current.iter().filter(|_| self.whole);
        current
            .chain(&self.builds)
            .chain(&self.spare)
            .any(|build| build.satisfies(wanted))
    }

    pub fn is_in_force(&self, wanted: &Build) -> bool {
        self.whole && self.current.as_ref().is_some_and(|b| b.satisfies(wanted))
    }

    /// Nobody could even look.
    pub fn is_unseen(&self) -> bool {
        matches!(self.state, State::Silent | State::Unasked) && self.current.is_none()
    }

    pub fn is_down(&self) -> bool {
        match self.state {
            State::Stopped | State::Other => true,
            State::Absent | State::Started | State::Silent | State::Unasked => false,
        }
    }
}

/// A build at a place: where to go back to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spot {
    pub place: Place,
    pub build: Build,
}

fields!(Spot { place, build });

/// One coarse, idempotent step of one agent. Its text is the log line, the dry run and the test oracle.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Fetch, verify, unpack, configure, publish by rename. Touches nothing that runs.
    Install(Release),
    /// Stop what is in force, put `to` in force, start and watch it; on failure go back to `back`.
    Switch {
        back: Option<Spot>,
        to: Build,
    },
    /// Put the build in force if it is not, start and watch it.
    Start(Build),
    Stop(Version),
    /// Remove leftovers and every version of ours but these.
    Prune(Vec<Version>),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Install(release) => write!(f, "install {}", release.version),
            Self::Switch { back: None, to } => write!(f, "switch to {to}"),
            Self::Switch {
                back: Some(back),
                to,
            } => write!(f, "switch from {} to {to}", back.build),
            Self::Start(build) => write!(f, "start {build}"),
            Self::Stop(version) => write!(f, "stop {version}"),
            Self::Prune(keep) => {
                let mut before = "prune all but ";
                for version in keep {
                    write!(f, "{before}{version}")?;
                    before = " and ";
                }
                Ok(())
            }
        }
    }
}

/// A step and the place where it is taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Task {
    pub place: Place,
    pub step: Step,
}

impl Task {
    /// The other place that it touches, for a switch that moves the agent. Of another user nothing is run or touched,
    /// whatever was planned.
    pub fn there(&self) -> Option<&Place> {
        let Step::Switch { back, .. } = &self.step else {
            return None;
        };
        let place = &back.as_ref()?.place;
        let is_ours = *place != self.place && place.run_user == self.place.run_user;
        is_ours.then_some(place)
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.place.run_user.as_str() {
            "" => self.step.fmt(f),
            user => write!(f, "{} as {user}", self.step),
        }
    }
}

words! {
    /// Whose fault a failed step is; that decides when it is tried again.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub enum Fault {
        /// Network, store, disk or the host: never held against the version.
        Host,
        /// The version itself did not start or stay started.
        Version,
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    pub fault: Fault,
    pub error: String,
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
    fn one_place_has_one_spelling() {
        let place = |work_dir: &str, run_user: &str| {
            let mut wire = demo();
            wire.work_dir = work_dir.into();
            wire.run_user = run_user.into();
            Desired::check(&wire, &own()).expect("valid").place
        };
        let plain = place("/a/b", "");
        assert_eq!(plain.work_dir, "/a/b");
        for (work_dir, run_user) in [("/a/b/", "ops"), ("//a/./b", ""), ("/a//b/.", "ops")] {
            assert_eq!(place(work_dir, run_user), plain);
        }
        assert_eq!(place("/", "falcon").work_dir, "/");
        assert_ne!(place("/a/b", "falcon"), plain);
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
        assert_eq!(desired.place.work_dir, "/opt/updater");
        assert_eq!(desired.release.tarball, "http://127.0.0.1:18080/releases");
        assert_eq!(desired.release.inline_md5(), None);
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
            ("tarball", ""),
            ("tarball", "ftp://x/y"),
            ("tarball", "http://"),
            ("tarball", "http://x/\r\nHost: y"),
            ("md5", "zz"),
            ("md5", "490ac172dabecc867289079d48e84a6"),
            ("configFileName", "../cfg.json"),
            ("configFileName", "/etc/passwd"),
            ("configFileName", "a/./b"),
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
    fn an_unknown_digest_is_no_difference() {
        let build = |md5: &str| Build {
            version: Version::parse("1").expect("valid"),
            md5: md5.into(),
        };
        assert!(build("").satisfies(&build("a")));
        assert!(build("a").satisfies(&build("")));
        assert!(build("a").satisfies(&build("a")));
        assert!(!build("a").satisfies(&build("b")));
    }
}

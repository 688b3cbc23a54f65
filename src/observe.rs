//! Looks at agents: what is on disk, and what `control status` says. Reads; writes nothing into a healthy agent's
//! directory (an output file that outgrew its limit is cut).
#![expect(clippy::disallowed_methods, reason = "looking reads the disk")]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::control::{self, Answer, Ending};
use crate::disk;
use crate::fields::{fields, read};
use crate::log;
use crate::model::{AgentName, Build, Place, Site, State, Version, is_md5};
use crate::sys::Signals;

/// A version is 64 bytes at most; whatever is longer is no `.version`.
const VERSION_FILE_LIMIT: u64 = 256;
const RECEIPT_LIMIT: u64 = 8192;
/// Words of a status that are kept and reported.
const STATUS_LIMIT: usize = 200;
/// More versions are on no honest host; what an agent's user makes up must not choke the daemon.
const BUILDS_TOLD: usize = 64;

/// `<version>/.receipt.json`: who we fetched it as. Its presence says: unpacked whole, verified, by us.
pub struct Receipt {
    pub name: String,
    pub version: Version,
    pub md5: String,
    /// Bytes of the tarball.
    pub size: u64,
    pub url: String,
    /// Seconds since 1970.
    pub time: u64,
}

fields!(Receipt {
    name,
    version,
    md5,
    size,
    url,
    time,
});

/// The paths of one agent at one place.
#[derive(Clone)]
pub struct Paths {
    pub agent: PathBuf,
}

impl Paths {
    pub fn new(name: &AgentName, place: &Place) -> Self {
        Self {
            agent: Path::new(&place.work_dir).join(name.as_str()),
        }
    }

    /// In a directory of another name, as while an agent moves from one user to another.
    pub fn in_dir(agent: PathBuf) -> Self {
        Self { agent }
    }

    pub fn version(&self, version: &Version) -> PathBuf {
        self.agent.join(version.as_str())
    }

    pub fn version_file(&self) -> PathBuf {
        self.agent.join(".version")
    }

    /// Our own directory beside the versions.
    pub fn ours(&self) -> PathBuf {
        self.agent.join(".updater")
    }

    /// `.updater/<version><suffix>`: `.part`, `.new`, `.other`.
    pub fn staging(&self, version: &Version, suffix: &str) -> PathBuf {
        self.ours().join(format!("{version}{suffix}"))
    }

    pub fn control_output(&self) -> PathBuf {
        self.ours().join("control.out")
    }

    pub fn control_pid(&self) -> PathBuf {
        self.ours().join("control.pid")
    }

    /// The version in force, if `.version` names one.
    pub fn in_force(&self) -> Option<Version> {
        let text = disk::read_small(&self.version_file(), VERSION_FILE_LIMIT).ok()?;
        Version::parse(text.trim())
    }
}

/// An agent to look at, and where.
#[derive(Clone)]
pub struct Target {
    pub name: AgentName,
    pub place: Place,
    pub paths: Paths,
}

impl Target {
    pub fn new(name: &AgentName, place: &Place) -> Self {
        Self {
            name: name.clone(),
            place: place.clone(),
            paths: Paths::new(name, place),
        }
    }
}

/// Looks at several places at once: their scripts run side by side, each with its own deadline.
pub fn sites(wanted: &[Target], signals: &Signals) -> Vec<Site> {
    let mut sites = Vec::new();
    let (mut asked, mut dirs) = (Vec::new(), Vec::new());
    for (index, target) in wanted.iter().enumerate() {
        let site = on_disk(target);
        if site.whole
            && let Some(current) = &site.current
        {
            asked.push(index);
            dirs.push(target.paths.version(&current.version));
        }
        sites.push(site);
    }
    for (index, answer) in asked.into_iter().zip(control::statuses(&dirs, signals)) {
        let (state, status) = match answer {
            Ok(answer) => understand(answer),
            Err(error) => (State::Silent, error.to_string()),
        };
        sites[index].state = state;
        sites[index].status = log::brief(&status, STATUS_LIMIT);
    }
    sites
}

pub fn site(target: &Target, signals: &Signals) -> Site {
    let mut sites = sites(std::slice::from_ref(target), signals);
    sites
        .pop()
        .unwrap_or_else(|| Site::empty(target.place.clone()))
}

/// The first word decides, and only the words of the contract count.
fn understand(mut answer: Answer) -> (State, String) {
    let text = answer.text();
    let first = text.split_whitespace().next().unwrap_or_default();
    let state = match first {
        "started" => State::Started,
        "stoped" | "stopped" => State::Stopped,
        _ => State::Other,
    };
    if let Ending::Overdue | Ending::Killed(_) = answer.ending {
        return (State::Silent, answer.complaint());
    }
    let words = match state {
        State::Started | State::Stopped => first.to_owned(),
        State::Other if first.is_empty() => answer.complaint(),
        State::Other | State::Absent | State::Silent => text,
    };
    (state, words)
}

/// What can be seen without running anything.
pub fn on_disk(target: &Target) -> Site {
    let Target { name, place, paths } = target;
    let mut site = Site::empty(place.clone());
    let builds = builds(name, paths);
    site.builds = builds.into_iter().map(|(_, build)| build).collect();
    if let Some(version) = paths.in_force() {
        site.whole = disk::is_program(&paths.version(&version).join("control"));
        let received = site.builds.iter().find(|build| build.version == version);
        site.current = Some(received.cloned().unwrap_or(Build {
            version,
            md5: String::new(),
        }));
    }
    site.builds.truncate(BUILDS_TOLD);
    look_into_ours(name, paths, &mut site);
    site
}

/// Whole versions with a receipt of their own, and when they were received, newest first.
fn builds(name: &AgentName, paths: &Paths) -> Vec<(u64, Build)> {
    let mut builds: Vec<(u64, Build)> = Vec::new();
    for entry in disk::names(&paths.agent).into_iter().flatten() {
        let version = entry.to_str().and_then(Version::parse);
        let build = version.and_then(|version| received(name, &version, &paths.version(&version)));
        if let Some(build) = build {
            let at = builds.partition_point(|(time, _)| *time >= build.0);
            builds.insert(at, build);
        }
    }
    builds
}

/// The build in `dir`, if its receipt says that it is this version and its `control` can be run.
pub fn received(name: &AgentName, version: &Version, dir: &Path) -> Option<(u64, Build)> {
    let text = disk::read_small(&dir.join(".receipt.json"), RECEIPT_LIMIT).ok()?;
    let receipt: Receipt = read(&text)?;
    let is_digest = receipt.md5.is_empty() || is_md5(&receipt.md5);
    let is_its_own = is_digest && receipt.name == name.as_str() && receipt.version == *version;
    let build = Build {
        version: receipt.version,
        md5: receipt.md5,
    };
    (is_its_own && disk::is_program(&dir.join("control"))).then_some((receipt.time, build))
}

fn look_into_ours(name: &AgentName, paths: &Paths, site: &mut Site) {
    let ours = paths.ours();
    for entry in disk::names(&ours).into_iter().flatten() {
        if is_kept_by_us(&entry) {
            continue;
        }
        let other = entry.to_str().and_then(|name| name.strip_suffix(".other"));
        let other = other.and_then(Version::parse);
        match other.and_then(|version| received(name, &version, &ours.join(entry))) {
            // A build of the version in force can wait nowhere else; any other is fetched again if need be.
            Some((_, build)) => {
                let current = site.current.as_ref();
                let is_staged = current.is_some_and(|current| current.version == build.version);
                if is_staged || site.spare.is_none() {
                    site.spare = Some(build);
                }
            }
            None => site.litter = true,
        }
    }
    cut_output(&paths.control_output());
}

/// What stays in `.updater`; all else there is staging.
pub fn is_kept_by_us(file_name: &OsStr) -> bool {
    let kept = ["lock", "control.out", "control.pid"];
    kept.iter().any(|name| file_name == *name)
}

/// An agent that goes on writing to what `control start` left it must not fill the disk.
fn cut_output(path: &Path) {
    if fs::symlink_metadata(path)
        .is_ok_and(|meta| meta.is_file() && meta.len() > control::OUTPUT_LIMIT)
        && let Ok(file) = File::options()
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW)
            .open(path)
    {
        control::trim(&file);
    }
}

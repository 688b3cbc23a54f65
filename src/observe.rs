//! Looks at agents: what is on disk, and what `control status` says. Reads; writes nothing into a healthy agent's
//! directory (an output file that outgrew its limit is cut).
#![expect(clippy::disallowed_methods, reason = "looking reads the disk")]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::control::{self, Answer, Call, Ending};
use crate::disk;
use crate::error::{At, Error, Result};
use crate::fields::{fields, read};
use crate::ground;
use crate::job::{Event, SeenAgent, What};
use crate::log;
use crate::model::{AgentName, Build, Place, STATUS_LIMIT, Site, State, Version, is_md5};
use crate::sys::Signals;

/// A version is 64 bytes at most; whatever is longer is no `.version`.
const VERSION_FILE_LIMIT: u64 = 256;
const RECEIPT_LIMIT: u64 = 8192;
/// A status script has 10 s, 5 s to obey TERM and 1 s to be killed.
const LOOK_PATIENCE: Duration = Duration::from_secs(17);
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

    /// The version in force, if `.version` names one. Fails where the host cannot tell, which is not the same as none.
    pub fn in_force(&self) -> Result<Option<Version>> {
        let path = self.version_file();
        match disk::read_small(&path, VERSION_FILE_LIMIT).at("read", &path) {
            Ok(text) => Ok(Version::parse(text.trim())),
            Err(error) if error.is_of_the_host() => Err(error),
            Err(_) => Ok(None),
        }
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

/// Begins a look by a copy of this process: what a script does to its parent, and a dead disk to whoever touches it,
/// is done to that copy.
pub fn begin(target: &Target) -> Result<Call> {
    control::copy_look(&|| look_and_tell(target), LOOK_PATIENCE)
}

/// Tells what is on disk before it runs the script, which may be the last that this process does.
fn look_and_tell(target: &Target) {
    let mut site = facts(target);
    tell(target, &site);
    let Some(current) = site.current.as_ref().filter(|_| site.whole) else {
        return;
    };
    let dir = target.paths.version(&current.version);
    let signals = Signals::new(&[libc::SIGCHLD]).at("catch", "signals");
    match signals.and_then(|signals| control::status(&dir, &signals)) {
        Ok(answer) => understand(answer, &mut site),
        // Told again, for so far it looks as if there were nothing to ask.
        Err(error) => be_unasked(&mut site, &error),
    }
    tell(target, &site);
}

/// To a file; and there is nobody else who could be told that this fails.
fn tell(target: &Target, site: &Site) {
    let seen = SeenAgent {
        name: target.name.clone(),
        here: site.clone(),
        there: None,
    };
    let event = Event {
        what: What::Done,
        seen: Some(vec![seen]),
        ..Event::default()
    };
    let _ = event.send();
}

/// What is on disk, unless somebody else put it there.
fn facts(target: &Target) -> Site {
    match ground::check_own(&target.paths.agent) {
        Ok(()) => on_disk(target),
        Err(error) => {
            let mut site = Site::empty(target.place.clone());
            be_unasked(&mut site, &error);
            site
        }
    }
}

/// What a look has seen, and as much as one that was cut short has.
pub fn end(place: &Place, answer: &Answer) -> Site {
    let text = answer.whole_text();
    let mut events = text.lines().filter_map(Event::parse);
    let last = events.rfind(|event| event.what == What::Done);
    let (seen, error) = last.map_or((None, None), |event| (event.seen, event.error));
    let site = seen.and_then(|seen| site_at(place, seen));
    let is_seen = site.is_some() && error.is_none() && answer.succeeded();
    let mut site = site.unwrap_or_else(|| Site::empty(place.clone()));
    if !is_seen {
        let sudo = text.lines().rfind(|line| line.starts_with("sudo: "));
        let why = error.or(sudo.map(str::to_owned));
        site.be_silent(&why.unwrap_or_else(|| answer.complaint()));
        site.stuck.clone_from(&answer.stuck);
    }
    site
}

/// Who looked may be a hostile user: it tells of no other place than the one where it was sent to.
fn site_at(place: &Place, seen: Vec<SeenAgent>) -> Option<Site> {
    let seen = seen.into_iter().next()?;
    Some(seen.here).filter(|site| site.place == *place)
}

pub fn site(target: &Target, signals: &Signals) -> Site {
    let _term = signals.catch_term();
    let answer = begin(target).and_then(|call| control::finish_one(call, signals));
    match answer {
        Ok(answer) => end(&target.place, &answer),
        Err(error) => unbegun(target, &error),
    }
}

/// A host that cannot even begin a look lets nobody forget what is on disk.
pub fn unbegun(target: &Target, error: &Error) -> Site {
    let mut site = facts(target);
    be_unasked(&mut site, error);
    site
}

/// Whether the script could not be run for its own sake, or for want of something of the host's, tells the error.
fn be_unasked(site: &mut Site, error: &Error) {
    site.be_silent(&error.to_string());
    if error.is_of_the_host() {
        site.state = State::Unasked;
    }
}

/// The first word decides, and only the words of the contract count.
fn understand(mut answer: Answer, site: &mut Site) {
    if let Ending::Overdue | Ending::Killed(_) = answer.ending {
        site.be_silent(&answer.complaint());
        site.stuck = answer.stuck;
        return;
    }
    let text = answer.text();
    let first = text.split_whitespace().next().unwrap_or_default();
    site.state = match first {
        "started" => State::Started,
        "stoped" | "stopped" => State::Stopped,
        _ => State::Other,
    };
    site.status = match site.state {
        State::Started | State::Stopped => first.to_owned(),
        State::Other if first.is_empty() => answer.complaint(),
        State::Other | State::Absent | State::Silent | State::Unasked => text,
    };
    site.status = log::brief(&site.status, STATUS_LIMIT);
}

/// What can be seen without running anything.
pub fn on_disk(target: &Target) -> Site {
    let Target { name, place, paths } = target;
    let mut site = Site::empty(place.clone());
    let builds = builds(name, paths);
    site.builds = builds.into_iter().map(|(_, build)| build).collect();
    let in_force = paths.in_force().unwrap_or_else(|error| {
        be_unasked(&mut site, &error);
        None
    });
    if let Some(version) = in_force {
        let control = paths.version(&version).join("control");
        match disk::find_program(&control).at("look at", &control) {
            Ok(is_there) => site.whole = is_there,
            Err(error) => be_unasked(&mut site, &error),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_as_another_user_tells_of_the_place_where_it_was_sent_to_and_no_other() {
        let place = |run_user: &str| Place {
            work_dir: "/work".to_owned(),
            run_user: run_user.to_owned(),
        };
        let looked = |run_user: &str| {
            vec![SeenAgent {
                name: AgentName::parse("demo").expect("a name"),
                here: Site::empty(place(run_user)),
                there: None,
            }]
        };
        assert!(site_at(&place("falcon"), looked("falcon")).is_some());
        assert_eq!(site_at(&place("falcon"), looked("")), None);
        assert_eq!(site_at(&place("falcon"), Vec::new()), None);
    }
}

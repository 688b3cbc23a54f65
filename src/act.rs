//! One step of one agent, in a child of its own, under the agent's lock. Every step looks before it acts, so that it
//! can be taken again after a crash at any point. Decides nothing: which step, was the planner's choice.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use miniserde::json;

use crate::control::{self, Running, Verb};
use crate::disk;
use crate::error::{At, Error, Result};
use crate::fetch;
use crate::job::{ActJob, Event, SeenAgent, What};
use crate::model::{Build, Failure, Fault, Place, Release, Site, Spot, State, Step, Version};
use crate::observe::{self, Paths, Receipt};
use crate::sys::{self, MemoryLimit, Signals};
use crate::unpack;

/// The compiled-in arch of release stores: `linux_386`, `linux_amd64`, … (Go's `GOOS_GOARCH`).
pub const ARCH: &str = arch();
/// What a hostile body or archive may take before it ends this child; the host never notices.
pub const MEMORY_LIMIT: u64 = 64 << 20;
/// Another act on the same agent is the leftover of a killed daemon and ends soon; longer is told and tried later.
const LOCK_PATIENCE: Duration = Duration::from_secs(20);
/// A sign of life at least this often while there is progress.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);
/// Without progress for this long an orphaned download ends itself; a living daemon ends it after 60 s.
const ORPHAN_SECONDS: u32 = 90;

/// After start the agent must say started within this…
const START_PATIENCE: Duration = Duration::from_secs(60);
/// …and keep saying so for this; two misses in a row fail it.
const PROBATION: Duration = Duration::from_secs(5);
const MISSES: u32 = 2;
/// After stop the agent must say stopped within this.
const STOP_PATIENCE: Duration = Duration::from_secs(30);
/// The pause between two looks grows between these.
const LOOK_FIRST: Duration = Duration::from_millis(50);
const LOOK_LAST: Duration = Duration::from_secs(1);

const fn arch() -> &'static str {
    match (
        cfg!(target_os = "macos"),
        cfg!(target_arch = "x86"),
        cfg!(target_arch = "x86_64"),
        cfg!(target_arch = "aarch64"),
    ) {
        (false, true, _, _) => "linux_386",
        (false, _, true, _) => "linux_amd64",
        (false, _, _, true) => "linux_arm64",
        (true, _, true, _) => "darwin_amd64",
        (true, _, _, true) => "darwin_arm64",
        _ => "linux_unknown",
    }
}

type Outcome = std::result::Result<(), Failure>;

/// The role `act`: takes the job, reports the outcome and what the agent looks like afterwards.
pub fn run(job: &ActJob) -> Result<()> {
    let signals = Signals::new(&[libc::SIGCHLD]).at("catch", "signals")?;
    let act = Act {
        job,
        paths: Paths::new(&job.name, &job.place),
        signals: &signals,
    };
    let outcome = act.locked();
    let look = |place: &Place| observe::site(&job.name, place, &signals);
    let seen = SeenAgent {
        name: job.name.clone(),
        here: look(&job.place),
        there: job.there.as_ref().map(look),
    };
    let failure = outcome.err();
    let event = Event {
        what: What::Done,
        fault: failure.as_ref().map(|failure| failure.fault),
        error: failure.map(|failure| failure.error),
        seen: Some(vec![seen]),
        ..Event::default()
    };
    event.send().at("report to", "the daemon")
}

struct Act<'a> {
    job: &'a ActJob,
    paths: Paths,
    signals: &'a Signals,
}

#[allow(clippy::needless_pass_by_value, reason = "so that it fits map_err")]
fn host(error: impl ToString) -> Failure {
    Failure {
        fault: Fault::Host,
        error: error.to_string(),
    }
}

fn version(error: String) -> Failure {
    Failure {
        fault: Fault::Version,
        error,
    }
}

/// Says what is being done; an orphan, whose daemon is gone, finds out by it.
fn phase(name: &str, bytes: Option<u64>, total: Option<u64>) -> Result<()> {
    let event = Event {
        phase: Some(name.to_owned()),
        bytes,
        total,
        ..Event::default()
    };
    event.send().at("report to", "the daemon")
}

impl Act<'_> {
    fn locked(&self) -> Outcome {
        let ours = self.paths.ours();
        disk::make_dir(&ours).map_err(host)?;
        let lock = disk::lock(&ours.join("lock"), LOCK_PATIENCE).map_err(host)?;
        let Some(_lock) = lock else {
            let cause = "another updater is at work on it";
            return Err(host(Error::new("lock", ours.display(), cause)));
        };
        Running::wait_for_earlier(&self.paths.control_pid());
        match self.job.step() {
            Some(Step::Install(release)) => self.install(&release).map_err(host),
            Some(Step::Switch { back, to }) => self.switch(back.as_ref(), &to),
            Some(Step::Start(build)) => self.start(&build),
            Some(Step::Stop(_)) => self.halt(&self.paths).map_err(host),
            Some(Step::Prune(keep)) => self.prune(&keep).map_err(host),
            None => Err(host("the job on stdin lacks what its step needs")),
        }
    }

    fn on_disk(&self) -> Site {
        observe::on_disk(&self.job.name, &self.job.place)
    }

    fn install(&self, release: &Release) -> Result<()> {
        if self.on_disk().has(&release.build()) {
            return Ok(());
        }
        let installed = self.fetch_and_unpack(release);
        sys::alarm(0);
        if installed.is_err() {
            // The error is told; a leftover that resists is litter for the next prune.
            let _ = disk::remove_tree(&self.paths.staging(&release.version, ".new"));
            let is_full =
                sys::free_bytes(&self.paths.agent).is_some_and(|free| free < fetch::SPACE_RESERVE);
            if is_full {
                let _ = disk::remove_tree(&self.paths.staging(&release.version, ".part"));
            }
        }
        installed
    }

    fn fetch_and_unpack(&self, release: &Release) -> Result<()> {
        let limit = MemoryLimit::set(MEMORY_LIMIT);
        sys::alarm(ORPHAN_SECONDS);
        phase("downloading", None, None)?;
        let file_name = format!("{}-{}.tar.gz", self.job.name, release.version);
        let url = format!("{}/{ARCH}/{file_name}", release.tarball);
        let md5 = wanted_md5(release, &file_name)?;
        let part = self.paths.staging(&release.version, ".part");
        let fresh = self.paths.staging(&release.version, ".new");
        disk::remove_tree(&fresh)?;
        let mut pulse = Pulse::new();
        let tarball = fetch::tarball(&url, &md5, &part, &mut |have, total| {
            pulse.beat("downloading", Some(have), total)
        });
        let tarball = tarball.map_err(|error| mixed_fleet_hint(error, release))?;
        let receipt = self.receipt(release, &tarball.md5, tarball.size, &url);
        phase("unpacking", None, None)?;
        fs::create_dir(&fresh).at("create", fresh.display())?;
        unpack::unpack(tarball, &fresh, &mut || pulse.beat("unpacking", None, None))?;
        configure(release, &fresh)?;
        drop(limit);
        write_receipt(&fresh, &receipt)?;
        self.publish(release, &fresh)?;
        disk::remove_tree(&part)
    }

    fn receipt(&self, release: &Release, md5: &str, size: u64, url: &str) -> Receipt {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Receipt {
            name: self.job.name.to_string(),
            version: release.version.clone(),
            md5: md5.to_owned(),
            size,
            url: url.to_owned(),
            time: now.map_or(0, |now| now.as_secs()),
        }
    }

    /// Renames the finished directory into view. What runs is never touched: another build of the version in force
    /// waits beside it for the switch.
    fn publish(&self, release: &Release, fresh: &Path) -> Result<()> {
        let place = self.paths.version(&release.version);
        let site = self.on_disk();
        let is_in_force = site
            .current
            .is_some_and(|current| current.version == release.version);
        if is_in_force && site.whole {
            let spare = self.paths.staging(&release.version, ".other");
            disk::remove_tree(&spare)?;
            return disk::rename(fresh, &spare);
        }
        if fs::symlink_metadata(&place).is_err() {
            return disk::rename(fresh, &place);
        }
        // Half a version that somebody else left, or an older build of one that is not in force.
        disk::exchange(fresh, &place)?;
        disk::remove_tree(fresh)
    }

    fn start(&self, build: &Build) -> Outcome {
        let site = self.look(&self.job.place);
        if site.is_in_force(build) && site.state == State::Started {
            return Ok(());
        }
        phase("starting", None, None).map_err(host)?;
        if !site.is_in_force(build) {
            self.put_in_force(build).map_err(host)?;
        }
        self.launch(&self.paths, &build.version).map_err(version)
    }

    /// From the stop of one version to the other one's five good seconds nothing may end this process but KILL.
    fn switch(&self, back: Option<&Spot>, to: &Build) -> Outcome {
        self.signals.shield_from_term();
        let critical = Event {
            what: What::Critical,
            phase: Some("switching".to_owned()),
            ..Event::default()
        };
        critical.send().map_err(host)?;
        let before = self.on_disk();
        let elsewhere = back
            .map(|back| Paths::new(&self.job.name, &back.place))
            .filter(|paths| paths.agent != self.paths.agent);
        if let Some(paths) = &elsewhere {
            self.halt(paths).map_err(host)?;
        }
        let changed = if before.is_in_force(to) {
            Ok(())
        } else {
            self.change_over(to)
        };
        let failed = match changed.and_then(|()| self.start_or_watch(to)) {
            Ok(()) => {
                self.vouch_for(before.current.as_ref());
                return Ok(());
            }
            Err(failure) => failure,
        };
        match back {
            Some(back) => Err(self.go_back(back, failed, elsewhere.as_ref())),
            None => Err(failed),
        }
    }

    /// Stops what is in force and puts `to` in its place. On failure the old one is asked to run again.
    fn change_over(&self, to: &Build) -> Outcome {
        let old = self.paths.in_force();
        let changed = self.halt(&self.paths).and_then(|()| self.put_in_force(to));
        changed.map_err(|error| {
            let mut failure = host(error);
            let still = old.filter(|old| Some(old) == self.paths.in_force().as_ref());
            if let Some(old) = still
                && self.look(&self.job.place).is_down()
                && let Err(error) = self.launch(&self.paths, &old)
            {
                failure.error = format!("{}; {old} does not start again: {error}", failure.error);
            }
            failure
        })
    }

    /// An interrupted switch may have started it already; then it is only watched.
    fn start_or_watch(&self, to: &Build) -> Outcome {
        let started = if self.look(&self.job.place).state == State::Started {
            self.watch(&self.paths, &to.version, false)
        } else {
            self.launch(&self.paths, &to.version)
        };
        started.map_err(version)
    }

    /// The way back after a failed switch. The failure stays the version's; what follows is only told.
    fn go_back(&self, back: &Spot, mut failure: Failure, elsewhere: Option<&Paths>) -> Failure {
        let returned = match (failure.fault, elsewhere) {
            // Nothing was changed here, and the version before it was asked to run again.
            (Fault::Host, None) => return failure,
            (Fault::Host, Some(home)) => self.launch(home, &back.build.version),
            (Fault::Version, _) => self.return_to(back, elsewhere),
        };
        failure.error = match returned {
            Ok(()) => format!("{}; back to {}", failure.error, back.build),
            Err(error) => format!("{}; going back to {}: {error}", failure.error, back.build),
        };
        failure
    }

    fn return_to(&self, back: &Spot, elsewhere: Option<&Paths>) -> std::result::Result<(), String> {
        // A lost reader must not keep the old version down.
        let _ = phase("rollback", None, None);
        // A version that does not stop has had its chance; the old one is started all the same.
        let stopped = self.halt(&self.paths);
        match elsewhere {
            Some(_) => disk::remove_tree(&self.paths.version_file()),
            None => self.put_in_force(&back.build),
        }
        .map_err(|error| error.to_string())?;
        self.launch(elsewhere.unwrap_or(&self.paths), &back.build.version)?;
        stopped.map_err(|error| error.to_string())
    }

    /// Makes `.version` name the build, and its directory hold it.
    fn put_in_force(&self, build: &Build) -> Result<()> {
        let spare = self.paths.staging(&build.version, ".other");
        let place = self.paths.version(&build.version);
        let held = |dir: &Path| {
            observe::received(&self.job.name, &build.version, dir)
                .is_some_and(|(_, held)| held.satisfies(build))
        };
        if !held(&place) && held(&spare) {
            disk::exchange(&spare, &place)?;
        }
        disk::write_atomic(
            &self.paths.version_file(),
            build.version.as_str().as_bytes(),
        )
    }

    /// A version that ran and was replaced gets a receipt if it has none: it can be gone back to, and pruned.
    fn vouch_for(&self, old: Option<&Build>) {
        let Some(old) = old else { return };
        let dir = self.paths.version(&old.version);
        if self.paths.in_force().as_ref() == Some(&old.version)
            || observe::received(&self.job.name, &old.version, &dir).is_some()
            || !disk::is_program(&dir.join("control"))
        {
            return;
        }
        let receipt = Receipt {
            name: self.job.name.to_string(),
            version: old.version.clone(),
            md5: String::new(),
            size: 0,
            url: String::new(),
            time: 0,
        };
        if let Err(error) = write_receipt(&dir, &receipt) {
            crate::log::warn(format_args!("{}: {error}", self.job.name));
        }
    }

    fn prune(&self, keep: &[Version]) -> Result<()> {
        let current = self.paths.in_force();
        let ours = fs::read_dir(self.paths.ours()).at("read", self.paths.ours().display())?;
        for entry in ours.flatten() {
            let name = entry.file_name();
            let stays = ["lock", "control.out", "control.pid"];
            if !stays.iter().any(|stay| name == *stay) {
                disk::remove_tree(&entry.path())?;
            }
        }
        for build in self.on_disk().builds {
            if !keep.contains(&build.version) && current.as_ref() != Some(&build.version) {
                // Out of view first: half a version is never visible under its name.
                let gone = self.paths.staging(&build.version, ".gone");
                disk::rename(&self.paths.version(&build.version), &gone)?;
                disk::remove_tree(&gone)?;
            }
        }
        Ok(())
    }

    fn look(&self, place: &Place) -> Site {
        observe::site(&self.job.name, place, self.signals)
    }

    fn place_of(&self, paths: &Paths) -> Place {
        let mut place = self.job.place.clone();
        if let Some(work_dir) = paths.agent.parent().and_then(Path::to_str) {
            work_dir.clone_into(&mut place.work_dir);
        }
        place
    }

    /// Stops what is in force, if it runs, and sees that it did.
    fn halt(&self, paths: &Paths) -> Result<()> {
        let place = self.place_of(paths);
        let Some(current) = paths.in_force() else {
            return Ok(());
        };
        match self.look(&place).state {
            State::Absent | State::Stopped | State::Other => return Ok(()),
            State::Started | State::Silent => {}
        }
        let dir = paths.version(&current);
        let mut answer = self.call(paths, &dir, Verb::Stop)?;
        let give_up = Instant::now() + STOP_PATIENCE;
        let mut pause = LOOK_FIRST;
        loop {
            let state = self.look(&place).state;
            match state {
                State::Absent | State::Stopped | State::Other => return Ok(()),
                State::Silent if answer.succeeded() => return Ok(()),
                State::Started | State::Silent => {}
            }
            if Instant::now() >= give_up || !answer.succeeded() {
                return Err(Error::new("stop", &current, answer.complaint()));
            }
            rest(&mut pause);
        }
    }

    /// Starts and watches.
    fn launch(&self, paths: &Paths, version: &Version) -> std::result::Result<(), String> {
        let dir = paths.version(version);
        let mut answer = self
            .call(paths, &dir, Verb::Start)
            .map_err(|error| error.to_string())?;
        let watched = self.watch(paths, version, !answer.succeeded());
        watched.map_err(|error| {
            if answer.succeeded() {
                error
            } else {
                format!("{error}: {}", answer.complaint())
            }
        })
    }

    /// Sees the agent say started, and keep saying so. One whose start script failed gets no patience.
    fn watch(
        &self,
        paths: &Paths,
        version: &Version,
        failed: bool,
    ) -> std::result::Result<(), String> {
        let place = self.place_of(paths);
        let begun = Instant::now();
        let mut since: Option<Instant> = None;
        let mut misses = 0;
        let mut pause = LOOK_FIRST;
        loop {
            let site = self.look(&place);
            if site.state == State::Started {
                misses = 0;
                let since = *since.get_or_insert_with(Instant::now);
                if since.elapsed() >= PROBATION {
                    return Ok(());
                }
            } else {
                misses += 1;
                if since.is_some() && misses >= MISSES {
                    return Err(format!(
                        "{version} did not stay started ({MISSES} misses in {} s), it says {:?}",
                        PROBATION.as_secs(),
                        site.status
                    ));
                }
                if since.is_none()
                    && (begun.elapsed() >= START_PATIENCE || failed && misses >= MISSES)
                {
                    return Err(format!(
                        "{version} did not start, it says {:?}",
                        site.status
                    ));
                }
            }
            rest(&mut pause);
        }
    }

    fn call(&self, paths: &Paths, dir: &Path, verb: Verb) -> Result<control::Answer> {
        let output = control::output_file(&paths.control_output())?;
        let running = Running::begin(&paths.control_pid())?;
        let _term = self.signals.catch_term();
        let call = control::spawn(dir, verb, output, Some(running.file()))?;
        let answer = control::finish(vec![call], self.signals).pop();
        answer.ok_or_else(|| Error::new("run", dir.display(), "it has left no answer"))
    }
}

fn rest(pause: &mut Duration) {
    std::thread::sleep(*pause);
    *pause = (*pause * 3 / 2).min(LOOK_LAST);
}

/// The digest that the tarball must have: named in the desired state, or in the `.md5` file beside it.
fn wanted_md5(release: &Release, file_name: &str) -> Result<String> {
    if let Some(md5) = release.inline_md5() {
        return Ok(md5);
    }
    let base = if release.md5.is_empty() {
        &release.tarball
    } else {
        &release.md5
    };
    let base = base.trim_end_matches('/');
    fetch::md5_file(&format!("{base}/{ARCH}/{file_name}.md5"))
}

fn mixed_fleet_hint(error: Error, release: &Release) -> Error {
    if release.inline_md5().is_none() || !error.is_about("verify") {
        return error;
    }
    error.with_hint(
        "one md5 in the desired state cannot match the tarballs of every arch; for a mixed fleet \
         leave it empty and put an .md5 file beside each tarball",
    )
}

/// The remote configuration wins over the archive's, which is taken out of its way.
fn configure(release: &Release, fresh: &Path) -> Result<()> {
    if release.config_remote_url.is_empty() || release.config_file_name.is_empty() {
        return Ok(());
    }
    phase("configuring", None, None)?;
    let path = fresh.join(&release.config_file_name);
    if let Some(parent) = path.parent() {
        disk::make_dir(parent)?;
    }
    disk::remove_tree(&path)?;
    fetch::small_file(&release.config_remote_url, &path)?;
    disk::sync_parent(&path)
}

fn write_receipt(dir: &Path, receipt: &Receipt) -> Result<()> {
    disk::write_atomic(
        &dir.join(".receipt.json"),
        json::to_string(receipt).as_bytes(),
    )
}

/// Signs of life, at most one a second, each of which puts off the alarm for orphans.
struct Pulse {
    next: Instant,
}

impl Pulse {
    fn new() -> Self {
        Self {
            next: Instant::now(),
        }
    }

    fn beat(&mut self, name: &str, bytes: Option<u64>, total: Option<u64>) -> Result<()> {
        let now = Instant::now();
        if now < self.next {
            return Ok(());
        }
        self.next = now + SIGN_OF_LIFE;
        sys::alarm(ORPHAN_SECONDS);
        phase(name, bytes, total)
    }
}

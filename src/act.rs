//! One step of one agent, in a child of its own, under the agent's lock. Every step looks before it acts, so that it
//! can be taken again after a crash at any point. Decides nothing: which step, was the planner's choice.

use std::time::Duration;

use crate::agent::Agent;
use crate::control::Running;
use crate::disk::{self, Lock, Staged};
use crate::error::{At, Error, Result};
use crate::ground::{self, Settler, Wish};
use crate::install;
use crate::job::{ActJob, Event, SeenAgent, What};
use crate::log;
use crate::model::{Build, Failure, Fault, Place, Site, Spot, State, Step, Version};
use crate::observe::{self, Paths, Receipt, Target};
use crate::sys::{self, Signals};
use crate::user::{self, Account};

/// Another act on the same agent is the leftover of a killed daemon and ends soon; longer is told and tried later.
const LOCK_PATIENCE: Duration = Duration::from_secs(20);

type Outcome = std::result::Result<(), Failure>;

/// The role `act`: takes the job, reports the outcome and what the agent looks like afterwards.
pub fn run(job: &ActJob) -> Result<()> {
    let signals = Signals::new(&[libc::SIGCHLD]).at("catch", "signals")?;
    if job.role.by_sudo {
        signals.live_by_stdout();
    }
    match stand(job) {
        Ok(Some(paths)) => Act::new(job, paths, &signals).run(),
        // Nobody of that name, so nothing of it is here.
        Ok(None) => done(job, None, Site::empty(job.place.clone()), None),
        Err(error) => done(job, Some(host(error)), Site::empty(job.place.clone()), None),
    }
}

/// Says that from here on this child must be let finish.
fn critical(phase: &str) -> Result<()> {
    let event = Event {
        what: What::Critical,
        phase: Some(phase.to_owned()),
        ..Event::default()
    };
    event.send()
}

/// Becomes the user that the agent runs as, once its directory is prepared, and tells where that is.
fn stand(job: &ActJob) -> Result<Option<Paths>> {
    let Some(user) = &job.role.run_as else {
        let paths = Paths::new(&job.name, &job.place);
        ground::check_own(&paths.agent)?;
        return Ok(Some(paths));
    };
    if sys::effective_uid() != 0 {
        return Err(Error::new("become", user, "only root can"));
    }
    let wish = match job.step() {
        Some(Step::Start(_) | Step::Switch { .. }) if job.role.moving => Wish::TakeOver,
        Some(Step::Install(_) | Step::Start(_) | Step::Switch { .. }) => Wish::Make,
        Some(Step::Stop(_) | Step::Prune(_)) | None => Wish::Find,
    };
    let account = match (Account::find(user)?, wish) {
        (Some(account), _) => account,
        (None, Wish::Find) => return Ok(None),
        (None, Wish::Make | Wish::TakeOver) => {
            ground::check_nobodys(&job.name, &job.place)?;
            Account::create(user)?
        }
    };
    let settler = Settler {
        account: &account,
        moving: job.role.moving,
        trusted: user::caller_of_sudo(job.role.by_sudo),
    };
    let dir = ground::prepare(&job.name, &job.place, &settler, wish)?;
    user::become_user(&account)?;
    Ok(Some(Paths::in_dir(dir)))
}

fn done(job: &ActJob, failure: Option<Failure>, here: Site, there: Option<Site>) -> Result<()> {
    let seen = SeenAgent {
        name: job.name.clone(),
        here,
        there,
    };
    let failure = failure.map(|mut failure| {
        if let Some(user) = &job.role.run_as
            && !log::holds(&failure.error, user)
        {
            failure.error = format!("{} (as {user})", failure.error);
        }
        failure
    });
    let event = Event {
        what: What::Done,
        fault: failure.as_ref().map(|failure| failure.fault),
        error: failure.map(|failure| failure.error),
        seen: Some(vec![seen]),
        ..Event::default()
    };
    event.send()
}

struct Act<'a> {
    job: &'a ActJob,
    here: Agent<'a>,
    /// Where the agent lives until now, for a step that moves it.
    there: Option<Agent<'a>>,
    /// Where else it may run; stopped before it is started here.
    strays: Vec<Agent<'a>>,
    signals: &'a Signals,
}

#[allow(clippy::needless_pass_by_value, reason = "so that it fits map_err")]
fn host(error: Error) -> Failure {
    Failure {
        fault: Fault::Host,
        error: error.to_string(),
    }
}

/// Waits for whoever is at work on the agent: another act, or a script that a killed updater left.
fn lock(agent: &Agent) -> Result<Lock> {
    let ours = agent.paths().ours();
    disk::make_dir(&ours)?;
    let lock = disk::lock_anyway(&ours.join("lock"), 0o644, LOCK_PATIENCE)?;
    let cause = "another updater is at work on it";
    let lock = lock.ok_or_else(|| Error::new("lock", &ours, cause))?;
    Running::wait_for_earlier(&agent.paths().control_pid());
    Ok(lock)
}

/// A new `.version`, on disk but out of sight: what a crash leaves of it in `.updater` is litter for the next prune.
fn stage(agent: &Agent, version: &Version, name: &str) -> Result<Staged> {
    let paths = agent.paths();
    let word = version.as_str().as_bytes();
    Staged::write(paths.ours().join(name), &paths.version_file(), word)
}

/// The failure with what came of going back after it.
fn told(mut failure: Failure, back: &Spot, returned: Outcome) -> Failure {
    failure.error = match returned {
        Ok(()) => format!("{}; back to {}", failure.error, back.build),
        Err(again) => format!(
            "{}; going back to {}: {}",
            failure.error, back.build, again.error
        ),
    };
    failure
}

/// The first by the path.
fn first_of(agents: &[&Agent]) -> Option<usize> {
    let path = |index: &usize| agents[*index].paths().agent.as_os_str();
    (0..agents.len()).min_by(|one, other| path(one).cmp(path(other)))
}

impl<'a> Act<'a> {
    fn new(job: &'a ActJob, paths: Paths, signals: &'a Signals) -> Self {
        let place = job.place.clone();
        let name = job.name.clone();
        let here = Target { name, place, paths };
        // Through a link two names may be one place, and then nothing moves.
        let elsewhere = |place: &Place| {
            let target = Target::new(&job.name, place);
            let is_here = disk::is_same(&target.paths.agent, &here.paths.agent);
            (!is_here).then(|| Agent::new(target, signals))
        };
        let there = job.there.as_ref().and_then(elsewhere);
        let mut strays: Vec<Agent> = Vec::new();
        for place in &job.strays {
            // Nor may one place have two names among them: each is locked once.
            let is_known = |stray: &Agent| {
                let mut known = there.iter().chain(&strays);
                known.any(|known| disk::is_same(&known.paths().agent, &stray.paths().agent))
            };
            if let Some(stray) = elsewhere(place)
                && disk::is_dir(&stray.paths().agent)
                && !is_known(&stray)
                && ground::check_own(&stray.paths().agent).is_ok()
            {
                strays.push(stray);
            }
        }
        Self {
            job,
            there,
            here: Agent::new(here, signals),
            strays,
            signals,
        }
    }

    fn run(&self) -> Result<()> {
        let failure = if self.job.is_look() {
            None
        } else {
            self.locked().err()
        };
        let there = self.there.as_ref().map(Agent::look);
        done(self.job, failure, self.here.look(), there)
    }

    fn locked(&self) -> Outcome {
        // All in one order, so that two acts never wait for each other.
        let mut agents = vec![&self.here];
        agents.extend(&self.there);
        agents.extend(&self.strays);
        let mut locks = Vec::new();
        while let Some(first) = first_of(&agents) {
            locks.push(lock(agents.swap_remove(first)).map_err(host)?);
        }
        match self.job.step() {
            Some(Step::Install(release)) => install::install(&self.here, &release).map_err(host),
            Some(Step::Switch { back, to }) => self.switch(back.as_ref(), &to),
            Some(Step::Start(build)) => self.start(&build),
            Some(Step::Stop(_)) if self.job.leaves => self.leave(),
            Some(Step::Stop(_)) => self.here.halt().map_err(host),
            Some(Step::Prune(keep)) => self.prune(&keep).map_err(host),
            None => Err(Failure {
                fault: Fault::Host,
                error: "the job on stdin lacks what its step needs".to_owned(),
            }),
        }
    }

    /// What was begun elsewhere and never seen to end must not run beside what is started here.
    fn halt_strays(&self) -> Outcome {
        for stray in &self.strays {
            stray.halt().map_err(host)?;
        }
        Ok(())
    }

    /// Stops the agent for its next user to start it. Where there is no daemon left to see to that, it goes on here.
    fn leave(&self) -> Outcome {
        let before = self.here.on_disk().current;
        self.signals.shield_from_term();
        critical("stopping").map_err(host)?;
        self.here.halt().map_err(host)?;
        match before {
            Some(build) if sys::is_stdout_deserted() => {
                log::info(format_args!(
                    "{}: nobody goes on with its move",
                    self.job.name
                ));
                self.here.launch(&build.version)
            }
            _ => Ok(()),
        }
    }

    fn start(&self, build: &Build) -> Outcome {
        if self.job.role.moving {
            // Stopped as one user, it must be started as the other, whoever stops the updater now: even the first look
            // would end with it.
            self.signals.shield_from_term();
            let _ = critical("starting");
        }
        self.halt_strays()?;
        let site = self.here.look();
        if site.is_in_force(build) && site.state == State::Started {
            return Ok(());
        }
        if !self.job.role.moving {
            Event::phase("starting", None, None).map_err(host)?;
        }
        if !site.is_in_force(build) {
            // What runs meanwhile was started by somebody else; two must never run.
            let staged = stage(&self.here, &build.version, "version.tmp").map_err(host)?;
            self.here.halt().map_err(host)?;
            self.put_in_force(&self.here, build, staged).map_err(host)?;
        }
        let launched = self.here.launch(&build.version);
        if launched.is_err() && self.job.role.moving && !site.is_in_force(build) {
            self.step_back();
        }
        launched
    }

    /// An agent that does not start with its new user must leave nothing in the way of the old one.
    fn step_back(&self) {
        let stopped = self.here.halt_anyway();
        let removed = disk::remove_tree(&self.here.paths().version_file());
        for error in [stopped.err(), removed.err()].into_iter().flatten() {
            log::warn(format_args!("{}: {error}", self.job.name));
        }
    }

    /// From the stop of one version to the other one's five good seconds nothing may end this process but KILL.
    fn switch(&self, back: Option<&Spot>, to: &Build) -> Outcome {
        self.signals.shield_from_term();
        critical("switching").map_err(host)?;
        // Of an install that was cut short at its very end. Should this version fail, it would lie there until the next
        // try; what resists is litter and no reason to wait.
        let _ = disk::remove_tree(&self.here.paths().staging(&to.version, ".part"));
        self.halt_strays()?;
        let before = self.here.on_disk();
        // The way back is on disk before anything is stopped: then no full disk can close it.
        let way_back = back.map(|back| stage(self.home(), &back.build.version, "version.back"));
        let way_back = way_back.transpose().map_err(host)?;
        let changed = if before.is_in_force(to) {
            self.halt_there()
        } else {
            self.change_over(to)
        };
        if let Err(failure) = changed {
            return Err(self.stay_home(back, way_back, failure));
        }
        let Err(failure) = self.start_or_watch(to) else {
            self.vouch_for(before.current.as_ref());
            return Ok(());
        };
        Err(match back {
            Some(back) => self.go_back(back, way_back, failure),
            None => failure,
        })
    }

    fn halt_there(&self) -> Outcome {
        match &self.there {
            Some(there) => there.halt().map_err(host),
            None => Ok(()),
        }
    }

    /// Stops what is in force and puts `to` in its place. On failure the old one is asked to run again.
    fn change_over(&self, to: &Build) -> Outcome {
        let in_force = || self.here.paths().in_force().ok().flatten();
        let old = in_force();
        let changed = self.stop_and_replace(to);
        changed.map_err(|mut failure| {
            let still = old.filter(|old| Some(old) == in_force().as_ref());
            // One that comes from elsewhere is started there again, and what was in force here is of no account.
            if self.there.is_none()
                && let Some(old) = still
                && self.here.look().is_down()
                && let Err(again) = self.here.launch(&old)
            {
                failure.error = format!(
                    "{}; {old} does not start again: {}",
                    failure.error, again.error
                );
            }
            failure
        })
    }

    fn stop_and_replace(&self, to: &Build) -> Outcome {
        // All that a full disk could refuse is on disk before anything is stopped.
        let staged = stage(&self.here, &to.version, "version.tmp").map_err(host)?;
        self.halt_there()?;
        self.here.halt().map_err(host)?;
        self.put_in_force(&self.here, to, staged).map_err(host)
    }

    /// An interrupted switch may have started it already; then it is only watched.
    fn start_or_watch(&self, to: &Build) -> Outcome {
        if self.here.state() == State::Started {
            self.here.watch(&to.version, false)
        } else {
            self.here.launch(&to.version)
        }
    }

    /// Nothing was changed here. What was stopped elsewhere for it is started there again.
    fn stay_home(
        &self,
        back: Option<&Spot>,
        way_back: Option<Staged>,
        failure: Failure,
    ) -> Failure {
        match (back, &self.there) {
            (Some(back), Some(there)) if there.look().is_down() => {
                told(failure, back, self.run_again(back, way_back))
            }
            _ => failure,
        }
    }

    /// The way back after a failed start. The failure stays what it was; what follows is only told.
    fn go_back(&self, back: &Spot, way_back: Option<Staged>, failure: Failure) -> Failure {
        // A daemon that is gone must not keep the old version down.
        let _ = Event::phase("rollback", None, None);
        told(failure, back, self.return_to(back, way_back))
    }

    fn return_to(&self, back: &Spot, way_back: Option<Staged>) -> Outcome {
        // Even if it says that it is down: what is left of it must go. One that does not stop has had its chance; the
        // old one is started all the same.
        let stopped = self.here.halt_anyway();
        if self.there.is_some() {
            disk::remove_tree(&self.here.paths().version_file()).map_err(host)?;
        }
        self.run_again(back, way_back)?;
        stopped.map_err(host)
    }

    /// Starts what ran before. Where it ran, a switch that was cut short may have put another one in force.
    fn run_again(&self, back: &Spot, way_back: Option<Staged>) -> Outcome {
        let home = self.home();
        if let Some(staged) = way_back.filter(|_| !home.on_disk().is_in_force(&back.build)) {
            self.put_in_force(home, &back.build, staged).map_err(host)?;
        }
        home.launch(&back.build.version)
    }

    /// Where the agent lives until now.
    fn home(&self) -> &Agent<'a> {
        self.there.as_ref().unwrap_or(&self.here)
    }

    /// Makes `.version` name the build, and its directory hold it.
    fn put_in_force(&self, agent: &Agent, build: &Build, staged: Staged) -> Result<()> {
        let paths = agent.paths();
        let spare = paths.staging(&build.version, ".other");
        let place = paths.version(&build.version);
        let holds = |dir| {
            observe::received(&self.job.name, &build.version, dir)
                .is_some_and(|(_, held)| held.satisfies(build))
        };
        if !holds(&place) && holds(&spare) {
            // Somebody may have removed the one that it is to replace.
            disk::make_dir(&place)?;
            disk::exchange(&spare, &place)?;
        }
        staged.publish()
    }

    /// A version that ran and was replaced gets a receipt if it has none: it can be gone back to, and pruned.
    fn vouch_for(&self, old: Option<&Build>) {
        let Some(old) = old else { return };
        let dir = self.here.paths().version(&old.version);
        let in_force = self.here.paths().in_force();
        let may_be_in_force =
            in_force.map_or(true, |in_force| in_force.as_ref() == Some(&old.version));
        let has_receipt = observe::received(&self.job.name, &old.version, &dir).is_some();
        if may_be_in_force || has_receipt || !disk::is_program(&dir.join("control")) {
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
        if let Err(error) = install::write_receipt(&dir, receipt) {
            log::warn(format_args!("{}: {error}", self.job.name));
        }
    }

    fn prune(&self, keep: &[Version]) -> Result<()> {
        let paths = self.here.paths();
        let current = paths.in_force()?;
        let ours = paths.ours();
        for name in disk::names(&ours).at("read", &ours)? {
            if !observe::is_kept_by_us(&name) {
                disk::remove_tree(&ours.join(name))?;
            }
        }
        for build in self.here.on_disk().builds {
            if !keep.contains(&build.version) && current.as_ref() != Some(&build.version) {
                // Out of view first: half a version is never visible under its name.
                let gone = paths.staging(&build.version, ".gone");
                disk::rename(&paths.version(&build.version), &gone)?;
                disk::remove_tree(&gone)?;
            }
        }
        Ok(())
    }
}

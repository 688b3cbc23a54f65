//! A host on paper, for the properties of the planner: directories, processes and scripts as values. Every step changes
//! them as its worker changes a real host, and may be killed between any two changes. The host asserts what must hold at
//! every moment: at most one instance runs.

use nanorand::{Rng, WyRand};

use crate::model::{AgentState, Build, Failure, Fault, Location, Observed, Version};

/// How a build behaves once it is started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Nature {
    Good,
    /// Runs well, but prints neither word when it is down.
    Vague,
    /// Its start fails, and nothing runs.
    Fails,
    /// It runs, and prints neither word.
    Mumbles,
    /// Its status script hangs.
    Mute,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Held {
    /// The real build.
    pub build: Build,
    /// The digest in its receipt, if it has one.
    pub receipt: Option<String>,
    pub control: bool,
}

impl Held {
    pub fn fresh(build: Build) -> Self {
        Self {
            receipt: Some(build.md5.clone()),
            control: true,
            build,
        }
    }

    /// Returns the build that a check reads from the receipt.
    pub fn received(&self) -> Option<Build> {
        let md5 = self.receipt.clone().filter(|_| self.control)?;
        let version = self.build.version.clone();
        Some(Build { version, md5 })
    }
}

#[derive(Clone, PartialEq, Debug, Default)]
pub struct Disk {
    /// The content of `.version`.
    pub in_force: Option<Version>,
    pub held: Vec<Held>,
    pub spares: Vec<Build>,
    pub litter: bool,
}

/// The end of a step that did not succeed.
#[derive(Debug)]
pub enum End {
    /// The child was killed, perhaps the daemon too.
    Killed,
    Failed(Failure),
}

pub type Outcome = Result<(), End>;

pub struct Paper {
    pub random: WyRand,
    pub disks: Vec<(Location, Disk)>,
    pub up: Vec<(Location, Build)>,
    pub natures: Vec<(Build, Nature)>,
    /// The digest of every version in the store.
    pub store: String,
    /// Percent: how often an action of the host fails, and how often the updater is killed.
    pub trouble: u32,
    /// Everything that this step did, in order.
    pub done: Vec<String>,
    /// Every build that was started.
    pub launched: Vec<Build>,
}

pub fn host(error: &str) -> End {
    End::Failed(Failure {
        fault: Fault::Host,
        error: error.to_owned(),
    })
}

pub fn version(error: String) -> End {
    End::Failed(Failure {
        fault: Fault::Version,
        error,
    })
}

impl Paper {
    pub fn chance(&mut self, percent: u32) -> bool {
        self.random.generate_range(0..100) < percent
    }

    /// Fails or is killed by chance.
    pub fn may_fail(&mut self, what: &str) -> Outcome {
        if self.chance(self.trouble) {
            return Err(End::Killed);
        }
        if self.chance(self.trouble) {
            return Err(host(what));
        }
        Ok(())
    }

    pub fn note(&mut self, what: &str, location: &Location) {
        let user = match location.run_user.as_str() {
            "" => String::new(),
            user => format!(" as {user}"),
        };
        self.done.push(format!("{what}{user}"));
    }

    pub fn disk(&mut self, location: &Location) -> &mut Disk {
        let at = self.disks.iter().position(|(known, _)| known == location);
        let at = at.unwrap_or_else(|| {
            self.disks.push((location.clone(), Disk::default()));
            self.disks.len() - 1
        });
        &mut self.disks[at].1
    }

    pub fn nature(&self, build: &Build) -> Nature {
        let known = self.natures.iter().find(|(known, _)| known == build);
        known.map_or(Nature::Good, |(_, nature)| *nature)
    }

    fn is_up(&self, location: &Location) -> bool {
        self.up.iter().any(|(at, _)| at == location)
    }

    /// Returns what a check finds.
    pub fn observed(&mut self, location: &Location) -> Observed {
        let disk = self.disk(location).clone();
        let mut observed = Observed::empty(location.clone());
        observed.builds = disk.held.iter().filter_map(Held::received).collect();
        observed.litter = disk.litter;
        if let Some(version) = disk.in_force {
            let held = disk.held.iter().find(|held| held.build.version == version);
            observed.whole = held.is_some_and(|held| held.control);
            let received = observed
                .builds
                .iter()
                .find(|build| build.version == version);
            let md5 = received.map_or(String::new(), |build| build.md5.clone());
            observed.current = Some(Build { version, md5 });
            if let Some(held) = held.filter(|held| held.control) {
                observed.state = self.state(location, &held.build);
            }
        }
        observed.spare = self.pick_spare(&disk.spares, observed.current.as_ref());
        observed
    }

    /// Picks one of several spares, because a directory has no order.
    fn pick_spare(&mut self, spares: &[Build], current: Option<&Build>) -> Option<Build> {
        let mut staged = spares.iter();
        let staged = staged.find(|spare| current.is_some_and(|c| c.version == spare.version));
        let any = (!spares.is_empty()).then(|| self.random.generate_range(0..spares.len()));
        staged.or(any.map(|any| &spares[any])).cloned()
    }

    fn state(&self, location: &Location, build: &Build) -> AgentState {
        match (self.nature(build), self.is_up(location)) {
            (Nature::Good | Nature::Vague, true) => AgentState::Started,
            (Nature::Good | Nature::Fails, _) => AgentState::Stopped,
            (Nature::Vague | Nature::Mumbles, _) => AgentState::Unrecognized,
            (Nature::Mute, _) => AgentState::NoAnswer,
        }
    }

    pub fn stop(&mut self, location: &Location) -> Outcome {
        match self.observed(location).state {
            AgentState::NotInstalled | AgentState::Stopped => Ok(()),
            AgentState::Started
            | AgentState::Unrecognized
            | AgentState::NoAnswer
            | AgentState::NotAsked => self.stop_anyway(location),
        }
    }

    pub fn stop_anyway(&mut self, location: &Location) -> Outcome {
        let Some(current) = self.disk(location).in_force.clone() else {
            return Ok(());
        };
        self.may_fail("stop")?;
        self.note(&format!("stop {current}"), location);
        self.up
            .retain(|(at, build)| at != location || build.version != current);
        self.may_fail("stop")
    }

    pub fn start_and_watch(&mut self, location: &Location, wanted: &Version) -> Outcome {
        self.may_fail("start").map_err(|end| match end {
            End::Failed(failure) => version(failure.error),
            End::Killed => End::Killed,
        })?;
        let held = self.disk(location).held.iter();
        let mut held = held.filter(|held| held.build.version == *wanted && held.control);
        let Some(build) = held.next().map(|held| held.build.clone()) else {
            return Err(version(format!("{wanted} has no control")));
        };
        self.note(&format!("start {build}"), location);
        self.launched.push(build.clone());
        let nature = self.nature(&build);
        let spot = (location.clone(), build);
        if nature != Nature::Fails && !self.up.contains(&spot) {
            self.up.push(spot);
            assert!(self.up.len() < 2, "two instances are up");
        }
        if self.chance(self.trouble) {
            return Err(End::Killed);
        }
        match nature {
            Nature::Good | Nature::Vague => Ok(()),
            Nature::Fails | Nature::Mumbles | Nature::Mute => {
                Err(version(format!("{wanted} did not start")))
            }
        }
    }
}

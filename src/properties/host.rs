//! A host on paper, for the properties of the planner: directories, processes and scripts as values, and every step
//! carried out on them as `act` does it on a real one. May be killed between any two things that it does.
//! It checks itself what must hold at every moment: one instance at most, and promise 1.

use nanorand::{Rng, WyRand};

use crate::model::{Build, Failure, Fault, Place, Site, State, Version};

/// How a build behaves once it is started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Nature {
    Good,
    /// Runs well, but says neither word when it is down.
    Vague,
    /// Its start fails, and nothing is up.
    Fails,
    /// It is up, and says neither word.
    Mumbles,
    /// Its status script hangs.
    Mute,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Held {
    /// What it really is.
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

    /// What a look takes it for, when it has a receipt.
    pub fn received(&self) -> Option<Build> {
        let md5 = self.receipt.clone().filter(|_| self.control)?;
        let version = self.build.version.clone();
        Some(Build { version, md5 })
    }
}

#[derive(Clone, PartialEq, Debug, Default)]
pub struct Disk {
    /// What `.version` names.
    pub in_force: Option<Version>,
    pub held: Vec<Held>,
    pub spares: Vec<Build>,
    pub litter: bool,
}

/// How a step that did not go well ended.
#[derive(Debug)]
pub enum End {
    /// With the child, perhaps with the daemon too.
    Killed,
    Failed(Failure),
}

pub type Outcome = Result<(), End>;

pub struct Paper {
    pub random: WyRand,
    pub disks: Vec<(Place, Disk)>,
    pub up: Vec<(Place, Build)>,
    pub natures: Vec<(Build, Nature)>,
    /// The digest that the store has of every version.
    pub store: String,
    /// In percent: how often what the host does fails, and how often the updater is killed beside it.
    pub trouble: u32,
    /// What was really done in this step, in order.
    pub done: Vec<String>,
    /// What was ever started.
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

    /// Where a kill or a fault of the host may come between.
    pub fn may_fail(&mut self, what: &str) -> Outcome {
        if self.chance(self.trouble) {
            return Err(End::Killed);
        }
        if self.chance(self.trouble) {
            return Err(host(what));
        }
        Ok(())
    }

    pub fn note(&mut self, what: &str, place: &Place) {
        let user = match place.run_user.as_str() {
            "" => String::new(),
            user => format!(" as {user}"),
        };
        self.done.push(format!("{what}{user}"));
    }

    pub fn disk(&mut self, place: &Place) -> &mut Disk {
        let at = self.disks.iter().position(|(known, _)| known == place);
        let at = at.unwrap_or_else(|| {
            self.disks.push((place.clone(), Disk::default()));
            self.disks.len() - 1
        });
        &mut self.disks[at].1
    }

    pub fn nature(&self, build: &Build) -> Nature {
        let known = self.natures.iter().find(|(known, _)| known == build);
        known.map_or(Nature::Good, |(_, nature)| *nature)
    }

    fn is_up(&self, place: &Place) -> bool {
        self.up.iter().any(|(at, _)| at == place)
    }

    /// What a look finds, as `observe` finds it.
    pub fn site(&mut self, place: &Place) -> Site {
        let disk = self.disk(place).clone();
        let mut site = Site::empty(place.clone());
        site.builds = disk.held.iter().filter_map(Held::received).collect();
        site.litter = disk.litter;
        if let Some(version) = disk.in_force {
            let held = disk.held.iter().find(|held| held.build.version == version);
            site.whole = held.is_some_and(|held| held.control);
            let received = site.builds.iter().find(|build| build.version == version);
            let md5 = received.map_or(String::new(), |build| build.md5.clone());
            site.current = Some(Build { version, md5 });
            if let Some(held) = held.filter(|held| held.control) {
                site.state = self.state(place, &held.build);
            }
        }
        site.spare = self.pick_spare(&disk.spares, site.current.as_ref());
        site
    }

    /// A directory names its entries in no order.
    fn pick_spare(&mut self, spares: &[Build], current: Option<&Build>) -> Option<Build> {
        let mut staged = spares.iter();
        let staged = staged.find(|spare| current.is_some_and(|c| c.version == spare.version));
        let any = (!spares.is_empty()).then(|| self.random.generate_range(0..spares.len()));
        staged.or(any.map(|any| &spares[any])).cloned()
    }

    fn state(&self, place: &Place, build: &Build) -> State {
        match (self.nature(build), self.is_up(place)) {
            (Nature::Good | Nature::Vague, true) => State::Started,
            (Nature::Good | Nature::Fails, _) => State::Stopped,
            (Nature::Vague | Nature::Mumbles, _) => State::Other,
            (Nature::Mute, _) => State::Silent,
        }
    }

    pub fn halt(&mut self, place: &Place) -> Outcome {
        match self.site(place).state {
            State::Absent | State::Stopped => Ok(()),
            State::Started | State::Other | State::Silent | State::Unasked => {
                self.halt_anyway(place)
            }
        }
    }

    pub fn halt_anyway(&mut self, place: &Place) -> Outcome {
        let Some(current) = self.disk(place).in_force.clone() else {
            return Ok(());
        };
        self.may_fail("stop")?;
        self.note(&format!("stop {current}"), place);
        self.up
            .retain(|(at, build)| at != place || build.version != current);
        self.may_fail("stop")
    }

    pub fn launch(&mut self, place: &Place, wanted: &Version) -> Outcome {
        self.may_fail("start").map_err(|end| match end {
            End::Failed(failure) => version(failure.error),
            End::Killed => End::Killed,
        })?;
        let held = self.disk(place).held.iter();
        let mut held = held.filter(|held| held.build.version == *wanted && held.control);
        let Some(build) = held.next().map(|held| held.build.clone()) else {
            return Err(version(format!("{wanted} has no control")));
        };
        self.note(&format!("start {build}"), place);
        self.launched.push(build.clone());
        let nature = self.nature(&build);
        let spot = (place.clone(), build);
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

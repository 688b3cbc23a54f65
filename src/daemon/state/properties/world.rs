//! Random worlds: what is desired, what is on disk, what the ledger remembers, and what goes wrong.

use nanorand::{Rng, WyRand};

use super::super::State;
use super::host::{Disk, Held, Nature, Paper};
use crate::model::{AgentName, Build, Deployment, Desired, Location, Own, Version, WireAgent};
use crate::plan::history::AgentHistory;
use crate::plan::turn::Turns;

const A: &str = "490ac172dabecc867289079d48e84a66";
const B: &str = "5f9ab5e81c386cde72c022d1b6d061d9";
const VERSIONS: [&str; 3] = ["1", "2", "3"];

/// One agent of one daemon, on paper.
pub struct World {
    seed: u64,
    pub state: State,
    pub paper: Paper,
    pub name: AgentName,
    /// The locations of this case. A second move before the first is finished is not covered.
    pub places: [Location; 2],
    pub now: u64,
    history: Vec<String>,
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}:\n{}", self.seed, self.history.join("\n"));
            for (location, disk) in &self.paper.disks {
                eprintln!("{location:?}\n  {}", brief(disk));
            }
            eprintln!("up {}", brief(&self.paper.up));
            eprintln!("natures {}", brief(&self.paper.natures));
            eprintln!("{:?}", self.state.history.ledger);
        }
    }
}

/// Returns the debug text without the type names around every value.
fn brief(value: &dyn std::fmt::Debug) -> String {
    let text = format!("{value:?}").replace(A, "A").replace(B, "B");
    text.replace("Build { version: Version(", "(")
        .replace("Version(", "(")
}

fn build(version: &str, md5: &str) -> Build {
    Build {
        version: Version::parse(version).expect("valid"),
        md5: md5.to_owned(),
    }
}

fn entry(location: &Location) -> WireAgent {
    WireAgent {
        name: "demo".into(),
        tarball: "http://x".into(),
        work_dir: location.work_dir.clone(),
        run_user: location.run_user.clone(),
        ..Default::default()
    }
}

fn own() -> Own {
    Own {
        dir: "/nowhere".to_owned(),
        user: "ops".to_owned(),
    }
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut random = WyRand::new_seed(seed);
        let store = [A, B][random.generate_range(0..2)].to_owned();
        let mut world = Self {
            seed,
            state: State::load("/nowhere".as_ref(), "ops", 1_000_000),
            paper: Paper {
                random: WyRand::new_seed(!seed),
                disks: Vec::new(),
                up: Vec::new(),
                natures: Vec::new(),
                store,
                trouble: 0,
                done: Vec::new(),
                launched: Vec::new(),
            },
            name: AgentName::parse("demo").expect("valid"),
            places: ["", "x"].map(|_| Location {
                work_dir: ["/a", "/b"][random.generate_range(0..2)].to_owned(),
                run_user: ["", "", "falcon"][random.generate_range(0..3)].to_owned(),
            }),
            now: 1_000_000,
            history: Vec::new(),
        };
        for version in VERSIONS {
            for md5 in [A, B] {
                let nature = world.pick(&[
                    Nature::Good,
                    Nature::Good,
                    Nature::Vague,
                    Nature::Fails,
                    Nature::Mumbles,
                    Nature::Mute,
                ]);
                world.paper.natures.push((build(version, md5), nature));
            }
        }
        world
    }

    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.paper.random.generate_range(0..from.len())].clone()
    }

    fn build(&mut self) -> Build {
        let (version, md5) = (self.pick(&VERSIONS), self.pick(&[A, B]));
        build(version, md5)
    }

    fn location(&mut self) -> Location {
        let [one, other] = self.places.clone();
        self.pick(&[one, other])
    }

    pub fn note(&mut self, what: &str) {
        self.history
            .push(format!("{:>7} {what}", self.now - 1_000_000));
    }

    /// Desires a random entry, in wire format.
    pub fn desire(&mut self, cmds: &[&str]) {
        // Sometimes the store holds a new build of all versions.
        let store = self.pick(&[A, B, &self.paper.store.clone()]).to_owned();
        self.paper.store.clone_from(&store);
        let location = self.location();
        let wire = WireAgent {
            version: self.pick(&VERSIONS).into(),
            md5: self.pick(&[String::new(), store]),
            cmd: self.pick(cmds).into(),
            ..entry(&location)
        };
        self.accept(&wire);
    }

    /// Desires this version, any build of it, at this location.
    pub fn desire_at(&mut self, version: &str, cmd: &str, location: &Location) {
        self.accept(&WireAgent {
            version: version.into(),
            cmd: cmd.into(),
            ..entry(location)
        });
    }

    fn accept(&mut self, wire: &WireAgent) {
        // A heartbeat checks its agents before it asks the server.
        if self.state.desired(&self.name).is_some() {
            self.check();
        }
        self.note(&format!("desire {wire:?}"));
        let desired = Desired::check(wire, &own()).expect("an entry that is followed");
        self.take(vec![desired]);
    }

    /// Takes over an answer. In every third world a download waits for its turn.
    pub fn take(&mut self, agents: Vec<Desired>) {
        let spread = if self.seed.is_multiple_of(3) { 3600 } else { 0 };
        let turns = Turns {
            host: self.seed.to_string(),
            spread,
            heard: self.now,
            gap: 300,
        };
        self.state.takes_turns = spread > 0;
        self.state.accept(agents, Vec::new(), &[], &turns);
    }

    pub fn desired(&self) -> Desired {
        self.state
            .desired(&self.name)
            .expect("a desired agent")
            .clone()
    }

    /// Puts files at a location that the ledger knows, or at the desired location.
    pub fn furnish(&mut self) {
        let mut home = self.desired().location;
        if self.paper.chance(60) {
            home = self.location();
        }
        let mut disk = Disk::default();
        for version in VERSIONS {
            if self.paper.chance(50) {
                let md5 = self.pick(&[A, B]);
                let receipt = self.pick(&[None, Some(md5.to_owned()), Some(md5.to_owned())]);
                disk.held.push(Held {
                    build: build(version, md5),
                    receipt,
                    control: self.paper.chance(85),
                });
            }
        }
        if self.paper.chance(20) {
            disk.spares.push(self.build());
        }
        disk.litter = self.paper.chance(20);
        let named = self.build().version;
        disk.in_force = self.paper.chance(80).then_some(named);
        let whole = disk
            .held
            .iter()
            .find(|held| held.control && disk.in_force.as_ref() == Some(&held.build.version));
        let up = whole.map(|held| held.build.clone());
        if let Some(up) = up.filter(|up| self.paper.nature(up) != Nature::Fails)
            && self.paper.chance(60)
        {
            self.paper.up.push((home.clone(), up));
        }
        *self.paper.disk(&home) = disk;
        self.remember(&home);
    }

    fn remember(&mut self, home: &Location) {
        let is_elsewhere = self.desired().location != *home;
        let spot = Deployment {
            location: home.clone(),
            build: self.build(),
        };
        let far = self.location();
        let mut last_good = self.pick(&[None, Some(spot.clone())]);
        let mut moving_to = Vec::new();
        if is_elsewhere {
            // A process that no ledger remembers is not managed.
            if self.paper.chance(20) && far.run_user == home.run_user {
                moving_to.push(home.clone());
                last_good = Some(Deployment {
                    location: far,
                    ..spot
                });
            } else {
                last_good = Some(spot);
            }
        }
        let time = |world: &mut Self| {
            let past = world.paper.random.generate_range(0..4000);
            world.pick(&[0, world.now + 2000 - past])
        };
        let (retry_at, restart_at, death) = (time(self), time(self), time(self));
        let previous = self.pick(&[None, Version::parse("1"), Version::parse("3")]);
        let history = self
            .state
            .history
            .ledger
            .agents
            .entry(self.name.to_string())
            .or_default();
        let desired_digest = history.desired_digest.clone();
        **history = AgentHistory {
            desired_digest,
            retry_at,
            restart_at,
            deaths: vec![death.min(self.now)],
            last_good,
            moving_to,
            previous,
            ..Default::default()
        };
    }

    pub fn trouble(&mut self) {
        self.paper.trouble = self.pick(&[0, 2, 10]);
        for _ in 0..self.pick(&[0, 10, 40]) {
            match self.paper.random.generate_range(0..10) {
                0 => self.desire(&["start", "start", "start", "stop"]),
                1 => self.die(),
                2 => self.now += self.pick(&[10, 300, 4000]),
                3 | 4 => self.check(),
                _ => {
                    self.step();
                }
            }
        }
        self.paper.trouble = 0;
    }

    fn die(&mut self) {
        if let Some(dead) = self.paper.up.pop() {
            self.note(&format!("{dead:?} dies"));
        }
    }
}

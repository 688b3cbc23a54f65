//! Random worlds: what is wished, what somebody left on disk, what the ledger says of it, and what goes wrong.

use nanorand::{Rng, WyRand};

use super::super::Roster;
use super::host::{Disk, Held, Nature, Paper};
use crate::model::{AgentName, Build, Desired, Place, Spot, Version, WireAgent};
use crate::record::Memory;

const A: &str = "490ac172dabecc867289079d48e84a66";
const B: &str = "5f9ab5e81c386cde72c022d1b6d061d9";
const VERSIONS: [&str; 3] = ["1", "2", "3"];

/// One agent of one daemon, on paper.
pub struct World {
    seed: u64,
    pub roster: Roster,
    pub paper: Paper,
    pub name: AgentName,
    /// The places of this case. Who moves on to a third before a move that was cut short is finished, is not followed.
    pub places: [Place; 2],
    pub now: u64,
    history: Vec<String>,
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}:\n{}", self.seed, self.history.join("\n"));
            for (place, disk) in &self.paper.disks {
                eprintln!("{place:?}\n  {}", brief(disk));
            }
            eprintln!("up {}", brief(&self.paper.up));
            eprintln!("natures {}", brief(&self.paper.natures));
            eprintln!("{:?}", self.roster.ledger);
        }
    }
}

/// The debug text without the words around every value.
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

fn entry(place: &Place) -> WireAgent {
    WireAgent {
        name: "demo".into(),
        tarball: "http://x".into(),
        work_dir: place.work_dir.clone(),
        run_user: place.run_user.clone(),
        ..Default::default()
    }
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut random = WyRand::new_seed(seed);
        let store = [A, B][random.generate_range(0..2)].to_owned();
        let mut world = Self {
            seed,
            roster: Roster::load("/nowhere".as_ref(), "ops", 1_000_000),
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
            places: ["", "x"].map(|_| Place {
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

    fn place(&mut self) -> Place {
        let [one, other] = self.places.clone();
        self.pick(&[one, other])
    }

    pub fn tell(&mut self, what: &str) {
        self.history
            .push(format!("{:>7} {what}", self.now - 1_000_000));
    }

    /// A random wish, in the words of a server.
    pub fn wish(&mut self, cmds: &[&str]) {
        // Every now and then the store holds a new build of all versions.
        let store = self.pick(&[A, B, &self.paper.store.clone()]).to_owned();
        self.paper.store.clone_from(&store);
        let place = self.place();
        let wire = WireAgent {
            version: self.pick(&VERSIONS).into(),
            md5: self.pick(&[String::new(), store]),
            cmd: self.pick(cmds).into(),
            ..entry(&place)
        };
        self.wish_for(&wire);
    }

    /// This version, of whatever build, at this place.
    pub fn wish_at(&mut self, version: &str, cmd: &str, place: &Place) {
        self.wish_for(&WireAgent {
            version: version.into(),
            cmd: cmd.into(),
            ..entry(place)
        });
    }

    fn wish_for(&mut self, wire: &WireAgent) {
        // A beat looks before it asks.
        if self.roster.desired(&self.name).is_some() {
            self.look();
        }
        self.tell(&format!("wish {wire:?}"));
        self.roster.accept(vec![wire.clone()], Vec::new());
    }

    pub fn desired(&self) -> Desired {
        self.roster.desired(&self.name).expect("a wish").clone()
    }

    /// What somebody left at the place where the ledger knows the agent, or where it is wished.
    pub fn furnish(&mut self) {
        let mut home = self.desired().place;
        if self.paper.chance(60) {
            home = self.place();
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

    fn remember(&mut self, home: &Place) {
        let is_elsewhere = self.desired().place != *home;
        let spot = Spot {
            place: home.clone(),
            build: self.build(),
        };
        let far = self.place();
        let mut proven = self.pick(&[None, Some(spot.clone())]);
        let mut moving_to = Vec::new();
        if is_elsewhere {
            // A process that nobody remembers is nobody's.
            if self.paper.chance(20) && far.run_user == home.run_user {
                moving_to.push(home.clone());
                proven = Some(Spot { place: far, ..spot });
            } else {
                proven = Some(spot);
            }
        }
        let time = |world: &mut Self| {
            let past = world.paper.random.generate_range(0..4000);
            world.pick(&[0, world.now + 2000 - past])
        };
        let (retry_at, restart_at, death) = (time(self), time(self), time(self));
        let previous = self.pick(&[None, Version::parse("1"), Version::parse("3")]);
        let memory = self.roster.ledger.agents.entry(&self.name);
        let entry = memory.entry.clone();
        *memory = Memory {
            entry,
            retry_at,
            restart_at,
            deaths: vec![death.min(self.now)],
            proven,
            moving_to,
            previous,
            ..Default::default()
        };
    }

    pub fn trouble(&mut self) {
        self.paper.trouble = self.pick(&[0, 2, 10]);
        for _ in 0..self.pick(&[0, 10, 40]) {
            match self.paper.random.generate_range(0..10) {
                0 => self.wish(&["start", "start", "start", "stop"]),
                1 => self.die(),
                2 => self.now += self.pick(&[10, 300, 4000]),
                3 | 4 => self.look(),
                _ => {
                    self.step();
                }
            }
        }
        self.paper.trouble = 0;
    }

    fn die(&mut self) {
        if let Some(dead) = self.paper.up.pop() {
            self.tell(&format!("{dead:?} dies"));
        }
    }
}

//! Plan = reality: from any disk, wish and ledger, through kills and faults, the first step of plan after plan leads to
//! what is wished, and then there is nothing more to do. A failing case prints its seed and all that happened.

mod daemon;
mod host;
mod steps;
mod world;

use crate::model::{Cmd, Desired, State, Task};
use host::Nature;
use world::World;

const DAY: u64 = 86_400;
const CASES: u64 = 2000;
/// An install, a stop, a start, a rollback, a prune; beyond that, a bad one is started every 5 min at most, until the
/// wish is tried again.
const STEPS: u64 = 16;

/// The text of a task tells what was really done, and nothing else was done.
fn assert_is_told(task: &Task, done: &[String], went_well: bool) {
    let text = task.to_string();
    let (words, user) = text.split_once(" as ").unwrap_or((&text, ""));
    let user = if user.is_empty() {
        String::new()
    } else {
        format!(" as {user}")
    };
    let mut parts = words.split(' ');
    let verb = parts.next().expect("a verb");
    let last = parts.next_back().expect("a version");
    let starts = format!("start {last}{user}");
    let is_told = match verb {
        "install" | "stop" => done.iter().all(|it| *it == text),
        "prune" => done.iter().all(|it| *it == format!("prune{user}")),
        // One that was cut short may have started it already.
        _ if went_well => {
            let mut begun = done.iter().filter(|it| it.starts_with("start "));
            begun.all(|it| *it == starts)
        }
        _ => true,
    };
    assert!(is_told, "{text} did {done:?}");
}

#[test]
fn from_any_world_and_through_any_trouble_the_wish_is_reached_and_then_nothing_is_done() {
    let mut most = 0;
    for seed in 0..CASES {
        let mut world = World::new(seed);
        world.wish(&["start", "start", "stop"]);
        world.furnish();
        world.trouble();
        let desired = world.desired();
        for (known, nature) in &mut world.paper.natures {
            if known.version == desired.release.version {
                *nature = Nature::Good;
            }
        }
        let calm = world.now;
        let steps = world.settle(2 * DAY);
        most = most.max(steps);
        world.is_reached(&desired);
        let more = world.settle(DAY);
        assert!(
            more == 0 || world.is_in_doubt(&desired),
            "a second plan: {more}"
        );
        let bound = STEPS + (world.now - calm) / 300;
        assert!(steps <= bound, "{steps} steps");
    }
    println!("{CASES} worlds, {most} steps at most");
}

impl World {
    /// One that does not say that it is down is told to stop once more, ever more rarely.
    fn is_in_doubt(&mut self, desired: &Desired) -> bool {
        let sites = [desired.place.clone()].into_iter();
        let home = self.roster.elsewhere(&self.name, &desired.place);
        let mut states = sites.chain(home).map(|place| self.paper.site(&place).state);
        desired.cmd == Cmd::Stop && states.any(|state| state == State::Other)
    }

    fn is_reached(&mut self, desired: &Desired) {
        let here = self.paper.site(&desired.place);
        match desired.cmd {
            // One that gives no answer is left alone.
            Cmd::Stop => {
                let mut up = self.paper.up.iter();
                assert!(up.all(|(_, build)| self.paper.nature(build) == Nature::Mute));
            }
            Cmd::Start => {
                assert!(here.is_in_force(&desired.release.build()) && here.state == State::Started);
                assert_eq!(self.paper.up.len(), 1);
                assert_eq!(self.paper.up[0].0, desired.place);
            }
        }
    }
}

#[test]
fn a_bad_version_is_tried_three_times_a_day_and_the_one_before_it_runs() {
    for seed in 0..CASES / 4 {
        let mut world = World::new(seed);
        let [home, there] = world.places.clone();
        let bad = world.pick(&[Nature::Fails, Nature::Mumbles, Nature::Mute]);
        for (build, nature) in &mut world.paper.natures {
            let is_bad = build.version.as_str() == "2";
            *nature = if is_bad { bad } else { Nature::Good };
        }
        world.wish_at("1", "start", &home);
        world.settle(DAY);
        let place = world.pick(&[home.clone(), there]);
        world.wish_at("2", "start", &place);
        world.settle(DAY - 1);
        let tries = |world: &World| {
            let launched = world.paper.launched.iter();
            launched
                .filter(|build| build.version.as_str() == "2")
                .count()
        };
        assert_eq!(tries(&world), 3, "tries in a day");
        world.settle(7 * DAY);
        assert_eq!(tries(&world), 10, "tries in eight days");
        let up: Vec<_> = world
            .paper
            .up
            .iter()
            .map(|(at, b)| (at, b.version.as_str()))
            .collect();
        assert_eq!(up, [(&home, "1")]);
    }
}

#[test]
fn a_stop_installs_nothing_and_removes_nothing() {
    for seed in 0..CASES {
        let mut world = World::new(seed);
        world.wish(&["stop"]);
        world.furnish();
        let before = world.paper.disks.clone();
        world.settle(2 * DAY);
        let desired = world.desired();
        world.is_reached(&desired);
        for (place, disk) in before {
            assert_eq!(*world.paper.disk(&place), disk);
        }
    }
}

#[test]
fn an_agent_that_gives_no_answer_is_left_alone() {
    for seed in 0..CASES {
        let mut world = World::new(seed);
        world.wish(&["start", "stop"]);
        world.furnish();
        for (_, nature) in &mut world.paper.natures {
            *nature = Nature::Mute;
        }
        let desired = world.desired();
        let here = world.paper.site(&desired.place);
        let is_as_wished =
            here.state == State::Silent && here.is_in_force(&desired.release.build());
        if desired.cmd == Cmd::Stop || is_as_wished {
            let up = world.paper.up.clone();
            assert_eq!(world.settle(DAY), 0);
            assert_eq!(world.paper.up, up);
        }
    }
}

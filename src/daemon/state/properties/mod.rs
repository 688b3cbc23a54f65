//! Plan = reality: from any disk, desired state and ledger, through kills and faults, the first steps of successive plans
//! lead to the desired state, and then nothing is left to do. A failing case prints its seed and its history.

mod daemon;
mod host;
mod steps;
mod world;

use crate::model::{AgentState, Cmd, Desired, Task};
use host::Nature;
use world::World;

const DAY: u64 = 86_400;
/// These worlds depend on no arch. arm64 is tested in an emulator, in which they took longer than all other unit tests together.
const CASES: u64 = if cfg!(target_arch = "aarch64") {
    200
} else {
    2000
};
/// The most steps that a world may need: install, stop, start, rollback, prune, and repeats of them. A bad version is
/// started every 5 min at most in addition, until the desired state is tried again.
const STEPS: u64 = 16;

/// Asserts that the text of a task names everything that was really done.
fn assert_is_named(task: &Task, done: &[String], went_well: bool) {
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
    let is_named = match verb {
        "install" | "stop" => done.iter().all(|it| *it == text),
        "prune" => done.iter().all(|it| *it == format!("prune{user}")),
        // A start that was cut short may have happened already.
        _ if went_well => {
            let mut unfinished_start = done.iter().filter(|it| it.starts_with("start "));
            unfinished_start.all(|it| *it == starts)
        }
        _ => true,
    };
    assert!(is_named, "{text} did {done:?}");
}

#[test]
fn any_world_converges_to_the_desired_state_through_any_trouble_and_then_nothing_is_done() {
    let mut most = 0;
    for seed in 0..CASES {
        let mut world = World::new(seed);
        world.desire(&["start", "start", "stop"]);
        world.furnish();
        world.trouble();
        let desired = world.desired();
        for (known, nature) in &mut world.paper.natures {
            if known.version == desired.version {
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
    /// Returns whether the agent does not say that it is down, so that it is stopped again at growing intervals.
    fn is_in_doubt(&mut self, desired: &Desired) -> bool {
        let sites = [desired.location.clone()].into_iter();
        let home = self.state.elsewhere(&self.name, &desired.location);
        let mut states = sites
            .chain(home)
            .map(|location| self.paper.observed(&location).state);
        desired.cmd == Cmd::Stop && states.any(|state| state == AgentState::Unrecognized)
    }

    fn is_reached(&mut self, desired: &Desired) {
        let at_desired = self.paper.observed(&desired.location);
        match desired.cmd {
            // An agent that gives no answer is left alone.
            Cmd::Stop => {
                let mut up = self.paper.up.iter();
                assert!(up.all(|(_, build)| self.paper.nature(build) == Nature::Mute));
            }
            Cmd::Start => {
                assert!(
                    at_desired.is_in_force(&desired.build())
                        && at_desired.state == AgentState::Started
                );
                assert_eq!(self.paper.up.len(), 1);
                assert_eq!(self.paper.up[0].0, desired.location);
            }
        }
    }
}

#[test]
fn a_bad_version_is_tried_three_times_a_day_and_the_one_before_it_runs() {
    for seed in 0..CASES / 4 {
        let mut world = World::new(seed);
        let [home, elsewhere] = world.places.clone();
        let bad = world.pick(&[Nature::Fails, Nature::Mumbles, Nature::Mute]);
        for (build, nature) in &mut world.paper.natures {
            let is_bad = build.version.as_str() == "2";
            *nature = if is_bad { bad } else { Nature::Good };
        }
        world.desire_at("1", "start", &home);
        world.settle(DAY);
        let location = world.pick(&[home.clone(), elsewhere]);
        world.desire_at("2", "start", &location);
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
        world.desire(&["stop"]);
        world.furnish();
        let before = world.paper.disks.clone();
        world.settle(2 * DAY);
        let desired = world.desired();
        world.is_reached(&desired);
        for (location, disk) in before {
            assert_eq!(*world.paper.disk(&location), disk);
        }
    }
}

#[test]
fn an_agent_that_gives_no_answer_is_left_alone() {
    for seed in 0..CASES {
        let mut world = World::new(seed);
        world.desire(&["start", "stop"]);
        world.furnish();
        for (_, nature) in &mut world.paper.natures {
            *nature = Nature::Mute;
        }
        let desired = world.desired();
        let at_desired = world.paper.observed(&desired.location);
        let is_as_desired =
            at_desired.state == AgentState::NoAnswer && at_desired.is_in_force(&desired.build());
        if desired.cmd == Cmd::Stop || is_as_desired {
            let up = world.paper.up.clone();
            assert_eq!(world.settle(DAY), 0);
            assert_eq!(world.paper.up, up);
        }
    }
}

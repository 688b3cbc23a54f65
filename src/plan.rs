//! The planner: (desired, seen, memory, now) → the steps of one agent. Pure: no input, no output, no clock, no
//! randomness. The executor takes the first step, the next look brings the next plan; it makes no choices.

use crate::model::{Build, Cmd, Desired, Site, Spot, State, Step, Task, Version};
use crate::record::Memory;

/// One agent as it was last seen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// At the desired place.
    pub here: Site,
    /// Where it last ran well, when that is another place.
    pub there: Option<Site>,
}

impl Seen {
    /// Where the agent lives now.
    pub fn home(&self) -> &Site {
        match &self.there {
            Some(there) if there.current.is_some() => there,
            _ => &self.here,
        }
    }
}

/// The steps that lead from what is seen to what is desired; empty when all is well or it is time to wait.
pub fn steps(desired: &Desired, seen: &Seen, memory: &Memory, now: u64) -> Vec<Task> {
    match desired.cmd {
        Cmd::Stop => stops(seen, memory, now),
        Cmd::Start if is_home(desired, seen) => keep_running(desired, seen, memory, now),
        Cmd::Start if memory.is_waiting(now) => stay(seen, memory, now),
        Cmd::Start => replace(desired, seen, memory),
    }
}

/// The desired build is in force at the desired place, and nothing is in force elsewhere.
fn is_home(desired: &Desired, seen: &Seen) -> bool {
    let home = seen.home();
    home.place == desired.place && home.is_in_force(&desired.release.build())
}

fn stops(seen: &Seen, memory: &Memory, now: u64) -> Vec<Task> {
    if memory.is_waiting(now) {
        return Vec::new();
    }
    let sites = seen.there.iter().chain([&seen.here]);
    sites
        .filter(|site| site.state == State::Started)
        .filter_map(|site| {
            let version = site.current.as_ref()?.version.clone();
            Some(task(site, Step::Stop(version)))
        })
        .collect()
}

/// The right build is in force: start it if it is down, tidy up if it runs.
fn keep_running(desired: &Desired, seen: &Seen, memory: &Memory, now: u64) -> Vec<Task> {
    let site = seen.home();
    let build = site
        .current
        .clone()
        .unwrap_or_else(|| desired.release.build());
    match site.state {
        State::Started => tidy(site, memory, now),
        State::Absent | State::Silent => Vec::new(),
        // In force but never seen to run well: a switch was cut short. Finish it, with its way back.
        State::Stopped | State::Other => match way_back(seen, memory, &build) {
            Some(back) if memory.is_waiting(now) => return_to(back, memory, now),
            Some(back) => vec![task(
                site,
                Step::Switch {
                    back: Some(back),
                    to: build,
                },
            )],
            None => restart(site, build, memory, now),
        },
    }
}

/// The desired build failed a short while ago: whatever is at home is kept running.
fn stay(seen: &Seen, memory: &Memory, now: u64) -> Vec<Task> {
    let site = seen.home();
    let Some(build) = site
        .current
        .clone()
        .filter(|_| site.whole && site.is_down())
    else {
        return Vec::new();
    };
    match way_back(seen, memory, &build) {
        Some(back) => return_to(back, memory, now),
        None => restart(site, build, memory, now),
    }
}

/// Another build, or another place: install beside what runs, then change over.
fn replace(desired: &Desired, seen: &Seen, memory: &Memory) -> Vec<Task> {
    let here = &seen.here;
    let to = desired.release.build();
    let mut steps = Vec::new();
    if !here.has(&to) {
        steps.push(task(here, Step::Install(desired.release.clone())));
    }
    let home = seen.home();
    let in_force = home.current.clone().filter(|_| home.whole);
    steps.push(match in_force {
        None => task(here, Step::Start(to)),
        Some(build) => {
            let current = Spot {
                place: home.place.clone(),
                build,
            };
            let back = way_back(seen, memory, &current.build).unwrap_or(current);
            task(
                here,
                Step::Switch {
                    back: Some(back),
                    to,
                },
            )
        }
    });
    steps
}

fn restart(site: &Site, build: Build, memory: &Memory, now: u64) -> Vec<Task> {
    if memory.restart_at > now {
        return Vec::new();
    }
    vec![task(site, Step::Start(build))]
}

/// What last ran well, if it is not what is in force and still lies whole on disk.
fn way_back(seen: &Seen, memory: &Memory, in_force: &Build) -> Option<Spot> {
    let proven = memory.proven.as_ref()?;
    let home = seen.home();
    let is_current = proven.place == home.place && proven.build.satisfies(in_force);
    let mut sites = [Some(&seen.here), seen.there.as_ref()]
        .into_iter()
        .flatten();
    let on_disk = sites.any(|site| site.place == proven.place && site.has(&proven.build));
    (!is_current && on_disk).then(|| proven.clone())
}

fn return_to(back: Spot, memory: &Memory, now: u64) -> Vec<Task> {
    if memory.restart_at > now {
        return Vec::new();
    }
    vec![Task {
        place: back.place,
        step: Step::Switch {
            back: None,
            to: back.build,
        },
    }]
}

/// Keeps the version in force and the one before it.
fn tidy(site: &Site, memory: &Memory, now: u64) -> Vec<Task> {
    let Some(current) = site.current.as_ref().filter(|_| !memory.is_waiting(now)) else {
        return Vec::new();
    };
    let others = || site.builds.iter().filter(|b| b.version != current.version);
    let previous = others()
        .find(|build| Some(&build.version) == memory.previous.as_ref())
        .or_else(|| others().next());
    let mut keep: Vec<Version> = vec![current.version.clone()];
    keep.extend(previous.map(|build| build.version.clone()));
    if others().count() < keep.len() && site.spare.is_none() && !site.litter {
        return Vec::new();
    }
    vec![task(site, Step::Prune(keep))]
}

fn task(site: &Site, step: Step) -> Task {
    Task {
        place: site.place.clone(),
        step,
    }
}

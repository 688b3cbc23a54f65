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

    /// Nobody could look where else the agent may run: what is started here could be its second instance.
    pub fn is_out_of_sight(&self) -> bool {
        let there = self.there.as_ref();
        there.is_some_and(Site::is_unseen)
    }
}

/// The steps that lead from what is seen to what is desired; empty when all is well or it is time to wait.
pub fn steps(desired: &Desired, seen: &Seen, memory: &Memory, now: u64) -> Vec<Task> {
    match desired.cmd {
        Cmd::Stop => stops(seen, memory, now),
        Cmd::Start if seen.is_out_of_sight() => Vec::new(),
        Cmd::Start if is_home(desired, seen) => {
            Vec::from_iter(keep_running(desired, seen, memory, now))
        }
        // A stop that nobody vouches for is followed all the same, or a move to another user would never end.
        Cmd::Start if memory.is_waiting(now) && memory.left.is_none() => {
            Vec::from_iter(stay(seen, memory, now))
        }
        Cmd::Start => replace(desired, seen, memory, now),
    }
}

/// What is left to do on a host that is held: what is in force is kept up.
pub fn steps_while_held(desired: &Desired, seen: &Seen, memory: &Memory, now: u64) -> Vec<Task> {
    let stays = desired.cmd == Cmd::Start && !seen.is_out_of_sight();
    Vec::from_iter(stay(seen, memory, now).filter(|_| stays))
}

/// Whether all is as it is desired.
pub fn is_reached(desired: &Desired, seen: &Seen) -> bool {
    match desired.cmd {
        Cmd::Start => is_home(desired, seen) && seen.here.state == State::Started,
        Cmd::Stop => {
            let mut sites = seen.there.iter().chain([&seen.here]);
            sites.all(|site| matches!(site.state, State::Absent | State::Stopped))
        }
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
    let mut steps = Vec::new();
    for site in seen.there.iter().chain([&seen.here]) {
        if matches!(site.state, State::Started | State::Other)
            && let Some(current) = &site.current
        {
            steps.push(task(site, Step::Stop(current.version.clone())));
        }
    }
    if let [first, _] = &steps[..]
        && memory.left.as_ref() == Some(&first.place)
    {
        // What would not say that it is down must not keep the other one from being stopped.
        steps.reverse();
    }
    steps
}

/// The right build is in force: start it if it is down, tidy up if it runs.
fn keep_running(desired: &Desired, seen: &Seen, memory: &Memory, now: u64) -> Option<Task> {
    let site = seen.home();
    let build = site
        .current
        .clone()
        .unwrap_or_else(|| desired.release.build());
    match site.state {
        State::Started => tidy(site, memory, now),
        State::Absent | State::Silent | State::Unasked => None,
        // In force but never seen to run well: a switch was cut short. Finish it, with its way back.
        State::Stopped | State::Other => match way_back(seen, memory, &build) {
            Some(back) if memory.is_waiting(now) => return_to(back, memory, now),
            back @ Some(_) => Some(task(site, Step::Switch { back, to: build })),
            None => restart(site, build, memory, now),
        },
    }
}

/// The desired build failed a short while ago: whatever is at home is kept running.
fn stay(seen: &Seen, memory: &Memory, now: u64) -> Option<Task> {
    let site = seen.home();
    let build = fallen(seen)?;
    match way_back(seen, memory, &build) {
        Some(back) => return_to(back, memory, now),
        None => restart(site, build, memory, now),
    }
}

/// Another build, or another place: install beside what runs, then change over.
fn replace(desired: &Desired, seen: &Seen, memory: &Memory, now: u64) -> Vec<Task> {
    let here = &seen.here;
    let to = desired.release.build();
    let mut steps = Vec::new();
    if !here.has(&to) {
        steps.extend(keep_up(seen, memory, now));
        steps.push(task(here, Step::Install(desired.release.clone())));
    }
    let home = seen.home();
    let in_force = home.current.clone().filter(|_| home.whole);
    let Some(build) = in_force else {
        // One that died at its first start waits like any other.
        if memory.restart_at <= now {
            let first = lost(here, memory).unwrap_or(to);
            steps.push(task(here, Step::Start(first)));
        }
        return steps;
    };
    if home.place.run_user != here.place.run_user {
        // No process can be both users: stop as the one, start as the other. Should that fail, `stay` goes back.
        let is_left = memory.left.as_ref() == Some(&home.place);
        let has_stopped = is_left && home.state != State::Started;
        if !has_stopped {
            steps.push(task(home, Step::Stop(build.version)));
        }
        steps.push(task(here, Step::Start(to)));
        return steps;
    }
    let current = Spot {
        place: home.place.clone(),
        build,
    };
    let back = way_back(seen, memory, &current.build).unwrap_or(current);
    let back = Some(back);
    steps.push(task(here, Step::Switch { back, to }));
    steps
}

/// What ran well and died is not left down for as long as a download takes.
fn keep_up(seen: &Seen, memory: &Memory, now: u64) -> Option<Task> {
    let site = seen.home();
    let proven = memory
        .proven
        .as_ref()
        .filter(|spot| spot.place == site.place)?;
    let build = fallen(seen)?;
    if !proven.build.satisfies(&build) {
        return None;
    }
    restart(site, build, memory, now)
}

/// What ran well here and lies here whole, while nothing is in force: somebody lost `.version`, and what it named may
/// run. It is put in force again, or it would run beside its successor.
fn lost(here: &Site, memory: &Memory) -> Option<Build> {
    let proven = memory.proven.as_ref()?;
    let is_lost = here.current.is_none() && proven.place == here.place && here.has(&proven.build);
    // One that does not even start, and that a failed move has put out of force again, is in nobody's way.
    let is_lost = is_lost && memory.deaths.is_empty();
    is_lost.then(|| proven.build.clone())
}

/// What is in force at home and whole, but down.
fn fallen(seen: &Seen) -> Option<Build> {
    let (site, here) = (seen.home(), &seen.here);
    let runs_here = match here.state {
        State::Started | State::Other => true,
        State::Silent | State::Unasked => !here.is_unseen(),
        State::Absent | State::Stopped => false,
    };
    if site.place != here.place && runs_here {
        // A move was cut short after its start: with the old one, two would run.
        return None;
    }
    let is_fallen = site.whole && site.is_down();
    site.current.clone().filter(|_| is_fallen)
}

fn restart(site: &Site, build: Build, memory: &Memory, now: u64) -> Option<Task> {
    if memory.restart_at > now {
        return None;
    }
    Some(task(site, Step::Start(build)))
}

/// What last ran well, if it is not what is in force and still lies whole on disk.
fn way_back(seen: &Seen, memory: &Memory, in_force: &Build) -> Option<Spot> {
    let proven = memory.proven.as_ref()?;
    let home = seen.home();
    let is_same_user = proven.place.run_user == home.place.run_user;
    let is_current = proven.place == home.place && proven.build.satisfies(in_force);
    let mut sites = seen.there.iter().chain([&seen.here]);
    let on_disk = sites.any(|site| site.place == proven.place && site.has(&proven.build));
    (is_same_user && !is_current && on_disk).then(|| proven.clone())
}

fn return_to(back: Spot, memory: &Memory, now: u64) -> Option<Task> {
    if memory.restart_at > now {
        return None;
    }
    Some(Task {
        place: back.place,
        step: Step::Switch {
            back: None,
            to: back.build,
        },
    })
}

/// Keeps the version in force and the one before it.
fn tidy(site: &Site, memory: &Memory, now: u64) -> Option<Task> {
    if memory.is_waiting(now) {
        return None;
    }
    let current = site.current.as_ref()?;
    let others = || site.builds.iter().filter(|b| b.version != current.version);
    let previous = others()
        .find(|build| Some(&build.version) == memory.previous.as_ref())
        .or_else(|| others().next());
    let mut keep: Vec<Version> = vec![current.version.clone()];
    keep.extend(previous.map(|build| build.version.clone()));
    if others().count() < keep.len() && site.spare.is_none() && !site.litter {
        return None;
    }
    Some(task(site, Step::Prune(keep)))
}

fn task(site: &Site, step: Step) -> Task {
    Task {
        place: site.place.clone(),
        step,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Own, Place, WireAgent};

    const A: &str = "490ac172dabecc867289079d48e84a66";
    const B: &str = "5f9ab5e81c386cde72c022d1b6d061d9";
    const NOW: u64 = 1000;

    fn build(version: &str, md5: &str) -> Build {
        Build {
            version: Version::parse(version).expect("valid"),
            md5: md5.into(),
        }
    }

    fn place(work_dir: &str) -> Place {
        Place {
            work_dir: work_dir.into(),
            run_user: String::new(),
        }
    }

    fn desired(version: &str, md5: &str, cmd: &str) -> Desired {
        let wire = WireAgent {
            name: "demo".into(),
            version: version.into(),
            tarball: "http://x".into(),
            md5: md5.into(),
            cmd: cmd.into(),
            work_dir: "/new".into(),
            ..Default::default()
        };
        Desired::check(&wire, &Own::default()).expect("valid")
    }

    /// A place with these builds on disk, the first of them in force.
    fn site(work_dir: &str, state: State, builds: &[Build]) -> Site {
        let mut site = Site::empty(place(work_dir));
        site.current = builds.first().cloned();
        site.whole = !builds.is_empty();
        site.state = state;
        site.builds = builds.to_vec();
        site
    }

    fn seen(here: Site) -> Seen {
        Seen { here, there: None }
    }

    fn proven(work_dir: &str, build: Build) -> Memory {
        Memory {
            proven: Some(Spot {
                place: place(work_dir),
                build,
            }),
            ..Default::default()
        }
    }

    fn plan(desired: &Desired, seen: &Seen, memory: &Memory) -> Vec<String> {
        let tasks = steps(desired, seen, memory, NOW);
        tasks
            .iter()
            .map(|task| match task.place.work_dir.as_str() {
                "/new" => task.step.to_string(),
                other => format!("{} in {other}", task.step),
            })
            .collect()
    }

    fn waiting(mut memory: Memory) -> Memory {
        memory.retry_at = NOW + 1;
        memory
    }

    #[test]
    fn a_fresh_agent_is_installed_and_started() {
        let nothing = seen(Site::empty(place("/new")));
        let none = Memory::default();
        let start = desired("1", "", "start");
        assert_eq!(plan(&start, &nothing, &none), ["install 1", "start 1"]);
        assert_eq!(plan(&desired("1", "", "stop"), &nothing, &none), [""; 0]);
        assert_eq!(plan(&start, &nothing, &waiting(none)), [""; 0]);
    }

    #[test]
    fn another_version_is_installed_beside_the_running_one_and_switched_to() {
        let one = build("1", A);
        let running = seen(site("/new", State::Started, std::slice::from_ref(&one)));
        let memory = proven("/new", one.clone());
        let two = desired("2", "", "start");
        assert_eq!(
            plan(&two, &running, &memory),
            ["install 2", "switch from 1 to 2"]
        );
        let both = seen(site("/new", State::Started, &[one.clone(), build("2", B)]));
        assert_eq!(plan(&two, &both, &memory), ["switch from 1 to 2"]);
        assert_eq!(plan(&two, &both, &waiting(memory)), [""; 0]);
    }

    #[test]
    fn a_running_agent_that_is_as_desired_is_left_alone() {
        for md5 in ["", A, "http://other/base"] {
            let running = seen(site("/new", State::Started, &[build("1", A)]));
            assert_eq!(
                plan(&desired("1", md5, "start"), &running, &Memory::default()),
                [""; 0]
            );
        }
    }

    #[test]
    fn an_agent_that_is_down_is_started_when_its_time_has_come() {
        let mut memory = proven("/new", build("1", A));
        for state in [State::Stopped, State::Other] {
            let down = seen(site("/new", state, &[build("1", A)]));
            assert_eq!(
                plan(&desired("1", "", "start"), &down, &memory),
                ["start 1"]
            );
        }
        let down = seen(site("/new", State::Stopped, &[build("1", A)]));
        memory.restart_at = NOW + 1;
        assert_eq!(plan(&desired("1", "", "start"), &down, &memory), [""; 0]);
    }

    #[test]
    fn an_agent_that_gives_no_answer_is_neither_started_nor_stopped() {
        let silent = seen(site("/new", State::Silent, &[build("1", A)]));
        for cmd in ["start", "stop"] {
            assert_eq!(
                plan(&desired("1", "", cmd), &silent, &Memory::default()),
                [""; 0]
            );
        }
    }

    #[test]
    fn a_stop_stops_whatever_version_runs_and_nothing_else() {
        let running = seen(site("/new", State::Started, &[build("1", A)]));
        let memory = Memory::default();
        assert_eq!(
            plan(&desired("2", "", "stop"), &running, &memory),
            ["stop 1"]
        );
        let down = seen(site("/new", State::Stopped, &[build("1", A)]));
        assert_eq!(plan(&desired("2", "", "stop"), &down, &memory), [""; 0]);
        assert_eq!(
            plan(&desired("2", "", "stop"), &running, &waiting(memory)),
            [""; 0]
        );
        let unclear = seen(site("/new", State::Other, &[build("1", A)]));
        let memory = Memory::default();
        assert_eq!(
            plan(&desired("2", "", "stop"), &unclear, &memory),
            ["stop 1"]
        );
    }

    #[test]
    fn a_stop_in_two_places_comes_to_both_whatever_they_say() {
        let mut memory = proven("/old", build("1", A));
        let look = Seen {
            here: site("/new", State::Other, &[build("2", B)]),
            there: Some(site("/old", State::Other, &[build("1", A)])),
        };
        let stop = desired("2", "", "stop");
        assert_eq!(plan(&stop, &look, &memory), ["stop 1 in /old", "stop 2"]);
        memory.left = Some(place("/old"));
        assert_eq!(plan(&stop, &look, &memory), ["stop 2", "stop 1 in /old"]);
    }

    #[test]
    fn another_build_of_the_version_is_installed_and_switched_to() {
        let running = site("/new", State::Started, &[build("1", A)]);
        let memory = proven("/new", build("1", A));
        let wanted = desired("1", B, "start");
        assert_eq!(
            plan(&wanted, &seen(running.clone()), &memory),
            ["install 1", "switch from 1 to 1"]
        );
        let mut staged = running;
        staged.spare = Some(build("1", B));
        assert_eq!(
            plan(&wanted, &seen(staged), &memory),
            ["switch from 1 to 1"]
        );
    }

    #[test]
    fn a_switch_that_was_cut_short_is_finished_with_its_way_back() {
        let memory = proven("/new", build("1", A));
        let cut = seen(site(
            "/new",
            State::Stopped,
            &[build("2", B), build("1", A)],
        ));
        let two = desired("2", "", "start");
        assert_eq!(plan(&two, &cut, &memory), ["switch from 1 to 2"]);
        assert_eq!(plan(&two, &cut, &waiting(memory.clone())), ["switch to 1"]);
        let gone = seen(site("/new", State::Stopped, &[build("2", B)]));
        assert_eq!(plan(&two, &gone, &memory), ["start 2"]);
    }

    #[test]
    fn what_ran_well_and_died_is_started_before_its_successor_is_fetched() {
        let down = seen(site("/new", State::Stopped, &[build("1", A)]));
        let two = desired("2", "", "start");
        let mut memory = proven("/new", build("1", A));
        let all = ["start 1", "install 2", "switch from 1 to 2"];
        assert_eq!(plan(&two, &down, &memory), all);
        assert_eq!(plan(&two, &down, &Memory::default()), all[1..]);
        memory.restart_at = NOW + 1;
        assert_eq!(plan(&two, &down, &memory), all[1..]);
    }

    #[test]
    fn the_old_version_is_kept_up_while_the_new_one_has_to_wait() {
        let mut memory = waiting(proven("/new", build("1", A)));
        let down = seen(site("/new", State::Stopped, &[build("1", A)]));
        let two = desired("2", "", "start");
        assert_eq!(plan(&two, &down, &memory), ["start 1"]);
        memory.restart_at = NOW + 1;
        assert_eq!(plan(&two, &down, &memory), [""; 0]);
    }

    #[test]
    fn a_move_installs_at_the_new_place_before_the_old_one_is_stopped() {
        let memory = proven("/old", build("1", A));
        let there = Some(site("/old", State::Started, &[build("1", A)]));
        let moved = desired("1", "", "start");
        let mut look = Seen {
            here: Site::empty(place("/new")),
            there,
        };
        assert_eq!(
            plan(&moved, &look, &memory),
            ["install 1", "switch from 1 to 1"]
        );
        look.here.builds = vec![build("1", A)];
        assert_eq!(plan(&moved, &look, &memory), ["switch from 1 to 1"]);
        look.there = Some(site("/old", State::Stopped, &[build("1", A)]));
        assert_eq!(plan(&moved, &look, &waiting(memory)), ["start 1 in /old"]);
    }

    #[test]
    fn nothing_is_begun_while_the_place_it_may_run_at_is_out_of_sight() {
        let mut there = Site::empty(place("/old"));
        there.state = State::Silent;
        let mut look = Seen {
            here: Site::empty(place("/new")),
            there: Some(there),
        };
        let memory = proven("/old", build("1", A));
        assert_eq!(plan(&desired("1", "", "start"), &look, &memory), [""; 0]);
        look.here = site("/new", State::Stopped, &[build("1", A)]);
        assert_eq!(plan(&desired("1", "", "start"), &look, &memory), [""; 0]);
    }

    #[test]
    fn a_move_that_was_cut_short_after_its_start_is_not_joined_by_the_old_one() {
        let memory = waiting(proven("/old", build("1", A)));
        let look = Seen {
            here: site("/new", State::Started, &[build("2", B)]),
            there: Some(site("/old", State::Stopped, &[build("1", A)])),
        };
        assert_eq!(plan(&desired("2", "", "start"), &look, &memory), [""; 0]);
    }

    #[test]
    fn no_switch_goes_back_to_another_user() {
        let mut memory = proven("/new", build("1", A));
        let falcon = &mut memory.proven.as_mut().expect("set above").place;
        falcon.run_user = "falcon".into();
        let mut there = site("/new", State::Stopped, &[build("1", A)]);
        there.place = falcon.clone();
        there.current = None;
        let look = Seen {
            here: site("/new", State::Stopped, &[build("2", B)]),
            there: Some(there),
        };
        let two = desired("2", "", "start");
        assert_eq!(plan(&two, &look, &memory), ["start 2"]);
    }

    #[test]
    fn a_change_of_user_stops_as_the_one_and_starts_as_the_other() {
        let falcon = Place {
            work_dir: "/new".into(),
            run_user: "falcon".into(),
        };
        let mut there = site("/new", State::Started, &[build("1", A)]);
        there.place = falcon.clone();
        let mut memory = proven("/new", build("1", A));
        memory.proven.as_mut().expect("set above").place = falcon;
        let mut look = Seen {
            here: Site::empty(place("/new")),
            there: Some(there),
        };
        let wanted = desired("1", "", "start");
        assert_eq!(
            plan(&wanted, &look, &memory),
            ["install 1", "stop 1", "start 1"]
        );
        look.here.builds = vec![build("1", A)];
        assert_eq!(plan(&wanted, &look, &memory), ["stop 1", "start 1"]);
        look.there.as_mut().expect("set above").state = State::Stopped;
        // It may be about to start again: a killed updater leaves its scripts behind.
        assert_eq!(plan(&wanted, &look, &memory), ["stop 1", "start 1"]);
        memory.left = look.there.as_ref().map(|there| there.place.clone());
        assert_eq!(plan(&wanted, &look, &memory), ["start 1"]);
        memory.left = None;
        let back = steps(&wanted, &look, &waiting(memory), NOW);
        assert_eq!(back[0].place.run_user, "falcon");
        assert_eq!(back[0].step.to_string(), "start 1");
    }

    #[test]
    fn a_change_of_user_stops_whatever_does_not_say_stopped_and_goes_on_when_that_was_done() {
        for state in [State::Started, State::Other, State::Silent] {
            let mut there = site("/new", state, &[build("1", A)]);
            there.place.run_user = "falcon".into();
            let mut here = Site::empty(place("/new"));
            here.builds = vec![build("1", A)];
            let mut memory = proven("/new", build("1", A));
            memory.proven.as_mut().expect("set above").place = there.place.clone();
            let there = Some(there);
            let look = Seen { here, there };
            let wanted = desired("1", "", "start");
            assert_eq!(plan(&wanted, &look, &memory), ["stop 1", "start 1"]);
            // Stopped as well as could be, whatever it says now.
            let mut memory = waiting(memory);
            memory.left = look.there.as_ref().map(|there| there.place.clone());
            let then: &[&str] = match state {
                State::Started => &["stop 1", "start 1"],
                _ => &["start 1"],
            };
            assert_eq!(plan(&wanted, &look, &memory), then, "{state:?}");
        }
    }

    #[test]
    fn what_runs_at_the_new_place_is_not_joined_by_the_old_one_whatever_it_says() {
        for state in [State::Started, State::Other, State::Silent] {
            let look = Seen {
                here: site("/new", state, &[build("2", B)]),
                there: Some(site("/old", State::Stopped, &[build("1", A)])),
            };
            let memory = proven("/old", build("1", A));
            let three = desired("3", "", "start");
            let all = ["install 3", "switch from 1 to 3"];
            assert_eq!(plan(&three, &look, &memory), all, "{state:?}");
            assert_eq!(plan(&three, &look, &waiting(memory)), [""; 0], "{state:?}");
        }
    }

    #[test]
    fn a_lost_version_file_is_restored_before_its_successor_is_started() {
        let mut lost = site("/new", State::Absent, &[build("1", A), build("2", B)]);
        lost.current = None;
        lost.whole = false;
        let two = desired("2", "", "start");
        let look = seen(lost);
        assert_eq!(
            plan(&two, &look, &proven("/new", build("1", A))),
            ["start 1"]
        );
        let mut dead = proven("/new", build("1", A));
        dead.deaths.push(NOW);
        for memory in [Memory::default(), proven("/old", build("1", A)), dead] {
            assert_eq!(plan(&two, &look, &memory), ["start 2"]);
        }
    }

    #[test]
    fn a_version_without_its_control_script_is_installed_again() {
        let mut broken = site("/new", State::Absent, &[build("1", A)]);
        broken.whole = false;
        broken.builds.clear();
        let plan = plan(
            &desired("1", "", "start"),
            &seen(broken),
            &Memory::default(),
        );
        assert_eq!(plan, ["install 1", "start 1"]);
    }

    #[test]
    fn the_version_in_force_and_the_one_before_it_are_kept() {
        let builds = [build("3", A), build("2", A), build("1", A)];
        let running = seen(site("/new", State::Started, &builds));
        let three = desired("3", "", "start");
        let mut memory = proven("/new", build("3", A));
        assert_eq!(plan(&three, &running, &memory), ["prune all but 3 and 2"]);
        memory.previous = Version::parse("1");
        assert_eq!(plan(&three, &running, &memory), ["prune all but 3 and 1"]);
        let two = seen(site("/new", State::Started, &builds[..2]));
        assert_eq!(plan(&three, &two, &memory), [""; 0]);
        let mut litter = two;
        litter.here.litter = true;
        assert_eq!(plan(&three, &litter, &memory), ["prune all but 3 and 2"]);
    }
}

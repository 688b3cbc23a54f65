//! The planner: (desired, observation, history, now) → the tasks of one agent. Pure: it has no input, output, clock or
//! randomness. The daemon carries out the first task only, because the check after it brings a new plan.

/// What follows from the deaths of an agent.
pub mod deaths;
/// What is remembered of an agent, and how checks change it.
pub mod history;
/// How the end of a step changes that history.
mod outcome;
/// How long to wait before the next heartbeat, retry or restart.
pub mod schedule;
/// When a host may download what its whole fleet is to download.
pub mod turn;

#[cfg(test)]
mod examples;

use crate::model::{
    AgentState, Build, Cmd, Deployment, Desired, Observation, Observed, Step, Task, Version,
};
use crate::plan::history::AgentHistory;

/// Returns the tasks that lead to the desired state. There are none if it is reached, or if it is time to wait.
pub fn steps(
    desired: &Desired,
    observation: &Observation,
    history: &AgentHistory,
    now: u64,
) -> Vec<Task> {
    if observation.managed_by().is_some() {
        return Vec::new();
    }
    match desired.cmd {
        Cmd::Stop => steps_to_stop(observation, history, now),
        Cmd::Start if observation.is_out_of_sight() => Vec::new(),
        Cmd::Start if is_in_force(desired, observation) => {
            list(keep_running(desired, observation, history, now))
        }
        // After a stop the move goes on even if the agent did not say that it is stopped: otherwise a move to another
        // user would never end.
        Cmd::Start if history.is_waiting(now) && history.vacated.is_none() => {
            list(keep_current_up(observation, history, now))
        }
        Cmd::Start => steps_to_replace(desired, observation, history, now),
    }
}

/// Returns the tasks on a held host: only what is in force is kept running.
pub fn steps_while_held(
    desired: &Desired,
    observation: &Observation,
    history: &AgentHistory,
    now: u64,
) -> Vec<Task> {
    let is_kept_up = desired.cmd == Cmd::Start
        && !observation.is_out_of_sight()
        && observation.managed_by().is_none();
    list(keep_current_up(observation, history, now).filter(|_| is_kept_up))
}

/// Whether the agent is in its desired state.
pub fn is_reached(desired: &Desired, observation: &Observation) -> bool {
    match desired.cmd {
        Cmd::Start => {
            is_in_force(desired, observation) && observation.at_desired.state == AgentState::Started
        }
        Cmd::Stop => observation.locations().all(|observed| {
            matches!(
                observed.state,
                AgentState::NotInstalled | AgentState::Stopped
            )
        }),
    }
}

/// Whether the desired build is in force at the desired location, and nothing is in force elsewhere.
fn is_in_force(desired: &Desired, observation: &Observation) -> bool {
    let current = observation.current();
    current.location == desired.location && current.is_in_force(&desired.build())
}

fn steps_to_stop(observation: &Observation, history: &AgentHistory, now: u64) -> Vec<Task> {
    if history.is_waiting(now) {
        return Vec::new();
    }
    let mut steps = Vec::new();
    for observed in observation.locations() {
        if matches!(
            observed.state,
            AgentState::Started | AgentState::Unrecognized
        ) && let Some(current) = &observed.current
        {
            steps.push(task(observed, Step::Stop(current.version.clone())));
        }
    }
    if let [first, _] = &steps[..]
        && history.vacated.as_ref() == Some(&first.location)
    {
        // The first was stopped already and did not say so. It must not keep the second from being stopped.
        steps.reverse();
    }
    steps
}

/// The desired build is in force: starts it if it is down, removes old versions if it runs.
fn keep_running(
    desired: &Desired,
    observation: &Observation,
    history: &AgentHistory,
    now: u64,
) -> Option<Task> {
    let observed = observation.current();
    let build = observed.current.clone().unwrap_or_else(|| desired.build());
    match observed.state {
        AgentState::Started => prune(observed, history, now),
        AgentState::NotInstalled | AgentState::NoAnswer | AgentState::NotAsked => None,
        // If another build ran well last, a switch was cut short. It is finished, and can still return to that build.
        AgentState::Stopped | AgentState::Unrecognized => {
            match rollback_target(observation, history, &build) {
                Some(back) if history.is_waiting(now) => switch_back(back, history, now),
                back @ Some(_) => Some(task(observed, Step::Switch { back, to: build })),
                None => restart(observed, build, history, now),
            }
        }
    }
}

/// Restarts what is in force at the current location, while the desired build has to wait.
fn keep_current_up(observation: &Observation, history: &AgentHistory, now: u64) -> Option<Task> {
    let observed = observation.current();
    let build = build_that_is_down(observation)?;
    match rollback_target(observation, history, &build) {
        Some(back) => switch_back(back, history, now),
        None => restart(observed, build, history, now),
    }
}

/// Another build or another location is desired: installs it beside what runs, then changes over.
fn steps_to_replace(
    desired: &Desired,
    observation: &Observation,
    history: &AgentHistory,
    now: u64,
) -> Vec<Task> {
    let at_desired = &observation.at_desired;
    let to = desired.build();
    let mut steps = Vec::new();
    if !at_desired.has(&to) {
        if let Some(restart) = restart_last_good(observation, history, now) {
            steps.push(restart);
        }
        steps.push(task(at_desired, Step::Install(desired.release())));
    }
    let observed = observation.current();
    let in_force = observed.current.clone().filter(|_| observed.whole);
    let Some(build) = in_force else {
        // A build that died at its first start waits like any other.
        if history.restart_at <= now {
            let first = build_without_version_file(at_desired, history).unwrap_or(to);
            steps.push(task(at_desired, Step::Start(first)));
        }
        return steps;
    };
    if observed.location.run_user == at_desired.location.run_user {
        let current = Deployment {
            location: observed.location.clone(),
            build,
        };
        let back = rollback_target(observation, history, &current.build).unwrap_or(current);
        let back = Some(back);
        steps.push(task(at_desired, Step::Switch { back, to }));
    } else {
        if let Some(stop) = stop_for_other_user(observed, build, history) {
            steps.push(stop);
        }
        steps.push(task(at_desired, Step::Start(to)));
    }
    steps
}

/// Stops the agent before a start as another user, because one process cannot be both users. If that start fails,
/// `keep_current_up` returns to the old location.
fn stop_for_other_user(observed: &Observed, build: Build, history: &AgentHistory) -> Option<Task> {
    let was_stopped = history.vacated.as_ref() == Some(&observed.location);
    if was_stopped && observed.state != AgentState::Started {
        return None;
    }
    Some(task(observed, Step::Stop(build.version)))
}

/// Restarts a build that ran well and died, so that it is not down for the time of a download.
fn restart_last_good(observation: &Observation, history: &AgentHistory, now: u64) -> Option<Task> {
    let observed = observation.current();
    let last_good = history
        .last_good
        .as_ref()
        .filter(|last_good| last_good.location == observed.location)?;
    let build = build_that_is_down(observation)?;
    if !last_good.build.satisfies(&build) {
        return None;
    }
    restart(observed, build, history, now)
}

/// Returns the build that ran well at this location and is still installed, if nothing is in force: somebody removed
/// `.version`, and the build may still run. It is put in force again, or it would run beside its successor.
fn build_without_version_file(at_desired: &Observed, history: &AgentHistory) -> Option<Build> {
    let last_good = history.last_good.as_ref()?;
    let is_lost = at_desired.current.is_none()
        && last_good.location == at_desired.location
        && at_desired.has(&last_good.build);
    // A build that died at every start does not run. A failed move has put it out of force.
    let is_lost = is_lost && history.deaths.is_empty();
    is_lost.then(|| last_good.build.clone())
}

/// Returns the build that is in force and whole at the current location, if it is down.
fn build_that_is_down(observation: &Observation) -> Option<Build> {
    let (observed, at_desired) = (observation.current(), &observation.at_desired);
    let runs_at_desired = match at_desired.state {
        AgentState::Started | AgentState::Unrecognized => true,
        AgentState::NoAnswer | AgentState::NotAsked => !at_desired.is_unknown(),
        AgentState::NotInstalled | AgentState::Stopped => false,
    };
    if observed.location != at_desired.location && runs_at_desired {
        // A move was cut short after its start. Restarting the old one would make two run.
        return None;
    }
    let is_down = observed.whole && observed.is_down();
    observed.current.clone().filter(|_| is_down)
}

fn restart(observed: &Observed, build: Build, history: &AgentHistory, now: u64) -> Option<Task> {
    if history.restart_at > now {
        return None;
    }
    Some(task(observed, Step::Start(build)))
}

/// Returns what ran well last, if it is not in force, is still whole on disk, and runs as the same user.
fn rollback_target(
    observation: &Observation,
    history: &AgentHistory,
    in_force: &Build,
) -> Option<Deployment> {
    let last_good = history.last_good.as_ref()?;
    let current = &observation.current().location;
    let is_same_user = last_good.location.run_user == current.run_user;
    let is_current = last_good.location == *current && last_good.build.satisfies(in_force);
    let is_on_disk = observation
        .locations()
        .any(|observed| observed.location == last_good.location && observed.has(&last_good.build));
    (is_same_user && !is_current && is_on_disk).then(|| last_good.clone())
}

fn switch_back(back: Deployment, history: &AgentHistory, now: u64) -> Option<Task> {
    if history.restart_at > now {
        return None;
    }
    Some(Task {
        location: back.location,
        step: Step::Switch {
            back: None,
            to: back.build,
        },
    })
}

/// Removes old versions, except the one in force and the one before it.
fn prune(observed: &Observed, history: &AgentHistory, now: u64) -> Option<Task> {
    if history.is_waiting(now) {
        return None;
    }
    let current = observed.current.as_ref()?;
    let others = || {
        observed
            .builds
            .iter()
            .filter(|b| b.version != current.version)
    };
    let previous = others()
        .find(|build| Some(&build.version) == history.previous.as_ref())
        .or_else(|| others().next());
    let mut keep: Vec<Version> = vec![current.version.clone()];
    if let Some(build) = previous {
        keep.push(build.version.clone());
    }
    if others().count() < keep.len() && observed.spare.is_none() && !observed.litter {
        return None;
    }
    Some(task(observed, Step::Prune(keep)))
}

/// Returns the list of one task or of none.
fn list(task: Option<Task>) -> Vec<Task> {
    let mut tasks = Vec::new();
    if let Some(task) = task {
        tasks.push(task);
    }
    tasks
}

fn task(observed: &Observed, step: Step) -> Task {
    Task {
        location: observed.location.clone(),
        step,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::AgentName;
    use crate::model::{Location, Own, WireAgent};

    fn name() -> AgentName {
        AgentName::parse("demo").expect("valid")
    }

    const A: &str = "490ac172dabecc867289079d48e84a66";
    const B: &str = "5f9ab5e81c386cde72c022d1b6d061d9";
    const NOW: u64 = 1000;

    fn build(version: &str, md5: &str) -> Build {
        Build {
            version: Version::parse(version).expect("valid"),
            md5: md5.into(),
        }
    }

    fn location(work_dir: &str) -> Location {
        Location {
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

    /// A location with these builds on disk; the first is in force.
    fn observed(work_dir: &str, state: AgentState, builds: &[Build]) -> Observed {
        let mut observed = Observed::empty(location(work_dir));
        observed.current = builds.first().cloned();
        observed.whole = !builds.is_empty();
        observed.state = state;
        observed.builds = builds.to_vec();
        observed
    }

    fn observation(at_desired: Observed) -> Observation {
        Observation {
            name: name(),
            at_desired,
            elsewhere: None,
        }
    }

    fn last_good(work_dir: &str, build: Build) -> AgentHistory {
        AgentHistory {
            last_good: Some(Deployment {
                location: location(work_dir),
                build,
            }),
            ..Default::default()
        }
    }

    fn plan(desired: &Desired, observation: &Observation, history: &AgentHistory) -> Vec<String> {
        let tasks = steps(desired, observation, history, NOW);
        tasks
            .iter()
            .map(|task| match task.location.work_dir.as_str() {
                "/new" => task.step.to_string(),
                other => format!("{} in {other}", task.step),
            })
            .collect()
    }

    fn waiting(mut history: AgentHistory) -> AgentHistory {
        history.retry_at = NOW + 1;
        history
    }

    #[test]
    fn a_fresh_agent_is_installed_and_started() {
        let nothing = observation(Observed::empty(location("/new")));
        let none = AgentHistory::default();
        let start = desired("1", "", "start");
        assert_eq!(plan(&start, &nothing, &none), ["install 1", "start 1"]);
        assert_eq!(plan(&desired("1", "", "stop"), &nothing, &none), [""; 0]);
        assert_eq!(plan(&start, &nothing, &waiting(none)), [""; 0]);
    }

    #[test]
    fn another_version_is_installed_beside_the_running_one_and_switched_to() {
        let one = build("1", A);
        let running = observation(observed(
            "/new",
            AgentState::Started,
            std::slice::from_ref(&one),
        ));
        let history = last_good("/new", one.clone());
        let two = desired("2", "", "start");
        assert_eq!(
            plan(&two, &running, &history),
            ["install 2", "switch from 1 to 2"]
        );
        let both = observation(observed(
            "/new",
            AgentState::Started,
            &[one.clone(), build("2", B)],
        ));
        assert_eq!(plan(&two, &both, &history), ["switch from 1 to 2"]);
        assert_eq!(plan(&two, &both, &waiting(history)), [""; 0]);
    }

    #[test]
    fn a_running_agent_that_is_as_desired_is_left_alone() {
        for md5 in ["", A, "http://other/base"] {
            let running = observation(observed("/new", AgentState::Started, &[build("1", A)]));
            assert_eq!(
                plan(
                    &desired("1", md5, "start"),
                    &running,
                    &AgentHistory::default()
                ),
                [""; 0]
            );
        }
    }

    #[test]
    fn an_agent_that_is_down_is_started_when_its_time_has_come() {
        let mut history = last_good("/new", build("1", A));
        for state in [AgentState::Stopped, AgentState::Unrecognized] {
            let down = observation(observed("/new", state, &[build("1", A)]));
            assert_eq!(
                plan(&desired("1", "", "start"), &down, &history),
                ["start 1"]
            );
        }
        let down = observation(observed("/new", AgentState::Stopped, &[build("1", A)]));
        history.restart_at = NOW + 1;
        assert_eq!(plan(&desired("1", "", "start"), &down, &history), [""; 0]);
    }

    #[test]
    fn an_agent_that_gives_no_answer_is_neither_started_nor_stopped() {
        let silent = observation(observed("/new", AgentState::NoAnswer, &[build("1", A)]));
        for cmd in ["start", "stop"] {
            assert_eq!(
                plan(&desired("1", "", cmd), &silent, &AgentHistory::default()),
                [""; 0]
            );
        }
    }

    #[test]
    fn a_stop_stops_whatever_version_runs_and_nothing_else() {
        let running = observation(observed("/new", AgentState::Started, &[build("1", A)]));
        let history = AgentHistory::default();
        assert_eq!(
            plan(&desired("2", "", "stop"), &running, &history),
            ["stop 1"]
        );
        let down = observation(observed("/new", AgentState::Stopped, &[build("1", A)]));
        assert_eq!(plan(&desired("2", "", "stop"), &down, &history), [""; 0]);
        assert_eq!(
            plan(&desired("2", "", "stop"), &running, &waiting(history)),
            [""; 0]
        );
        let unclear = observation(observed("/new", AgentState::Unrecognized, &[build("1", A)]));
        let history = AgentHistory::default();
        assert_eq!(
            plan(&desired("2", "", "stop"), &unclear, &history),
            ["stop 1"]
        );
    }

    #[test]
    fn a_stop_reaches_both_locations_whatever_they_answer() {
        let mut history = last_good("/old", build("1", A));
        let observation = Observation {
            name: name(),
            at_desired: observed("/new", AgentState::Unrecognized, &[build("2", B)]),
            elsewhere: Some(Box::new(observed(
                "/old",
                AgentState::Unrecognized,
                &[build("1", A)],
            ))),
        };
        let stop = desired("2", "", "stop");
        assert_eq!(
            plan(&stop, &observation, &history),
            ["stop 1 in /old", "stop 2"]
        );
        history.vacated = Some(location("/old"));
        assert_eq!(
            plan(&stop, &observation, &history),
            ["stop 2", "stop 1 in /old"]
        );
    }

    #[test]
    fn another_build_of_the_version_is_installed_and_switched_to() {
        let running = observed("/new", AgentState::Started, &[build("1", A)]);
        let history = last_good("/new", build("1", A));
        let start = desired("1", B, "start");
        assert_eq!(
            plan(&start, &observation(running.clone()), &history),
            ["install 1", "switch from 1 to 1"]
        );
        let mut staged = running;
        staged.spare = Some(build("1", B));
        assert_eq!(
            plan(&start, &observation(staged), &history),
            ["switch from 1 to 1"]
        );
    }

    #[test]
    fn a_switch_that_was_cut_short_is_finished_and_can_still_return() {
        let history = last_good("/new", build("1", A));
        let cut = observation(observed(
            "/new",
            AgentState::Stopped,
            &[build("2", B), build("1", A)],
        ));
        let two = desired("2", "", "start");
        assert_eq!(plan(&two, &cut, &history), ["switch from 1 to 2"]);
        assert_eq!(plan(&two, &cut, &waiting(history.clone())), ["switch to 1"]);
        let gone = observation(observed("/new", AgentState::Stopped, &[build("2", B)]));
        assert_eq!(plan(&two, &gone, &history), ["start 2"]);
    }

    #[test]
    fn a_good_version_that_died_is_started_before_the_new_one_is_fetched() {
        let down = observation(observed("/new", AgentState::Stopped, &[build("1", A)]));
        let two = desired("2", "", "start");
        let mut history = last_good("/new", build("1", A));
        let all = ["start 1", "install 2", "switch from 1 to 2"];
        assert_eq!(plan(&two, &down, &history), all);
        assert_eq!(plan(&two, &down, &AgentHistory::default()), all[1..]);
        history.restart_at = NOW + 1;
        assert_eq!(plan(&two, &down, &history), all[1..]);
    }

    #[test]
    fn the_old_version_is_kept_up_while_the_new_one_has_to_wait() {
        let mut history = waiting(last_good("/new", build("1", A)));
        let down = observation(observed("/new", AgentState::Stopped, &[build("1", A)]));
        let two = desired("2", "", "start");
        assert_eq!(plan(&two, &down, &history), ["start 1"]);
        history.restart_at = NOW + 1;
        assert_eq!(plan(&two, &down, &history), [""; 0]);
    }

    #[test]
    fn a_move_installs_at_the_new_location_before_the_old_one_is_stopped() {
        let history = last_good("/old", build("1", A));
        let elsewhere = Some(observed("/old", AgentState::Started, &[build("1", A)]));
        let moved = desired("1", "", "start");
        let mut observation = Observation {
            name: name(),
            at_desired: Observed::empty(location("/new")),
            elsewhere: elsewhere.map(Box::new),
        };
        assert_eq!(
            plan(&moved, &observation, &history),
            ["install 1", "switch from 1 to 1"]
        );
        observation.at_desired.builds = vec![build("1", A)];
        assert_eq!(plan(&moved, &observation, &history), ["switch from 1 to 1"]);
        observation.elsewhere = Some(Box::new(observed(
            "/old",
            AgentState::Stopped,
            &[build("1", A)],
        )));
        assert_eq!(
            plan(&moved, &observation, &waiting(history)),
            ["start 1 in /old"]
        );
    }

    #[test]
    fn nothing_begins_while_a_location_where_it_may_run_cannot_be_checked() {
        let mut elsewhere = Observed::empty(location("/old"));
        elsewhere.state = AgentState::NoAnswer;
        let mut observation = Observation {
            name: name(),
            at_desired: Observed::empty(location("/new")),
            elsewhere: Some(Box::new(elsewhere)),
        };
        let history = last_good("/old", build("1", A));
        assert_eq!(
            plan(&desired("1", "", "start"), &observation, &history),
            [""; 0]
        );
        observation.at_desired = observed("/new", AgentState::Stopped, &[build("1", A)]);
        assert_eq!(
            plan(&desired("1", "", "start"), &observation, &history),
            [""; 0]
        );
    }

    #[test]
    fn the_old_one_is_not_started_beside_a_move_that_was_cut_short_after_its_start() {
        let history = waiting(last_good("/old", build("1", A)));
        let observation = Observation {
            name: name(),
            at_desired: observed("/new", AgentState::Started, &[build("2", B)]),
            elsewhere: Some(Box::new(observed(
                "/old",
                AgentState::Stopped,
                &[build("1", A)],
            ))),
        };
        assert_eq!(
            plan(&desired("2", "", "start"), &observation, &history),
            [""; 0]
        );
    }

    #[test]
    fn no_switch_goes_back_to_another_user() {
        let mut history = last_good("/new", build("1", A));
        let falcon = &mut history.last_good.as_mut().expect("set above").location;
        falcon.run_user = "falcon".into();
        let mut elsewhere = observed("/new", AgentState::Stopped, &[build("1", A)]);
        elsewhere.location = falcon.clone();
        elsewhere.current = None;
        let observation = Observation {
            name: name(),
            at_desired: observed("/new", AgentState::Stopped, &[build("2", B)]),
            elsewhere: Some(Box::new(elsewhere)),
        };
        let two = desired("2", "", "start");
        assert_eq!(plan(&two, &observation, &history), ["start 2"]);
    }

    #[test]
    fn a_change_of_user_stops_as_the_old_user_and_starts_as_the_new() {
        let falcon = Location {
            work_dir: "/new".into(),
            run_user: "falcon".into(),
        };
        let mut elsewhere = observed("/new", AgentState::Started, &[build("1", A)]);
        elsewhere.location = falcon.clone();
        let mut history = last_good("/new", build("1", A));
        history.last_good.as_mut().expect("set above").location = falcon;
        let mut observation = Observation {
            name: name(),
            at_desired: Observed::empty(location("/new")),
            elsewhere: Some(Box::new(elsewhere)),
        };
        let start = desired("1", "", "start");
        assert_eq!(
            plan(&start, &observation, &history),
            ["install 1", "stop 1", "start 1"]
        );
        observation.at_desired.builds = vec![build("1", A)];
        assert_eq!(plan(&start, &observation, &history), ["stop 1", "start 1"]);
        observation.elsewhere.as_mut().expect("set above").state = AgentState::Stopped;
        // It may be about to start again: scripts of a killed updater go on.
        assert_eq!(plan(&start, &observation, &history), ["stop 1", "start 1"]);
        history.vacated = observation
            .elsewhere
            .as_ref()
            .map(|elsewhere| elsewhere.location.clone());
        assert_eq!(plan(&start, &observation, &history), ["start 1"]);
        history.vacated = None;
        let back = steps(&start, &observation, &waiting(history), NOW);
        assert_eq!(back[0].location.run_user, "falcon");
        assert_eq!(back[0].step.to_string(), "start 1");
    }

    #[test]
    fn a_change_of_user_stops_what_does_not_say_stopped_and_then_goes_on() {
        for state in [
            AgentState::Started,
            AgentState::Unrecognized,
            AgentState::NoAnswer,
        ] {
            let mut elsewhere = observed("/new", state, &[build("1", A)]);
            elsewhere.location.run_user = "falcon".into();
            let mut at_desired = Observed::empty(location("/new"));
            at_desired.builds = vec![build("1", A)];
            let mut history = last_good("/new", build("1", A));
            history.last_good.as_mut().expect("set above").location = elsewhere.location.clone();
            let elsewhere = Some(elsewhere);
            let observation = Observation {
                name: name(),
                at_desired,
                elsewhere: elsewhere.map(Box::new),
            };
            let start = desired("1", "", "start");
            assert_eq!(plan(&start, &observation, &history), ["stop 1", "start 1"]);
            // It was stopped, whatever it says now.
            let mut history = waiting(history);
            history.vacated = observation
                .elsewhere
                .as_ref()
                .map(|elsewhere| elsewhere.location.clone());
            let then: &[&str] = match state {
                AgentState::Started => &["stop 1", "start 1"],
                _ => &["start 1"],
            };
            assert_eq!(plan(&start, &observation, &history), then, "{state:?}");
        }
    }

    #[test]
    fn the_old_one_is_not_started_beside_what_runs_at_the_new_location() {
        for state in [
            AgentState::Started,
            AgentState::Unrecognized,
            AgentState::NoAnswer,
        ] {
            let observation = Observation {
                name: name(),
                at_desired: observed("/new", state, &[build("2", B)]),
                elsewhere: Some(Box::new(observed(
                    "/old",
                    AgentState::Stopped,
                    &[build("1", A)],
                ))),
            };
            let history = last_good("/old", build("1", A));
            let three = desired("3", "", "start");
            let all = ["install 3", "switch from 1 to 3"];
            assert_eq!(plan(&three, &observation, &history), all, "{state:?}");
            assert_eq!(
                plan(&three, &observation, &waiting(history)),
                [""; 0],
                "{state:?}"
            );
        }
    }

    #[test]
    fn a_lost_version_file_is_restored_before_its_successor_is_started() {
        let mut without_version_file = observed(
            "/new",
            AgentState::NotInstalled,
            &[build("1", A), build("2", B)],
        );
        without_version_file.current = None;
        without_version_file.whole = false;
        let two = desired("2", "", "start");
        let observation = observation(without_version_file);
        assert_eq!(
            plan(&two, &observation, &last_good("/new", build("1", A))),
            ["start 1"]
        );
        let mut dead = last_good("/new", build("1", A));
        dead.deaths.push(NOW);
        for history in [
            AgentHistory::default(),
            last_good("/old", build("1", A)),
            dead,
        ] {
            assert_eq!(plan(&two, &observation, &history), ["start 2"]);
        }
    }

    #[test]
    fn a_version_without_its_control_script_is_installed_again() {
        let mut broken = observed("/new", AgentState::NotInstalled, &[build("1", A)]);
        broken.whole = false;
        broken.builds.clear();
        let plan = plan(
            &desired("1", "", "start"),
            &observation(broken),
            &AgentHistory::default(),
        );
        assert_eq!(plan, ["install 1", "start 1"]);
    }

    #[test]
    fn the_version_in_force_and_the_one_before_it_are_kept() {
        let builds = [build("3", A), build("2", A), build("1", A)];
        let running = observation(observed("/new", AgentState::Started, &builds));
        let three = desired("3", "", "start");
        let mut history = last_good("/new", build("3", A));
        assert_eq!(plan(&three, &running, &history), ["prune all but 3 and 2"]);
        history.previous = Version::parse("1");
        assert_eq!(plan(&three, &running, &history), ["prune all but 3 and 1"]);
        let two = observation(observed("/new", AgentState::Started, &builds[..2]));
        assert_eq!(plan(&three, &two, &history), [""; 0]);
        let mut litter = two;
        litter.at_desired.litter = true;
        assert_eq!(plan(&three, &litter, &history), ["prune all but 3 and 2"]);
    }
}

//! The events that a step worker writes for the daemon. A worker may run as the user of a hostile agent: its events may only
//! change what is known of its own agent, at the locations of its job.
#![no_main]

use std::fs;
use std::path::Path;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use ops_updater::build_info::VERSION;
use ops_updater::daemon::state::{Attempt, State};
use ops_updater::json;
use ops_updater::model::Observation;
use ops_updater::model::{
    AgentName, AgentState, Build, Deployment, Failure, Fault, Location, Observed, Step, Task,
    Updater, Version, WireAgent,
};
use ops_updater::protocol::event::{Event, What};
use ops_updater::protocol::heartbeat;
use ops_updater::protocol::job::HeartbeatJob;
use ops_updater::store::ledger::Ledger;
use ops_updater_fuzz::bench;

const INTERVAL: Duration = Duration::from_secs(300);

fuzz_target!(|bytes: &[u8]| {
    let [choice, lines @ ..] = bytes else { return };
    // As daemon/child.rs reads them.
    let lines = lines.split(|byte| *byte == b'\n');
    let events = lines.filter_map(|line| Event::parse(String::from_utf8_lossy(line).trim_end()));
    let events: Vec<Event> = events.collect();
    if events.is_empty() {
        return;
    }
    let dir = bench::dir("event");
    let mut state = state(&dir, *choice);
    let demo = name("demo");
    let task = task(*choice);
    state.begin(&demo, &task);
    let places = places(&state, &demo, &task);
    let before = others(&mut state, &dir);
    let mut attempt = Attempt {
        desired_digest: state.desired_digest(&demo),
        name: demo.clone(),
        task,
        failure: None,
        has_started: false,
        observation: None,
    };
    // As the daemon applies them.
    let (mut phase, mut is_done) = (String::new(), false);
    for mut event in events {
        phase = std::mem::take(&mut event.phase);
        if event.what == What::Done {
            is_done = true;
            attempt.end(event);
        }
    }
    if !is_done {
        attempt.failure = Some(Failure {
            fault: Fault::Host,
            error: "it ended without a word".to_owned(),
        });
    }
    state.finish(attempt, bench::NOW, INTERVAL);
    assert_eq!(
        others(&mut state, &dir),
        before,
        "it spoke for another agent"
    );
    check_tasks(&state, &demo, &places);
    check_heartbeat(&state, &demo, &phase);
});

fn name(text: &str) -> AgentName {
    AgentName::parse(text).expect("a name")
}

fn version(text: &str) -> Version {
    Version::parse(text).expect("a version")
}

fn build(text: &str) -> Build {
    Build {
        version: version(text),
        md5: String::new(),
    }
}

fn location(work_dir: &str, run_user: &str) -> Location {
    Location {
        work_dir: work_dir.to_owned(),
        run_user: run_user.to_owned(),
    }
}

/// Two agents, one of another user and one of the updater's own; version 1 of both is in force. The input chooses what the
/// daemon knows of the first: where it ran well, and whether it runs.
fn state(dir: &Path, choice: u8) -> State {
    let wires = ["demo", "other"].map(|name| WireAgent {
        name: name.to_owned(),
        version: "2".to_owned(),
        tarball: "http://x".to_owned(),
        cmd: if choice & 0x80 == 0 { "start" } else { "stop" }.to_owned(),
        run_user: if name == "demo" { "falcon" } else { "" }.to_owned(),
        work_dir: format!("/home/{name}"),
        ..WireAgent::default()
    });
    let mut ledger = Ledger::default();
    if choice & 0x40 != 0 {
        ledger
            .agents
            .entry("demo".to_owned())
            .or_default()
            .last_good = Some(Deployment {
            location: location("/old", if choice & 0x20 == 0 { "falcon" } else { "" }),
            build: build("1"),
        });
    }
    let _ = fs::create_dir(dir.join("var"));
    bench::put(
        &dir.join("var/ledger.json"),
        json::to_string(&ledger).as_bytes(),
    );
    bench::put(
        &dir.join("desired_agent.json"),
        json::to_string(&wires).as_bytes(),
    );
    let mut state = State::load(dir, "root", bench::NOW);
    for name in state.names() {
        let location = state
            .desired(&name)
            .expect("it is desired")
            .location
            .clone();
        let mut at_desired = Observed::empty(location);
        at_desired.current = Some(build("1"));
        at_desired.whole = true;
        at_desired.state = if choice & 0x10 == 0 {
            AgentState::Started
        } else {
            AgentState::Stopped
        };
        at_desired.builds = vec![build("2"), build("1")];
        let elsewhere = state
            .elsewhere(&name, &at_desired.location)
            .map(Observed::empty);
        state.observe(
            Observation {
                name,
                at_desired,
                elsewhere: elsewhere.map(Box::new),
            },
            bench::NOW,
        );
    }
    state
}

fn task(choice: u8) -> Task {
    let location = location("/home/demo", "falcon");
    let step = match choice & 7 {
        0 => Step::Start(build("1")),
        1 => Step::Stop(version("1")),
        2 => Step::Prune(vec![version("1")]),
        3 => Step::Switch {
            back: None,
            to: build("2"),
        },
        4 => Step::Switch {
            back: Some(Deployment {
                location: self::location("/old", "falcon"),
                build: build("1"),
            }),
            to: build("2"),
        },
        _ => Step::Switch {
            back: Some(Deployment {
                location: location.clone(),
                build: build("1"),
            }),
            to: build("2"),
        },
    };
    Task { location, step }
}

/// The locations where the daemon knows that the agent is or should be.
fn places(state: &State, name: &AgentName, task: &Task) -> Vec<Location> {
    let mut places = vec![task.location.clone()];
    places.extend(state.desired(name).map(|desired| desired.location.clone()));
    places.extend(state.elsewhere(name, &task.location));
    if let Step::Switch { back, .. } = &task.step {
        places.extend(back.iter().map(|back| back.location.clone()));
    }
    places
}

/// The history of all other agents, as on disk, and their next steps.
fn others(state: &mut State, dir: &Path) -> String {
    state.save().expect("TMPDIR can be written");
    let text = fs::read_to_string(dir.join("var/ledger.json")).expect("it was saved");
    let mut ledger = Ledger::read(&text).expect("what is saved can be read");
    ledger.agents.remove("demo");
    let next = state.next_task(&name("other"), bench::NOW);
    format!("{} {next:?}", json::to_string(&ledger))
}

fn check_tasks(state: &State, demo: &AgentName, places: &[Location]) {
    for location in state
        .elsewhere(demo, &places[0])
        .iter()
        .chain(&state.other_locations(demo, &places[0]))
    {
        assert!(places.contains(location), "{location:?}");
    }
    for later in [0, 3600, 2 * 86_400] {
        if let Some(task) = state.next_task(demo, bench::NOW + later) {
            assert!(
                places.contains(&task.location),
                "{task} in {:?}",
                task.location
            );
        }
    }
}

/// The next heartbeat is JSON, and the texts of the worker in it are short and printable.
fn check_heartbeat(state: &State, demo: &AgentName, phase: &str) {
    let job = HeartbeatJob {
        made_by: VERSION.to_owned(),
        url: None,
        hostname: "h".to_owned(),
        ip: String::new(),
        run_user: "root".to_owned(),
        sudo: String::new(),
        updater: Updater {
            dir: "/opt/updater".to_owned(),
            ..Updater::default()
        },
        network: ops_updater::model::Network::default(),
        log_level: "INFO".to_owned(),
        input: None,
        hold: String::new(),
        refused: state.refused().to_vec(),
        stuck: Vec::new(),
        agents: state.reports(|name| (name == demo).then(|| phase.to_owned()), bench::NOW),
    };
    let mut at_desired = Observed::empty(location("/home/demo", "falcon"));
    at_desired.current = Some(build("1"));
    let name = demo.clone();
    let observation = [Observation {
        name,
        at_desired,
        elsewhere: None,
    }];
    let body = heartbeat::request(&job, &observation, "192.0.2.1", "linux_amd64", bench::NOW);
    json::parse(&body).expect("a heartbeat is JSON");
    assert!(
        body.is_ascii() && !body.contains(char::is_control),
        "{body}"
    );
    assert!(body.len() < 2000, "{} bytes: {body}", body.len());
}

//! The lines that an act child prints for the daemon. Such a child may run as the user of an agent that is hostile: it
//! speaks for its own agent, at the place where it was sent to, and for nothing else.
#![no_main]

use std::fs;
use std::path::Path;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use ops_updater::job::{BeatJob, Event, SeenAgent, VERSION, What};
use ops_updater::model::{
    AgentName, Build, Failure, Fault, Place, Site, Spot, State, Step, Task, Version, WireAgent,
};
use ops_updater::record::Ledger;
use ops_updater::roster::{Attempt, Roster};
use ops_updater::{bench, fields, heartbeat, json};

const INTERVAL: Duration = Duration::from_secs(300);

fuzz_target!(|bytes: &[u8]| {
    let [choice, lines @ ..] = bytes else { return };
    // As children.rs takes them.
    let lines = lines.split(|byte| *byte == b'\n');
    let events = lines.filter_map(|line| Event::parse(String::from_utf8_lossy(line).trim_end()));
    let events: Vec<Event> = events.collect();
    if events.is_empty() {
        return;
    }
    let dir = bench::dir("event");
    let mut roster = roster(&dir, *choice);
    let demo = name("demo");
    let task = task(*choice);
    roster.begin(&demo, &task);
    let places = places(&roster, &demo, &task);
    let before = others(&mut roster, &dir);
    let mut attempt = Attempt {
        entry: roster.entry(&demo),
        name: demo.clone(),
        task,
        failure: None,
        seen: None,
    };
    // As daemon.rs takes them.
    let (mut phase, mut is_done) = (String::new(), false);
    for mut event in events {
        phase = event.phase.take().unwrap_or_default();
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
    roster.finish(attempt, bench::NOW, INTERVAL);
    assert_eq!(
        others(&mut roster, &dir),
        before,
        "it spoke for another agent"
    );
    check_tasks(&roster, &demo, &places);
    check_heartbeat(&roster, &demo, &phase);
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

fn place(work_dir: &str, run_user: &str) -> Place {
    Place {
        work_dir: work_dir.to_owned(),
        run_user: run_user.to_owned(),
    }
}

/// Two agents, one of another user's and one of ours; both have their version 1 in force. What the daemon knows of the
/// first is the choice: where it ran well, and whether it runs.
fn roster(dir: &Path, choice: u8) -> Roster {
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
        ledger.agents.entry(&name("demo")).proven = Some(Spot {
            place: place("/old", if choice & 0x20 == 0 { "falcon" } else { "" }),
            build: build("1"),
        });
    }
    let _ = fs::create_dir(dir.join("var"));
    bench::put(
        &dir.join("var/ledger.json"),
        fields::write(&mut ledger).as_bytes(),
    );
    bench::put(
        &dir.join("desired_agent.json"),
        fields::write(&mut Vec::from(wires)).as_bytes(),
    );
    let mut roster = Roster::load(dir, "root", bench::NOW);
    for name in roster.names() {
        let place = roster.desired(&name).expect("it is desired").place.clone();
        let mut here = Site::empty(place);
        here.current = Some(build("1"));
        here.whole = true;
        here.state = if choice & 0x10 == 0 {
            State::Started
        } else {
            State::Stopped
        };
        here.builds = vec![build("2"), build("1")];
        let there = roster.elsewhere(&name, &here.place).map(Site::empty);
        roster.observe(SeenAgent { name, here, there }, bench::NOW);
    }
    roster
}

fn task(choice: u8) -> Task {
    let place = place("/home/demo", "falcon");
    let step = match choice & 7 {
        0 => Step::Start(build("1")),
        1 => Step::Stop(version("1")),
        2 => Step::Prune(vec![version("1")]),
        3 => Step::Switch {
            back: None,
            to: build("2"),
        },
        4 => Step::Switch {
            back: Some(Spot {
                place: self::place("/old", "falcon"),
                build: build("1"),
            }),
            to: build("2"),
        },
        _ => Step::Switch {
            back: Some(Spot {
                place: place.clone(),
                build: build("1"),
            }),
            to: build("2"),
        },
    };
    Task { place, step }
}

/// Where the daemon knows that the agent is or should be.
fn places(roster: &Roster, name: &AgentName, task: &Task) -> Vec<Place> {
    let mut places = vec![task.place.clone()];
    places.extend(roster.desired(name).map(|desired| desired.place.clone()));
    places.extend(roster.elsewhere(name, &task.place));
    if let Step::Switch { back, .. } = &task.step {
        places.extend(back.iter().map(|back| back.place.clone()));
    }
    places
}

/// Everything that is remembered of other agents, from the disk; and what is next for them.
fn others(roster: &mut Roster, dir: &Path) -> String {
    roster.save().expect("TMPDIR can be written");
    let text = fs::read_to_string(dir.join("var/ledger.json")).expect("it was saved");
    let mut ledger: Ledger = fields::read(&text).expect("what is saved can be read");
    ledger.agents.remove(&name("demo"));
    let next = roster.next_task(&name("other"), bench::NOW);
    format!("{} {next:?}", fields::write(&mut ledger))
}

fn check_tasks(roster: &Roster, demo: &AgentName, places: &[Place]) {
    for place in roster
        .elsewhere(demo, &places[0])
        .iter()
        .chain(&roster.strays(demo, &places[0]))
    {
        assert!(places.contains(place), "{place:?}");
    }
    for later in [0, 3600, 2 * 86_400] {
        if let Some(task) = roster.next_task(demo, bench::NOW + later) {
            assert!(places.contains(&task.place), "{task} in {:?}", task.place);
        }
    }
}

/// The next heartbeat is JSON, and the child's words in it are few and plain.
fn check_heartbeat(roster: &Roster, demo: &AgentName, phase: &str) {
    let job = BeatJob {
        made_by: VERSION.to_owned(),
        url: None,
        hostname: "h".to_owned(),
        ip: String::new(),
        run_user: "root".to_owned(),
        sudo: String::new(),
        own_dir: "/opt/updater".to_owned(),
        log_level: "INFO".to_owned(),
        wish: None,
        hold: String::new(),
        errors: roster.refusals(),
        stuck: Vec::new(),
        agents: roster.reports(|name| if name == demo { phase } else { "" }.to_owned()),
    };
    let mut here = Site::empty(place("/home/demo", "falcon"));
    here.current = Some(build("1"));
    let name = demo.clone();
    let seen = [SeenAgent {
        name,
        here,
        there: None,
    }];
    let body = heartbeat::request(&job, &seen, "192.0.2.1", "linux_amd64", bench::NOW);
    json::parse(&body).expect("a heartbeat is JSON");
    assert!(
        body.is_ascii() && !body.contains(char::is_control),
        "{body}"
    );
    assert!(body.len() < 2000, "{} bytes: {body}", body.len());
}

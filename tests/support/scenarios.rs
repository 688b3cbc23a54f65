//! The operations of the updater on one agent, such as an upgrade or a move. Each has a function that prepares a host of
//! its own, and the checks that show that it is done, complete and tidy.

use super::agent::Agent;
use super::host::Host;
use super::json::Json as _;
use super::md5_hex;
use super::points::{Recorder, Step};
use super::prepared::{TELLS_A_SECOND, keep, run, unpack};
use super::trace::{Traced, Watch};
use super::trial::comes;
use super::watch::{names, running_below};
use super::wire::Seen;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The limit from a start to the desired state: two rounds on a busy machine, where all other tests run at once and every call
/// may be traced. Each round has a start that is watched for 5 s.
pub const TWO_ROUNDS: Duration = Duration::from_secs(80);
/// How long a moment is waited for in a run like one in which it came. Some do not come again.
pub const SAME_MOMENT: Duration = Duration::from_secs(40);

/// One operation of the updater, and how a test sees that it is done.
pub struct Scenario {
    pub name: &'static str,
    pub prepare: fn(&mut Host),
    pub is_done: fn(&Host) -> bool,
    /// The agent's directory afterwards, below the sandbox.
    pub home: &'static str,
    /// The names in it, besides `.updater` and `.version`.
    pub versions: &'static [&'static str],
}

pub fn agent(version: &str) -> Agent {
    Agent::new("demo", version)
        .on_start(TELLS_A_SECOND)
        .file("lib/data", vec![7; 100_000])
}

/// Returns another build of 1.0.0: the same version with other bytes.
pub fn rebuilt() -> Agent {
    agent("1.0.0").file("lib/more", "a new build\n")
}

pub fn bad() -> Agent {
    Agent::new("demo", "1.0.1").on_start("exit 1")
}

fn reports(host: &Host, version: &str, status: &str) -> bool {
    host.last_beat().is_some_and(|beat| {
        let agent = beat.agent("demo");
        agent.field("version").text() == version
            && agent.field("status").text() == status
            && agent.field("phase").text().is_empty()
    })
}

fn moved_to(host: &Host) -> PathBuf {
    host.dir.join("new")
}

/// Prepares 1.0.0 as running, and the updater's files to match.
fn is_running(host: &Host) {
    run(host, &host.work, &agent("1.0.0"));
    keep(host, &[host.want("demo", "1.0.0")]);
}

pub const SCENARIOS: [Scenario; 8] = [
    Scenario {
        name: "install",
        prepare: |host| {
            host.publish(&agent("1.0.0"));
            host.desire(&[host.want("demo", "1.0.0")]);
        },
        is_done: |host| reports(host, "1.0.0", "started"),
        home: "work/demo",
        versions: &["1.0.0"],
    },
    Scenario {
        name: "upgrade",
        prepare: |host| {
            is_running(host);
            host.publish(&agent("1.0.1"));
            host.desire(&[host.want("demo", "1.0.1")]);
        },
        is_done: |host| reports(host, "1.0.1", "started"),
        home: "work/demo",
        versions: &["1.0.0", "1.0.1"],
    },
    Scenario {
        name: "rebuild of a version",
        prepare: |host| {
            is_running(host);
            let tarball = rebuilt().tarball(&host.dir);
            let md5 = md5_hex(&tarball);
            host.meta.publish("demo", "1.0.0", tarball);
            host.desire(&[host.want("demo", "1.0.0").md5(md5)]);
        },
        is_done: |host| {
            let dir = host.agent_dir("demo").join("1.0.0");
            reports(host, "1.0.0", "started") && dir.join("lib/more").exists()
        },
        home: "work/demo",
        versions: &["1.0.0"],
    },
    Scenario {
        name: "rollback",
        prepare: |host| {
            is_running(host);
            host.publish(&bad());
            host.desire(&[host.want("demo", "1.0.1")]);
        },
        is_done: |host| {
            let error = |beat: Seen| {
                beat.agent("demo")
                    .field("error")
                    .text()
                    .contains("did not start")
            };
            reports(host, "1.0.0", "started") && host.last_beat().is_some_and(error)
        },
        home: "work/demo",
        versions: &["1.0.0", "1.0.1"],
    },
    Scenario {
        name: "stop",
        prepare: |host| {
            is_running(host);
            host.desire(&[host.want("demo", "1.0.0").cmd("stop")]);
        },
        is_done: |host| reports(host, "1.0.0", "stoped"),
        home: "work/demo",
        versions: &["1.0.0"],
    },
    Scenario {
        name: "relocation",
        prepare: |host| {
            is_running(host);
            host.publish(&agent("1.0.0"));
            host.desire(&[host.want("demo", "1.0.0").work_dir(&moved_to(host))]);
        },
        is_done: |host| {
            let version_file = moved_to(host).join("demo/.version");
            let is_there = fs::read_to_string(version_file).is_ok_and(|text| text == "1.0.0");
            let place = |beat: Seen| {
                beat.agent("demo").field("workDir").text() == moved_to(host).display().to_string()
            };
            is_there && reports(host, "1.0.0", "started") && host.last_beat().is_some_and(place)
        },
        home: "new/demo",
        versions: &["1.0.0"],
    },
    Scenario {
        name: "prune",
        prepare: |host| {
            for version in ["0.9.8", "0.9.9"] {
                unpack(host, &host.work, &agent(version));
            }
            is_running(host);
            host.publish(&agent("1.0.0"));
            host.desire(&[host.want("demo", "1.0.0")]);
        },
        is_done: |host| {
            names(&host.agent_dir("demo")).len() == 4 && reports(host, "1.0.0", "started")
        },
        home: "work/demo",
        versions: &["0.9.8|0.9.9", "1.0.0"],
    },
    Scenario {
        name: "restart of a dead agent",
        prepare: |host| {
            is_running(host);
            host.wait_for("the agent to run", || host.running("demo").len() == 1);
            host.kill_agent("demo");
            host.desire(&[host.want("demo", "1.0.0")]);
        },
        is_done: |host| reports(host, "1.0.0", "started"),
        home: "work/demo",
        versions: &["1.0.0"],
    },
];

/// Waits until the operation is done and no leftovers are visible.
pub fn settle(host: &Host, scenario: &Scenario) -> Result<(), String> {
    let begun = Instant::now();
    while !((scenario.is_done)(host) && litter(host, scenario).is_empty()) {
        if begun.elapsed() > TWO_ROUNDS {
            return Err(format!(
                "not done after two rounds; reported {:?}, .version {:?}, in the way {:?}",
                host.reported("demo"),
                fs::read_to_string(host.dir.join(scenario.home).join(".version")),
                litter(host, scenario),
            ));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Lets the host recover after the end of a fault and returns how long that took. `result` is the result of the test so
/// far.
pub fn recover<W: Watch + Send + 'static>(
    host: &mut Host,
    scenario: &Scenario,
    traced: Traced<W>,
    result: Result<(), String>,
) -> Result<Duration, String> {
    let begun = Instant::now();
    let beats = host.meta.count_beats();
    comes(TWO_ROUNDS, || {
        traced.has_ended() || host.meta.count_beats() > beats
    });
    // The daemon may have ended because of the fault. Its supervisor would start it again.
    let survivor = if traced.has_ended() {
        traced.end();
        None
    } else {
        Some(traced)
    };
    result.and(come_home(host, scenario, survivor))?;
    Ok(begun.elapsed())
}

/// Lets the survivor, or else a new daemon, finish the operation. Then stops it and checks the end state.
pub fn come_home<W: Watch + Send + 'static>(
    host: &mut Host,
    scenario: &Scenario,
    survivor: Option<Traced<W>>,
) -> Result<(), String> {
    if survivor.is_none() {
        host.start();
    }
    let settled = settle(host, scenario);
    match survivor {
        Some(traced) => drop(traced.end()),
        None => drop(host.stop()),
    }
    let result = settled.and_then(|()| check_end(host, scenario));
    if result.is_err() {
        eprintln!("--- {}\n{}---", scenario.name, host.log());
    }
    result
}

/// Returns the names that should not be visible, and an entry if a version is missing.
fn litter(host: &Host, scenario: &Scenario) -> Vec<String> {
    let home = host.dir.join(scenario.home);
    let mut odd = names(&home);
    let is_expected = |name: &String| {
        let is_version = |versions: &&str| versions.split('|').any(|version| version == name);
        scenario.versions.iter().any(is_version)
    };
    let found = odd.iter().filter(|name| is_expected(name)).count();
    odd.retain(|name| !is_expected(name) && ![".updater", ".version"].contains(&name.as_str()));
    if found != scenario.versions.len() {
        odd.push(format!("{found} versions"));
    }
    for (dir, kept) in [
        // These files may stay: they have a few bytes and are replaced by the next switch.
        (
            home.join(".updater"),
            &[
                "lock",
                "owner",
                "control.out",
                "control.pid",
                "version.tmp",
                "version.back",
            ][..],
        ),
        (
            host.own.join("var"),
            &[
                "lock",
                "lock.holder",
                "app.pid",
                "ledger.json",
                "status.json",
            ],
        ),
        (host.own.clone(), &["cfg.json", "desired_agent.json", "var"]),
    ] {
        odd.extend(
            names(&dir)
                .into_iter()
                .filter(|name| !kept.contains(&name.as_str())),
        );
    }
    odd
}

/// Returns every build that an operation uses.
pub fn all_agents() -> Vec<Agent> {
    let agents = ["0.9.8", "0.9.9", "1.0.0", "1.0.1"].map(agent);
    agents.into_iter().chain([rebuilt(), bad()]).collect()
}

/// Checks what must hold at every moment: the version in force and every visible version are complete.
pub fn check_whole(host: &Host, home: &Path) -> Result<(), String> {
    let all = all_agents();
    let is_whole = |version: &str| {
        let dir = home.join(version);
        let mut versions = all.iter().filter(|agent| agent.version == version);
        versions.any(|agent| agent.is_whole_in(&dir, &host.dir))
    };
    for name in names(home) {
        if !name.starts_with('.') && !is_whole(&name) {
            return Err(format!("{name} is in sight and not whole"));
        }
    }
    match fs::read_to_string(home.join(".version")) {
        Ok(version) if !is_whole(&version) => Err(format!(".version says {version:?}")),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Checks what must hold after the updater was stopped: one instance runs, or none after `stop`, and never two at once.
pub fn check_end(host: &Host, scenario: &Scenario) -> Result<(), String> {
    for home in ["work/demo", "new/demo"] {
        check_whole(host, &host.dir.join(home))?;
    }
    let runs = running_below(&host.dir).len();
    if runs != usize::from(scenario.name != "stop") {
        return Err(format!("{runs} run at the end"));
    }
    match fs::read_to_string(host.dir.join("twice")) {
        Ok(text) => Err(format!("two ran at once: {text}")),
        Err(_) => Ok(()),
    }
}

/// Returns the steps of a whole run of each scenario, in order. The runs are made once.
pub fn recorded() -> &'static [Vec<Step>] {
    static STEPS: OnceLock<Vec<Vec<Step>>> = OnceLock::new();
    STEPS.get_or_init(|| {
        std::thread::scope(|scope| {
            let runs = SCENARIOS.each_ref().map(|one| scope.spawn(|| record(one)));
            runs.map(|run| run.join().expect("the run was recorded"))
                .into()
        })
    })
}

fn record(scenario: &Scenario) -> Vec<Step> {
    let mut host = Host::new();
    (scenario.prepare)(&mut host);
    let traced = host.start_traced(false, Recorder::new(host.dir.clone()));
    let settled = settle(&host, scenario);
    host.wait_beats(2);
    let recorder = traced.end();
    settled.unwrap_or_else(|why| panic!("{}: {why}\n{}", scenario.name, host.log()));
    recorder.steps
}

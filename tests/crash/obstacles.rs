//! A directory, a fifo or a dangling link takes the place of each file that the updater uses. Agents run on, nothing
//! hangs, the obstacle is reported, and the updater recovers by itself once the obstacle is gone.

use crate::support::agent::Agent;
use crate::support::host::Host;
use crate::support::procs;
use crate::support::trial::each;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Obstacle {
    Dir,
    Fifo,
    /// A dangling symbolic link.
    Link,
    /// A plain file in place of a directory.
    File,
}

use Obstacle::{Dir, Fifo, File, Link};

impl Obstacle {
    /// Puts the obstacle at this path. A file that is already there is renamed, so that `remove` can restore it.
    fn put(self, at: &Path) {
        let aside = at.with_extension("aside");
        let _ = fs::rename(at, aside);
        fs::create_dir_all(at.parent().expect("a parent")).expect("a directory");
        match self {
            Dir => fs::create_dir_all(at.join("full")).expect("a directory"),
            Fifo => {
                let made = Command::new("mkfifo").arg(at).status();
                assert!(made.expect("mkfifo runs").success());
            }
            Link => symlink("/nowhere/at/all", at).expect("a link"),
            File => fs::write(at, "in the way").expect("a file"),
        }
    }

    fn is_at(self, at: &Path) -> bool {
        fs::symlink_metadata(at).is_ok_and(|meta| {
            let kind = meta.file_type();
            match self {
                Dir => kind.is_dir(),
                Fifo => kind.is_fifo(),
                Link => kind.is_symlink(),
                File => kind.is_file(),
            }
        })
    }

    /// Removes the obstacle, unless the updater has removed it already, and restores the original file.
    fn remove(self, at: &Path) {
        if self.is_at(at) {
            let removed = match self {
                Dir => fs::remove_dir_all(at),
                Fifo | Link | File => fs::remove_file(at),
            };
            removed.expect("the obstacle");
        }
        let aside = at.with_extension("aside");
        if fs::symlink_metadata(at).is_err() {
            let _ = fs::rename(aside, at);
        }
    }
}

/// Obstacles in an agent's directory, and whether a dead agent can be started in spite of each.
const AGENT_OBSTACLES: [(&str, Obstacle, bool); 27] = [
    (".version", Dir, false),
    (".version", Fifo, true),
    (".version", Link, true),
    (".version.tmp", Dir, true),
    (".version.tmp", Fifo, true),
    (".version.tmp", Link, true),
    (".updater", File, false),
    (".updater", Fifo, false),
    (".updater", Link, false),
    (".updater/lock", Dir, false),
    (".updater/lock", Fifo, true),
    (".updater/lock", Link, false),
    (".updater/owner", Dir, true),
    (".updater/owner", Fifo, true),
    (".updater/owner", Link, true),
    (".updater/control.out", Dir, false),
    (".updater/control.out", Fifo, false),
    (".updater/control.out", Link, false),
    (".updater/control.pid", Dir, false),
    (".updater/control.pid", Fifo, false),
    (".updater/control.pid", Link, false),
    (".updater/1.0.1.part", Dir, true),
    (".updater/1.0.1.part", Fifo, true),
    (".updater/1.0.1.part", Link, true),
    (".updater/1.0.1.new", File, true),
    (".updater/1.0.1.other", File, true),
    ("1.0.1", File, true),
];

#[test]
fn whatever_is_in_the_way_of_an_upgrade_the_agent_runs_on_and_is_upgraded_once_it_is_gone() {
    each(&AGENT_OBSTACLES, |(file, obstacle, can_start)| {
        let host = Host::with_demo("1.0.0");
        let at = host.agent_dir("demo").join(file);
        obstacle.put(&at);
        let before = host.running("demo").remove(0);
        host.publish(&Agent::new("demo", "1.0.1"));
        host.desire(&[host.want("demo", "1.0.1")]);
        let version = || host.reported("demo").0;
        host.wait_for("an upgrade or an error", || {
            assert!(host.running("demo").len() <= 1, "two agents run");
            version() == "1.0.1" || !host.error("demo").is_empty()
        });
        // The updater removes some obstacles at the first try, and then the second try succeeds.
        if !host.error("demo").is_empty() && obstacle.is_at(&at) {
            eprintln!("{file} {obstacle:?}: {}", host.error("demo"));
            assert_eq!(host.running("demo"), std::slice::from_ref(&before));
            host.wait_beats(2);
            if can_start {
                procs::signal(before.pid, libc::SIGKILL);
                host.wait_for("the agent to be started again", || {
                    let running = host.running("demo");
                    running.len() == 1 && running[0].pid != before.pid
                });
            }
            obstacle.remove(&at);
        }
        // The pause between two tries has grown in the meantime.
        host.wait_within(Duration::from_secs(90), "1.0.1 to run alone", || {
            host.version("demo") == "1.0.1" && host.running("demo").len() == 1
        });
        host.wait_running("demo", "1.0.1");
    });
}

/// Obstacles in the updater's own directory.
const UPDATER_OBSTACLES: [(&str, Obstacle); 20] = [
    ("var", File),
    ("var", Fifo),
    ("var/lock", Dir),
    ("var/lock", Fifo),
    ("var/lock", Link),
    ("var/app.pid", Dir),
    ("var/app.pid", Fifo),
    ("var/app.pid", Link),
    ("var/ledger.json", Dir),
    ("var/ledger.json", Fifo),
    ("var/ledger.json", Link),
    ("var/ledger.json.tmp", Dir),
    ("var/ledger.json.tmp", Fifo),
    ("desired_agent.json", Dir),
    ("desired_agent.json", Fifo),
    ("desired_agent.json", Link),
    ("desired_agent.json.tmp", Dir),
    ("desired_agent.json.tmp", Fifo),
    (".probe.tmp", Dir),
    (".probe.tmp", Fifo),
];

#[test]
fn whatever_is_in_the_way_of_a_start_it_runs_or_says_in_one_line_what_is() {
    each(&UPDATER_OBSTACLES, |(file, obstacle)| {
        let mut host = Host::new();
        let at = host.own.join(file);
        obstacle.put(&at);
        host.publish(&Agent::new("demo", "1.0.0"));
        host.desire(&[host.want("demo", "1.0.0")]);
        host.start();
        let is_up = || !host.meta.beats().is_empty();
        let began = std::time::Instant::now();
        while !is_up() && host.daemon_is_well() {
            assert!(began.elapsed() < Duration::from_secs(15), "it hangs");
            std::thread::sleep(Duration::from_millis(20));
        }
        if !is_up() {
            assert_eq!(host.wait_exit().code(), Some(1));
            let log = host.log();
            eprintln!("{file} {obstacle:?}: {log}");
            assert_eq!(log.lines().count(), 1, "{log}");
            assert!(log.contains(&at.display().to_string()), "{log}");
            obstacle.remove(&at);
            host.start();
        }
        host.wait_running("demo", "1.0.0");
        obstacle.remove(&at);
        host.wait_for("the state to be saved", || {
            ["var/ledger.json", "desired_agent.json"]
                .iter()
                .all(|file| fs::read_to_string(host.own.join(file)).is_ok())
        });
    });
}

#[test]
fn whatever_is_in_the_way_of_saving_agents_are_looked_after_and_all_is_saved_once_it_is_gone() {
    let rows: Vec<_> = UPDATER_OBSTACLES[8..18].to_vec();
    each(&rows, |(file, obstacle)| {
        let host = Host::with_demo("1.0.0");
        let at = host.own.join(file);
        obstacle.put(&at);
        host.publish(&Agent::new("demo", "1.0.1"));
        host.desire(&[host.want("demo", "1.0.1")]);
        host.wait_running("demo", "1.0.1");
        host.kill_agent("demo");
        host.wait_running("demo", "1.0.1");
        obstacle.remove(&at);
        host.wait_for("the state to be saved", || {
            let own = |file| fs::read_to_string(host.own.join(file)).unwrap_or_default();
            own("desired_agent.json").contains("1.0.1") && own("var/ledger.json").contains("1.0.1")
        });
    });
}

#[test]
fn a_running_agent_whose_version_file_is_lost_gives_way_to_its_successor() {
    let mut host = Host::with_demo("1.0.0");
    let before = host.running("demo");
    host.stop();
    fs::remove_file(host.agent_dir("demo").join(".version")).expect("a file");
    host.publish(&Agent::new("demo", "1.0.1"));
    host.desire(&[host.want("demo", "1.0.1")]);
    host.start();
    host.wait_for("1.0.1 to run", || {
        let running = host.running("demo");
        assert!(running.len() <= 1, "two agents run: {running:?}");
        !running.is_empty() && running != before
    });
    host.wait_running("demo", "1.0.1");
}

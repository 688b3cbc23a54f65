//! A directory, a fifo or a dangling link in the place of every file that we use: what runs is not touched, nothing
//! hangs, what is wrong is said, and once it is gone all goes on by itself.

use crate::support::agent::Agent;
use crate::support::host::Host;
use crate::support::json::Json as _;
use crate::support::procs;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// So many hosts side by side: most of the time they wait.
const AT_ONCE: usize = 8;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Thing {
    Dir,
    Fifo,
    /// A link to nowhere.
    Link,
    /// A plain file, where we want a directory.
    File,
}

use Thing::{Dir, Fifo, File, Link};

impl Thing {
    /// Puts it there, in the place of whatever is there; tells what to do to have that back.
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

    /// What is ours the updater may have cleared away itself.
    fn remove(self, at: &Path) {
        if self.is_at(at) {
            let removed = match self {
                Dir => fs::remove_dir_all(at),
                Fifo | Link | File => fs::remove_file(at),
            };
            removed.expect("the thing in the way");
        }
        let aside = at.with_extension("aside");
        if fs::symlink_metadata(at).is_err() {
            let _ = fs::rename(aside, at);
        }
    }
}

/// Runs all rows, some at once; says which one failed.
fn each<T: Copy + Sync + std::fmt::Debug>(rows: &[T], run: impl Fn(T) + Sync) {
    for batch in rows.chunks(AT_ONCE) {
        std::thread::scope(|scope| {
            let run = &run;
            let begun = batch
                .iter()
                .map(|row| (row, scope.spawn(move || run(*row))));
            let begun: Vec<_> = begun.collect();
            for (row, thread) in begun {
                assert!(thread.join().is_ok(), "{row:?}");
            }
        });
    }
}

fn error_of_demo(host: &Host) -> String {
    let beat = host.last_beat();
    let agent = beat.map(|beat| beat.agent("demo"));
    agent.map_or(String::new(), |agent| {
        agent.field("error").text().to_owned()
    })
}

/// In an agent's directory, and whether a dead agent can be started in spite of it.
const OF_THE_AGENT: [(&str, Thing, bool); 24] = [
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
    each(&OF_THE_AGENT, |(file, thing, can_start)| {
        let host = Host::with_demo("1.0.0");
        let at = host.agent_dir("demo").join(file);
        thing.put(&at);
        let before = host.running("demo").remove(0);
        host.publish(&Agent::new("demo", "1.0.1"));
        host.desire(&[host.want("demo", "1.0.1")]);
        let version = || host.reported("demo").0;
        host.wait_for("an upgrade or an error", || {
            assert!(host.running("demo").len() <= 1, "two run");
            version() == "1.0.1" || !error_of_demo(&host).is_empty()
        });
        // Some things are cleared away at the first try, and then the second one goes through.
        if !error_of_demo(&host).is_empty() && thing.is_at(&at) {
            eprintln!("{file} {thing:?}: {}", error_of_demo(&host));
            assert_eq!(host.running("demo"), std::slice::from_ref(&before));
            host.wait_beats(2);
            if can_start {
                procs::signal(before.pid, libc::SIGKILL);
                host.wait_for("it to be started again", || {
                    let running = host.running("demo");
                    running.len() == 1 && running[0].pid != before.pid
                });
            }
            thing.remove(&at);
        }
        // The pause between two tries has grown meanwhile.
        host.wait_within(Duration::from_secs(90), "1.0.1 to run alone", || {
            host.version("demo") == "1.0.1" && host.running("demo").len() == 1
        });
        host.wait_running("demo", "1.0.1");
    });
}

/// In the updater's own directory.
const OF_OUR_OWN: [(&str, Thing); 20] = [
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
    each(&OF_OUR_OWN, |(file, thing)| {
        let mut host = Host::new();
        let at = host.own.join(file);
        thing.put(&at);
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
            eprintln!("{file} {thing:?}: {log}");
            assert_eq!(log.lines().count(), 1, "{log}");
            assert!(log.contains(&at.display().to_string()), "{log}");
            thing.remove(&at);
            host.start();
        }
        host.wait_running("demo", "1.0.0");
        thing.remove(&at);
        host.wait_for("the state to be saved", || {
            ["var/ledger.json", "desired_agent.json"]
                .iter()
                .all(|file| fs::read_to_string(host.own.join(file)).is_ok())
        });
    });
}

#[test]
fn whatever_is_in_the_way_of_saving_agents_are_looked_after_and_all_is_saved_once_it_is_gone() {
    let rows: Vec<_> = OF_OUR_OWN[8..18].to_vec();
    each(&rows, |(file, thing)| {
        let host = Host::with_demo("1.0.0");
        let at = host.own.join(file);
        thing.put(&at);
        host.publish(&Agent::new("demo", "1.0.1"));
        host.desire(&[host.want("demo", "1.0.1")]);
        host.wait_running("demo", "1.0.1");
        host.kill_agent("demo");
        host.wait_running("demo", "1.0.1");
        thing.remove(&at);
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
        assert!(running.len() <= 1, "two run: {running:?}");
        !running.is_empty() && running != before
    });
    host.wait_running("demo", "1.0.1");
}

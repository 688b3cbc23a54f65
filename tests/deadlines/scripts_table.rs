//! The table has a row for every verb of a control script with every known way to misbehave, and the promise for each.
//! The rows of a verb share a host with demo, an agent that behaves well. The tests are in `scripts_matrix`.

use crate::support::agent::Agent;
use crate::support::host::Host;
use crate::support::json::Json as _;
use crate::support::procs;
use crate::support::watch::{is_agent, running_below};
use crate::support::wire::Seen;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

/// A time longer than the longest deadline, which is 60 s for a start, and the rollback after it.
const LONG: Duration = Duration::from_secs(100);
/// The longest allowed time between two heartbeats. A heartbeat waits for the slowest status, which takes 10 s and 5 s
/// after SIGTERM. The interval adds 3.3 s. The rest is for a busy machine.
pub const GAP: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, PartialEq)]
pub enum Promise {
    /// The script succeeds in spite of it, and nothing waits for it.
    Works,
    /// The script fails, the heartbeat reports it in these words, and the agent stays as it was.
    Fails(&'static str),
}
pub use Promise::{Fails, Works};

pub struct Row {
    pub verb: &'static str,
    pub kind: &'static str,
    /// The shell commands that the script runs while the file `$bad` exists.
    shell: &'static str,
    pub promise: Promise,
}

const fn row(verb: &'static str, kind: &'static str, shell: &'static str, promise: Promise) -> Row {
    Row {
        verb,
        kind,
        shell,
        promise,
    }
}

const FLOOD: &str = "while :; do yes noise | head -c 200000; sleep 0.1; done";
const IGNORE_TERM: &str = "trap '' TERM; sleep 1000; sleep 1000";
const BINARY: &str = "head -c 70000 /dev/urandom; exit 1";
const START_AND_KEEP_OUTPUT: &str = "sleep 0 86400 & echo $! >app.pid; exit 0";
const START_DETACHED: &str = "(setsid sh -c 'sleep 0 86400 & echo $! >app.pid' &); exit 0";
const STOP_AND_KEEP_OUTPUT: &str = "alive && kill \"$pid\"; sleep 5 & exit 0";
const STOP_DETACHED: &str = "alive; (setsid sh -c \"sleep 1; kill $pid\" &); exit 0";
const STOP_AND_DELETE: &str = "alive && kill \"$pid\"; rm -rf \"$PWD\"; exit 0";

const HUNG_START: Promise = Fails("did not end within 60 s");
const HUNG_STOP: Promise = Fails("did not end within 30 s");
const HUNG_STATUS: Promise = Fails("unknown: control status did not end within 10 s");
const REFUSED: Promise = Fails("exited with 7: no licence");
const KILLED: Promise = Fails("ended by signal 9");

const REFUSE: &str = "echo no licence; exit 7";
const DELETE_ITSELF: &str = "rm -rf \"$PWD\"; exit 1";
const DELETE_ITSELF_ONCE: &str = "rm -rf \"$bad\" \"$PWD\"; exit 1";
const KILL_PARENT: &str = "kill -9 $PPID; sleep 1; exit 1";

const ROWS: [Row; 27] = [
    row("start", "hang", "sleep 1000", HUNG_START),
    row("start", "fail", REFUSE, REFUSED),
    row("start", "flood", FLOOD, HUNG_START),
    row("start", "ignore-term", IGNORE_TERM, HUNG_START),
    row("start", "double-fork", START_DETACHED, Works),
    row("start", "keep-stdout", START_AND_KEEP_OUTPUT, Works),
    row("start", "print-binary", BINARY, Fails("exited with 1")),
    row(
        "start",
        "delete-itself",
        DELETE_ITSELF,
        Fails("exited with 1"),
    ),
    row("start", "kill-parent", KILL_PARENT, KILLED),
    row("stop", "hang", "sleep 1000", HUNG_STOP),
    row("stop", "fail", REFUSE, REFUSED),
    row("stop", "flood", FLOOD, HUNG_STOP),
    row("stop", "ignore-term", IGNORE_TERM, HUNG_STOP),
    row("stop", "double-fork", STOP_DETACHED, Works),
    row("stop", "keep-stdout", STOP_AND_KEEP_OUTPUT, Works),
    row("stop", "print-binary", BINARY, Fails("exited with 1")),
    row("stop", "delete-itself", STOP_AND_DELETE, Works),
    row("stop", "kill-parent", KILL_PARENT, KILLED),
    row("status", "hang", "sleep 1000", HUNG_STATUS),
    row("status", "fail", "exit 7", Fails("exited with 7")),
    row("status", "flood", FLOOD, HUNG_STATUS),
    row("status", "ignore-term", IGNORE_TERM, HUNG_STATUS),
    row("status", "double-fork", "(setsid sleep 2 &)", Works),
    row("status", "keep-stdout", "sleep 2 &", Works),
    row("status", "print-binary", BINARY, Fails("")),
    row("status", "delete-itself", DELETE_ITSELF_ONCE, Works),
    row("status", "kill-parent", KILL_PARENT, Fails("unknown: ")),
];

impl Row {
    pub fn name(&self) -> String {
        format!("{}-{}", self.verb, self.kind)
    }

    /// Returns an agent that misbehaves while `$bad` exists. Without the file `twice` it misbehaves only once. The
    /// pid file of a `status` row is outside the version's directory, so that it survives the deletion of that directory.
    pub fn agent(&self, version: &str) -> Agent {
        let shell = format!(
            "bad=\"$sandbox/{}.bad\"\nif [ -e \"$bad\" ]; then\n[ -e \"$sandbox/twice\" ] || rm \"$bad\"\n{}\nfi",
            self.name(),
            self.shell
        );
        let agent = Agent::new(&self.name(), version);
        let link = "ln -sf ../app.pid app.pid\n";
        match self.verb {
            "start" => agent.on_start(&shell),
            "stop" => agent.on_stop(&shell),
            _ => agent.on_start(link).on_status(&shell),
        }
    }
}

/// Returns a field of an agent in a heartbeat. Asserts that it is printable and short, whatever the scripts print.
fn plain(heartbeat: &Seen, name: &str, field: &str) -> String {
    let text = heartbeat.agent(name).field(field).text().to_owned();
    let is_plain = text.chars().all(|c| c == ' ' || c.is_ascii_graphic());
    assert!(is_plain && text.len() < 1000, "{text:?}");
    text
}

/// A host with demo and the agents of some rows, which is checked all the time.
pub struct Matrix {
    pub host: Host,
    pub rows: Vec<&'static Row>,
    checked: RefCell<Instant>,
    /// The errors in the heartbeats so far, by agent.
    errors: RefCell<BTreeSet<(String, String)>>,
    /// The number of heartbeats that were read.
    read: Cell<usize>,
}

impl Matrix {
    pub fn of(verb: &str, kinds: &[&str]) -> Self {
        let mut rows: Vec<_> = ROWS.iter().filter(|row| row.verb == verb).collect();
        assert_eq!(rows.len(), 9);
        rows.retain(|row| kinds.is_empty() || kinds.contains(&row.kind));
        let mut host = Host::new();
        // Most of these tests wait for a minute, and each heartbeat runs the scripts of ten agents.
        host.set("interval", "3");
        for version in ["1.0.0", "1.0.1"] {
            host.publish(&Agent::new("demo", version));
        }
        Self {
            host,
            rows,
            checked: RefCell::new(Instant::now()),
            errors: RefCell::default(),
            read: Cell::new(0),
        }
    }

    /// Lets the agent of a row misbehave, or ends that.
    pub fn set_bad(&self, row: &Row, bad: bool) {
        let file = self.host.dir.join(format!("{}.bad", row.name()));
        let _ = fs::remove_file(&file);
        if bad {
            fs::write(file, "").expect("a file");
        }
    }

    /// Lets all agents misbehave from now on, until `set_bad` ends it.
    pub fn set_all_bad(&self) {
        fs::write(self.host.dir.join("twice"), "").expect("a file");
        self.set_all_bad_once();
    }

    /// Lets each agent misbehave once.
    pub fn set_all_bad_once(&self) {
        self.rows.iter().for_each(|row| self.set_bad(row, true));
    }

    pub fn desire(&self, version: &str, cmd: &str, demo: &str) {
        let names = self.rows.iter().map(|row| row.name());
        let mut entries: Vec<_> = names
            .map(|name| self.host.want(&name, version).cmd(cmd))
            .collect();
        entries.push(self.host.want("demo", demo));
        self.host.desire(&entries);
    }

    /// Asserts what must hold whatever the scripts do: no agent runs twice, no output grows without bound, and no
    /// heartbeat is missed.
    fn check(&self) {
        if self.checked.borrow().elapsed() < Duration::from_millis(100) {
            return;
        }
        let mut running = BTreeMap::new();
        for process in running_below(&self.host.work) {
            let below = process.dir.strip_prefix(&self.host.work).expect("below");
            let name = below.iter().next().expect("an agent").to_owned();
            *running.entry(name).or_insert(0) += 1;
        }
        assert!(running.values().all(|count| *count == 1), "{running:?}");
        for row in &self.rows {
            let dir = self.host.agent_dir(&row.name());
            let output = fs::metadata(dir.join(".updater/control.out"));
            let size = output.map_or(0, |meta| meta.len());
            assert!(size < 4 << 20, "{}: {size} bytes", row.name());
        }
        let heartbeats = self.host.meta.beats();
        for heartbeat in &heartbeats[self.read.replace(heartbeats.len())..] {
            for name in self.rows.iter().map(|row| row.name()) {
                let error = plain(heartbeat, &name, "error");
                self.errors.borrow_mut().insert((name, error));
            }
        }
        let now = heartbeats.last().map(|heartbeat| heartbeat.at.elapsed());
        let gaps = heartbeats.windows(2).map(|two| two[1].at - two[0].at);
        let longest = gaps.chain(now).max().unwrap_or_default();
        assert!(longest < GAP, "no heartbeat for {longest:?}");
        *self.checked.borrow_mut() = Instant::now();
    }

    pub fn wait(&self, what: &str, mut condition: impl FnMut() -> bool) {
        self.host.wait_within(LONG, what, || {
            self.check();
            condition()
        });
    }

    /// Waits until the condition has held once for every row. Calls `then` for each row as soon as it holds.
    pub fn wait_each(&self, what: &str, holds: impl Fn(&Row) -> bool, then: impl Fn(&Row)) {
        let mut waiting = self.rows.clone();
        let names = |rows: &[&Row]| rows.iter().map(|row| row.name()).collect::<Vec<_>>();
        let end = Instant::now() + LONG;
        while !waiting.is_empty() {
            let left = names(&waiting).join(", ");
            assert!(Instant::now() < end, "{what} did not come for: {left}");
            assert!(self.host.daemon_is_well(), "the daemon ended");
            self.check();
            waiting.retain(|row| {
                let done = holds(row);
                if done {
                    then(row);
                }
                !done
            });
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn runs(&self, name: &str, version: &str) -> bool {
        let running = self.host.running(name);
        let is_in = |dir: &std::path::Path| dir.ends_with(version);
        self.host.version(name) == version && running.len() == 1 && is_in(&running[0].dir)
    }

    /// Returns whether the agent runs this version, and the newest heartbeat reports it.
    pub fn is_well(&self, name: &str, version: &str) -> bool {
        let reported = (version.to_owned(), "started".to_owned());
        self.host.reported(name) == reported && self.runs(name, version)
    }

    pub fn all_run(&self, version: &str) {
        self.wait_each(
            "each to run",
            |row| self.is_well(&row.name(), version),
            |_| (),
        );
    }

    pub fn heartbeat_has(&self, name: &str, field: &str, words: &str) -> bool {
        self.host.last_beat().is_some_and(|heartbeat| {
            let text = plain(&heartbeat, name, field);
            text.contains(words) && !(words.is_empty() && text == "started")
        })
    }

    /// Returns whether a heartbeat has reported the promised failure.
    pub fn is_reported(&self, row: &Row) -> bool {
        let Fails(words) = row.promise else {
            return false;
        };
        let is_it = |(name, error): &(String, String)| *name == row.name() && error.contains(words);
        self.errors.borrow().iter().any(is_it)
    }

    /// Kills demo, and waits until it is started again.
    pub fn demo_recovers(&self, version: &str) {
        self.wait("demo to run", || self.is_well("demo", version));
        let since = Instant::now();
        self.host.kill_agent("demo");
        // One heartbeat may have checked demo before it died, and the next one restarts it.
        self.wait("demo to be started again", || self.runs("demo", version));
        assert!(since.elapsed() < GAP * 2, "{:?}", since.elapsed());
    }

    /// Asserts that the daemon leaves no zombies, and that only agents run after it stops.
    pub fn ends_cleanly(mut self) {
        self.host.wait_without_zombies();
        assert!(self.host.stop().success());
        self.host.wait_for("nothing but agents to be left", || {
            procs::in_sandbox(&self.host.dir).into_iter().all(is_agent)
        });
    }
}

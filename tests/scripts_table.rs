//! Every verb of a control script with every way to misbehave that people have come upon: what is promised of each.
//! The rows of a verb share a host, side by side, with an agent that has nothing to do with it all. No tests here.

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

/// Longer than the longest deadline, start's 60 s, and what comes of it.
const LONG: Duration = Duration::from_secs(100);
/// A beat waits for the slowest status: 10 s, 5 s after TERM, an interval of 1.1 s; the rest is for a busy machine.
pub const GAP: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, PartialEq)]
pub enum Promise {
    /// It does what it should all the same, and nobody waits for it.
    Works,
    /// It is a failure, reported in these words, and the agent stays as it was.
    Fails(&'static str),
}
pub use Promise::{Fails, Works};

pub struct Row {
    pub verb: &'static str,
    pub kind: &'static str,
    /// What it does for as long as the file `$bad` is there.
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
const DEAF: &str = "trap '' TERM; sleep 1000; sleep 1000";
const BINARY: &str = "head -c 70000 /dev/urandom; exit 1";
const UP: &str = "sleep 0 86400 & echo $! >app.pid; exit 0";
const UP_FROM_AFAR: &str = "(setsid sh -c 'sleep 0 86400 & echo $! >app.pid' &); exit 0";
const DOWN: &str = "alive && kill \"$pid\"; sleep 5 & exit 0";
const DOWN_FROM_AFAR: &str = "alive; (setsid sh -c \"sleep 1; kill $pid\" &); exit 0";
const DOWN_FOR_GOOD: &str = "alive && kill \"$pid\"; rm -rf \"$PWD\"; exit 0";

const HUNG_START: Promise = Fails("did not end within 60 s");
const HUNG_STOP: Promise = Fails("did not end within 30 s");
const HUNG_STATUS: Promise = Fails("unknown: control status did not end within 10 s");
const REFUSED: Promise = Fails("exited with 7: no licence");
const KILLED: Promise = Fails("ended by signal 9");

const REFUSE: &str = "echo no licence; exit 7";
const VANISH: &str = "rm -rf \"$PWD\"; exit 1";
const VANISH_ONCE: &str = "rm -rf \"$bad\" \"$PWD\"; exit 1";
const PARRICIDE: &str = "kill -9 $PPID; sleep 1; exit 1";

const ROWS: [Row; 27] = [
    row("start", "hang", "sleep 1000", HUNG_START),
    row("start", "fail", REFUSE, REFUSED),
    row("start", "flood", FLOOD, HUNG_START),
    row("start", "ignore-term", DEAF, HUNG_START),
    row("start", "double-fork", UP_FROM_AFAR, Works),
    row("start", "keep-stdout", UP, Works),
    row("start", "print-binary", BINARY, Fails("exited with 1")),
    row("start", "delete-itself", VANISH, Fails("exited with 1")),
    row("start", "kill-parent", PARRICIDE, KILLED),
    row("stop", "hang", "sleep 1000", HUNG_STOP),
    row("stop", "fail", REFUSE, REFUSED),
    row("stop", "flood", FLOOD, HUNG_STOP),
    row("stop", "ignore-term", DEAF, HUNG_STOP),
    row("stop", "double-fork", DOWN_FROM_AFAR, Works),
    row("stop", "keep-stdout", DOWN, Works),
    row("stop", "print-binary", BINARY, Fails("exited with 1")),
    row("stop", "delete-itself", DOWN_FOR_GOOD, Works),
    row("stop", "kill-parent", PARRICIDE, KILLED),
    row("status", "hang", "sleep 1000", HUNG_STATUS),
    row("status", "fail", "exit 7", Fails("exited with 7")),
    row("status", "flood", FLOOD, HUNG_STATUS),
    row("status", "ignore-term", DEAF, HUNG_STATUS),
    row("status", "double-fork", "(setsid sleep 2 &)", Works),
    row("status", "keep-stdout", "sleep 2 &", Works),
    row("status", "print-binary", BINARY, Fails("")),
    row("status", "delete-itself", VANISH_ONCE, Works),
    row("status", "kill-parent", PARRICIDE, Fails("unknown: ")),
];

impl Row {
    pub fn name(&self) -> String {
        format!("{}-{}", self.verb, self.kind)
    }

    /// Misbehaves while it is told to, or once. Its pid is kept where deleting a version does not lose it.
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

/// What a heartbeat says of an agent, which is printable and short whatever its scripts print.
fn plain(beat: &Seen, name: &str, field: &str) -> String {
    let text = beat.agent(name).field(field).text().to_owned();
    let is_plain = text.chars().all(|c| c == ' ' || c.is_ascii_graphic());
    assert!(is_plain && text.len() < 1000, "{text:?}");
    text
}

/// A host with demo and the agents of some rows, looked at all the while.
pub struct Matrix {
    pub host: Host,
    pub rows: Vec<&'static Row>,
    checked: RefCell<Instant>,
    /// The errors in the heartbeats so far, and how many of these were read.
    errors: RefCell<BTreeSet<(String, String)>>,
    read: Cell<usize>,
}

impl Matrix {
    pub fn of(verb: &str, kinds: &[&str]) -> Self {
        let mut rows: Vec<_> = ROWS.iter().filter(|row| row.verb == verb).collect();
        assert_eq!(rows.len(), 9);
        rows.retain(|row| kinds.is_empty() || kinds.contains(&row.kind));
        let host = Host::new();
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

    pub fn is_bad(&self, row: &Row, bad: bool) {
        let file = self.host.dir.join(format!("{}.bad", row.name()));
        let _ = fs::remove_file(&file);
        if bad {
            fs::write(file, "").expect("a file");
        }
    }

    /// From now on they misbehave until told otherwise.
    pub fn all_bad(&self) {
        fs::write(self.host.dir.join("twice"), "").expect("a file");
        self.all_bad_once();
    }

    pub fn all_bad_once(&self) {
        self.rows.iter().for_each(|row| self.is_bad(row, true));
    }

    pub fn desire(&self, version: &str, cmd: &str, demo: &str) {
        let names = self.rows.iter().map(|row| row.name());
        let mut entries: Vec<_> = names
            .map(|name| self.host.want(&name, version).cmd(cmd))
            .collect();
        entries.push(self.host.want("demo", demo));
        self.host.desire(&entries);
    }

    /// What must never be, whatever the scripts do: two of one agent, a file without end, a beat that is missed.
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
        let beats = self.host.meta.beats();
        for beat in &beats[self.read.replace(beats.len())..] {
            for name in self.rows.iter().map(|row| row.name()) {
                let error = plain(beat, &name, "error");
                self.errors.borrow_mut().insert((name, error));
            }
        }
        let now = beats.last().map(|beat| beat.at.elapsed());
        let gaps = beats.windows(2).map(|two| two[1].at - two[0].at);
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

    /// Waits until it is so for every row, each at its own time; `then` is done for each as soon as it is.
    pub fn wait_each(&self, what: &str, is_so: impl Fn(&Row) -> bool, then: impl Fn(&Row)) {
        let mut waiting = self.rows.clone();
        let names = |rows: &[&Row]| rows.iter().map(|row| row.name()).collect::<Vec<_>>();
        let end = Instant::now() + LONG;
        while !waiting.is_empty() {
            let left = names(&waiting).join(", ");
            assert!(Instant::now() < end, "waited in vain for {what}: {left}");
            assert!(self.host.daemon_is_well(), "the daemon ended");
            self.check();
            waiting.retain(|row| {
                let so = is_so(row);
                if so {
                    then(row);
                }
                !so
            });
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn runs(&self, name: &str, version: &str) -> bool {
        let running = self.host.running(name);
        let is_in = |dir: &std::path::Path| dir.ends_with(version);
        self.host.version(name) == version && running.len() == 1 && is_in(&running[0].dir)
    }

    /// Whether it runs, and the newest heartbeat says so.
    pub fn is_well(&self, name: &str, version: &str) -> bool {
        let told = (version.to_owned(), "started".to_owned());
        self.host.reported(name) == told && self.runs(name, version)
    }

    pub fn all_run(&self, version: &str) {
        self.wait_each(
            "each to run",
            |row| self.is_well(&row.name(), version),
            |_| (),
        );
    }

    pub fn beat_says(&self, name: &str, field: &str, words: &str) -> bool {
        self.host.last_beat().is_some_and(|beat| {
            let text = plain(&beat, name, field);
            text.contains(words) && !(words.is_empty() && text == "started")
        })
    }

    /// Whether the failure that is promised was told.
    pub fn is_told(&self, row: &Row) -> bool {
        let Fails(words) = row.promise else {
            return false;
        };
        let is_it = |(name, error): &(String, String)| *name == row.name() && error.contains(words);
        self.errors.borrow().iter().any(is_it)
    }

    /// demo dies, as on any other day, and is started again.
    pub fn demo_lives_on(&self, version: &str) {
        self.wait("demo to run", || self.is_well("demo", version));
        let since = Instant::now();
        self.host.kill_agent("demo");
        // A beat that had looked at it already, and the next one.
        self.wait("demo to be started again", || self.runs("demo", version));
        assert!(since.elapsed() < GAP * 2, "{:?}", since.elapsed());
    }

    /// Only agents are left of it all, and no dead child of the daemon.
    pub fn ends_clean(mut self) {
        let daemon = self.host.daemon_pid();
        let is_dead = |pid: &u32| {
            procs::parent(*pid) == Some(daemon)
                && procs::stat(*pid).first().is_some_and(|state| state == "Z")
        };
        let mut dead: Vec<_> = procs::all().into_iter().filter(is_dead).collect();
        self.wait("no zombie to stay", || {
            dead.retain(is_dead);
            dead.is_empty()
        });
        assert!(self.host.stop().success());
        self.host.wait_for("nothing but agents to be left", || {
            procs::in_sandbox(&self.host.dir).into_iter().all(is_agent)
        });
    }
}

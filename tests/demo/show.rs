//! The parts of the demo on one agent of one host. Each part is awaited and printed with its time.

use crate::support::agent::Agent;
use crate::support::host::Host;
use crate::support::json::Json as _;
use crate::support::procs;
use crate::support::watch::running_below;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The limit for one part. A part takes about 7 s, because each start is watched for 5 s.
const PATIENCE: Duration = Duration::from_secs(20);

const NAME: &str = "demo";

pub struct Show {
    host: Host,
    began: Instant,
}

impl Show {
    pub fn new(mut host: Host) -> Self {
        host.set("log_level", "\"info\"");
        Self {
            host,
            began: Instant::now(),
        }
    }

    /// Returns the seconds since the demo began.
    pub fn elapsed(&self) -> f32 {
        self.began.elapsed().as_secs_f32()
    }

    /// Makes the host as it is after an operator unpacked the release tarball and wrote cfg.json.
    pub fn set_up(&self, binary: &Path) -> Result<(), String> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut size = 0;
        for (from, name) in [
            (binary.to_owned(), "ops-updater"),
            (source.join("control"), "control"),
            (source.join("cfg.example.json"), "cfg.example.json"),
        ] {
            let copied = fs::copy(&from, self.host.own.join(name))
                .map_err(|e| format!("cannot copy {}: {e}", from.display()))?;
            size = size.max(copied);
        }
        self.say(&format!(
            "ops-meta and release store on {}, a host in {}, the binary of {size} bytes",
            self.host.meta.url(""),
            self.host.dir.display()
        ));
        Ok(())
    }

    pub fn play(&self) -> Result<(), String> {
        self.install()?;
        self.upgrade()?;
        self.crash()?;
        self.roll_back()?;
        self.stop()
    }

    fn install(&self) -> Result<(), String> {
        self.publish(&Agent::new(NAME, "1.0.0"));
        self.want("1.0.0", "start");
        self.control("start")?;
        wait("demo 1.0.0 runs", || self.runs("1.0.0"))?;
        self.seen(&format!("installed: demo 1.0.0 runs, pid={}", self.pid()));
        Ok(())
    }

    fn upgrade(&self) -> Result<(), String> {
        self.publish(&Agent::new(NAME, "1.0.1"));
        let over = AtomicBool::new(false);
        let (upgraded, outage) = std::thread::scope(|scope| {
            let outage = scope.spawn(|| self.longest_outage(&over));
            self.want("1.0.1", "start");
            let upgraded = wait("demo 1.0.1 runs", || self.runs("1.0.1"));
            over.store(true, Ordering::Relaxed);
            (upgraded, outage.join().unwrap_or_default())
        });
        upgraded?;
        self.seen(&format!(
            "upgraded: demo 1.0.1 runs, pid={}; no demo ran for {} ms",
            self.pid(),
            outage.as_millis()
        ));
        Ok(())
    }

    fn crash(&self) -> Result<(), String> {
        let pid = self.pid();
        self.say(&format!("kill -9 {pid}, as if demo 1.0.1 had crashed"));
        procs::signal(pid, libc::SIGKILL);
        wait("demo is started again", || ![0, pid].contains(&self.pid()))?;
        let told = self.host.meta.count_beats();
        wait("demo runs again", || {
            // The first of these heartbeats may have been sent before the restart.
            self.host.meta.count_beats() > told + 1 && self.runs("1.0.1")
        })?;
        self.seen(&format!("restarted: demo 1.0.1 runs, pid={}", self.pid()));
        Ok(())
    }

    fn roll_back(&self) -> Result<(), String> {
        self.publish(&Agent::new(NAME, "1.0.2").lives("1"));
        self.want("1.0.2", "start");
        wait("demo 1.0.2 is tried and 1.0.1 runs again", || {
            let tried = self
                .host
                .calls(NAME)
                .iter()
                .any(|call| call == "1.0.2 start");
            tried && self.runs("1.0.1") && !self.reported("error").is_empty()
        })?;
        self.seen(&format!(
            "rolled back: demo 1.0.1 runs, pid={}; reported: {}",
            self.pid(),
            self.reported("error")
        ));
        Ok(())
    }

    fn stop(&self) -> Result<(), String> {
        self.want("1.0.1", "stop");
        wait("demo is stopped", || {
            self.host.running(NAME).is_empty() && self.host.reported(NAME).1 == "stoped"
        })?;
        self.seen("stopped: demo says stoped, nothing of it runs");
        self.control("stop")?;
        let status = self.control("status")?;
        let left = procs::in_sandbox(&self.host.dir);
        if status == "stoped\n" && left.is_empty() {
            Ok(())
        } else {
            Err(format!("the updater is not gone: {left:?}"))
        }
    }

    fn publish(&self, agent: &Agent) {
        self.host.publish(agent);
        self.say(&format!("published demo {}", agent.version));
    }

    fn want(&self, version: &str, cmd: &str) {
        self.host.desire(&[self.host.want(NAME, version).cmd(cmd)]);
        self.say(&format!("ops-meta now wants demo {version}, cmd {cmd}"));
    }

    /// Whether this version is in force, runs once, was watched to the end of its 5 s and is reported to ops-meta.
    fn runs(&self, version: &str) -> bool {
        self.host.reported(NAME) == (version.to_owned(), "started".to_owned())
            && self.reported("phase").is_empty()
            && self.host.version(NAME) == version
            && self.host.running(NAME).len() == 1
    }

    /// Returns a field of the agent in the newest heartbeat.
    fn reported(&self, field: &str) -> String {
        let beat = self.host.last_beat();
        beat.map_or_else(String::new, |beat| {
            beat.agent(NAME).field(field).text().to_owned()
        })
    }

    fn pid(&self) -> u32 {
        self.host
            .running(NAME)
            .first()
            .map_or(0, |running| running.pid)
    }

    /// Returns the longest time without a live process of the agent.
    fn longest_outage(&self, over: &AtomicBool) -> Duration {
        let dir = self.host.agent_dir(NAME);
        let mut longest = Duration::ZERO;
        let mut last_alive = Instant::now();
        while !over.load(Ordering::Relaxed) {
            if !running_below(&dir).is_empty() {
                last_alive = Instant::now();
            }
            longest = longest.max(last_alive.elapsed());
            std::thread::sleep(Duration::from_millis(1));
        }
        longest
    }

    /// Calls the shipped script as an operator does, and prints its output.
    fn control(&self, verb: &str) -> Result<String, String> {
        let called = Command::new(self.host.own.join("control"))
            .arg(verb)
            .stdin(Stdio::null())
            .output()
            .map_err(|e| format!("cannot run control: {e}"))?;
        let said = String::from_utf8_lossy(&[called.stdout, called.stderr].concat()).into_owned();
        self.say(&format!("./control {verb}: {}", said.trim_end()));
        if called.status.success() {
            Ok(said)
        } else {
            Err(format!("control {verb}: {}", called.status))
        }
    }

    fn say(&self, line: &str) {
        println!("{:6.1} s    {line}", self.elapsed());
    }

    fn seen(&self, line: &str) {
        println!("{:6.1} s  * {line}", self.elapsed());
    }

    pub fn print_log(&self) {
        let log = fs::read_to_string(self.host.own.join("var/app.log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let tail = &lines[lines.len().saturating_sub(30)..];
        eprintln!("--- the end of var/app.log\n{}\n---", tail.join("\n"));
    }
}

fn wait(what: &str, mut met: impl FnMut() -> bool) -> Result<(), String> {
    let began = Instant::now();
    while !met() {
        if began.elapsed() > PATIENCE {
            return Err(format!("waited {} s in vain: {what}", PATIENCE.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

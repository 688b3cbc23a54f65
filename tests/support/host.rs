//! A sandbox in which the real binary is the updater of one host: own directory, work directory, server, processes.
//! Whatever was started in it is gone when it is dropped, also when the test panics.

use super::agent::Agent;
use super::json::quote;
use super::meta::Meta;
use super::platform;
use super::procs;
use super::watch::is_agent;
use super::wire::Desired;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How long anything may take that has no deadline of its own.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Marks what belongs to a sandbox, for processes that left its directory.
pub const MARK: &str = "OPS_TEST_SANDBOX";

static COUNT: AtomicUsize = AtomicUsize::new(0);

pub struct Host {
    /// The sandbox; agents log their calls here.
    pub dir: PathBuf,
    /// The updater's own directory.
    pub own: PathBuf,
    /// Where agents live, unless a test says otherwise.
    pub work: PathBuf,
    pub meta: Meta,
    config: BTreeMap<String, String>,
    env: Vec<(String, String)>,
    /// A copy of the binary to run, when it is not the one under test itself.
    pub copy: Option<PathBuf>,
    /// As whom the daemon runs, when not as who runs the tests.
    pub ids: Option<(u32, u32)>,
    daemon: Option<Child>,
}

impl Host {
    /// Directories, a server and a cfg.json with an interval of 1 s. Nothing runs yet.
    pub fn new() -> Self {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let tmp = std::env::temp_dir()
            .canonicalize()
            .expect("a temp directory");
        let dir = tmp.join(format!("ops-updater-test-{}-{count}-", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        let (own, work) = (dir.join("updater"), dir.join("work"));
        fs::create_dir_all(&own).expect("a sandbox");
        fs::create_dir_all(&work).expect("a sandbox");
        let meta = Meta::start();
        let mut host = Self {
            dir,
            own,
            work,
            meta,
            config: BTreeMap::new(),
            env: Vec::new(),
            copy: None,
            ids: None,
            daemon: None,
        };
        host.set("hostname", &quote("sandbox"));
        host.set("server", &quote(&host.meta.addr()));
        host.set("interval", "1");
        host.set("log_level", &quote("info"));
        host
    }

    /// A host on which this version of an agent called demo already runs.
    pub fn with_demo(version: &str) -> Self {
        let mut host = Self::new();
        host.publish(&Agent::new("demo", version));
        host.desire(&[host.want("demo", version)]);
        host.start();
        host.wait_running("demo", version);
        host
    }

    /// Sets a key of cfg.json to a piece of JSON, and writes it.
    pub fn set(&mut self, key: &str, json: &str) {
        self.config.insert(key.to_owned(), json.to_owned());
        self.write_config();
    }

    pub fn unset(&mut self, key: &str) {
        self.config.remove(key);
        self.write_config();
    }

    fn write_config(&self) {
        let lines: Vec<_> = self
            .config
            .iter()
            .map(|(key, value)| format!("  {}: {value}", quote(key)))
            .collect();
        fs::write(
            self.config_file(),
            format!("{{\n{}\n}}\n", lines.join(",\n")),
        )
        .expect("cfg.json");
    }

    pub fn config_file(&self) -> PathBuf {
        self.own.join("cfg.json")
    }

    /// A variable of the daemon's environment, from its next start on.
    pub fn env(&mut self, key: &str, value: &str) {
        self.env.push((key.to_owned(), value.to_owned()));
    }

    /// What the daemon runs from.
    pub fn program(&self) -> PathBuf {
        self.copy.clone().unwrap_or_else(platform::binary)
    }

    /// The binary with `-c cfg.json`, not yet run. It leads a process group of its own, and is asked for no backtrace: to
    /// read its symbols takes a debug build more memory than a child may have, and it hangs where a release just ends.
    pub fn command(&self) -> Command {
        let mut command = platform::command(&self.program());
        if let Some((uid, gid)) = self.ids {
            command.uid(uid).gid(gid);
        }
        command
            .arg("-c")
            .arg(self.config_file())
            .current_dir(&self.dir)
            .env(MARK, &self.dir)
            .env("RUST_BACKTRACE", "0");
        command.envs(self.env.iter().map(|(key, value)| (key, value)));
        command.stdin(Stdio::null()).process_group(0);
        command
    }

    /// Runs it with one more argument to its end.
    pub fn run(&self, argument: &str) -> Output {
        self.run_with(&[argument])
    }

    /// The same with several.
    pub fn run_with(&self, arguments: &[&str]) -> Output {
        let output = self.command().args(arguments).output();
        output.expect("the binary runs")
    }

    /// Starts the daemon; it need not be ready yet.
    pub fn start(&mut self) {
        let command = self.command();
        self.start_as(command);
    }

    /// Starts the daemon by a command of the test's own, its output to the sandbox's log.
    pub fn start_as(&mut self, mut command: Command) {
        self.start_as_is(&mut command);
    }

    pub fn start_as_is(&mut self, command: &mut Command) {
        assert!(self.daemon.is_none(), "the daemon runs already");
        self.log_into_file(command);
        self.daemon = Some(command.spawn().expect("the binary runs"));
    }

    /// What it prints goes to the sandbox's log.
    pub fn log_into_file(&self, command: &mut Command) {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.log_file())
            .expect("a log");
        let out = log.try_clone().expect("a descriptor");
        command.stdout(out).stderr(log);
    }

    /// False once a daemon that was started has ended without being told to.
    pub fn daemon_is_well(&self) -> bool {
        self.daemon
            .as_ref()
            .is_none_or(|daemon| procs::alive(daemon.id()))
    }

    pub fn daemon_pid(&self) -> u32 {
        self.daemon.as_ref().expect("a daemon was started").id()
    }

    pub fn signal_daemon(&self, signal: i32) {
        procs::signal(self.daemon_pid(), signal);
    }

    /// Waits for the daemon to end by itself.
    pub fn wait_exit(&mut self) -> ExitStatus {
        let mut daemon = self.daemon.take().expect("a daemon was started");
        let mut status = None;
        self.wait_for("the daemon to end", || {
            status = daemon.try_wait().expect("a child of ours");
            status.is_some()
        });
        status.expect("waited for")
    }

    /// TERM, and what it exited with.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal_daemon(libc::SIGTERM);
        self.wait_exit()
    }

    /// Kills the daemon and every child of it that is this binary; control scripts and agents stay.
    pub fn kill_updater(&mut self) {
        self.kill_where(|pid| {
            !procs::args(pid)
                .iter()
                .any(|arg| arg == "control" || arg.ends_with("/control"))
        });
    }

    /// Kills the daemon, its children and the control scripts they run; agents stay.
    pub fn kill_updater_and_scripts(&mut self) {
        self.kill_where(|_| true);
    }

    fn kill_where(&mut self, also: impl Fn(u32) -> bool) {
        let mut daemon = self.daemon.take().expect("a daemon was started");
        procs::signal(daemon.id(), libc::SIGKILL);
        for pid in procs::in_sandbox(&self.dir) {
            if !is_agent(pid) && also(pid) {
                procs::signal(pid, libc::SIGKILL);
            }
        }
        let _ = daemon.wait();
    }

    pub fn publish(&self, agent: &Agent) {
        self.meta
            .publish(&agent.name, &agent.version, agent.tarball(&self.dir));
    }

    /// An entry that wants this agent started, from our store into our work directory.
    pub fn want(&self, name: &str, version: &str) -> Desired {
        Desired {
            name: name.to_owned(),
            version: version.to_owned(),
            tarball: self.meta.releases(),
            cmd: "start".to_owned(),
            work_dir: self.work.display().to_string(),
            ..Desired::default()
        }
    }

    pub fn desire(&self, agents: &[Desired]) {
        self.meta.desire(agents);
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(40)..].join("\n");
            eprintln!("--- the end of {}\n{tail}\n---", self.log_file().display());
        }
        end_sandbox(&self.dir);
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.wait();
        }
        if std::env::var_os("OPS_TEST_KEEP").is_none() {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// Kills whatever belongs to a sandbox until nothing is left of it.
pub fn end_sandbox(dir: &Path) {
    for _ in 0..200 {
        let left = procs::in_sandbox(dir);
        if left.is_empty() {
            return;
        }
        for pid in left {
            procs::signal(pid, libc::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

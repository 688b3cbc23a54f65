//! A sandbox in which the real binary is the updater of one host, with its own directory, work directory and server.
//! Dropping it ends every process that was started in it, also when the test panics.

use super::agent::Agent;
use super::json::quote;
use super::meta::Meta;
use super::platform;
use super::prepared;
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

/// The longest wait for anything that has no deadline of its own.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The environment variable that marks the processes of a sandbox, also those that left its directory.
pub const MARK: &str = "OPS_TEST_SANDBOX";

static COUNT: AtomicUsize = AtomicUsize::new(0);

pub struct Host {
    /// The sandbox's directory. Agents log their calls in it.
    pub dir: PathBuf,
    /// The updater's own directory.
    pub own: PathBuf,
    /// The work directory of agents, unless a test sets another one.
    pub work: PathBuf,
    pub meta: Meta,
    config: BTreeMap<String, String>,
    env: Vec<(String, String)>,
    /// A copy of the binary to run instead of the binary under test.
    pub copy: Option<PathBuf>,
    /// The user and group of the daemon, if they are not those of the tests.
    pub ids: Option<(u32, u32)>,
    daemon: Option<Child>,
}

impl Host {
    /// Makes directories, a server and a cfg.json with a short interval. Starts no process. `OPS_TEST_TRANSPORT=curl` runs
    /// every test through curl.
    pub fn new() -> Self {
        Self::at(sandbox_dir())
    }

    /// Returns the same in a directory of [`sandbox_dir`].
    pub fn at(dir: PathBuf) -> Self {
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
        host.set("interval", &platform::shortest_interval().to_string());
        host.set("log_level", &quote("info"));
        if let Ok(transport) = std::env::var("OPS_TEST_TRANSPORT") {
            host.set("transport", &quote(&transport));
        }
        host
    }

    /// Returns a host on which the daemon has installed and started this version of an agent called demo.
    pub fn with_installed_demo(version: &str) -> Self {
        let mut host = Self::new();
        host.publish(&Agent::new("demo", version));
        host.desire(&[host.want("demo", version)]);
        host.start();
        host.wait_running("demo", version);
        host
    }

    /// Returns a host on which this version of demo runs as after an installation. It is for tests of other promises: an
    /// installation takes 5 s, because the start is watched.
    pub fn with_demo(version: &str) -> Self {
        Self::with_running(&Agent::new("demo", version))
    }

    /// Returns the same with an agent of the test's own.
    pub fn with_running(agent: &Agent) -> Self {
        let mut host = Self::new();
        prepared::settle(&host, std::slice::from_ref(agent));
        host.start();
        host.wait_running(&agent.name, &agent.version);
        // When it sends the next heartbeat, the daemon has taken in the first answer and recorded what it observed. Commands
        // read it from the status file, which is written a moment later.
        host.wait_beats(1);
        let reported = format!(r#""version":"{}","desired""#, agent.version);
        host.wait_for("the agent to be in the status file", || {
            let status = std::fs::read_to_string(host.own.join("var/status.json"));
            status.is_ok_and(|text| text.contains(&reported))
        });
        host
    }

    /// Sets a key of cfg.json to a piece of JSON, and writes the file.
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

    /// Sets a variable of the daemon's environment, for its next start.
    pub fn env(&mut self, key: &str, value: &str) {
        self.env.push((key.to_owned(), value.to_owned()));
    }

    /// Returns the path of the program that the daemon runs.
    pub fn program(&self) -> PathBuf {
        self.copy.clone().unwrap_or_else(platform::binary)
    }

    /// Returns the command of the binary with `-c cfg.json`. The process leads its own group. It prints no backtrace: a
    /// debug build needs more memory to read its symbols than a child may have, and hangs where a release just ends.
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

    /// Runs the binary to its end with one more argument.
    pub fn run(&self, argument: &str) -> Output {
        self.run_with(&[argument])
    }

    /// Runs the binary to its end with several more arguments.
    pub fn run_with(&self, arguments: &[&str]) -> Output {
        let output = self.command().args(arguments).output();
        output.expect("the binary runs")
    }

    /// Starts the daemon. Does not wait until it is ready.
    pub fn start(&mut self) {
        let command = self.command();
        self.start_as(command);
    }

    /// Starts the daemon with a command of the test's own. Its output goes to the sandbox's log.
    pub fn start_as(&mut self, mut command: Command) {
        self.start_as_is(&mut command);
    }

    pub fn start_as_is(&mut self, command: &mut Command) {
        assert!(self.daemon.is_none(), "the daemon runs already");
        self.log_into_file(command);
        self.daemon = Some(command.spawn().expect("the binary runs"));
    }

    /// Sends the output of the command to the sandbox's log.
    pub fn log_into_file(&self, command: &mut Command) {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.log_file())
            .expect("a log");
        let out = log.try_clone().expect("a descriptor");
        command.stdout(out).stderr(log);
    }

    /// Returns false if the daemon was started and has ended by itself.
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

    /// Sends TERM to the daemon and returns its exit status.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal_daemon(libc::SIGTERM);
        self.wait_exit()
    }

    /// Kills the daemon and its workers. Control scripts and agents keep running.
    pub fn kill_updater(&mut self) {
        self.kill_where(|pid| {
            !procs::args(pid)
                .iter()
                .any(|arg| arg == "control" || arg.ends_with("/control"))
        });
    }

    /// Kills the daemon, its workers and their control scripts. Agents keep running.
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

    /// Returns a desired entry that starts this agent, from the sandbox's store in the sandbox's work directory.
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

/// Returns the path of a new sandbox. Nothing is there yet.
pub fn sandbox_dir() -> PathBuf {
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let tmp = std::env::temp_dir()
        .canonicalize()
        .expect("a temp directory");
    tmp.join(format!("ops-updater-test-{}-{count}-", std::process::id()))
}

/// Kills the processes of a sandbox until none is left.
pub fn end_sandbox(dir: &Path) {
    for _ in 0..200 {
        let left = procs::in_sandbox(dir);
        if left.is_empty() {
            return;
        }
        for pid in left {
            procs::signal(pid, libc::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

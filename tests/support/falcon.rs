//! An agent like those of the ecosystem: its `control stop` sends TERM, removes the pid file and returns, and `status` goes by
//! the pid file alone. Its process listens on a port and takes some time to end. Needs perl.

use super::agent::Agent;
use super::host::Host;
use super::json::Json as _;
use super::platform::skipped;
use super::procs;
use std::fs;
use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Answers each connection with its version. After TERM it keeps the port for some seconds.
const PROGRAM: &str = r#"use Socket;
($port, $version, $seconds) = @ARGV;
socket(S, PF_INET, SOCK_STREAM, 0);
setsockopt(S, SOL_SOCKET, SO_REUSEADDR, pack("l", 1));
bind(S, sockaddr_in($port, INADDR_LOOPBACK)) or die "cannot listen: $!\n";
listen(S, 9);
$SIG{TERM} = sub { $end = time + $seconds; select(undef, undef, undef, 0.1) while time < $end; exit };
while (1) { if (accept(C, S)) { syswrite(C, $version); close C } }
"#;

/// Where the program of the process is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// In the directory of the version.
    Own,
    /// Elsewhere: the agent is a script.
    Interpreter,
}

#[derive(Clone)]
pub struct Falcon {
    pub port: u16,
    /// The seconds from TERM to its end.
    pub dying: u32,
    pub program: Program,
}

impl Falcon {
    /// Returns an agent on a free port, or `None` and prints a notice where there is no perl.
    pub fn new(dying: u32) -> Option<Self> {
        let perl = Command::new("perl")
            .arg("-v")
            .stdout(Stdio::null())
            .status();
        if !perl.is_ok_and(|status| status.success()) {
            skipped("needs perl");
            return None;
        }
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        Some(Self {
            port: free.local_addr().expect("it listens").port(),
            dying,
            program: Program::Own,
        })
    }

    /// Returns shell lines that start the process, and note its pid.
    fn launch(&self, version: &str) -> String {
        let Self { port, dying, .. } = self;
        let (copy, program) = match self.program {
            Program::Own => ("[ -e app ] || cp \"$(command -v perl)\" app", "./app"),
            Program::Interpreter => (":", "perl"),
        };
        format!(
            "{copy}\n{program} app.pl {port} {version} {dying} </dev/null >app.log 2>&1 &\n\
             pid=$!; sleep 0.3\n\
             if kill -0 $pid 2>/dev/null; then echo $pid >app.pid; else cat app.log; exit 1; fi"
        )
    }

    pub fn agent(&self, version: &str) -> Agent {
        self.agent_after(version, "exit 0")
    }

    /// Returns an agent whose `control start` goes on with these lines after it has started the process.
    pub fn agent_after(&self, version: &str, then: &str) -> Agent {
        let falcon_alive = "[ -f app.pid ] && kill -0 \"$(cat app.pid)\" 2>/dev/null";
        Agent::new("demo", version)
            .file("app.pl", PROGRAM)
            .on_start(&format!(
                "if {falcon_alive}; then exit 1; fi\n{}\n{then}",
                self.launch(version)
            ))
            .on_stop("[ -f app.pid ] && kill \"$(cat app.pid)\"; rm -f app.pid; exit 0")
            .on_status(&format!(
                "if {falcon_alive}; then echo started; else echo stoped; fi; exit 0"
            ))
    }

    /// Returns the version that answers on the port. Empty: none does.
    pub fn answer(&self) -> String {
        let mut text = String::new();
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) {
            let _ = stream.set_read_timeout(Some(Duration::from_millis(500)));
            let _ = stream.read_to_string(&mut text);
        }
        text
    }

    /// Returns the processes that serve the port, or try to.
    pub fn processes(&self) -> Vec<u32> {
        let port = self.port.to_string();
        let is_it = |pid: &u32| {
            let args = procs::args(*pid);
            procs::alive(*pid)
                && args.get(1).is_some_and(|arg| arg == "app.pl")
                && args.get(2) == Some(&port)
        };
        procs::all().into_iter().filter(is_it).collect()
    }

    /// Publishes these versions, and runs the first.
    pub fn run(&self, agents: &[Agent]) -> Host {
        let mut host = Host::new();
        for agent in agents {
            host.publish(agent);
        }
        host.desire(&[host.want("demo", &agents[0].version)]);
        host.start();
        self.wait_up(&host, &agents[0].version);
        host
    }

    /// Waits until this version answers, is reported with no change in progress, and is the only process.
    #[track_caller]
    pub fn wait_up(&self, host: &Host, version: &str) {
        let is_reported = || {
            let agent = host.last_beat().map(|beat| beat.agent("demo"));
            agent.is_some_and(|agent| {
                agent.field("version").text() == version
                    && agent.field("status").text() == "started"
                    && agent.field("phase").text().is_empty()
            })
        };
        let what = format!("{version} to answer");
        host.wait_within(Duration::from_secs(90), &what, || {
            is_reported() && self.answer() == version && self.processes().len() == 1
        });
    }

    /// Runs a second process of this version, on another port, and notes its pid in place of the first one's.
    pub fn start_twice(&self, host: &Host, version: &str) -> Self {
        let second = Self {
            port: Self::new(0).expect("perl was there").port,
            ..self.clone()
        };
        let dir = version_dir(host, version);
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", &second.launch(version)])
            .current_dir(dir);
        command.env(super::host::MARK, &host.dir);
        assert!(command.status().expect("sh runs").success());
        second
    }

    /// Removes the pid file of this version.
    pub fn lose_pid_file(host: &Host, version: &str) {
        fs::remove_file(version_dir(host, version).join("app.pid")).expect("a pid file");
    }
}

fn version_dir(host: &Host, version: &str) -> PathBuf {
    host.agent_dir("demo").join(version)
}

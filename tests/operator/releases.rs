//! Releases of the updater for tests of `control upgrade`: the real binary and the real `control`, under other versions.

use crate::support::agent::Agent;
use crate::support::host::Host;
use crate::support::json::{Json as _, parse};
use crate::support::prepared;
use crate::support::procs::write_script;
use crate::support::wire::Answer;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

pub const PREVIOUS: &str = "ops-updater.previous";

/// The files of each release here.
pub const FILES: [&str; 4] = ["README.md", "control", "docs", "ops-updater"];

/// A host on which an updater was unpacked, with releases beside it. Releases have versions of this many characters, because the
/// version in the binary is replaced.
pub struct Site {
    pub host: Host,
}

impl Site {
    /// Returns a host on which release 1.0.0 runs, its heartbeats are answered, and an agent is kept running.
    pub fn new() -> Self {
        let site = Self::without_updater();
        prepared::settle(&site.host, &[Agent::new("demo", "1.0.0")]);
        site.unpack("1.0.0", ".");
        site.succeed("./control start");
        site.wait_answered("1.0.0");
        site
    }

    /// Returns a host with a directory for the updater, which has a cfg.json.
    pub fn without_updater() -> Self {
        Self { host: Host::new() }
    }

    /// Returns the directory of an unpacked release, which is made at the first call.
    pub fn release(&self, version: &str) -> PathBuf {
        let dir = self.host.dir.join("releases").join(version);
        if dir.exists() {
            return dir;
        }
        let own = env!("CARGO_PKG_VERSION");
        assert_eq!(own.len(), version.len(), "the version is replaced in place");
        fs::create_dir_all(dir.join("docs")).expect("a directory");
        fs::write(dir.join("README.md"), version).expect("a file");
        fs::write(dir.join("docs/USERS.md"), version).expect("a file");
        // Processes of their own write what is run soon: see `write_script`.
        let source = env!("CARGO_MANIFEST_DIR");
        let pattern = own.replace('.', r"\.");
        self.shell(&format!(
            "cd '{}' && cp '{source}/control' . && LC_ALL=C sed 's/{pattern}/{version}/g' '{}' >ops-updater && chmod 755 *",
            dir.display(),
            self.host.program().display()
        ));
        dir
    }

    /// Makes a release whose binary knows its version and checks cfg.json, and runs these lines of shell instead of the daemon.
    pub fn release_that(&self, version: &str, daemon: &str) {
        let dir = self.release(version);
        let real = self.host.dir.join("real").join(version);
        fs::create_dir_all(&real).expect("a directory");
        let real = real.join("ops-updater");
        fs::rename(dir.join("ops-updater"), &real).expect("a rename");
        let script = format!(
            "#!/bin/sh\n[ $# = 2 ] || exec '{}' \"$@\"\n{daemon}\n",
            real.display()
        );
        write_script(&dir.join("ops-updater"), &script);
    }

    /// Unpacks a release into a directory below that of the updater. Its files are further names of those in `release`, so whoever
    /// writes into one in place changes the other.
    pub fn unpack(&self, version: &str, below: &str) {
        let release = self.release(version);
        let to = self.host.own.join(below);
        self.shell(&format!(
            "mkdir -p '{0}' && cp -Rl '{1}/.' '{0}'",
            to.display(),
            release.display()
        ));
    }

    /// Packs a release, with its sum beside it. Returns the name of the tarball, which is in the sandbox's directory.
    pub fn pack(&self, version: &str) -> String {
        let name = format!("ops-updater-{version}.tar.gz");
        self.shell(&format!(
            "cd '{}' && tar cf - -C '{}' . | gzip -1 >{name} && sha256sum {name} >{name}.sha256",
            self.host.dir.display(),
            self.release(version).display()
        ));
        name
    }

    fn shell(&self, line: &str) {
        let mut shell = Command::new("sh");
        let status = shell
            .args(["-c", line])
            .current_dir(&self.host.dir)
            .status();
        assert!(status.expect("sh runs").success(), "{line}");
    }

    /// Returns the command for a line of shell in the updater's directory.
    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", line]).current_dir(&self.host.own);
        command.stdin(Stdio::null());
        command
    }

    pub fn run(&self, line: &str) -> Output {
        self.command(line).output().expect("sh runs")
    }

    /// Returns what the line prints.
    #[track_caller]
    pub fn succeed(&self, line: &str) -> String {
        let output = self.run(line);
        assert!(output.status.success(), "{line}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Returns the last line of the error.
    #[track_caller]
    pub fn fail(&self, line: &str) -> String {
        let output = self.run(line);
        assert_eq!(output.status.code(), Some(1), "{line}: {output:?}");
        let error = String::from_utf8(output.stderr).expect("text");
        error.lines().last().unwrap_or_default().to_owned()
    }

    pub fn pid(&self) -> u32 {
        let pid = self.succeed("./control pid");
        pid.trim().parse().expect("a pid")
    }

    /// Waits until the server has answered this release since its start, and the status file says so.
    #[track_caller]
    pub fn wait_answered(&self, version: &str) {
        self.host.wait_for("an answered heartbeat", || {
            let text = fs::read_to_string(self.host.own.join("var/status.json"));
            let status = parse(&text.unwrap_or_default());
            let answered = status.field("counts").field("heartbeats").number();
            status.field("version").text() == version && answered > Some(0)
        });
    }

    /// Answers no heartbeat from now on.
    pub fn fall_silent(&self) {
        self.host.meta.answer(Answer::new(500, ""));
    }

    /// Returns the version of the files in a directory below that of the updater if all of them are of one release.
    pub fn version_in(&self, below: &str) -> Option<String> {
        let dir = self.host.own.join(below);
        let version = fs::read_to_string(dir.join("README.md")).ok()?;
        let is_same = |file: &str, other: &Path| {
            let (one, other) = (dir.join(file), other.join(file));
            is_one_file(&one, &other) || fs::read(one).ok() == fs::read(other).ok()
        };
        let release = self.host.dir.join("releases").join(&version);
        let all = ["control", "docs/USERS.md", "ops-updater"];
        all.iter()
            .all(|file| is_same(file, &release))
            .then_some(version)
    }

    /// Asserts that this release is in force and runs, that the directory holds nothing half done, and that the agent was left
    /// alone.
    #[track_caller]
    pub fn assert_runs(&self, version: &str) {
        assert_eq!(self.version_in(".").as_deref(), Some(version));
        let exe = format!("/proc/{}/exe", self.pid());
        let binary = self.host.own.join("ops-updater");
        assert!(is_one_file(exe.as_ref(), &binary), "another release runs");
        for left in [".new", ".ops-updater.old", ".ops-updater.kept"] {
            assert!(!self.host.own.join(left).exists(), "{left}");
        }
        assert!(
            self.host.calls("demo").len() <= 1,
            "the agent was left alone"
        );
    }
}

fn is_one_file(one: &Path, other: &Path) -> bool {
    let id = |path: &Path| fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
    id(one).is_some() && id(one) == id(other)
}

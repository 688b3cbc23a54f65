//! Users of this machine made for one test and gone with it, their sudo rules, and what shows whose something is.
//! Needs root; a test asks [`can_make_users`] first.

use super::agent::Agent;
use super::host::Host;
use super::procs;
use super::wire::Desired;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

static COUNT: AtomicUsize = AtomicUsize::new(0);

/// False, said where no test harness swallows it, when this process may not make users.
pub fn can_make_users() -> bool {
    let is_root = uid_of("/proc/self".as_ref()) == Some(0);
    if !is_root {
        let thread = std::thread::current();
        let test = thread.name().unwrap_or("a test");
        let _ = writeln!(std::io::stderr(), "SKIPPED: needs root: {test}");
    }
    is_root
}

/// A user for one test. Its processes, its home and its sudo rule end with it.
pub struct User {
    pub name: String,
}

impl User {
    /// A name that nobody has, and that is cleared away like any other.
    pub fn unborn() -> Self {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self {
            name: format!("ou{}x{count}", std::process::id()),
        }
    }

    pub fn new() -> Self {
        let user = Self::unborn();
        admin("useradd", &["-m", "-s", "/bin/sh", &user.name]);
        user
    }

    /// Puts it into one more group, which is a user's own.
    pub fn join(&self, group: &Self) {
        admin("usermod", &["-a", "-G", &group.name, &self.name]);
    }

    pub fn exists(&self) -> bool {
        self.passwd().is_some()
    }

    pub fn uid(&self) -> u32 {
        self.number(2)
    }

    pub fn gid(&self) -> u32 {
        self.number(3)
    }

    pub fn home(&self) -> PathBuf {
        PathBuf::from(&self.passwd().expect("the user exists")[5])
    }

    fn number(&self, field: usize) -> u32 {
        let passwd = self.passwd().expect("the user exists");
        passwd[field].parse().expect("a number")
    }

    fn passwd(&self) -> Option<Vec<String>> {
        let passwd = fs::read_to_string("/etc/passwd").expect("a passwd file");
        let mut lines = passwd.lines().map(|line| line.split(':'));
        let fields = lines.find(|fields| fields.clone().next() == Some(&self.name))?;
        Some(fields.map(str::to_owned).collect())
    }

    /// A directory of its own below its home, closed to all others.
    pub fn closed_dir(&self, name: &str) -> PathBuf {
        let dir = self.home().join(name);
        fs::create_dir(&dir).expect("a directory");
        self.take(&dir);
        mode(&dir, 0o700);
        dir
    }

    /// Makes a path, not what a link leads to, and all below it this user's.
    pub fn take(&self, path: &Path) {
        let ids = format!("{}:{}", self.uid(), self.gid());
        let done = Command::new("chown").args(["-hR", &ids]).arg(path).status();
        assert!(done.expect("chown runs").success());
    }

    /// A command that runs as this user and nobody else.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.uid(self.uid()).gid(self.gid()).stdin(Stdio::null());
        command
    }

    /// Runs shell lines as this user.
    pub fn sh(&self, lines: &str) -> Output {
        let output = self.command("/bin/sh").args(["-c", lines]).output();
        output.expect("sh runs")
    }

    /// The sudoers(5) lines of this user; `USER` in them is its name. Gone with the user.
    pub fn sudoers(&self, lines: &str) {
        let path = self.sudoers_file();
        // A name with a dot is not read by sudo: no other test meets half a file.
        let fresh = path.with_extension("new");
        fs::write(&fresh, lines.replace("USER", &self.name) + "\n").expect("a sudoers file");
        mode(&fresh, 0o440);
        fs::rename(&fresh, &path).expect("a sudoers file");
    }

    fn sudoers_file(&self) -> PathBuf {
        Path::new("/etc/sudoers.d").join(&self.name)
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.sudoers_file());
        if !self.exists() {
            return;
        }
        let uid = self.uid();
        for pid in procs::all() {
            if uid_of(format!("/proc/{pid}").as_ref()) == Some(uid) {
                procs::signal(pid, libc::SIGKILL);
            }
        }
        // Not `admin`: a panic here would hide the test's own.
        for _ in 0..200 {
            let _ = Command::new("userdel")
                .args(["-f", "-r", &self.name])
                .stderr(Stdio::null())
                .status();
            if !self.exists() {
                return;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        let _ = writeln!(std::io::stderr(), "the user {} is left", self.name);
    }
}

/// useradd and its like lock /etc/passwd; tests run side by side.
fn admin(program: &str, args: &[&str]) {
    let mut words = String::new();
    for _ in 0..400 {
        let output = Command::new(program).args(args).output();
        let output = output.unwrap_or_else(|e| panic!("{program} is needed: {e}"));
        words = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() {
            return;
        }
        if !words.contains("lock") {
            break;
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    panic!("{program} {args:?}: {words}");
}

pub fn uid_of(path: &Path) -> Option<u32> {
    fs::symlink_metadata(path).ok().map(|meta| meta.uid())
}

pub fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
}

/// Real, effective, saved and file system id.
pub fn four(id: u32) -> String {
    [
        id.to_string(),
        id.to_string(),
        id.to_string(),
        id.to_string(),
    ]
    .join("\t")
}

/// A sample agent that notes as whom it is started and stopped.
pub fn noting(name: &str, version: &str) -> Agent {
    let note = |verb| format!("echo \"{version} {verb} $(id -u)\" >>\"$sandbox/{name}.ids\"");
    Agent::new(name, version)
        .on_start(&note("start"))
        .on_stop(&note("stop"))
}

impl Desired {
    pub fn run_user(mut self, user: &str) -> Self {
        user.clone_into(&mut self.run_user);
        self
    }
}

impl Host {
    /// Publishes an agent whose control script may log to the sandbox whoever runs it.
    pub fn offer(&self, agent: &Agent) {
        for log in ["calls", "ids"] {
            let path = self.dir.join(format!("{}.{log}", agent.name));
            let open = fs::File::options().create(true).append(true).open(&path);
            drop(open.expect("a log"));
            mode(&path, 0o666);
        }
        self.publish(agent);
    }

    /// What a [`noting`] agent has noted so far: `<version> <verb> <uid>`.
    pub fn ids(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.dir.join(format!("{name}.ids"))).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// A host whose daemon is this user, with a program of root's that nobody else can write.
    pub fn of(user: &User) -> Self {
        let mut host = Self::new();
        let bin = host.dir.join("bin");
        fs::create_dir(&bin).expect("a directory");
        mode(&bin, 0o755);
        let copy = bin.join("ops-updater");
        super::procs::copy_binary(&copy);
        mode(&copy, 0o755);
        host.copy = Some(copy);
        host.ids = Some((user.uid(), user.gid()));
        user.take(&host.own);
        host
    }

    /// The one sudoers line that suffices, as the README gives it.
    pub fn rule(&self) -> String {
        format!("USER ALL=(root) NOPASSWD: {} act", self.program().display())
    }

    /// Waits until a heartbeat names an error of this agent, and gives it.
    #[track_caller]
    pub fn wait_error(&self, name: &str) -> String {
        use super::json::Json as _;
        let error = || {
            let agent = self.last_beat()?.agent(name);
            Some(agent.field("error").text().to_owned()).filter(|error| !error.is_empty())
        };
        self.wait_for(&format!("an error of {name}"), || error().is_some());
        error().expect("waited for")
    }

    /// The lines of the log at level warn or error that name this agent.
    pub fn warnings(&self, name: &str) -> Vec<String> {
        let about = format!(" {name}: ");
        let log = self.log();
        let lines = log.lines().filter(|line| {
            (line.contains(" WARN ") || line.contains(" ERROR ")) && line.contains(&about)
        });
        lines.map(str::to_owned).collect()
    }
}

/// Everything below a directory that does not belong to this user.
pub fn not_of(uid: u32, dir: &Path) -> Vec<(PathBuf, u32)> {
    let paths = super::watch::tree(dir).into_keys();
    paths
        .filter_map(|path| uid_of(&path).map(|owner| (path, owner)))
        .filter(|(_, owner)| *owner != uid)
        .collect()
}

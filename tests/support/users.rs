//! Users of this machine that are made for one test and removed at its end, their sudo rules, and functions that show who
//! owns a file. Needs root. A test calls [`can_make_users`] first.

use super::agent::Agent;
use super::host::Host;
use super::platform::skipped;
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

/// Returns whether this process may make users. If not, prints that the test is skipped.
pub fn can_make_users() -> bool {
    let is_root = uid_of("/proc/self".as_ref()) == Some(0);
    if !is_root {
        skipped("needs root");
    }
    is_root
}

/// A user for one test. Dropping it removes its processes, its home and its sudo rule.
pub struct User {
    pub name: String,
}

impl User {
    /// Returns a name without a user. A user that gets this name during the test is removed like any other.
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

    /// Adds the user to the group of another user.
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

    /// Makes a directory below its home that is closed to all other users.
    pub fn closed_dir(&self, name: &str) -> PathBuf {
        let dir = self.home().join(name);
        fs::create_dir(&dir).expect("a directory");
        self.take(&dir);
        mode(&dir, 0o700);
        dir
    }

    /// Makes this user the owner of a path and of everything below it. Follows no link.
    pub fn take(&self, path: &Path) {
        let ids = format!("{}:{}", self.uid(), self.gid());
        let done = Command::new("chown").args(["-hR", &ids]).arg(path).status();
        assert!(done.expect("chown runs").success());
    }

    /// Makes a command that runs as this user, with no other groups.
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

    /// Writes the sudoers(5) lines of this user, with its name for `USER`. They are removed with the user.
    pub fn sudoers(&self, lines: &str) {
        let path = self.sudoers_file();
        // sudo ignores a file with a dot in its name, so no other test reads half a file.
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
        // This does not call `admin`, whose panic would hide the test's own.
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

/// Runs useradd or a similar program. It tries again while another test holds the lock of /etc/passwd.
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

/// Returns this id four times, as /proc prints the real, effective, saved and file system id.
pub fn four(id: u32) -> String {
    [
        id.to_string(),
        id.to_string(),
        id.to_string(),
        id.to_string(),
    ]
    .join("\t")
}

/// Returns a sample agent that notes the user that starts and stops it.
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
    /// Publishes an agent. Its control script may log to the sandbox as any user.
    pub fn offer(&self, agent: &Agent) {
        for log in ["calls", "ids"] {
            let path = self.dir.join(format!("{}.{log}", agent.name));
            let open = fs::File::options().create(true).append(true).open(&path);
            drop(open.expect("a log"));
            mode(&path, 0o666);
        }
        self.publish(agent);
    }

    /// Returns the notes of a [`noting`] agent so far: `<version> <verb> <uid>`.
    pub fn ids(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.dir.join(format!("{name}.ids"))).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Makes a host whose daemon runs as this user. Root owns its program, and nobody else can write it.
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

    /// Returns the only sudoers line that docs/USERS.md asks for.
    pub fn rule(&self) -> String {
        format!("USER ALL=(root) NOPASSWD: {} act", self.program().display())
    }

    /// Returns the lines of the log at level warn or error that name this agent.
    pub fn warnings(&self, name: &str) -> Vec<String> {
        let about = format!(" {name}: ");
        let log = self.log();
        let lines = log.lines().filter(|line| {
            (line.contains(" WARN ") || line.contains(" ERROR ")) && line.contains(&about)
        });
        lines.map(str::to_owned).collect()
    }
}

/// Returns every path below a directory that does not belong to this user.
pub fn not_of(uid: u32, dir: &Path) -> Vec<(PathBuf, u32)> {
    let paths = super::watch::tree(dir).into_keys();
    paths
        .filter_map(|path| uid_of(&path).map(|owner| (path, owner)))
        .filter(|(_, owner)| *owner != uid)
        .collect()
}

//! The checks of `doctor` for this host: the updater's files, the agents' directories, users, tools, limits.
//! Each check runs in a forked process with a deadline, and prints what it does next before an action that may hang.
#![expect(clippy::disallowed_methods, reason = "it checks all of the host")]

use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use super::directories::{check_dir, check_leftovers, check_replaceable, check_trust};
use super::findings::{fail, next, ok, warn};
use super::local_policy;
use super::server;
use crate::agent::paths::{Paths, is_kept_by_us};
use crate::cli::signatures;
use crate::model::{Desired, Own, Policy};
use crate::os::files;
use crate::os::own_program::OwnProgram;
use crate::os::user::{self, Account};
use crate::os::walk::Trusted;
use crate::os::{credentials, disk, environment, limits, process};
use crate::protocol::DOCUMENT_LIMIT;
use crate::protocol::desired;
use crate::protocol::job;
use crate::protocol::status::HeartbeatStatus;
use crate::store::config::{Config, Source, proxy_variable};
use crate::store::instance;
use crate::store::layout;
use crate::store::ledger::Ledger;
use crate::store::places;
use crate::text;

/// Enough for the updater itself and for a few agents that it checks at the same time.
const OPEN_FILES_WANTED: u64 = 256;

/// Checks the files of the updater that could hang.
pub(super) fn check_own_files(source: &Source) {
    let file = source.file.to_string_lossy();
    next(format_args!(
        "use {file} and its directory (does the disk hang?)"
    ));
    let _ = source.load();
    check_dir(&source.own_dir, true, true);
    check_dir(&layout::var(&source.own_dir), true, false);
    let is_root = credentials::effective_uid() == 0;
    match places::all(source) {
        Ok(places) => {
            for place in &places {
                check_replaceable(place, Trusted::strict(), is_root);
            }
        }
        Err(error) => fail(format_args!("{error}")),
    }
}

/// Checks what the updater inherits from the shell that starts it, and what every agent needs.
fn check_environment() {
    // The updater sets its own umask, but it must be able to read the files of an operator.
    let umask = files::inherited_umask();
    if umask & 0o444 == 0 {
        ok(format_args!("umask {umask:04o}"));
    } else {
        warn(format_args!(
            "umask {umask:04o}: others cannot read what this shell creates, such as cfg.json: run umask 022"
        ));
    }
    match limits::open_file_limit() {
        None => ok(format_args!("open files: no limit")),
        Some(limit) if limit >= OPEN_FILES_WANTED => ok(format_args!("open files {limit}")),
        Some(limit) => warn(format_args!(
            "open files {limit}, wanted {OPEN_FILES_WANTED}: raise the limit with ulimit -n"
        )),
    }
    match proxy_variable() {
        Some(name) => warn(format_args!(
            "proxy: {name} counts unless cfg.json has \"proxy\", and an updater that starts at boot may not have it"
        )),
        None if !environment::variable("HTTP_PROXY").is_empty() => warn(format_args!(
            "proxy: HTTP_PROXY does not count: set http_proxy, or \"proxy\" in cfg.json"
        )),
        None => ok(format_args!("no proxy")),
    }
    if let Some(lack) = process::without_proc() {
        warn(format_args!("{lack}"));
    }
    if !fs::metadata("/dev/null").is_ok_and(|meta| meta.file_type().is_char_device()) {
        fail(format_args!(
            "/dev/null is no device: rm -f /dev/null && mknod -m 666 /dev/null c 1 3"
        ));
    }
    next(format_args!("run /bin/sh"));
    if user::run("/bin/sh", &["-c", ":"], false).is_ok_and(|(succeeded, _)| succeeded) {
        ok(format_args!("/bin/sh"));
    } else {
        fail(format_args!(
            "/bin/sh does not run: control scripts need it"
        ));
    }
}

/// One check. It prints its findings.
pub(super) type Check<'a> = Box<dyn Fn() + 'a>;

/// All checks but that of the updater's own files, and what they need to know.
pub(super) struct Checks {
    own: Own,
    policy: Policy,
    agents: Vec<Desired>,
    is_running: bool,
    config: Option<Box<Config>>,
    /// What the running updater knows of the server in `config`.
    heartbeat: Option<HeartbeatStatus>,
}

impl Checks {
    /// Reads the updater's files. Prints a finding for each.
    pub(super) fn new(source: &Source) -> Self {
        let file = source.file.to_string_lossy();
        let config = match source.load() {
            Ok(config) => {
                ok(format_args!("{file}"));
                for warning in &config.warnings {
                    warn(format_args!("{file}: {warning}"));
                }
                Some(config)
            }
            Err(error) => {
                fail(format_args!("{error}"));
                None
            }
        };
        let own = Own {
            dir: source.own_dir.to_string_lossy().into_owned(),
            user: user::own_name(),
        };
        let policy = local_policy::check(&own);
        if let Some(config) = &config
            && policy.unusable.is_empty()
        {
            let words = signatures::words(config, &policy);
            ok(format_args!("{words}"));
        }
        let agents = desired_agents(&own, &policy);
        check_ledger(&source.own_dir);
        let pid = instance::holder(&source.own_dir);
        match &pid {
            Ok(Some(pid)) => check_updater(*pid),
            Ok(None) => check_own_leftovers(&source.own_dir),
            Err(error) => fail(format_args!("{error}")),
        }
        let heartbeat = matches!(pid, Ok(Some(_)))
            .then(|| server::heartbeat(&source.own_dir, &config.as_ref()?.server))
            .flatten();
        Self {
            heartbeat,
            own,
            policy,
            agents,
            // If that is not known, nothing is done that could disturb it.
            is_running: !matches!(pid, Ok(None)),
            config,
        }
    }

    /// Returns the checks in the order in which their findings are printed.
    pub(super) fn list(&self) -> Vec<Check<'_>> {
        let mut checks: Vec<Check> =
            vec![Box::new(check_environment), Box::new(|| self.check_users())];
        if let Some(config) = &self.config {
            checks.push(Box::new(|| {
                server::check(config, self.heartbeat.as_ref());
            }));
        }
        for work_dir in self.work_dirs() {
            checks.push(Box::new(move || self.check_work_dir(work_dir)));
        }
        checks
    }

    /// Returns each `workDir` once.
    fn work_dirs(&self) -> Vec<&str> {
        self.distinct(|agent| &agent.location.work_dir, "")
    }

    /// Returns each value of this field once, without empty values and without `except`.
    fn distinct<'a>(&'a self, field: fn(&Desired) -> &String, except: &str) -> Vec<&'a str> {
        let mut all = Vec::new();
        for agent in &self.agents {
            let text = field(agent).as_str();
            if text != except && !text.is_empty() && !all.contains(&text) {
                all.push(text);
            }
        }
        all
    }

    fn check_work_dir(&self, work_dir: &str) {
        let mut dir = Path::new(work_dir);
        next(format_args!("use {work_dir} (does the disk hang?)"));
        // The updater creates the directories that are missing.
        while !disk::is_dir(dir) {
            dir = disk::parent(dir);
        }
        let mut is_ours = true;
        let mut users = Vec::new();
        let agents = self.agents.iter();
        for agent in agents.filter(|agent| agent.location.work_dir == work_dir) {
            let user = &agent.location.run_user;
            if !users.contains(&user) {
                let is_own = user.is_empty() || *user == self.own.user;
                check_trust(Path::new(work_dir), (!is_own).then_some(user));
                users.push(user);
            }
            // Root creates no files in a directory that another user can write.
            is_ours &= user.is_empty() || *user == self.own.user;
            if !self.is_running {
                let paths = Paths::new(&agent.name, &agent.location);
                check_leftovers(&paths.ours(), |name| {
                    !is_kept_by_us(name) && !name.as_encoded_bytes().ends_with(b".other")
                });
                check_leftovers(&paths.agent, |name| name == ".version.tmp");
            }
        }
        check_dir(dir, is_ours, true);
    }

    /// Checks the users of the agents, and sudo if it is needed to become them.
    fn check_users(&self) {
        let others = self.distinct(|agent| &agent.location.run_user, &self.own.user);
        for name in &others {
            next(format_args!("look up the user {name}"));
            match Account::find(name) {
                Ok(Some(account)) => {
                    ok(format_args!("user {}", account.name));
                }
                Ok(None) if !self.policy.may_create(name) => {
                    fail(format_args!(
                        "user {name} does not exist, and create_users in policy.json does not allow it"
                    ));
                }
                Ok(None) if user::can_create() => {
                    warn(format_args!(
                        "user {name} does not exist: the updater will create it with useradd"
                    ));
                }
                Ok(None) => {
                    fail(format_args!(
                        "user {name} does not exist, and useradd is missing: create the user"
                    ));
                }
                Err(error) => fail(format_args!("{error}: is the directory server up?")),
            }
        }
        if let Some(config) = &self.config
            && credentials::effective_uid() != 0
            && !others.is_empty()
        {
            check_sudo(&config.sudo);
        }
    }
}

fn check_ledger(own_dir: &Path) {
    let is_valid = match disk::read_small(&layout::ledger(own_dir), DOCUMENT_LIMIT) {
        Ok(text) => Ledger::read(&text).is_some(),
        Err(error) => error.kind() == ErrorKind::NotFound,
    };
    if is_valid {
        ok(format_args!("var/ledger.json"));
    } else {
        warn(format_args!(
            "var/ledger.json is not a ledger: the updater will set it aside and count failures from zero"
        ));
    }
}

fn check_updater(pid: u32) {
    let owner = fs::metadata(format!("/proc/{pid}")).map(|meta| meta.uid());
    if owner.is_ok_and(|uid| uid != credentials::effective_uid()) {
        warn(format_args!(
            "the updater, pid {pid}, runs as another user: run doctor as that user too"
        ));
    } else {
        ok(format_args!("the updater runs, pid {pid}"));
    }
}

/// Only called while no updater runs, because a running one uses such files.
fn check_own_leftovers(own_dir: &Path) {
    warn(format_args!("no updater runs here: run ./control start"));
    let is_temporary: fn(&OsStr) -> bool = |name| name.as_encoded_bytes().ends_with(b".tmp");
    check_leftovers(own_dir, is_temporary);
    check_leftovers(&layout::var(own_dir), is_temporary);
}

/// Runs the one command that the updater runs with sudo. Without a job, the command fails with a known error: sudo and the
/// command both exit with 1, so only that error shows that sudo let the command run.
fn check_sudo(sudo: &str) {
    let Ok(program) = OwnProgram::find() else {
        // The check of the updater's own files has failed for the same reason.
        return;
    };
    let program = program.started_as().to_string_lossy();
    next(format_args!("run {sudo}"));
    let text = match user::run(sudo, &["-n", "--", &program, "act"], true) {
        Ok((_, text)) => text,
        Err(error) => error.to_string(),
    };
    let answer = format!("ops-updater: cannot read {}", job::ON_STDIN);
    if text.lines().any(|line| line.starts_with(&answer)) {
        return ok(format_args!("{sudo}"));
    }
    let text = text::brief(&text, 200);
    fail(format_args!(
        "{text}: allow {program} act in sudoers, with NOPASSWD and !requiretty"
    ));
}

/// Returns the valid entries of the saved desired state. Prints a finding for each of the others.
fn desired_agents(own: &Own, policy: &Policy) -> Vec<Desired> {
    let file = layout::desired_state(Path::new(&own.dir));
    let text = match disk::read_small(&file, DOCUMENT_LIMIT) {
        Err(error) if error.kind() == ErrorKind::NotFound => "[]".to_owned(),
        read => read.unwrap_or_default(),
    };
    let Some(entries) = desired::saved(&text) else {
        warn(format_args!(
            "{} is not a list of agents: the server's next answer replaces it",
            file.display()
        ));
        return Vec::new();
    };
    let sorted = desired::sort(entries, own, policy);
    for refusal in &sorted.refused {
        warn(format_args!("desired_agent.json: {refusal}"));
    }
    ok(format_args!("desired agents: {}", sorted.accepted.len()));
    sorted.accepted
}

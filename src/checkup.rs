//! The looks of `doctor` at this host: its own directory, those of the agents, users, tools, limits. Each runs in a copy of
//! the process that has a deadline, and tells what it is about to do where it may hang.
#![expect(clippy::disallowed_methods, reason = "it looks at all of the host")]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::mem;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::config::{Config, Source};
use crate::disk;
use crate::doctor::{Told, failed, line};
use crate::error::Error;
use crate::fetch::SPACE_RESERVE;
use crate::fields;
use crate::heartbeat;
use crate::instance;
use crate::log;
use crate::model::{Desired, Own};
use crate::observe::{Paths, is_kept_by_us};
use crate::reach;
use crate::record::Ledger;
use crate::roster::SAVED_LIMIT;
use crate::sys::{self, FileSystem};
use crate::user::{self, Account};

/// A large agent has as many files.
const INODES_WANTED: u64 = 1000;
/// Some for each agent that is being looked at, and what the updater itself has open.
const OPEN_FILES_WANTED: u64 = 256;
const PROXIES: [&str; 4] = ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"];

/// One of two lines.
fn verdict(what: &str, is_fine: bool, otherwise: Told) {
    let told = if is_fine { Told::Fine } else { otherwise };
    line(told, what);
}

/// What the updater reads and writes beside its cfg.json, as far as it could hang.
pub fn own(source: &Source) {
    let file = source.file.to_string_lossy();
    line(Told::NextOwnDir, &file);
    mem::forget(source.load());
    look_at_dir(&source.own_dir, true, true);
    look_at_dir(&source.own_dir.join("var"), true, false);
}

/// The first of staging and half-written files in a directory in which nobody is at work.
fn look_for_leftovers(dir: &Path, is_left: fn(&OsStr) -> bool) {
    let names = disk::names(dir).into_iter().flatten();
    for name in names {
        if is_left(&name) {
            let (dir, name) = (dir.display(), name.display());
            return line(Told::Leftover, &format!("{dir}/{name}"));
        }
    }
}

/// A directory, if it is there, in which we make files, or programs are run, or both.
fn look_at_dir(dir: &Path, is_ours: bool, runs: bool) {
    let shown = dir.display();
    let holder = match try_dir(dir, is_ours) {
        Ok(holder) => holder,
        Err(error) if error.kind() == ErrorKind::NotFound => return,
        Err(error) => {
            let error = Error::new("write to", dir, error);
            return failed(Told::NotOurs, error);
        }
    };
    let (free, wanted) = (holder.free >> 20, SPACE_RESERVE >> 20);
    let told = if runs && holder.is_no_exec {
        Told::NoExec
    } else if free < wanted {
        Told::NoRoom
    } else if holder.files.is_some_and(|files| files < INODES_WANTED) {
        Told::NoInodes
    } else {
        Told::Room
    };
    line(told, &format!("{shown} has {free}"));
}

/// Where it is ours, by making a file and removing it. Nothing that others put in its place is written to.
fn try_dir(dir: &Path, is_ours: bool) -> io::Result<FileSystem> {
    let holder = sys::file_system(dir)?;
    if holder.is_read_only {
        return Err(io::Error::from_raw_os_error(libc::EROFS));
    }
    if is_ours {
        let probe = dir.join(".doctor.tmp");
        // Of a look that was cut short.
        let _ = fs::remove_file(&probe);
        File::options().write(true).create_new(true).open(&probe)?;
        fs::remove_file(&probe)?;
    }
    Ok(holder)
}

/// What whoever starts the updater hands on to it, and what every agent needs.
fn host() {
    // The updater replaces it for its own files; those of an operator it has to be able to read.
    verdict("umask", sys::born_umask() & 0o444 == 0, Told::Umask);
    let limit = sys::open_file_limit();
    let is_enough = limit.is_none_or(|limit| limit >= OPEN_FILES_WANTED);
    verdict("open files", is_enough, Told::OpenFiles);
    let is_set = |name: &&str| std::env::var(name).is_ok_and(|value| !value.is_empty());
    verdict("no proxy", !PROXIES.iter().any(is_set), Told::Proxy);
    line(Told::Next, "/bin/sh");
    let runs = user::run("/bin/sh", &["-c", ":"], false).is_ok_and(|(succeeded, _)| succeeded);
    verdict("/bin/sh", runs, Told::NoShell);
}

/// What the looks have to go by.
pub struct Patient {
    own: Own,
    agents: Vec<Desired>,
    is_running: bool,
    config: Option<Config>,
}

impl Patient {
    /// Tells what of it the updater could not use.
    pub fn of(source: &Source) -> Self {
        let file = source.file.to_string_lossy();
        let config = match source.load() {
            Ok(config) => {
                line(Told::Fine, &file);
                for warning in &config.warnings {
                    line(Told::Warn, &format!("{file}: {warning}"));
                }
                Some(config)
            }
            Err(error) => {
                failed(Told::Fail, error);
                None
            }
        };
        let own = Own {
            dir: source.own_dir.to_string_lossy().into_owned(),
            user: user::own_name(),
        };
        let agents = desired(&own);
        let var = source.own_dir.join("var");
        let is_good = match disk::read_small(&var.join("ledger.json"), SAVED_LIMIT) {
            Ok(text) => fields::read::<Ledger>(&text).is_some(),
            Err(error) => error.kind() == ErrorKind::NotFound,
        };
        verdict("var/ledger.json", is_good, Told::NoLedger);
        let pid = instance::holder(&source.own_dir);
        if let Some(pid) = pid {
            let owner = fs::metadata(format!("/proc/{pid}")).map(|meta| meta.uid());
            let is_another = owner.is_ok_and(|uid| uid != sys::effective_uid());
            let told = if is_another {
                Told::UpdaterOfAnother
            } else {
                Told::Updater
            };
            line(told, &pid.to_string());
        } else {
            line(Told::NoUpdater, "");
            let is_aside: fn(&OsStr) -> bool = |name| name.as_encoded_bytes().ends_with(b".tmp");
            look_for_leftovers(&source.own_dir, is_aside);
            look_for_leftovers(&var, is_aside);
        }
        Self {
            own,
            agents,
            is_running: pid.is_some(),
            config,
        }
    }

    /// How many looks there are.
    pub fn looks(&self) -> usize {
        3 + self.work_dirs().len()
    }

    /// One of them.
    pub fn look(&self, at: usize) {
        match at {
            0 => host(),
            1 => self.look_at_users(),
            2 => {
                if let Some(config) = &self.config {
                    reach::look(&config.url);
                }
            }
            _ => self.look_at_work_dir(self.work_dirs()[at - 3]),
        }
    }

    /// Each once.
    fn work_dirs(&self) -> Vec<&str> {
        self.distinct(|agent| &agent.place.work_dir, "")
    }

    fn distinct<'a>(&'a self, of: fn(&Desired) -> &String, but: &str) -> Vec<&'a str> {
        let mut all = Vec::new();
        for agent in &self.agents {
            let text = of(agent).as_str();
            if text != but && !text.is_empty() && !all.contains(&text) {
                all.push(text);
            }
        }
        all
    }

    fn look_at_work_dir(&self, work_dir: &str) {
        let mut dir = Path::new(work_dir);
        line(Told::NextDir, work_dir);
        // What is missing is made.
        while !disk::is_dir(dir) {
            dir = disk::parent(dir);
        }
        let mut is_ours = true;
        for agent in self
            .agents
            .iter()
            .filter(|agent| agent.place.work_dir == work_dir)
        {
            let user = &agent.place.run_user;
            // Root makes no files where the user of an agent can.
            is_ours &= user.is_empty() || *user == self.own.user;
            if !self.is_running {
                let paths = Paths::new(&agent.name, &agent.place);
                look_for_leftovers(&paths.ours(), |name| {
                    !is_kept_by_us(name) && !name.as_encoded_bytes().ends_with(b".other")
                });
                look_for_leftovers(&paths.agent, |name| name == ".version.tmp");
            }
        }
        look_at_dir(dir, is_ours, true);
    }

    /// The users, save our own, that agents are run as, and the way to them.
    fn look_at_users(&self) {
        let others = self.distinct(|agent| &agent.place.run_user, &self.own.user);
        for name in &others {
            line(Told::NextUser, name);
            match Account::find(name) {
                Ok(Some(account)) => {
                    line(Told::User, &account.name);
                    mem::forget(account);
                }
                Ok(None) if user::can_create() => line(Told::UserToMake, name),
                Ok(None) => line(Told::NoUser, name),
                Err(error) => failed(Told::UserUnknown, error),
            }
        }
        if let Some(config) = &self.config
            && sys::effective_uid() != 0
            && !others.is_empty()
        {
            look_at_sudo(&config.sudo);
        }
    }
}

/// The one command that the updater runs through it; without a job it says so and ends.
fn look_at_sudo(sudo: &str) {
    let program = sys::own_program().unwrap_or_default();
    let program = program.to_string_lossy();
    line(Told::Next, sudo);
    let text = match user::run(sudo, &["-n", "--", &program, "act"], true) {
        Ok((_, text)) => text,
        Err(error) => error.to_string(),
    };
    if log::holds(&text, "the job on stdin") {
        return line(Told::Fine, sudo);
    }
    let text = log::brief(&text, 200);
    line(Told::Sudo, &format!("{text}: allow {program}"));
}

/// The saved entries that can be followed; those that cannot are told.
fn desired(own: &Own) -> Vec<Desired> {
    let file = Path::new(&own.dir).join("desired_agent.json");
    let text = match disk::read_small(&file, SAVED_LIMIT) {
        Err(error) if error.kind() == ErrorKind::NotFound => "[]".to_owned(),
        read => read.unwrap_or_default(),
    };
    let mut agents = Vec::new();
    let Some(entries) = heartbeat::saved(&text) else {
        line(Told::NoList, &file.to_string_lossy());
        return agents;
    };
    let sorted = heartbeat::sort(entries, own);
    for refusal in &sorted.1 {
        line(Told::Warn, &format!("desired_agent.json: {refusal}"));
    }
    for wire in &sorted.0 {
        if let Ok(agent) = Desired::check(wire, own) {
            agents.push(agent);
        }
    }
    mem::forget(sorted);
    line(Told::Fine, &format!("desired agents: {}", agents.len()));
    agents
}

//! The checks of `doctor` for directories: whether they can be used, how much space is free, what a crash has left over.
#![expect(clippy::disallowed_methods, reason = "it makes a file and removes it")]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;

use super::findings::{fail, ok, warn};
use crate::error::{At, Error};
use crate::os::files::FileSystem;
use crate::os::user::Account;
use crate::os::walk::{self, Trusted};
use crate::os::{credentials, disk, files, space};

/// A large agent has about this many files.
const INODES_WANTED: u64 = 1000;

/// Warns of the first file that a crash has left over. The directory must not be in use.
pub(super) fn check_leftovers(dir: &Path, is_leftover: fn(&OsStr) -> bool) {
    let Ok(names) = disk::names(dir) else {
        return;
    };
    for name in names {
        let name = match name.at("read", dir) {
            Ok(name) => name,
            Err(error) => return fail(format_args!("{error}: does the disk fail?")),
        };
        if is_leftover(&name) {
            let (dir, name) = (dir.display(), name.display());
            return warn(format_args!(
                "{dir}/{name} is left over from a crash: the next round resumes or removes it"
            ));
        }
    }
}

/// Checks who could replace a file or directory. `is_fatal`: the updater then refuses to use it.
pub(super) fn check_replaceable(path: &Path, trusted: Trusted, is_fatal: bool) {
    match walk::check(path, trusted) {
        Ok(()) => ok(format_args!("{} is safe from other users", path.display())),
        Err(error) if is_fatal => fail(format_args!("{error}")),
        Err(error) => warn(format_args!("{error}")),
    }
}

/// Checks who could replace the workDir of an agent. `run_user` is `None` if the agent runs as the updater's own user.
pub(super) fn check_trust(work_dir: &Path, run_user: Option<&String>) {
    let Some(user) = run_user else {
        let is_refused = walk::check(work_dir, Trusted::own()).is_err();
        return check_replaceable(work_dir, Trusted::strict(), is_refused);
    };
    // A user that does not exist is another finding, and a directory of root's suits any user.
    let account = Account::find(user).ok().flatten();
    let uid = account.map_or(0, |account| account.uid);
    let caller = credentials::effective_uid();
    check_replaceable(work_dir, Trusted::user(uid, Some(caller)), true);
}

/// Checks a directory, if it exists. `is_ours`: this user must be able to create files in it. `runs`: programs run in it.
pub(super) fn check_dir(dir: &Path, is_ours: bool, runs: bool) {
    let shown = dir.display();
    let system = match try_dir(dir, is_ours) {
        Ok(system) => system,
        Err(error) if error.kind() == ErrorKind::NotFound => return,
        Err(error) => {
            let error = Error::new("write to", dir, error);
            return fail(format_args!(
                "{error}: make this user its owner, or remount it writable"
            ));
        }
    };
    let (free, reserve) = (system.free >> 20, space::RESERVE >> 20);
    let found = format!("{shown} has {free} MB free");
    if runs && system.is_no_exec {
        fail(format_args!(
            "{found}, but is mounted noexec: remount it with exec"
        ));
    } else if free < reserve {
        fail(format_args!(
            "{found}: free up space, downloads leave {reserve} MB unused"
        ));
    } else if system.files.is_some_and(|files| files < INODES_WANTED) {
        warn(format_args!(
            "{found}, but fewer than {INODES_WANTED} inodes: remove small files"
        ));
    } else {
        ok(format_args!("{found}"));
    }
}

/// Creates and removes a file if the directory is ours. Never writes to a file that somebody else has put there.
fn try_dir(dir: &Path, is_ours: bool) -> io::Result<FileSystem> {
    let system = files::file_system(dir)?;
    if system.is_read_only {
        return Err(io::Error::from_raw_os_error(libc::EROFS));
    }
    if is_ours {
        let probe = dir.join(".doctor.tmp");
        // An earlier run may have been killed before it removed the file.
        let _ = fs::remove_file(&probe);
        File::options().write(true).create_new(true).open(&probe)?;
        fs::remove_file(&probe)?;
    }
    Ok(system)
}

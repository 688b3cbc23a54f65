//! The directory of an agent that runs as another user: `<workDir>/<name>`, made by root for that user. Root does
//! nothing where a user could replace the directory under its hands; there the user itself does the rest.
//!
//! When the user changes and workDir does not, root makes the new user's directory aside as `.<name>.<uid>`. It trades
//! places with the old one when the agent is started by its new user.
#![expect(clippy::disallowed_methods, reason = "it reads and gives directories")]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};

use crate::agent::foreign;
use crate::agent::paths::Paths;
use crate::error::{At, Error, Kind, Result};
use crate::model::{AgentName, Location};
use crate::os::dir::{self, Stat};
use crate::os::disk;
use crate::os::user::Account;
use crate::os::walk::{self, Missing, Trusted};

/// What the caller wants to do in the directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// Only find the agent: nothing is created.
    Find,
    /// Install a version.
    Install,
    /// Run the agent: the user's directory gets the agent's name.
    Run,
}

/// The user that is to own the directory.
pub struct Owner<'a> {
    pub account: &'a Account,
    /// Whether the agent lived with another user until now.
    pub moving: bool,
    /// The uid that is trusted besides root: the user who called sudo.
    pub trusted: Option<u32>,
}

/// Prepares the agent's directory as root, and returns where it is.
///
/// Fails if the directory belongs to a user whom the agent does not move away from.
pub fn prepare(
    name: &AgentName,
    location: &Location,
    owner: &Owner,
    purpose: Purpose,
) -> Result<PathBuf> {
    let work_dir = Path::new(&location.work_dir);
    let missing = match purpose {
        Purpose::Find => Missing::GiveUp,
        Purpose::Install | Purpose::Run => Missing::Create,
    };
    // Root works only where not even the run user could replace a directory.
    let caller = owner.trusted.filter(|uid| *uid != owner.account.uid);
    let parent = match walk::open(work_dir, Trusted::user(0, caller), missing) {
        Ok(Some(parent)) => parent,
        Ok(None) => return leave_to_user(work_dir.join(name.as_str()), owner),
        Err(error) if error.kind() == Kind::NotTrusted && owner.account.uid != 0 => {
            return leave_to_user(work_dir.join(name.as_str()), owner);
        }
        Err(error) => return Err(error),
    };
    let directory = Directory {
        parent,
        work_dir,
        name: name.as_str(),
        account: owner.account,
    };
    match (directory.holder()?, owner.moving) {
        (Holder::User, _) => Ok(directory.public()),
        (Holder::Root, false) => {
            if purpose != Purpose::Find {
                directory.give_if_empty()?;
            }
            Ok(directory.public())
        }
        (Holder::Other(uid), false) => {
            Err(belongs_to_other(&directory.public(), uid, owner.account))
        }
        (Holder::Root | Holder::Other(_), true) => directory.prepare_aside(purpose),
        (Holder::Nobody, _) => directory.prepare_free_name(purpose),
    }
}

/// Returns the directory in a workDir that a user controls. Root does nothing there: the user does the rest itself, and
/// checks that nobody but itself controls it.
fn leave_to_user(public: PathBuf, owner: &Owner) -> Result<PathBuf> {
    match fs::symlink_metadata(&public).map(|meta| meta.uid()) {
        Ok(0) if !owner.moving => Ok(public),
        Ok(uid) if uid != owner.account.uid => Err(belongs_to_other(&public, uid, owner.account)),
        _ => Ok(public),
    }
}

/// Fails if the agent's directory belongs to a user, although no user of the agent's name is known.
///
/// Then the directory server is probably down, and a local user that is created now would be another one.
pub fn check_unowned(name: &AgentName, location: &Location) -> Result<()> {
    let dir = Path::new(&location.work_dir).join(name.as_str());
    match fs::symlink_metadata(&dir) {
        Ok(meta) if meta.uid() != 0 => {
            let cause = format!(
                "id does not know it, yet {} belongs to uid {}",
                dir.display(),
                meta.uid()
            );
            Err(Error::new("create the user", &location.run_user, cause))
        }
        _ => Ok(()),
    }
}

/// Fails if anybody but the agent's user, root and the user who called sudo could replace the agent's directory, or
/// `.updater` in it. This process has become the agent's user.
///
/// What another user put there is neither run nor written to, least of all by root.
pub fn check(paths: &Paths) -> Result<()> {
    walk::check(&paths.ours(), paths.trusted)
}

/// Creates `.updater` and the missing directories on the way to it, where nobody else could replace them.
pub fn create_ours(paths: &Paths) -> Result<()> {
    walk::open(&paths.ours(), paths.trusted, Missing::Create).map(drop)
}

/// Fails if the agent's directory cannot be put aside for another user's. Root asks before the agent is stopped.
pub fn check_can_be_put_aside(
    name: &AgentName,
    location: &Location,
    caller: Option<u32>,
) -> Result<()> {
    let work_dir = Path::new(&location.work_dir);
    // Where others could replace a directory, root puts none aside.
    let Ok(Some(_)) = walk::open(work_dir, Trusted::user(0, caller), Missing::GiveUp) else {
        return Ok(());
    };
    let probe = work_dir.join(format!(".{name}.probe"));
    disk::make_dir(&probe.join("full"))?;
    let movable = disk::check_movable(&work_dir.join(name.as_str()), &probe);
    disk::remove_tree(&probe)?;
    movable.map_err(|error| {
        error.with_hint(
            "a mount point or a directory of an image cannot be put aside; name another workDir for the new user",
        )
    })
}

fn belongs_to_other(dir: &Path, uid: u32, account: &Account) -> Error {
    let user = &account.name;
    let cause = format!("it belongs to uid {uid}, not to {user}; name another workDir for {user}");
    Error::new("use", dir, cause)
}

/// Who owns the directory that has the agent's name.
enum Holder {
    /// The user that the agent runs as.
    User,
    Root,
    Other(u32),
    /// There is no such directory.
    Nobody,
}

struct Directory<'a> {
    /// The open workDir, which no user can replace.
    parent: File,
    work_dir: &'a Path,
    name: &'a str,
    account: &'a Account,
}

impl Directory<'_> {
    fn public(&self) -> PathBuf {
        self.work_dir.join(self.name)
    }

    /// Returns the name under which a user's directory waits while another user's has the agent's name.
    fn aside_name(&self, uid: u32) -> String {
        format!(".{}.{uid}", self.name)
    }

    fn holder(&self) -> Result<Holder> {
        Ok(match self.stat(self.name)? {
            Some(stat) if stat.uid == self.account.uid => Holder::User,
            Some(stat) if stat.uid == 0 => Holder::Root,
            Some(stat) => Holder::Other(stat.uid),
            None => Holder::Nobody,
        })
    }

    /// Another user's directory has the agent's name: the user's own is aside, until the agent runs as that user.
    fn prepare_aside(&self, purpose: Purpose) -> Result<PathBuf> {
        // The start puts the other directory aside, whatever it is: /etc, or the home of a user.
        foreign::check_is_agent(&Paths::in_dir(self.public(), Trusted::strict()))?;
        let aside = self.aside_name(self.account.uid);
        let is_own = |stat: Stat| stat.uid == self.account.uid;
        match purpose {
            Purpose::Run => return self.take_over(&aside),
            Purpose::Install if !self.stat(&aside)?.is_some_and(is_own) => self.create(&aside)?,
            Purpose::Install | Purpose::Find => {}
        }
        Ok(self.work_dir.join(aside))
    }

    /// No directory has the agent's name: the agent is new, or a crash came between the two renames of a take-over.
    fn prepare_free_name(&self, purpose: Purpose) -> Result<PathBuf> {
        let aside = self.aside_name(self.account.uid);
        let has_aside = self.stat(&aside)?.is_some();
        match purpose {
            Purpose::Find if has_aside => Ok(self.work_dir.join(aside)),
            Purpose::Find => Ok(self.public()),
            Purpose::Install | Purpose::Run if has_aside => self.take_over(&aside),
            Purpose::Install | Purpose::Run => {
                self.create(self.name)?;
                Ok(self.public())
            }
        }
    }

    /// Returns who owns a directory in workDir, or `None` if it does not exist. Fails for anything but a directory.
    fn stat(&self, name: &str) -> Result<Option<Stat>> {
        let path = self.work_dir.join(name);
        match dir::stat_at(&self.parent, OsStr::new(name)) {
            Ok(stat) if stat.is_dir() => Ok(Some(stat)),
            Ok(_) => Err(Error::new("use", &path, "it is a link or no directory")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::new("look at", &path, error)),
        }
    }

    fn create(&self, name: &str) -> Result<()> {
        let path = self.work_dir.join(name);
        dir::make_dir_at(&self.parent, OsStr::new(name)).at("create", &path)?;
        self.give(name)
    }

    /// Gives the user a directory of root's that is empty: an updater that was killed had created it for the user.
    fn give_if_empty(&self) -> Result<()> {
        let names = disk::names(&self.public());
        if names.is_ok_and(|mut names| names.next().is_none()) {
            self.give(self.name)?;
        }
        Ok(())
    }

    /// Makes the user the owner of a directory of root's.
    fn give(&self, name: &str) -> Result<()> {
        let path = self.work_dir.join(name);
        let dir = dir::open_dir_at(&self.parent, OsStr::new(name)).at("open", &path)?;
        let owner = dir.metadata().at("look at", &path)?.uid();
        if owner != 0 {
            return Err(belongs_to_other(&path, owner, self.account));
        }
        let (uid, gid) = (self.account.uid, self.account.gid);
        fchown(&dir, Some(uid), Some(gid)).at("chown", &path)?;
        self.parent.sync_all().at("sync", self.work_dir)
    }

    /// Gives the user's directory the agent's name, and puts aside the directory that had it. Returns the new path.
    fn take_over(&self, aside: &str) -> Result<PathBuf> {
        let public = self.public();
        let rename = |from: &str, to: &str| {
            dir::rename_at(&self.parent, OsStr::new(from), OsStr::new(to)).at("rename", &public)
        };
        let uid = self.account.uid;
        if self.stat(aside)?.is_none_or(|stat| stat.uid != uid) {
            let cause = format!("{} has no directory there", self.account.name);
            return Err(Error::new("take over", &public, cause));
        }
        if let Some(before) = self.stat(self.name)?
            && before.uid != uid
        {
            rename(self.name, &self.aside_name(before.uid))?;
        }
        // A crash here leaves the name free. The next start by either user takes it.
        rename(aside, self.name)?;
        self.parent.sync_all().at("sync", self.work_dir)?;
        Ok(public)
    }
}

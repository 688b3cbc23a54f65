//! The ground that an agent of another user stands on: `<workDir>/<name>`, made by root for that user. Root walks
//! there one directory after the other, follows no link that the user could have made, and does nothing where the
//! user could swap what it stands on; from there on the user itself does the rest.
//!
//! When the user changes and workDir does not, the new user's directory is made aside as `.<name>.<uid>`, and changes
//! places with the old one when the agent does.
#![expect(clippy::disallowed_methods, reason = "it looks at directories")]

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::disk;
use crate::error::{At, Error, Result};
use crate::model::{AgentName, Place};
use crate::sys::{self, Stat};
use crate::user::Account;

/// Links of the system that are followed on the way; a loop ends here.
const LINK_LIMIT: u32 = 16;

/// What is asked of the ground.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wish {
    /// Only to know where the agent is.
    Find,
    /// To be able to install there.
    Make,
    /// To run there: the user's directory gets the agent's name.
    TakeOver,
}

/// For whom ground is prepared.
pub struct Settler<'a> {
    pub account: &'a Account,
    /// The agent lived with another user until now.
    pub moving: bool,
    /// Who is trusted besides root: the user who called sudo.
    pub trusted: Option<u32>,
}

/// The directory of the agent for this user.
pub fn prepare(name: &AgentName, place: &Place, settler: &Settler, wish: Wish) -> Result<PathBuf> {
    let Settler {
        account, moving, ..
    } = *settler;
    let public = Path::new(&place.work_dir).join(name.as_str());
    let Some(parent) = walk(Path::new(&place.work_dir), settler, wish)? else {
        if account.uid == 0 {
            let cause = "another user could swap it, and this agent is to run as root";
            return Err(Error::new("use", &public, cause));
        }
        // Root has no business here: the user does the rest itself. What another user left is not for it to take.
        let owner = std::fs::symlink_metadata(&public).map(|meta| meta.uid());
        return match owner {
            Ok(0) if !moving => Ok(public),
            Ok(uid) if uid != account.uid => Err(not_its_own(&public, uid, account)),
            _ => Ok(public),
        };
    };
    let ground = Ground {
        parent,
        work_dir: Path::new(&place.work_dir),
        name: name.as_str(),
        account,
    };
    let taken = match ground.look(name.as_str())? {
        Some(stat) if stat.uid == account.uid => false,
        // Left by root in an earlier life, perhaps unfinished.
        Some(stat) if stat.uid == 0 && !moving => {
            if wish != Wish::Find {
                ground.give_if_empty(&stat)?;
            }
            false
        }
        Some(_) if moving => true,
        Some(stat) => return Err(not_its_own(&public, stat.uid, account)),
        // A crash between the two renames of a take-over has left the name free.
        None if ground.look(&ground.aside(account.uid))?.is_some() => {
            if wish != Wish::Find {
                ground.take_over(&ground.aside(account.uid))?;
                return Ok(public);
            }
            true
        }
        None => {
            if wish != Wish::Find {
                ground.make(name.as_str())?;
            }
            false
        }
    };
    if !taken {
        return Ok(public);
    }
    let aside = ground.aside(account.uid);
    if wish == Wish::TakeOver {
        ground.take_over(&aside)?;
        return Ok(public);
    }
    if wish == Wish::Make
        && ground
            .look(&aside)?
            .is_none_or(|stat| stat.uid != account.uid)
    {
        ground.make(&aside)?;
    }
    Ok(ground.work_dir.join(aside))
}

/// A directory of the agent that is neither missing nor root's belongs to a user whom nobody knows just now: the
/// directory server is down, and a local user of that name would be another one.
pub fn check_nobodys(name: &AgentName, place: &Place) -> Result<()> {
    let dir = Path::new(&place.work_dir).join(name.as_str());
    match std::fs::symlink_metadata(&dir) {
        Ok(meta) if meta.uid() != 0 => {
            let cause = format!(
                "id does not know it, yet {} belongs to uid {}",
                dir.display(),
                meta.uid()
            );
            Err(Error::new("create the user", &place.run_user, cause))
        }
        _ => Ok(()),
    }
}

/// The same for an agent of our own user: what somebody else put there is neither run nor written to, least of all by
/// root.
pub fn check_own(dir: &Path) -> Result<()> {
    match std::fs::symlink_metadata(dir) {
        Ok(meta) if ![0, sys::effective_uid()].contains(&meta.uid()) => {
            let cause = format!(
                "it belongs to uid {}, and this agent is to run as us",
                meta.uid()
            );
            Err(Error::new("use", dir, cause))
        }
        _ => Ok(()),
    }
}

fn not_its_own(dir: &Path, uid: u32, account: &Account) -> Error {
    let user = &account.name;
    let cause = format!("it belongs to uid {uid}, not to {user}; name another workDir for {user}");
    Error::new("use", dir, cause)
}

struct Ground<'a> {
    /// workDir, which the user cannot swap.
    parent: OwnedFd,
    work_dir: &'a Path,
    name: &'a str,
    account: &'a Account,
}

impl Ground<'_> {
    /// Who owns a directory in workDir; anything else of that name is refused.
    fn look(&self, name: &str) -> Result<Option<Stat>> {
        let path = self.work_dir.join(name);
        match sys::stat_at(&self.parent, OsStr::new(name)) {
            Ok(stat) if stat.is_dir() => Ok(Some(stat)),
            Ok(_) => Err(Error::new("use", &path, "it is a link or no directory")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::new("look at", &path, error)),
        }
    }

    fn aside(&self, uid: u32) -> String {
        format!(".{}.{uid}", self.name)
    }

    fn make(&self, name: &str) -> Result<()> {
        let path = self.work_dir.join(name);
        sys::make_dir_at(&self.parent, OsStr::new(name)).at("create", &path)?;
        self.give(name)
    }

    /// A directory of root's without content was made in a life that ended before it was given.
    fn give_if_empty(&self, stat: &Stat) -> Result<()> {
        let names = disk::names(&self.work_dir.join(self.name));
        let is_empty = names.is_ok_and(|mut names| names.next().is_none());
        if is_empty && stat.uid != self.account.uid {
            self.give(self.name)?;
        }
        Ok(())
    }

    fn give(&self, name: &str) -> Result<()> {
        let path = self.work_dir.join(name);
        let dir = sys::open_dir_at(&self.parent, OsStr::new(name)).at("open", &path)?;
        let stat = sys::stat_of(&dir).at("look at", &path)?;
        if stat.uid != 0 {
            return Err(not_its_own(&path, stat.uid, self.account));
        }
        sys::give(&dir, self.account.uid, self.account.gid).at("chown", &path)?;
        sys::sync(&self.parent).at("sync", self.work_dir)
    }

    /// The user's directory gets the agent's name, and who had it steps aside under its own number.
    fn take_over(&self, aside: &str) -> Result<()> {
        let public = self.work_dir.join(self.name);
        let rename = |from: &str, to: &str| {
            sys::rename_at(&self.parent, OsStr::new(from), OsStr::new(to)).at("rename", &public)
        };
        let Some(stat) = self
            .look(aside)?
            .filter(|stat| stat.uid == self.account.uid)
        else {
            let cause = format!("{} has no directory there", self.account.name);
            return Err(Error::new("take over", &public, cause));
        };
        if let Some(before) = self
            .look(self.name)?
            .filter(|before| before.uid != stat.uid)
        {
            rename(self.name, &self.aside(before.uid))?;
        }
        // A crash here leaves the name free, and the next start of either user takes it.
        rename(aside, self.name)?;
        sys::sync(&self.parent).at("sync", self.work_dir)
    }
}

/// Walks to workDir as root. None where the way is the user's own. What is missing is made, if so wished, and is root's.
fn walk(work_dir: &Path, settler: &Settler, wish: Wish) -> Result<Option<OwnedFd>> {
    let mut ahead = parts(work_dir.as_os_str());
    let mut at = sys::open_root().at("open", "/")?;
    let mut way = PathBuf::from("/");
    let mut links = 0;
    while let Some(part) = ahead.pop() {
        let next = way.join(&part);
        match sys::open_dir_at(&at, &part) {
            Ok(dir) => (at, way) = (dir, next),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if wish == Wish::Find {
                    return Ok(None);
                }
                sys::make_dir_at(&at, &part).at("create", &next)?;
                sys::sync(&at).at("sync", &next)?;
                ahead.push(part);
                continue;
            }
            Err(error) => {
                let stat = sys::stat_at(&at, &part).at("look at", &next)?;
                links += 1;
                if !stat.is_link() {
                    return Err(Error::new("enter", &next, error));
                }
                if stat.uid != 0 || links > LINK_LIMIT {
                    return Err(Error::new(
                        "enter",
                        &next,
                        "it is a link that is not root's",
                    ));
                }
                let target = sys::read_link_at(&at, &part).at("read", &next)?;
                if target.as_bytes().starts_with(b"/") {
                    at = sys::open_root().at("open", "/")?;
                    way = PathBuf::from("/");
                }
                ahead.append(&mut parts(&target));
                continue;
            }
        }
        let stat = sys::stat_of(&at).at("look at", &way)?;
        if is_at_mercy(&stat, settler) {
            return Ok(None);
        }
    }
    Ok(Some(at))
}

/// The parts of a path, the first one last.
fn parts(path: &OsStr) -> Vec<OsString> {
    let mut parts = Vec::new();
    for part in path.as_bytes().rsplit(|byte| *byte == b'/') {
        if !matches!(part, b"" | b".") {
            parts.push(OsStr::from_bytes(part).to_owned());
        }
    }
    parts
}

/// Whether somebody who is not trusted could rename or replace what is in this directory.
fn is_at_mercy(stat: &Stat, settler: &Settler) -> bool {
    let account = settler.account;
    let is_trusted = stat.uid == 0 || settler.trusted == Some(stat.uid);
    let by_owner = !is_trusted || stat.uid == account.uid && account.uid != 0;
    let is_member = account.groups.contains(&stat.gid) || stat.gid == account.gid;
    let by_group = stat.mode & 0o020 != 0 && is_member && stat.gid != 0;
    let by_all = stat.mode & 0o002 != 0;
    // In a sticky directory, such as /tmp, entries of others are safe; what is taken from it is checked by its owner.
    let is_sticky = stat.mode & 0o1000 != 0;
    by_owner || (by_group || by_all) && !is_sticky
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> Account {
        Account {
            name: "falcon".into(),
            uid: 1001,
            gid: 1001,
            groups: vec![1001, 50],
            home: "/".into(),
        }
    }

    #[test]
    fn a_directory_is_safe_when_only_root_can_write_it() {
        let account = account();
        let settler = |trusted| Settler {
            account: &account,
            moving: false,
            trusted,
        };
        for (uid, gid, mode, at_mercy) in [
            (0, 0, 0o755, false),
            (0, 0, 0o1777, false),
            (0, 0, 0o777, true),
            (0, 50, 0o775, true),
            (0, 50, 0o1775, false),
            (0, 60, 0o775, false),
            (1001, 0, 0o700, true),
            (1002, 1002, 0o755, true),
        ] {
            let stat = Stat { uid, gid, mode };
            assert_eq!(is_at_mercy(&stat, &settler(None)), at_mercy, "{stat:?}");
        }
        let (uid, gid, mode) = (1002, 1002, 0o755);
        let of_caller = Stat { uid, gid, mode };
        assert!(!is_at_mercy(&of_caller, &settler(Some(1002))));
        let uid = 1001;
        let of_user = Stat { uid, gid, mode };
        assert!(is_at_mercy(&of_user, &settler(Some(1001))));
    }
}

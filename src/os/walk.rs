//! The way from `/` to a file or directory, one directory after the other by descriptor. Stops where somebody who is not
//! trusted could replace the next one, and follows no link that such a user could have made.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::dir::{self, Stat};
use super::{credentials, user};
use crate::error::{At, Error, Kind, Result};

/// Trusted links are followed up to this number, so that a loop of links ends.
const LINK_LIMIT: u32 = 16;

/// The users who may own what is on the way. Root is always one of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trusted {
    /// The user that this process acts for. Its own links are followed, like root's.
    pub uid: u32,
    /// The user who called sudo.
    pub caller: Option<u32>,
    /// The group that may write to directories of `uid`.
    own_group: Option<u32>,
}

impl Trusted {
    /// Trusts root, this user, and the user who called sudo.
    pub fn user(uid: u32, caller: Option<u32>) -> Self {
        Self {
            uid,
            caller,
            own_group: None,
        }
    }

    /// Trusts root and the user of this process.
    pub fn strict() -> Self {
        Self::user(credentials::effective_uid(), None)
    }

    /// Trusts like `strict`, and an ordinary user's own group too: where the umask is 002, as on Red Hat and Ubuntu, all
    /// directories that the user makes are open to the group that only this user is in. Not where there is an ACL.
    pub fn own() -> Self {
        Self {
            own_group: user::private_group(),
            ..Self::strict()
        }
    }

    /// Returns what lets somebody else replace the file, or an entry of the directory, and how to mend it.
    ///
    /// An ACL needs no look of its own: with one, the group bits of the mode are its mask, which limits what its entries
    /// for users and groups give (acl(5)). So the bit is set if any entry can give write, and `chmod g-w` mends that too.
    /// A mask that nobody uses counts as well. macOS keeps its ACLs apart from the mode; they are not looked at.
    fn fault(self, stat: &Stat) -> Option<String> {
        if ![Some(0), Some(self.uid), self.caller].contains(&Some(stat.uid)) {
            let owner = match self.uid {
                0 => "root".to_owned(),
                uid => uid.to_string(),
            };
            return Some(format!("it belongs to uid {}; chown {owner}", stat.uid));
        }
        // In a sticky directory such as /tmp nobody can replace entries of others. The owner of an entry that is already
        // there is checked when it is opened.
        if stat.is_dir() && stat.mode & 0o1000 != 0 {
            return None;
        }
        let is_private = stat.uid == self.uid && Some(stat.gid) == self.own_group;
        if stat.mode & 0o002 != 0 {
            Some("everybody can write to it; chmod go-w".to_owned())
        } else if stat.mode & 0o020 != 0 && !is_private {
            let gid = stat.gid;
            Some(format!(
                "its group, gid {gid}, or its ACL can write to it; chmod go-w"
            ))
        } else {
            None
        }
    }
}

/// What to do about a directory on the way that does not exist.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Missing {
    /// Give up: the caller only wants to know what is there.
    GiveUp,
    /// Create it.
    Create,
}

/// Opens a directory. Returns `None` where a directory is missing and is not to be created. Where somebody who is not
/// trusted could replace a directory on the way, the error is of `Kind::NotTrusted`.
///
/// After this call nobody but trusted users can change where the path leads.
pub fn open(path: &Path, trusted: Trusted, missing: Missing) -> Result<Option<File>> {
    let mut walk = Walk::to(path, trusted)?;
    while let Some(part) = walk.ahead.pop() {
        if !walk.step(part, missing)? {
            return Ok(None);
        }
    }
    Ok(Some(walk.dir))
}

/// Checks the way to a file or directory, and itself. What does not exist is no fault.
pub fn check(path: &Path, trusted: Trusted) -> Result<()> {
    let mut walk = Walk::to(path, trusted)?;
    while let Some(part) = walk.ahead.pop() {
        if walk.ahead.is_empty()
            && let Ok(stat) = dir::stat_at(&walk.dir, &part)
            && !stat.is_dir()
            && !stat.is_link()
        {
            walk.path.push(part);
            return walk.check(trusted, &stat);
        }
        if !walk.step(part, Missing::GiveUp)? {
            break;
        }
    }
    Ok(())
}

struct Walk {
    trusted: Trusted,
    /// The directory that was reached so far.
    dir: File,
    path: PathBuf,
    /// The parts that are still ahead, the next one last.
    ahead: Vec<OsString>,
    links_followed: u32,
}

impl Walk {
    fn to(path: &Path, trusted: Trusted) -> Result<Self> {
        let mut walk = Self {
            trusted,
            dir: dir::open_root().at("open", "/")?,
            path: PathBuf::from("/"),
            ahead: reversed_parts(path.as_os_str()),
            links_followed: 0,
        };
        walk.enter(None)?;
        Ok(walk)
    }

    /// Goes on to the next part. Returns false if it is missing and is not to be created.
    fn step(&mut self, part: OsString, missing: Missing) -> Result<bool> {
        match dir::open_dir_at(&self.dir, &part) {
            Ok(dir) => self.enter(Some((dir, &part)))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if missing == Missing::GiveUp {
                    return Ok(false);
                }
                self.create(part)?;
            }
            Err(error) => self.follow_link(&part, error)?,
        }
        Ok(true)
    }

    /// Enters a directory, or stays, and checks where it is then.
    fn enter(&mut self, next: Option<(File, &OsStr)>) -> Result<()> {
        if let Some((dir, part)) = next {
            self.dir = dir;
            self.path.push(part);
        }
        let stat = Stat::from(&self.dir.metadata().at("look at", &self.path)?);
        let mut trusted = self.trusted;
        if trusted.own_group.is_some() && dir::may_have_acl(&self.dir) {
            trusted.own_group = None;
        }
        self.check(trusted, &stat)
    }

    fn check(&self, trusted: Trusted, stat: &Stat) -> Result<()> {
        let Some(fault) = trusted.fault(stat) else {
            return Ok(());
        };
        let cause = format!("{fault} {}", self.path.display());
        Err(Error::new("trust", &self.path, cause).with_kind(Kind::NotTrusted))
    }

    /// Creates the missing directory, which the next step opens.
    fn create(&mut self, part: OsString) -> Result<()> {
        let path = self.path.join(&part);
        match dir::make_dir_at(&self.dir, &part) {
            // Another process was faster. The next step checks whose it is.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => {
                made.at("create", &path)?;
                self.dir.sync_all().at("sync", &path)?;
            }
        }
        self.ahead.push(part);
        Ok(())
    }

    /// Puts the target of a trusted link ahead. `error` is why `part` could not be opened as a directory.
    fn follow_link(&mut self, part: &OsStr, error: io::Error) -> Result<()> {
        let path = self.path.join(part);
        let stat = dir::stat_at(&self.dir, part).at("look at", &path)?;
        if !stat.is_link() {
            return Err(Error::new("enter", &path, error));
        }
        self.links_followed += 1;
        if ![0, self.trusted.uid].contains(&stat.uid) {
            let cause = format!("it is a link that belongs to uid {}, not to root", stat.uid);
            return Err(Error::new("enter", &path, cause));
        }
        if self.links_followed > LINK_LIMIT {
            return Err(Error::new("enter", &path, "more than 16 links lead to it"));
        }
        let target = dir::read_link_at(&self.dir, part).at("read", &path)?;
        if target.as_bytes().starts_with(b"/") {
            self.dir = dir::open_root().at("open", "/")?;
            self.path = PathBuf::from("/");
        }
        self.ahead.append(&mut reversed_parts(&target));
        Ok(())
    }
}

/// Returns the parts of a path, the first one last.
fn reversed_parts(path: &OsStr) -> Vec<OsString> {
    let mut parts = Vec::new();
    for part in path.as_bytes().rsplit(|byte| *byte == b'/') {
        if !matches!(part, b"" | b".") {
            parts.push(OsStr::from_bytes(part).to_owned());
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIR: u32 = 0o040_000;
    const FILE: u32 = 0o100_000;

    #[test]
    fn nobody_but_trusted_users_may_own_or_write_a_directory_or_file() {
        let root = Trusted::user(0, None);
        let user = Trusted::user(1001, None);
        let by_sudo = Trusted::user(1001, Some(1002));
        let private = Trusted {
            own_group: Some(50),
            ..user
        };
        for (trusted, uid, gid, mode, is_safe) in [
            (root, 0, 0, DIR | 0o755, true),
            (root, 0, 0, DIR | 0o1777, true),
            (root, 0, 0, DIR | 0o777, false),
            (root, 0, 0, DIR | 0o775, false),
            (root, 0, 50, DIR | 0o2775, false),
            (root, 0, 50, DIR | 0o1775, true),
            (root, 1001, 0, DIR | 0o700, false),
            (root, 0, 0, FILE | 0o755, true),
            (root, 0, 0, FILE | 0o664, false),
            (root, 0, 0, FILE | 0o1777, false),
            (root, 1001, 0, FILE | 0o600, false),
            (user, 1001, 1001, DIR | 0o700, true),
            (user, 1001, 1001, DIR | 0o775, false),
            (user, 1002, 1002, DIR | 0o755, false),
            (by_sudo, 1002, 1002, DIR | 0o755, true),
            (by_sudo, 1003, 1003, DIR | 0o1777, false),
            (private, 1001, 50, DIR | 0o775, true),
            (private, 1001, 60, DIR | 0o775, false),
            (private, 0, 50, DIR | 0o775, false),
            (private, 1001, 50, DIR | 0o777, false),
        ] {
            let stat = Stat { uid, gid, mode };
            let fault = trusted.fault(&stat);
            assert_eq!(fault.is_none(), is_safe, "{stat:?} {trusted:?} {fault:?}");
        }
    }

    #[test]
    fn a_fault_says_who_could_replace_it_and_what_mends_it() {
        let root = Trusted::user(0, None);
        for (uid, gid, mode, words) in [
            (1001, 0, 0o755, "it belongs to uid 1001; chown root"),
            (
                0,
                50,
                0o775,
                "its group, gid 50, or its ACL can write to it; chmod go-w",
            ),
            (0, 50, 0o777, "everybody can write to it; chmod go-w"),
        ] {
            let mode = DIR | mode;
            let fault = root.fault(&Stat { uid, gid, mode });
            assert_eq!(fault.as_deref(), Some(words));
        }
    }

    #[test]
    fn the_parts_of_a_path_come_last_first() {
        let parts = reversed_parts(OsStr::new("/a//b/./c/"));
        assert_eq!(parts, ["c", "b", "a"]);
    }
}

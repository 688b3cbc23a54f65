//! The processes of this user that are below a directory: those whose program is there, and those that only stand there. Linux
//! only: no other system has /proc, so nothing is found.
#![expect(clippy::disallowed_methods, reason = "it looks at files of /proc")]

use std::ffi::OsStr;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{credentials, disk, process};

/// Bytes. The files of a process that are read here are shorter, except an odd command line.
const FILE_LIMIT: u64 = 16 << 10;

/// A process below a directory.
pub struct Occupant {
    pub pid: u32,
    /// The name of its program, as the kernel keeps it: the first 15 bytes. Arguments may contain passwords.
    pub name: String,
    /// Its program is below the directory. Otherwise only its working directory is: it may be an interpreter, or the shell of
    /// an operator.
    pub runs_there: bool,
    identity: String,
}

impl Occupant {
    /// Sends a signal, unless the process has ended: another one may have its pid by now.
    pub fn signal(&self, signal: i32) {
        let handle = process::Handle::open(self.pid);
        if process::is_alive(&self.identity) {
            // It may end in this moment.
            let _ = handle.signal(signal);
        }
    }

    /// Returns the command line of the leader of its session, with a NUL after each word; empty if that has ended.
    pub fn session_command(&self) -> String {
        let leader = process::session(self.pid).unwrap_or_default();
        read(&format!("/proc/{leader}/cmdline"))
    }
}

/// Returns the processes of this user below a directory, whose path has no links. Runs of this program do not count.
///
/// A process that the kernel does not let its own user look at is not found, such as one with capabilities of its file.
pub fn below(dir: &Path) -> Vec<Occupant> {
    let mut found = Vec::new();
    let Ok(names) = disk::names(Path::new("/proc")) else {
        return found;
    };
    for name in names {
        let pid = name.ok().and_then(|name| name.to_str()?.parse().ok());
        if let Some(occupant) = pid.and_then(|pid| occupant(pid, dir)) {
            found.push(occupant);
        }
    }
    found
}

/// Returns the path of a directory as the links of /proc name it; none if it does not exist.
pub fn real_path(dir: &Path) -> Option<PathBuf> {
    let dir = fs::File::open(dir).ok()?;
    fs::read_link(format!("/proc/self/fd/{}", dir.as_raw_fd())).ok()
}

fn occupant(pid: u32, dir: &Path) -> Option<Occupant> {
    let user = credentials::effective_uid();
    let proc = PathBuf::from(format!("/proc/{pid}"));
    if fs::metadata(&proc).ok()?.uid() != user {
        return None;
    }
    let (exe, cwd) = (proc.join("exe"), proc.join("cwd"));
    if !leads_below(&exe, dir) && !leads_below(&cwd, dir) {
        return None;
    }
    // Who is it? The links are read again after that, because the pid may have got to another process meanwhile.
    let identity = process::identity(pid)?;
    let runs_there = leads_below(&exe, dir);
    let is_below = runs_there || leads_below(&cwd, dir);
    // Root's name stands on the files of a process that hides from its own user.
    let is_of_user = effective_uid(pid) == Some(user);
    let is_of_us = disk::is_same(&exe, Path::new("/proc/self/exe"));
    if !is_below || !is_of_user || is_of_us {
        return None;
    }
    Some(Occupant {
        pid,
        name: read(&format!("/proc/{pid}/comm")).trim_end().to_owned(),
        runs_there,
        identity,
    })
}

/// Returns whether a link of /proc leads to the directory or below it, though what it leads to may be deleted.
///
/// Where the process sees other mounts than this one, as in a container, the same path may be another file.
fn leads_below(link: &Path, dir: &Path) -> bool {
    let Ok(target) = fs::read_link(link) else {
        return false;
    };
    let target = undeleted(&target);
    is_below(target, dir) && (shares_mounts(link) || disk::is_same(link, target))
}

/// Returns whether the path is that of the directory, or below it. Both are as the kernel writes them.
fn is_below(path: &Path, dir: &Path) -> bool {
    let (path, dir) = (path.as_os_str().as_bytes(), dir.as_os_str().as_bytes());
    matches!(path.strip_prefix(dir), Some([] | [b'/', ..]))
}

/// Returns the path without the mark that the kernel adds to the path of a deleted file.
fn undeleted(target: &Path) -> &Path {
    let bytes = target.as_os_str().as_bytes();
    let path = bytes.strip_suffix(b" (deleted)").unwrap_or(bytes);
    Path::new(OsStr::from_bytes(path))
}

/// Returns whether the process of this link of /proc has the mounts of this process.
fn shares_mounts(link: &Path) -> bool {
    let mounts = |proc: &Path| {
        let link = fs::read_link(proc.join("ns/mnt"));
        link.unwrap_or_default().into_os_string()
    };
    mounts(disk::parent(link)) == mounts(Path::new("/proc/self"))
}

fn effective_uid(pid: u32) -> Option<u32> {
    let status = read(&format!("/proc/{pid}/status"));
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    // After the real one.
    uids.split_whitespace().nth(1)?.parse().ok()
}

/// Returns an empty text if the process has ended.
fn read(path: &str) -> String {
    disk::read_small(path.as_ref(), FILE_LIMIT).unwrap_or_default()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::os::command::Command;

    #[test]
    fn a_process_is_below_its_own_directory_and_those_above_it_only() {
        let tmp = fs::canonicalize(std::env::temp_dir()).expect("a temp directory");
        let top = tmp.join(format!("occupants-{}", std::process::id()));
        let dir = top.join("demo/1.0");
        fs::create_dir_all(&dir).expect("it is made");
        let mut command = Command::new("sleep");
        let start = fs::File::open(&dir).expect("it opens");
        command.arg("60").start_in(start);
        let mut child = command.spawn().expect("it runs");
        let pids = |dir: &Path| {
            let found = below(dir).into_iter();
            found
                .map(|found| (found.pid, found.runs_there, found.name))
                .collect::<Vec<_>>()
        };
        let it = [(child.id(), false, "sleep".to_owned())];
        for (dir, expected) in [
            (&dir, &it[..]),
            (&top, &it),
            (&top.join("demo/1"), &[]),
            (&top.join("demo/1.0/x"), &[]),
        ] {
            assert_eq!(pids(dir), expected, "{}", dir.display());
        }
        fs::remove_dir_all(&top).expect("it is removed");
        assert_eq!(pids(&dir), it);
        below(&dir)[0].signal(libc::SIGKILL);
        child.wait().expect("a child");
        assert_eq!(pids(&dir), []);
    }

    #[test]
    fn only_the_mark_of_a_deleted_file_is_removed() {
        for (target, path) in [
            ("/a/1.0 (deleted)", "/a/1.0"),
            ("/a/1.0/b (deleted)", "/a/1.0/b"),
            ("/a/(deleted)", "/a/(deleted)"),
        ] {
            assert_eq!(undeleted(Path::new(target)), Path::new(path));
        }
    }
}

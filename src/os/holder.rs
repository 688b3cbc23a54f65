//! Which process holds a lock. The kernel is asked, never the content of a file: a pid in a file proves nothing, because its
//! process may be gone and another may have the number.
#![allow(unsafe_code)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::unnecessary_cast,
    reason = "C's types are of other widths on some of our targets"
)]
#![expect(clippy::disallowed_methods, reason = "locks are files")]

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use super::call::check;
#[cfg(target_os = "linux")]
use super::disk;

/// Takes a lock of fcntl(2), which names its holder to everybody who can open the file. flock(2) does not, and on macOS and on
/// NFS the two exclude each other, so they need a file each. It is lost when this process closes any descriptor of the
/// file; so this process must not open the file again.
pub fn sign(file: &File) -> io::Result<()> {
    let whole = whole_file();
    // SAFETY: fcntl with this command reads the struct.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &raw const whole) })
}

/// Returns the process that has signed the file. It has no number here if it runs in another PID namespace: an error.
pub fn signer(file: &File) -> io::Result<Option<u32>> {
    let mut found = whole_file();
    // SAFETY: fcntl with this command reads the struct and fills it.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLK, &raw mut found) })?;
    if found.l_type == libc::F_UNLCK as _ {
        return Ok(None);
    }
    match u32::try_from(found.l_pid) {
        Ok(pid) if pid > 0 => Ok(Some(pid)),
        _ => Err(io::Error::other("its holder is in another PID namespace")),
    }
}

fn whole_file() -> libc::flock {
    // SAFETY: a zeroed struct of integers is valid. Offset and length 0 mean the whole file.
    let mut whole: libc::flock = unsafe { std::mem::zeroed() };
    whole.l_type = libc::F_WRLCK as _;
    whole.l_whence = libc::SEEK_SET as _;
    whole
}

/// Says who holds the file by flock(2), for the cause of an error.
pub fn words(path: &Path) -> String {
    let meta = std::fs::metadata(path).ok();
    match meta.and_then(|meta| of_flock(&meta, false)) {
        Some(pid) => format!("pid {pid} holds it"),
        None => "another process holds it".to_owned(),
    }
}

/// Returns a process that holds the file by flock(2): `exclusively`, or in any way. Some file systems, such as btrfs, give
/// /proc/locks another device than stat(2): there the process is found only if its open files may be looked at. macOS has no
/// such list: then nothing is found.
pub fn of_flock(meta: &Metadata, exclusively: bool) -> Option<u32> {
    #[cfg(target_os = "linux")]
    {
        const LIST_LIMIT: u64 = 1 << 20;
        let list = disk::read_small("/proc/locks".as_ref(), LIST_LIMIT).ok()?;
        let (device, inode) = number(meta);
        list.lines().find_map(|line| {
            let (pid, locked) = holder_in(line, exclusively)?;
            let (on, of) = locked.rsplit_once(':')?;
            let is_it = of == inode && (on == device || has_open(pid, meta));
            is_it.then_some(pid)
        })
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (meta, exclusively);
        None
    }
}

/// Returns whether the process has the file open.
#[cfg(target_os = "linux")]
fn has_open(pid: u32, meta: &Metadata) -> bool {
    let dir = format!("/proc/{pid}/fd");
    let Ok(mut names) = disk::names(dir.as_ref()) else {
        return false;
    };
    names.any(|name| {
        let path = Path::new(&dir).join(name.unwrap_or_default());
        let open = std::fs::metadata(path);
        open.is_ok_and(|open| disk::identity(&open) == disk::identity(meta))
    })
}

/// Returns device and inode as /proc/locks names them: the first in hexadecimal, the second in decimal.
#[cfg(target_os = "linux")]
fn number(meta: &Metadata) -> (String, String) {
    use std::os::unix::fs::MetadataExt;
    let device = meta.dev() as libc::dev_t;
    let (major, minor) = (libc::major(device), libc::minor(device));
    (format!("{major:02x}:{minor:02x}"), meta.ino().to_string())
}

/// Reads a line of /proc/locks (proc(5)): the holder, and the file. A process that waits for a lock has `->` in place of the
/// kind, and is no holder.
#[cfg(target_os = "linux")]
fn holder_in(line: &str, exclusively: bool) -> Option<(u32, &str)> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let (kind, _advisory, mode) = (words.next()?, words.next()?, words.next()?);
    let (pid, locked) = (words.next()?, words.next()?);
    let is_lock = kind == "FLOCK" && (mode == "WRITE" || !exclusively);
    let pid = pid.parse().ok().filter(|pid| is_lock && *pid > 0)?;
    Some((pid, locked))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_the_holder_of_one_file_and_nobody_who_waits() {
        let file = "fe:00:1234";
        let holder = |line, exclusively| {
            let (pid, locked) = holder_in(line, exclusively)?;
            (locked == file).then_some(pid)
        };
        for (line, any, exclusive) in [
            (
                "1: FLOCK  ADVISORY  WRITE 77 fe:00:1234 0 EOF",
                Some(77),
                Some(77),
            ),
            (
                "1: FLOCK  ADVISORY  READ  77 fe:00:1234 0 EOF",
                Some(77),
                None,
            ),
            (
                "1: -> FLOCK  ADVISORY  WRITE 78 fe:00:1234 0 EOF",
                None,
                None,
            ),
            ("1: POSIX  ADVISORY  WRITE 77 fe:00:1234 0 EOF", None, None),
            ("1: FLOCK  ADVISORY  WRITE 77 fe:00:12345 0 EOF", None, None),
            ("1: FLOCK  ADVISORY  WRITE -1 fe:00:1234 0 EOF", None, None),
            ("1: FLOCK  ADVISORY  WRITE 0 fe:00:1234 0 EOF", None, None),
            ("", None, None),
        ] {
            assert_eq!(holder(line, false), any, "{line}");
            assert_eq!(holder(line, true), exclusive, "{line}");
        }
    }

    #[test]
    fn the_kernel_names_this_process_for_a_file_that_it_holds() {
        let path = std::env::temp_dir().join(format!("holder-{}", std::process::id()));
        let file = super::disk::open_or_create(&path, 0o600).expect("it is made");
        let meta = file.metadata().expect("it is open");
        assert_eq!(of_flock(&meta, false), None);
        file.lock().expect("it is free");
        assert_eq!(of_flock(&meta, true), Some(std::process::id()));
        // A process never meets its own lock of fcntl(2).
        sign(&file).expect("it is free");
        assert_eq!(signer(&file).expect("it is open"), None);
        super::disk::remove_tree(&path).expect("it is removed");
    }
}

//! Directories opened one by one by descriptor, so that nobody can swap them on the way.
#![allow(unsafe_code)]
#![allow(
    clippy::cast_lossless,
    clippy::unnecessary_cast,
    reason = "C's types are of other widths on some of our targets"
)]
#![expect(clippy::disallowed_methods, reason = "directories are the disk")]

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;

#[cfg(target_os = "linux")]
use super::call::errno;
use super::call::{c_string, check};

const DIR_FLAGS: i32 = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC;

/// Owner, type and permissions of a file.
#[derive(Clone, Copy, Debug)]
pub struct Stat {
    pub uid: u32,
    pub gid: u32,
    /// Type and permission bits, as in `st_mode`.
    pub mode: u32,
}

impl Stat {
    pub fn is_dir(&self) -> bool {
        self.is_kind(libc::S_IFDIR)
    }

    pub fn is_link(&self) -> bool {
        self.is_kind(libc::S_IFLNK)
    }

    fn is_kind(&self, kind: libc::mode_t) -> bool {
        self.mode & libc::S_IFMT as u32 == kind as u32
    }

    fn of(stat: &libc::stat) -> Self {
        Self {
            uid: stat.st_uid,
            gid: stat.st_gid,
            mode: stat.st_mode as u32,
        }
    }
}

impl From<&Metadata> for Stat {
    fn from(meta: &Metadata) -> Self {
        Self {
            uid: meta.uid(),
            gid: meta.gid(),
            mode: meta.mode(),
        }
    }
}

pub fn open_root() -> io::Result<File> {
    File::open("/")
}

/// Opens a directory in a directory. A symbolic link is an error. A directory that this user may enter but not read is
/// opened for entering alone.
pub fn open_dir_at(dir: &File, name: &OsStr) -> io::Result<File> {
    match open_at(dir, name, DIR_FLAGS) {
        #[cfg(target_os = "linux")]
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_at(dir, name, DIR_FLAGS | libc::O_PATH)
        }
        opened => opened,
    }
}

fn open_at(dir: &File, name: &OsStr, flags: i32) -> io::Result<File> {
    let name = c_string(name)?;
    // SAFETY: the name is NUL-terminated and outlives the call. The descriptor is checked and has no other owner.
    unsafe {
        let fd = libc::openat(dir.as_raw_fd(), name.as_ptr(), flags);
        check(fd)?;
        Ok(File::from_raw_fd(fd))
    }
}

/// Returns the data of an entry of a directory, without following a symbolic link.
pub fn stat_at(dir: &File, name: &OsStr) -> io::Result<Stat> {
    let name = c_string(name)?;
    // SAFETY: the name is NUL-terminated; fstatat fills the struct it is given.
    unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        check(libc::fstatat(
            dir.as_raw_fd(),
            name.as_ptr(),
            &raw mut stat,
            libc::AT_SYMLINK_NOFOLLOW,
        ))?;
        Ok(Stat::of(&stat))
    }
}

/// Returns whether the directory may have an ACL: then its group bits are those of the mask, not of its group.
pub fn may_have_acl(dir: &File) -> bool {
    #[cfg(target_os = "linux")]
    {
        let name = c"system.posix_acl_access";
        // SAFETY: the name is NUL-terminated, and nothing is written to a buffer of length 0.
        let got =
            unsafe { libc::fgetxattr(dir.as_raw_fd(), name.as_ptr(), std::ptr::null_mut(), 0) };
        got >= 0 || !matches!(errno(), libc::ENODATA | libc::ENOTSUP)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = dir;
        false
    }
}

pub fn make_dir_at(dir: &File, name: &OsStr) -> io::Result<()> {
    let name = c_string(name)?;
    // SAFETY: the name is NUL-terminated and outlives the call.
    check(unsafe { libc::mkdirat(dir.as_raw_fd(), name.as_ptr(), 0o755) })
}

pub fn read_link_at(dir: &File, name: &OsStr) -> io::Result<OsString> {
    let name = c_string(name)?;
    let mut target = vec![0_u8; 4096];
    let (start, room) = (target.as_mut_ptr().cast(), target.len());
    // SAFETY: the name is NUL-terminated; the pointer and the length are those of a live Vec.
    let length = unsafe { libc::readlinkat(dir.as_raw_fd(), name.as_ptr(), start, room) };
    target.truncate(usize::try_from(length).map_err(|_| io::Error::last_os_error())?);
    Ok(OsString::from_vec(target))
}

/// Renames within a directory.
pub fn rename_at(dir: &File, from: &OsStr, to: &OsStr) -> io::Result<()> {
    let from = c_string(from)?;
    let to = c_string(to)?;
    let dir = dir.as_raw_fd();
    // SAFETY: both names are NUL-terminated and outlive the call.
    check(unsafe { libc::renameat(dir, from.as_ptr(), dir, to.as_ptr()) })
}

//! Files without a name, the umask, the file system of a path, and the exchange of two names.
#![allow(unsafe_code)]
#![allow(
    clippy::cast_lossless,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::unnecessary_cast,
    clippy::useless_conversion,
    reason = "C's types are of other widths on some of our targets"
)]

use std::fs::File;
use std::io;
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;
use std::os::fd::FromRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use super::call::{c_string, check};

/// The umask before `set_umask`.
static INHERITED_UMASK: AtomicU32 = AtomicU32::new(0);

/// Reads at most `limit` bytes from this offset; bytes that are not UTF-8 become U+FFFD. It does not move the file's own
/// position, which a process that writes to the file may share.
pub fn read_text(file: &File, from: u64, limit: u64) -> io::Result<String> {
    let mut bytes = vec![0; limit as usize];
    let mut end = 0;
    while end < bytes.len() {
        match file.read_at(&mut bytes[end..], from + end as u64)? {
            0 => break,
            got => end += got,
        }
    }
    Ok(String::from_utf8_lossy(&bytes[..end]).into_owned())
}

/// Creates a file without a name, for the output of a child and for jobs on stdin. It is in memory if the system supports
/// that, so that checks of healthy agents write to no disk.
pub fn nameless_file() -> io::Result<File> {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: the name is NUL-terminated. The descriptor is checked and has no other owner.
        unsafe {
            let fd = libc::memfd_create(c"ops-updater".as_ptr(), libc::MFD_CLOEXEC);
            if fd >= 0 {
                return Ok(File::from_raw_fd(fd));
            }
        }
    }
    let mut template = std::env::temp_dir()
        .join("ops-updater.XXXXXX")
        .into_os_string()
        .into_encoded_bytes();
    template.push(0);
    // SAFETY: mkstemp replaces only the six X of a NUL-terminated buffer, and unlink reads it. The descriptor is checked
    // and has no other owner.
    let file = unsafe {
        let fd = libc::mkstemp(template.as_mut_ptr().cast());
        check(fd)?;
        libc::unlink(template.as_ptr().cast());
        libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
        File::from_raw_fd(fd)
    };
    Ok(file)
}

/// File systems that do not pass syncfs on to the one below, by their numbers in statfs(2): FUSE and eCryptfs.
#[cfg(target_os = "linux")]
const NOT_PASSED_ON: [u64; 2] = [0x6573_5546, 0xf15f];

/// Returns whether `sync_file_system` syncs, and reports what the disk failed to write. Linux does so since 5.8, which is also
/// the first to know faccessat2(2).
pub fn can_sync_file_system(file: &File) -> bool {
    #[cfg(target_os = "linux")]
    // SAFETY: the path is NUL-terminated, and zeroed the struct, which the call fills, is valid.
    unsafe {
        let mut info: libc::statfs = std::mem::zeroed();
        let is_known = libc::fstatfs(file.as_raw_fd(), &raw mut info) == 0;
        let is_passed_on = !NOT_PASSED_ON.contains(&(info.f_type as u64));
        is_known
            && is_passed_on
            && libc::syscall(
                libc::SYS_faccessat2,
                libc::AT_FDCWD,
                c"/".as_ptr(),
                libc::F_OK,
                0,
            ) == 0
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = file;
        false
    }
}

/// Syncs the whole file system of an open file, with what other programs have written to it.
#[cfg(target_os = "linux")]
pub fn sync_file_system(file: &File) -> io::Result<()> {
    // SAFETY: syncfs takes an integer only.
    check(unsafe { libc::syncfs(file.as_raw_fd()) })
}

/// There is no such call: `can_sync_file_system` returns false.
#[cfg(not(target_os = "linux"))]
pub fn sync_file_system(_: &File) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The properties of a file system that decide whether files can be installed there.
pub struct FileSystem {
    /// Bytes that an ordinary user can still write.
    pub free: u64,
    /// Number of files that can still be created; none if the file system has no such limit.
    pub files: Option<u64>,
    pub is_read_only: bool,
    /// No program can be executed from it. Always false on macOS.
    pub is_no_exec: bool,
}

/// Returns the properties of the file system that holds the path.
pub fn file_system(path: &Path) -> io::Result<FileSystem> {
    let path = c_string(path.as_os_str())?;
    // SAFETY: statvfs reads a NUL-terminated path and fills the struct it is given.
    let stat = unsafe {
        let mut stat: libc::statvfs = std::mem::zeroed();
        check(libc::statvfs(path.as_ptr(), &raw mut stat))?;
        stat
    };
    // 1 is ST_RDONLY and 8 is ST_NOEXEC of bits/statvfs.h; libc does not name the second on musl, and macOS does not have it.
    Ok(FileSystem {
        free: u64::from(stat.f_bavail).saturating_mul(stat.f_frsize as u64),
        files: (stat.f_files > 0).then_some(u64::from(stat.f_favail)),
        is_read_only: stat.f_flag & 1 != 0,
        is_no_exec: cfg!(target_os = "linux") && stat.f_flag & 8 != 0,
    })
}

/// Returns the number of bytes that an ordinary user can still write to the file system of the path.
pub fn free_bytes(path: &Path) -> Option<u64> {
    file_system(path).ok().map(|file_system| file_system.free)
}

/// Swaps two names in one step. The error is EINVAL, ENOSYS or ENOTSUP if the file system cannot.
pub fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    let one = c_string(one.as_os_str())?;
    let other = c_string(other.as_os_str())?;
    // SAFETY: both paths are NUL-terminated and outlive the call.
    #[cfg(target_os = "linux")]
    let done = unsafe {
        // musl has no wrapper for it. 2 is RENAME_EXCHANGE of linux/fs.h.
        libc::syscall(
            libc::SYS_renameat2,
            libc::AT_FDCWD,
            one.as_ptr(),
            libc::AT_FDCWD,
            other.as_ptr(),
            2,
        )
    };
    // SAFETY: both paths are NUL-terminated and outlive the call.
    #[cfg(not(target_os = "linux"))]
    let done = unsafe { libc::renamex_np(one.as_ptr(), other.as_ptr(), libc::RENAME_SWAP) };
    check(i32::try_from(done).unwrap_or(-1))
}

/// Makes new files writable for their owner only and readable for all, whatever umask this process inherited.
pub fn set_umask() {
    // SAFETY: umask(2) touches no memory and cannot fail.
    let inherited = unsafe { libc::umask(0o022) };
    INHERITED_UMASK.store(u32::from(inherited), Ordering::Relaxed);
}

/// Returns the umask before `set_umask`.
pub fn inherited_umask() -> u32 {
    INHERITED_UMASK.load(Ordering::Relaxed)
}

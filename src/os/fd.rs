//! Open descriptors: flags, waiting, and which of them children inherit.
#![allow(unsafe_code)]
#![allow(
    clippy::cast_possible_wrap,
    clippy::cast_possible_truncation,
    clippy::unnecessary_cast,
    clippy::cast_lossless,
    reason = "C's types are of other widths on some of our targets"
)]

use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::path::Path;
use std::time::Duration;

use super::call::check;
use super::disk;

/// The number of descriptors that a process may have open, unless somebody has raised the limit.
const USUAL_LIMIT: u32 = 1024;

/// Returns whether the reader of stdout is gone; for a worker that is the daemon.
pub fn is_stdout_closed() -> bool {
    poll_now(libc::STDOUT_FILENO, 0) > 0
}

/// Returns whether a write would not block. A full pipe that nobody reads would.
pub fn is_writable(fd: RawFd) -> bool {
    poll_now(fd, libc::POLLOUT) != 0
}

/// Returns the result of poll(2) for one descriptor, without waiting.
fn poll_now(fd: RawFd, events: i16) -> i32 {
    let mut polled = libc::pollfd {
        fd,
        events,
        revents: 0,
    };
    // SAFETY: the pointer is that of one live struct.
    unsafe { libc::poll(&raw mut polled, 1, 0) }
}

pub fn set_nonblocking(fd: RawFd) -> io::Result<()> {
    set_flag(fd, libc::O_NONBLOCK)
}

/// Adds a status flag, such as `O_APPEND`, to an open file.
pub fn set_flag(fd: RawFd, flag: i32) -> io::Result<()> {
    // SAFETY: fcntl with these commands takes integers only.
    let done = unsafe {
        let flags = libc::fcntl(fd, libc::F_GETFL);
        libc::fcntl(fd, libc::F_SETFL, flags | flag)
    };
    check(done)
}

/// Makes `fd` refer to the open file `file`.
pub fn duplicate(file: &impl AsRawFd, fd: RawFd) -> io::Result<()> {
    // SAFETY: dup2 takes integers only, and `fd` is open before and after the call.
    check(unsafe { libc::dup2(file.as_raw_fd(), fd) })
}

/// A descriptor and the events to wait for: `READABLE`, `WRITABLE` or both.
pub type Interest = (RawFd, i16);
pub const READABLE: i16 = libc::POLLIN;
pub const WRITABLE: i16 = libc::POLLOUT;

/// Waits until the descriptor is readable, a signal arrives, or the time is over.
pub fn wait_readable(fd: RawFd, timeout: Duration) {
    wait_for(&[(fd, READABLE)], timeout);
}

/// Waits until one of the events happens, a signal arrives, or the time is over.
pub fn wait_for(interests: &[Interest], timeout: Duration) {
    let polled = interests.iter().map(|(fd, events)| libc::pollfd {
        fd: *fd,
        events: *events,
        revents: 0,
    });
    let mut polled: Vec<libc::pollfd> = polled.collect();
    // Rounded up: if poll returned before the time is over, the caller would spin.
    let millis = i32::try_from(timeout.as_millis().saturating_add(1)).unwrap_or(i32::MAX);
    // SAFETY: pointer and length are those of a live Vec. EINTR and errors only end the wait early.
    unsafe {
        libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, millis);
    }
}

/// Sets close-on-exec on every open descriptor but the first three, so that children inherit none that this process inherited.
pub fn close_inherited_on_exec() {
    let listed = disk::names(Path::new("/proc/self/fd"));
    let listed = listed.or_else(|_| disk::names(Path::new("/dev/fd")));
    let Ok(listed) = listed else {
        // Without /proc there is no list.
        return (0..USUAL_LIMIT).for_each(close_on_exec);
    };
    for name in listed {
        // Both lists are the kernel's own and never on a disk, and the caller has nobody to tell an error.
        let name = name.unwrap_or_default();
        if let Some(fd) = name.to_str().and_then(|name| name.parse::<u32>().ok()) {
            close_on_exec(fd);
        }
    }
}

fn close_on_exec(fd: u32) {
    if fd > 2 {
        // SAFETY: fcntl takes integers only, and fails on a closed descriptor.
        unsafe {
            libc::fcntl(fd as RawFd, libc::F_SETFD, libc::FD_CLOEXEC);
        }
    }
}

/// Lets a program that this process is replaced by inherit the descriptor.
pub fn open_on_exec(fd: RawFd) -> io::Result<()> {
    // SAFETY: fcntl with this command takes integers only.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, 0) })
}

/// Returns stdin as a file: what is read to its end needs no buffer.
pub fn stdin_file() -> ManuallyDrop<File> {
    standard_file(libc::STDIN_FILENO)
}

/// Returns stdout as a file: std reports size and identity only of files, and buffers its own stdout.
pub fn stdout_file() -> ManuallyDrop<File> {
    standard_file(libc::STDOUT_FILENO)
}

/// Returns stderr as a file. Like std's own, it has no buffer.
pub fn stderr_file() -> ManuallyDrop<File> {
    standard_file(libc::STDERR_FILENO)
}

fn standard_file(fd: RawFd) -> ManuallyDrop<File> {
    // SAFETY: std makes sure that the first three are open before `main`, and nothing closes them: this file is never dropped.
    ManuallyDrop::new(unsafe { File::from_raw_fd(fd) })
}

//! The program's entry, and the three descriptors it is born with. std's own start-up brings a handler for stack
//! overflows and the bookkeeping of threads, 20 KB; of what else it does, this does what we rely on.
#![allow(unsafe_code)]

use std::ffi::{CStr, OsString, c_char, c_int};
use std::fs::File;
use std::io::{self, Write};
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;
use std::os::unix::ffi::OsStringExt;

const STDIN: c_int = 0;
const STDOUT: c_int = 1;
const STDERR: c_int = 2;

/// # Safety
/// Called by the C library only, with the count and the vector of the arguments.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[cfg_attr(test, expect(dead_code, reason = "the test harness has its own"))]
unsafe extern "C" fn main(count: c_int, vector: *const *const c_char) -> c_int {
    open_missing();
    // SAFETY: ignoring a signal runs no code of ours. Whose reader is gone hears it from write(2), and is not killed.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
    }
    // SAFETY: the C library hands over that many strings, which live as long as the process.
    let arguments = (1..count).map(|at| unsafe {
        let argument = CStr::from_ptr(*vector.offset(at as isize));
        OsString::from_vec(argument.to_bytes().to_vec())
    });
    c_int::from(crate::run(&arguments.collect::<Vec<_>>()))
}

/// A descriptor below 3 that is closed would be given to the first file opened, and our log written into it. Where even
/// that cannot be prevented nothing is begun, and nobody is there to be told.
fn open_missing() {
    for fd in [STDIN, STDOUT, STDERR] {
        // SAFETY: fcntl on an integer and open of a constant path touch no memory of ours. The lowest free descriptor
        // is the one that is missing.
        unsafe {
            if libc::fcntl(fd, libc::F_GETFD) == -1
                && libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) == -1
            {
                libc::abort();
            }
        }
    }
}

/// Without std's buffers and locks, which one thread and whole lines need not.
fn descriptor(fd: c_int) -> ManuallyDrop<File> {
    // SAFETY: all three are open from the first line of `main` on, and never closed: the file is never dropped.
    ManuallyDrop::new(unsafe { File::from_raw_fd(fd) })
}

pub fn stdin() -> ManuallyDrop<File> {
    descriptor(STDIN)
}

pub fn stdout() -> ManuallyDrop<File> {
    descriptor(STDOUT)
}

pub fn stderr() -> ManuallyDrop<File> {
    descriptor(STDERR)
}

pub fn write_stdout(text: &str) -> io::Result<()> {
    descriptor(STDOUT).write_all(text.as_bytes())
}

pub fn write_stderr(text: &str) -> io::Result<()> {
    descriptor(STDERR).write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    /// The stand-ins of absent.rs are for releases: a test that fails must say how it got there.
    #[test]
    fn tests_keep_their_backtraces() {
        let trace = std::backtrace::Backtrace::force_capture().to_string();
        assert!(trace.contains("tests_keep_their_backtraces"), "{trace}");
    }
}

//! The names in a directory, read one by one: others decide how many there are.
#![allow(unsafe_code)]

use std::ffi::{CStr, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::ffi::OsStrExt;

use super::call::{errno, errno_location};

/// The names in an open directory, in no order and without `.` and `..`. An error is the last of them.
pub struct Names {
    stream: *mut libc::DIR,
    is_over: bool,
}

impl Names {
    pub fn of(dir: File) -> io::Result<Self> {
        // SAFETY: the descriptor is open.
        let stream = unsafe { libc::fdopendir(dir.as_raw_fd()) };
        if stream.is_null() {
            return Err(io::Error::last_os_error());
        }
        // It is the stream's from now on.
        let _ = dir.into_raw_fd();
        Ok(Self {
            stream,
            is_over: false,
        })
    }
}

impl Iterator for Names {
    type Item = io::Result<OsString>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.is_over {
            // SAFETY: the stream is open, and only this value uses it. An entry and its NUL-terminated name are valid until
            // the next call of readdir(3).
            let name = unsafe {
                *errno_location() = 0;
                let entry = libc::readdir(self.stream);
                if entry.is_null() {
                    self.is_over = true;
                    // At the end of the directory errno is still 0.
                    return match errno() {
                        0 => None,
                        errno => Some(Err(io::Error::from_raw_os_error(errno))),
                    };
                }
                CStr::from_ptr((*entry).d_name.as_ptr()).to_bytes()
            };
            if name != b"." && name != b".." {
                return Some(Ok(OsStr::from_bytes(name).to_owned()));
            }
        }
        None
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        // SAFETY: the stream is open, and nothing uses it after this.
        unsafe {
            libc::closedir(self.stream);
        }
    }
}

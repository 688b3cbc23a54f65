//! What every call into C needs: strings, the check of its result, errno.
#![allow(unsafe_code)]

use std::ffi::{CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;

#[cfg(target_os = "linux")]
pub fn errno_location() -> *mut i32 {
    // SAFETY: always a valid pointer to this thread's errno.
    unsafe { libc::__errno_location() }
}

#[cfg(not(target_os = "linux"))]
pub fn errno_location() -> *mut i32 {
    // SAFETY: always a valid pointer to this thread's errno.
    unsafe { libc::__error() }
}

pub fn errno() -> i32 {
    // SAFETY: always a valid pointer to this thread's errno.
    unsafe { *errno_location() }
}

/// Turns a negative result into the error that errno names.
pub fn check(returned: i32) -> io::Result<()> {
    if returned < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Returns a NUL-terminated copy; a text that contains NUL is an error.
pub fn c_string(text: &OsStr) -> io::Result<CString> {
    CString::new(text.as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

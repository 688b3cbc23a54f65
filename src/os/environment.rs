//! The environment that child processes inherit.
#![allow(unsafe_code)]

use std::io;

use super::call::{c_string, check};

/// Replaces the whole environment of this process by these variables. A variable with a NUL is an error.
pub fn replace_environment(variables: &[(&str, &str)]) -> io::Result<()> {
    clear();
    for (name, value) in variables {
        let name = c_string(name.as_ref())?;
        let value = c_string(value.as_ref())?;
        // SAFETY: both texts are NUL-terminated, and no other thread exists that could read the environment.
        check(unsafe { libc::setenv(name.as_ptr(), value.as_ptr(), 1) })?;
    }
    Ok(())
}

/// Removes every entry. std cannot: `vars_os` leaves out an entry without `=`, and `remove_var` panics at a name that
/// begins with `=`. execve(2) takes both, so whoever starts this process can hand them over.
#[cfg(target_os = "linux")]
fn clear() {
    // SAFETY: no other thread exists that could read the environment.
    unsafe {
        libc::clearenv();
    }
}

#[cfg(not(target_os = "linux"))]
fn clear() {
    let empty = Box::leak(Box::new([std::ptr::null_mut()]));
    // SAFETY: the list ends with NULL and is never freed, and no other thread exists that could read the environment.
    unsafe {
        *libc::_NSGetEnviron() = empty.as_mut_ptr();
    }
}

/// Returns a variable of this process. Empty: it is not set, or no text.
#[expect(clippy::disallowed_methods, reason = "it is what cfg.json leaves open")]
pub fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

/// Removes a variable from the environment of this process and of its later children.
pub fn remove_variable(name: &str) {
    if let Ok(name) = c_string(name.as_ref()) {
        // SAFETY: called at the start of the program: no other thread exists, and nothing points into the environment.
        unsafe {
            libc::unsetenv(name.as_ptr());
        }
    }
}

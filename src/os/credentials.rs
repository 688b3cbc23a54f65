//! The user and groups of this process.
#![allow(unsafe_code)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::unnecessary_cast,
    reason = "C's types are of other widths on some of our targets"
)]

use std::io;

use super::call::check;

pub fn set_groups(groups: &[u32]) -> io::Result<()> {
    // A size_t on Linux, an int on macOS.
    let count = groups.len() as _;
    // SAFETY: the pointer and the count are those of a live slice.
    check(unsafe { libc::setgroups(count, groups.as_ptr()) })
}

pub fn set_gid(gid: u32) -> io::Result<()> {
    // SAFETY: the call takes an integer and touches no memory.
    check(unsafe { libc::setgid(gid) })
}

pub fn set_uid(uid: u32) -> io::Result<()> {
    // SAFETY: the call takes an integer and touches no memory.
    check(unsafe { libc::setuid(uid) })
}

pub fn effective_uid() -> u32 {
    // SAFETY: geteuid(2) touches no memory and cannot fail.
    unsafe { libc::geteuid() }
}

pub fn effective_gid() -> u32 {
    // SAFETY: getegid(2) touches no memory and cannot fail.
    unsafe { libc::getegid() }
}

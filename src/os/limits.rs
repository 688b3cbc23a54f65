//! The resource limits of this process.
#![allow(unsafe_code)]
#![allow(
    clippy::cast_lossless,
    clippy::unnecessary_cast,
    clippy::useless_conversion,
    reason = "C's types are of other widths on some of our targets"
)]

use std::io;

use super::call::check;

/// Lowers the soft limit of this process's address space while it exists: code that reads untrusted bytes runs under it.
pub struct MemoryLimit {
    before: libc::rlimit,
}

impl MemoryLimit {
    /// Returns none if the limit cannot be set. A limit that is already lower stays.
    pub fn set(bytes: u64) -> Option<Self> {
        let before = limit(libc::RLIMIT_AS)?;
        let mut lower = before;
        lower.rlim_cur = libc::rlim_t::try_from(bytes)
            .unwrap_or(before.rlim_cur)
            .min(before.rlim_cur);
        set_limit(libc::RLIMIT_AS, &lower).ok()?;
        Some(Self { before })
    }
}

/// Sets the soft limit of the address space, which may be lower, to these bytes or to the hard limit if that is less.
pub fn replace_memory_limit(bytes: u64) -> io::Result<()> {
    let Some(mut new) = limit(libc::RLIMIT_AS) else {
        return Ok(());
    };
    new.rlim_cur = libc::rlim_t::try_from(bytes)
        .unwrap_or(new.rlim_max)
        .min(new.rlim_max);
    set_limit(libc::RLIMIT_AS, &new)
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        // A soft limit can always be raised again to its old value.
        let _ = set_limit(libc::RLIMIT_AS, &self.before);
    }
}

fn limit(resource: Resource) -> Option<libc::rlimit> {
    // SAFETY: getrlimit fills the struct it is given.
    unsafe {
        let mut held: libc::rlimit = std::mem::zeroed();
        (libc::getrlimit(resource, &raw mut held) == 0).then_some(held)
    }
}

fn set_limit(resource: Resource, new: &libc::rlimit) -> io::Result<()> {
    // SAFETY: setrlimit reads the struct it is given.
    check(unsafe { libc::setrlimit(resource, new) })
}

/// The type of a limit's number, which differs between C libraries.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
type Resource = libc::__rlimit_resource_t;
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
type Resource = libc::c_int;

/// Returns how many descriptors this process and each of its children can have open; `None` if there is no limit.
pub fn open_file_limit() -> Option<u64> {
    let limit = limit(libc::RLIMIT_NOFILE)?.rlim_cur;
    (limit != libc::RLIM_INFINITY).then_some(limit as u64)
}

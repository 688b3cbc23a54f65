//! The wall clock, and the time since the boot of this host.
#![allow(unsafe_code)]
#![expect(clippy::disallowed_methods, reason = "this is the clock")]
#![allow(
    clippy::cast_sign_loss,
    reason = "the kernel returns no negative time since boot"
)]

use std::time::{SystemTime, UNIX_EPOCH};

/// The clock that goes on while the host sleeps, and that nobody can set. That of std's `Instant` stops meanwhile.
#[cfg(target_os = "linux")]
const SINCE_BOOT: libc::clockid_t = libc::CLOCK_BOOTTIME;
#[cfg(not(target_os = "linux"))]
const SINCE_BOOT: libc::clockid_t = libc::CLOCK_MONOTONIC;

/// Returns seconds since 1970 by the wall clock, or 0 if it shows an earlier time.
pub fn unix_now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs())
}

/// Returns seconds since the boot of this host, those in which it slept included.
pub fn since_boot() -> u64 {
    // SAFETY: clock_gettime(2) fills the struct it is given. It fails for unknown clocks only, and zeroed is a valid time.
    let now = unsafe {
        let mut now: libc::timespec = std::mem::zeroed();
        libc::clock_gettime(SINCE_BOOT, &raw mut now);
        now
    };
    now.tv_sec as u64
}

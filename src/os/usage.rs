//! What this process uses of the host, by /proc. Reading it waits for no disk.
#![allow(unsafe_code)]
#![allow(
    clippy::cast_sign_loss,
    clippy::unnecessary_cast,
    reason = "C's types are of other widths on some of our targets, and no page has a negative size"
)]

use std::path::Path;

use super::{disk, limits};

pub struct Usage {
    /// Time on a processor in hundredths of a second, the unit of Linux. The time of children is not part of it.
    pub cpu_ticks: u64,
    pub resident_bytes: u64,
    pub open_fds: u64,
    pub max_fds: u64,
}

impl Usage {
    /// Returns none on systems without /proc.
    pub fn of_this_process() -> Option<Self> {
        let stat = disk::read_small(Path::new("/proc/self/stat"), 4096).ok()?;
        // The name in parentheses may contain anything. The time in user mode is the twelfth word after it, then that in the
        // kernel, and nine words later the resident pages (proc(5)).
        let mut words = stat.rsplit(')').next()?.split(' ').skip(1);
        let mut number = |skipped| words.nth(skipped)?.parse::<u64>().ok();
        let cpu_ticks = number(11)? + number(0)?;
        let resident_pages = number(8)?;
        // SAFETY: sysconf(3) touches no memory.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as u64;
        let fds = disk::names(Path::new("/proc/self/fd")).ok()?;
        Some(Self {
            cpu_ticks,
            resident_bytes: resident_pages * page,
            // The descriptor that reads the directory is one of them.
            open_fds: fds.count().saturating_sub(1) as u64,
            max_fds: limits::open_file_limit()?,
        })
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_that_is_opened_is_counted_and_what_is_used_is_within_reason() {
        let usage = || Usage::of_this_process().expect("a /proc");
        let before = usage();
        let files: Vec<_> = (0..100).map(|_| std::io::pipe()).collect();
        let after = usage();
        // Other tests of this process open and close some too.
        let opened = after.open_fds.saturating_sub(before.open_fds);
        assert!((150..400).contains(&opened), "{opened}");
        drop(files);
        assert!(after.max_fds >= after.open_fds);
        // The emulator of another arch reports that this process has no memory at all.
        let megabytes = after.resident_bytes / 1_000_000;
        let is_emulated = after.resident_bytes == 0 && cfg!(target_arch = "aarch64");
        assert!(
            is_emulated || (1..4000).contains(&megabytes),
            "{megabytes} MB"
        );
        assert!(after.cpu_ticks >= before.cpu_ticks);
    }
}

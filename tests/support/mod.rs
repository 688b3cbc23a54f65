//! The tools of the integration tests and of the demo: an ops-meta with a release store, a server of network faults,
//! tarballs, sample agents, and a sandbox host that runs the real binary. No file here depends on a single test.
//! The files that read the registers of a traced process are for `x86_64` only.
#![allow(
    dead_code,
    reason = "two programs share it, and neither uses all of it"
)]

pub mod agent;
pub mod archive;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub mod calls;
pub mod canary;
#[cfg(target_os = "linux")]
pub mod dead_disk;
pub mod falcon;
pub mod fault;
pub mod host;
pub mod http;
pub mod json;
pub mod memory;
pub mod meta;
pub mod minisign;
pub mod names;
pub mod platform;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub mod points;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub mod power;
pub mod prepared;
pub mod procs;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub mod scenarios;
pub mod tls;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub mod trace;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub mod tracee;
pub mod trial;
pub mod users;
pub mod watch;
pub mod wire;

/// Returns the path of a version's tarball in URLs, as the contract defines it.
pub fn release_path(name: &str, version: &str) -> String {
    format!("/releases/{}/{name}-{version}.tar.gz", platform::arch())
}

pub fn md5_hex(bytes: &[u8]) -> String {
    format!("{:x}", md5::compute(bytes))
}

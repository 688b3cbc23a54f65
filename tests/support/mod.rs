//! What the integration tests and the demo stand on: a stock-compatible ops-meta with a release store, a server of
//! network faults, tarballs and sample agents, and a sandbox host to run the real binary in.
//! Never knows what a test wants to prove.
#![allow(
    dead_code,
    reason = "two programs share it, and neither uses all of it"
)]

pub mod agent;
pub mod archive;
pub mod calls;
pub mod canary;
pub mod dead_disk;
pub mod fault;
pub mod host;
pub mod json;
pub mod memory;
pub mod meta;
pub mod names;
pub mod platform;
pub mod points;
pub mod power;
pub mod prepared;
pub mod procs;
pub mod scenarios;
pub mod trace;
pub mod tracee;
pub mod trial;
pub mod users;
pub mod watch;
pub mod wire;

/// Where the contract wants the tarball of a version, as the path of a URL.
pub fn release_path(name: &str, version: &str) -> String {
    format!("/releases/{}/{name}-{version}.tar.gz", platform::arch())
}

pub fn md5_hex(bytes: &[u8]) -> String {
    format!("{:x}", md5::compute(bytes))
}

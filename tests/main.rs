//! The promises of ops-updater, each proved by the real binary in a sandbox against a server on loopback.
#![cfg(target_os = "linux")]
#![allow(
    clippy::disallowed_methods,
    reason = "tests touch the world; that is what they are for"
)]

mod support;

mod adoption;
mod answers;
mod archives;
mod bombs;
mod cli;
mod control_scripts;
mod crash;
mod deadlines;
mod disk_full;
mod downloads;
mod entries;
mod faults;
mod footprint;
mod heartbeats;
mod hostile;
mod inheritance;
mod operator;
mod resume;
mod rollback;
mod rounds;
mod signals;
mod state;
mod versions;

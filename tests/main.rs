//! The promises of ops-updater. Each test runs the real binary in a sandbox against a server on loopback. The tests that
//! trace the binary are built for `x86_64` only.
#![cfg(target_os = "linux")]
#![allow(
    clippy::disallowed_methods,
    reason = "tests touch the world; that is what they are for"
)]

// Tests start in the order of their names. The tests that wait for long are in `authority`, `crash`, `deadlines` and
// `network` and start early. The many short tests of `operator`, `rollout` and `users` fill the rest of the run.

/// Servers, sandboxes and sample agents for the tests.
mod support;

/// The contents of archives, hostile ones too.
mod archives;
/// What other users of the host cannot do.
mod authority;
/// The wire, the control script and the files on disk.
mod contract;
/// Kills, power cuts and bad disks.
mod crash;
/// Deadlines of what hangs, and retries.
mod deadlines;
/// Networks and servers of every kind.
mod network;
/// Commands, log, endpoint and signals.
mod operator;
/// Upgrades, moves and rollbacks.
mod rollout;
/// Agents of other users, and sudo.
mod users;

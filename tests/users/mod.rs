//! Tests of agents that run as their own users. Most of them need root.

/// Users that a directory server knows and `/etc/passwd` does not.
mod directory_server;
/// What an agent of another user leaves running.
mod gone;
/// The identity of an agent, and the privileges that it does not get.
mod identity;
/// Install, upgrade, stop and rollback as the agent's user.
mod lifecycle;
/// Moves of an agent to another user.
mod moves;
/// Moves to another user that are interrupted.
mod moves_cut;
/// Moves to another user where the directory cannot be renamed.
mod moves_mounted;
/// A daemon that is a plain user and uses one sudo rule.
pub mod sudo;
/// Children that became another user through sudo, when the updater ends.
mod sudo_ends;
/// Faults of the sudo configuration.
mod sudo_refused;

//! Tests of upgrades, moves, rollbacks and pruning.

/// Checks between heartbeats, and before the first one.
mod between_heartbeats;
/// Agents that die.
mod deaths;
/// An unreliable status of an agent, or an unreliable disk.
mod doubts;
/// A desired version below one that ran here, with `allow_downgrade` false.
mod downgrades;
/// What a version that was stopped leaves running.
mod gone;
/// A desired state whose location changes, or that is withdrawn while it is carried out.
mod moves;
/// Two updaters in one work directory.
mod owners;
/// Comparison of the plan with the steps that are done.
mod plan_is_reality;
/// A new version that fails, and the downtime of a switch.
mod rollback;
/// Downloads that wait for their turn.
mod turns;
/// The versions that stay on disk, and the changes that need no download.
pub mod versions;

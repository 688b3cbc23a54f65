//! The children of the daemon. Each carries out one step of one agent, or one heartbeat, reports it as events on stdout
//! and ends. They never plan: the daemon has decided which step it is.

/// One heartbeat: POSTs what was observed and checks the answer.
pub(crate) mod heartbeat;
/// Becomes the user that an agent runs as.
mod identity;
/// Puts a build in force.
mod in_force;
/// Fetches, unpacks and publishes a version.
pub mod install;
/// Every location of one agent that a step works on, and their locks.
mod locations;
/// Whether the local policy allows a job.
mod permission;
/// The step `Prune`.
mod prune;
/// What a step worker reports to the daemon.
mod report;
/// The steps `Start` and `Stop`.
mod start_stop;
/// Runs one step of one agent under its locks.
pub(crate) mod step;
/// Checks every agent of this host.
mod survey;
/// The step `Switch`, and the way back after it failed.
mod switch;

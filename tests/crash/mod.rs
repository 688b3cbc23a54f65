//! Agents survive kills, power cuts, failing disks and hosts without resources, and the next start converges.

/// File systems that accept no writes.
mod bad_disks;
/// Trees that are too deep for a descriptor a level.
mod deep_trees;
/// A disk that fails from some step of a run on.
#[cfg(target_arch = "x86_64")]
mod failing_calls;
/// A file system without free space.
pub mod full_disk;
/// Versions that take the whole host down.
mod host_crashes;
/// A kill before and after each step of a run.
#[cfg(target_arch = "x86_64")]
mod kill_points;
/// Kills at random and at chosen moments.
mod kills;
/// A directory, a fifo or a link in place of a file that the updater uses.
mod obstacles;
/// A power cut between any two steps.
#[cfg(target_arch = "x86_64")]
mod power_cut;
/// A host that runs out of processes or of descriptors.
#[cfg(target_arch = "x86_64")]
mod starved;
/// A directory that cannot be read to its end.
#[cfg(target_arch = "x86_64")]
mod unreadable;

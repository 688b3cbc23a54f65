//! The updater ends what hangs at its deadline, and retries what failed after a pause.

/// The wall clock jumps.
#[cfg(target_arch = "x86_64")]
mod clock;
/// Downloads that bring a few bytes now and then.
#[cfg(target_arch = "x86_64")]
mod drips;
/// Starts, stops, checks, downloads and servers that never end by themselves.
mod hangs;
/// Steps of one agent beside the downloads and the hanging scripts of others.
mod lanes;
/// Answers with thousands of entries.
mod large_answers;
/// An updater that gets the orphans of its children.
mod orphans;
/// How often a failed step, download or heartbeat is tried again.
pub mod pacing;
/// Every verb of a control script with every way to misbehave.
mod scripts_matrix;
/// Scripts that not even SIGKILL ends, and hundreds of scripts that hang.
mod scripts_stuck;
/// The rows of `scripts_matrix`.
mod scripts_table;

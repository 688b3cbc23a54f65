//! The fleet updater as a library, so that the program, the fuzz targets and the benchmarks share one build of it.
//! The list below begins with the top floor. A folder uses only folders below it; `floors` checks that. The blank lines keep
//! rustfmt from sorting the list. docs/ARCHITECTURE.md has the drawing of the processes and the glossary.
#![allow(
    clippy::len_without_is_empty,
    clippy::missing_errors_doc,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    clippy::new_without_default,
    clippy::return_self_not_must_use,
    reason = "nobody but the program, the fuzz targets and the benchmarks uses this library"
)]

/// What a person types, and what is printed for it.
pub mod cli;

/// The daemon: it plans, starts workers, keeps their deadlines and records what they report.
pub mod daemon;

/// The HTTP endpoint: status page, status document and metrics.
pub mod http;

/// The child processes of the daemon: one heartbeat, or one step of one agent.
pub mod worker;

/// One agent at one location: its control script, its directory and what can be observed of it.
pub mod agent;

/// The updater's own files: settings, ledger, overrides, status and the lock of this instance.
pub mod store;

/// The planner and the history that it decides by. Pure: no clock, no input and output.
pub mod plan;

/// The texts that cross a process or the wire.
pub mod protocol;

/// The HTTP client: small bodies and downloads that can be resumed.
pub mod net;

/// Log lines: levels, the log file, repeated lines.
pub mod log;

/// System calls, one subject a file.
pub mod os;

/// The nouns: names, desired agents, observations and steps.
pub mod model;

/// JSON: where a text stops being JSON, and which kind of value it holds. miniserde reports neither.
pub mod json;

/// The only error type: `cannot <what> <subject>: <cause>`.
pub mod error;

/// Text for people: printable, brief, dated.
pub mod text;

/// MD5, the digest that release stores use.
pub mod md5;
/// The keys and signatures of minisign.
mod minisign;

/// Version and architecture, as compiled in.
pub mod build_info;

#[cfg(test)]
mod compatibility;
#[cfg(test)]
mod floors;

pub use cli::run;

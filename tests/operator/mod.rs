//! Tests of the commands, files and pages that an operator uses.

/// The alerts for Prometheus.
mod alerts;
/// Arguments, configuration and exit codes.
mod cli;
/// `status`, `plan`, `once` and `apply`.
mod commands;
/// What shells offer as completions.
mod completions;
/// The `control` that is shipped with the updater.
pub mod control;
/// The dashboard for Grafana.
mod dashboard;
/// `doctor` and `check`.
mod doctor;
/// What the daemon answers over HTTP.
mod endpoint;
/// Attacks on the HTTP endpoint.
mod endpoint_abuse;
/// The script that installs a fleet.
mod fleet;
/// Threads, memory and sockets of the updater.
mod footprint;
/// Help, man page and completions.
pub mod help;
/// Which process commands signal.
mod holders;
/// The log that `control start` makes.
mod log_file;
/// The form of the log: text, JSON, and for the journal.
mod log_form;
/// The lines of the log, and how often they are repeated.
mod log_lines;
/// Byte order marks in files that an operator writes.
mod marks;
/// Hosts without /proc, /dev/null, HOME, a name or a passwd file.
mod odd_hosts;
/// Pins, holds and retries.
mod overrides;
/// The release that `contrib/pack` makes.
mod pack;
/// The page for people, in a browser.
mod page;
/// Releases of the updater for tests of upgrades.
mod releases;
/// The list of the crates in a release.
mod sbom;
/// `control` beside a unit of systemd.
mod service;
/// Signals to the daemon.
mod signals;
/// Thousands of heartbeats.
mod soak;
/// Starts of the daemon in unusual surroundings.
mod startup;
/// What an operator's commands say about the future, and what they remember.
mod steering;
/// Servers that were never reached, or are none.
mod unreached;
/// `control upgrade` and `control revert`.
mod upgrade;
/// Upgrades and reverts that are killed.
mod upgrade_killed;
/// Releases that `control upgrade` refuses.
mod upgrade_refused;
/// `status --wait`.
mod wait;

//! The promises of ops-updater, each proved by the real binary in a sandbox against a server on loopback. Those that trace
//! it are built for `x86_64` alone.
#![cfg(target_os = "linux")]
#![allow(
    clippy::disallowed_methods,
    reason = "tests touch the world; that is what they are for"
)]

mod support;

mod adoption;
mod answers;
mod archives;
mod bad_disks;
mod bombs;
mod cli;
#[cfg(target_arch = "x86_64")]
mod clock;
mod commands;
mod control_scripts;
mod crash;
mod deadlines;
mod disk_full;
mod doctor;
mod doubts;
mod downloads;
mod endpoint;
mod endpoint_abuse;
mod entries;
#[cfg(target_arch = "x86_64")]
mod failing_calls;
mod falls;
mod faults;
mod footprint;
mod heartbeats;
mod help;
mod hostile;
mod inheritance;
#[cfg(target_arch = "x86_64")]
mod kill_points;
mod limits;
mod log_file;
mod log_lines;
mod moves;
mod network;
mod network_beats;
mod network_faults;
mod network_names;
mod network_resets;
mod network_silence;
mod obstacles;
mod operator;
mod pacing;
mod pack;
mod plan_is_reality;
#[cfg(target_arch = "x86_64")]
mod power_cut;
mod resume;
mod rollback;
mod rounds;
mod scripts_matrix;
mod scripts_stuck;
mod scripts_table;
mod signals;
mod soak;
mod startup;
#[cfg(target_arch = "x86_64")]
mod starved;
mod state;
mod steering;
mod stores;
mod user_moves;
mod user_moves_cut;
mod users;
mod users_directory;
mod users_hostile;
mod users_life;
mod users_sudo;
mod users_sudo_ends;
mod users_sudo_refused;
mod users_traps;
mod versions;

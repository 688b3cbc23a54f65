//! The program's sources, for fuzzing: every module that reads what a server, a store, a disk or a child wrote. Each is
//! mounted as it is and where it expects itself, at the root of a crate of this name.
#![allow(
    clippy::len_without_is_empty,
    clippy::missing_errors_doc,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    clippy::new_without_default,
    clippy::return_self_not_must_use,
    reason = "the program is no library; what is asked of one is not asked of it"
)]

#[path = "../../src/config.rs"]
pub mod config;
#[path = "../../src/digest.rs"]
pub mod digest;
#[path = "../../src/disk.rs"]
pub mod disk;
#[path = "../../src/error.rs"]
pub mod error;
#[path = "../../src/fetch.rs"]
pub mod fetch;
#[path = "../../src/fields.rs"]
pub mod fields;
#[path = "../../src/gzip.rs"]
pub mod gzip;
#[path = "../../src/heartbeat.rs"]
pub mod heartbeat;
#[path = "../../src/job.rs"]
pub mod job;
#[path = "../../src/json.rs"]
pub mod json;
#[path = "../../src/log.rs"]
pub mod log;
#[path = "../../src/log_file.rs"]
pub mod log_file;
#[path = "../../src/model.rs"]
pub mod model;
#[path = "../../src/named.rs"]
pub mod named;
#[path = "../../src/overrides.rs"]
pub mod overrides;
#[path = "../../src/plan.rs"]
pub mod plan;
#[path = "../../src/record.rs"]
pub mod record;
#[path = "../../src/repeats.rs"]
pub mod repeats;
#[path = "../../src/report.rs"]
pub mod report;
#[path = "../../src/roster.rs"]
pub mod roster;
#[path = "../../src/schedule.rs"]
pub mod schedule;
#[path = "../../src/syntax.rs"]
pub mod syntax;
#[path = "../../src/sys.rs"]
pub mod sys;
#[path = "../../src/unpack.rs"]
pub mod unpack;

pub mod bench;
pub mod members;
pub mod start;
pub mod tarball;

//! Everything that crosses a process or the wire, as types and their JSON. Nothing here decides anything.

/// The desired state: answers and saved files, and which of their entries can be followed.
pub mod desired;
/// What a child reports.
pub mod event;
/// The body of a heartbeat.
pub mod heartbeat;
/// What a child is to do.
pub mod job;
/// The status document.
pub mod status;
/// The JSON of a step.
mod step;

/// The largest document in bytes that is read back from our own directory: more than 10,000 agents.
pub const DOCUMENT_LIMIT: u64 = 16 << 20;

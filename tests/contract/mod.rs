//! Tests the contract with ops-meta on the wire, with an agent's `control` script, and with the files on disk.

/// Directories that the original updater left behind.
mod adoption;
/// Invalid answers to a heartbeat.
mod answers;
/// Control scripts with unusual behaviour.
mod control_scripts;
/// The effect of each kind of entry of the desired state.
mod desired_state;
/// The examples of the documents.
mod documents;
/// Unusual, invalid and duplicate entries of the desired state.
mod entries;
/// What the updater did not put there, and its own files.
mod foreign;
/// The content and the timing of heartbeats.
mod heartbeats;
/// The attributes that a running agent inherits from the updater.
mod inheritance;
/// Who can hold the locks, and who holds one.
mod locks;
/// The local policy of root.
pub mod policy;
/// Refused entries, as the page of the stock server shows them.
mod refusals;
/// The schemas of docs/schema.
mod schemas;
/// Control scripts of several shells.
mod shells;
/// The files that the updater keeps, also when one is damaged or locked by another process.
mod state_files;

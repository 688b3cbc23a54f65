//! Our own files: cfg.json, and what the updater keeps beside it. Nothing here decides what is done with an agent.

/// cfg.json: from its text to checked settings.
pub mod config;
/// What identifies this updater to others.
pub mod identity;
/// The lock that makes a second updater in one directory impossible.
pub mod instance;
/// The path of each file in our own directory.
pub mod layout;
/// What is remembered of each agent, on disk.
pub mod ledger;
/// What an operator asks for on this host: hold, pins, retries.
pub mod overrides;
/// The files and directories of the updater itself, which nobody else may replace.
pub mod places;
/// The local policy, from its file.
pub mod policy;
/// Whether this host can reach servers as cfg.json says.
pub mod reach;
pub mod status;
/// The files of tokens.
pub mod tokens;

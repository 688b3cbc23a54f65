//! Tests of what other users of the host, and entries of the server, cannot do. Most of them need root.

/// Who runs curl.
mod curl;
/// Names, links and directories of a hostile user.
mod hostile;
/// The mark of the updater that manages an agent.
mod owners;
/// The directories and files that nobody else may be able to replace.
mod places;
/// Users that the local policy allows, and jobs that are forged through sudo.
mod policy;
/// Traps that a user sets in its own directories.
mod traps;

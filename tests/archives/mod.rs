//! The updater installs every usual kind of archive, and refuses harmful ones.

/// Archives that are small on the wire and huge to unpack.
mod bombs;
/// Archives made to do harm.
pub mod hostile;
/// Archives as real build systems make them.
mod kinds;
/// Archives of the tar programs of the world.
mod makers;
/// Archives of tools that no test can install, made by hand.
mod odd;
/// Comparison with GNU tar.
mod trees;

//! System calls that std does not offer, one subject a file. Decides nothing and knows nothing of agents.
//! Of this library only these files contain `unsafe`; each block says why it is sound.

/// What every call into C needs: strings, the check of its result, errno.
pub mod call;
/// The wall clock.
pub mod clock;
/// A program that a child becomes, and what the child does before. It inherits neither signal handlers nor descriptors.
pub mod command;
/// The user and groups of this process.
pub mod credentials;
/// Directories opened one by one by descriptor, so that nobody can swap them on the way.
pub mod dir;
/// Files that survive a power cut, and whole directories.
pub mod disk;
/// The environment that child processes inherit.
pub mod environment;
/// Open descriptors: flags, waiting, and which of them children inherit.
pub mod fd;
/// Device and inode of a directory, and of those above it.
pub mod file_id;
/// Files without a name, the umask, the file system of a path, and the exchange of two names.
pub mod files;
/// Which process holds a lock.
pub mod holder;
/// The name of this host.
pub mod host;
/// The resource limits of this process.
pub mod limits;
/// Files that one process at a time holds.
pub mod lock;
/// The names in a directory.
pub mod names;
/// The processes of this user below a directory.
pub mod occupants;
/// The file of this program, which workers execute.
pub mod own_program;
/// Other processes by pid: signals to them, and whether they are alive. Also the alarm of this process.
pub mod process;
/// A random seed that differs between hosts.
pub mod random;
/// Removes a whole directory, however deep it is.
pub mod remove;
/// Signals as bytes of a pipe, and which signals are blocked.
pub mod signals;
/// The free space of a filesystem, and what an install leaves of it.
pub mod space;
/// Child processes: forks, and how they end.
pub mod spawn;
/// What this process uses of the host.
pub mod usage;
/// Users of this host: find, create and become one.
pub mod user;
/// The way from `/` to a place, on which nobody but trusted users can replace anything.
pub mod walk;

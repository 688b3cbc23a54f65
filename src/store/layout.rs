//! The updater's own directory. It holds cfg.json, and each path in it is written here and nowhere else.

use std::path::{Path, PathBuf};

/// The mode of state files. They name servers and agents, so they are for root and its group only.
pub const STATE_MODE: u32 = 0o640;

/// The last accepted desired state, in wire format, where the original updater keeps it too.
pub fn desired_state(own_dir: &Path) -> PathBuf {
    own_dir.join("desired_agent.json")
}

/// The policy of the host, which a worker under sudo reads: the own directory belongs to the caller there.
pub const HOST_POLICY: &str = "/etc/ops-updater/policy.json";

/// What root allows on this host.
pub fn policy(own_dir: &Path) -> PathBuf {
    own_dir.join("policy.json")
}

/// A file that is written at the start, to find out whether the directory can be written to.
pub fn probe(own_dir: &Path) -> PathBuf {
    own_dir.join(".probe.tmp")
}

/// The directory of everything below.
pub fn var(own_dir: &Path) -> PathBuf {
    own_dir.join("var")
}

/// Locked by the running updater by flock(2), so that only one runs. Its content, the pid, is never read.
pub fn lock(own_dir: &Path) -> PathBuf {
    own_dir.join("var/lock")
}

/// Locked by the running updater by fcntl(2), so that the kernel names it. It is empty.
pub fn signature(own_dir: &Path) -> PathBuf {
    own_dir.join("var/lock.holder")
}

/// The pid again, for tools of the original updater. We never read it.
pub fn pid(own_dir: &Path) -> PathBuf {
    own_dir.join("var/app.pid")
}

/// Where `control start` sends stderr.
pub fn log(own_dir: &Path) -> PathBuf {
    own_dir.join("var/app.log")
}

pub fn ledger(own_dir: &Path) -> PathBuf {
    own_dir.join("var/ledger.json")
}

pub fn status(own_dir: &Path) -> PathBuf {
    own_dir.join("var/status.json")
}

/// Exists while nothing may be changed on this host. Its content is the reason.
pub fn hold(own_dir: &Path) -> PathBuf {
    own_dir.join("var/hold")
}

/// One file for each pinned agent: its name, with the version as content.
pub fn pins(own_dir: &Path) -> PathBuf {
    own_dir.join("var/pins")
}

/// One empty file for each agent that is to be tried again now.
pub fn retries(own_dir: &Path) -> PathBuf {
    own_dir.join("var/retry")
}

/// The number of the last `status --wait`. A heartbeat that begins later has followed everything before it.
pub fn asked(own_dir: &Path) -> PathBuf {
    own_dir.join("var/asked")
}

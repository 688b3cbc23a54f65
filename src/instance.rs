//! One updater per directory: who holds the lock on `var/lock` is it, and its pid stands in there. A pid file alone
//! proves nothing.
#![expect(
    clippy::disallowed_methods,
    reason = "a lock is a file, and waiting for one takes time"
)]

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::disk::{self, Lock, Staged};
use crate::error::{At, Error, Result};

/// `pid` takes the lock for a moment to see whether it is free; a start must not take that for a running updater.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
/// Who took the lock writes its pid right after.
const PID_PATIENCE: Duration = Duration::from_secs(1);

/// Checks what every run needs, and takes the lock; the error within is the pid of who holds it.
pub fn prepare(own_dir: &Path) -> Result<std::result::Result<Lock, String>> {
    if !Path::new("/bin/sh").exists() {
        return Err(Error::new("run", "control scripts", "there is no /bin/sh"));
    }
    let var = own_dir.join("var");
    disk::make_dir(&var)?;
    let path = var.join("lock");
    let Some(mut lock) = disk::lock(&path, 0o644, LOCK_PATIENCE)? else {
        return Ok(Err(disk::read_small(&path, 32)
            .unwrap_or_default()
            .trim()
            .to_owned()));
    };
    let pid = format!("{}\n", std::process::id());
    // What the last holder left is emptied first: a pid in the file is that of who holds the lock.
    let written = lock.file.set_len(0);
    let written = written.and_then(|()| lock.file.write_all(pid.as_bytes()));
    written.at("write", &path)?;
    // For tools of the original; nothing of ours reads it.
    disk::write_atomic(&var.join("app.pid"), pid.as_bytes())?;
    let probe = own_dir.join(".probe.tmp");
    drop(Staged::write(probe.clone(), own_dir, b"")?);
    // Where it cannot be removed, no file can be replaced.
    disk::remove_tree(&probe)?;
    Ok(Ok(lock))
}

/// The pid of who holds the lock in this directory.
pub fn holder(own_dir: &Path) -> Option<u32> {
    let path = own_dir.join("var/lock");
    let lock = fs::File::open(&path).ok()?;
    let begun = Instant::now();
    loop {
        match lock.try_lock_shared() {
            Err(fs::TryLockError::WouldBlock) => {}
            Ok(()) | Err(fs::TryLockError::Error(_)) => return None,
        }
        let text = disk::read_small(&path, 32).ok()?;
        // Emptied before it is written anew, so a pid that is there is that of the holder.
        match text.strip_suffix('\n').and_then(|pid| pid.parse().ok()) {
            Some(pid) => return Some(pid),
            None if begun.elapsed() >= PID_PATIENCE => return None,
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

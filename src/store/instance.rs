//! One updater per directory: the running one holds the lock on `var/lock`, and the kernel says which process that is. A pid
//! in a file proves nothing, because the process may be gone and another may have its number.
#![expect(
    clippy::disallowed_methods,
    reason = "a lock is a file, and waiting for one takes time"
)]

use std::fs::{self, File, Permissions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use super::layout;
use crate::error::{At, Error, Result};
use crate::log;
use crate::os::disk::{self, Staged};
use crate::os::lock::{self, Lock};
use crate::os::{credentials, holder, process};

/// The command `pid` takes the lock for a moment to see whether it is free, and an updater that ends gives up its two locks
/// one after the other. A start waits longer than that.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
/// Time between taking the two locks, at most.
const NAME_PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(10);

/// The locks of the running updater. Its process must not open the second file again: that would end its lock.
pub struct Locks {
    _lock: Lock,
    _signature: File,
}

/// Checks what every run needs, and takes the locks. The inner error is the pid of the updater that holds them.
pub fn prepare(own_dir: &Path) -> Result<std::result::Result<Locks, u32>> {
    if !Path::new("/bin/sh").exists() {
        return Err(Error::new("run", "control scripts", "there is no /bin/sh"));
    }
    let var = layout::var(own_dir);
    disk::make_dir(&var)?;
    close(&var)?;
    let path = layout::lock(own_dir);
    let Some(mut lock) = lock::take(&path, LOCK_PATIENCE)? else {
        let pid = holder(own_dir)?;
        return pid
            .map(Err)
            .ok_or_else(|| Error::new("lock", &path, holder::words(&path)));
    };
    let signature = sign(&layout::signature(own_dir))?;
    let pid = format!("{}\n", std::process::id());
    // For an updater of 0.1.0, which reads it.
    let written = lock.file.set_len(0);
    let written = written.and_then(|()| lock.file.write_all(pid.as_bytes()));
    written.at("write", &path)?;
    disk::write_atomic(&layout::pid(own_dir), pid.as_bytes(), 0o644)?;
    check_writable(own_dir)?;
    Ok(Ok(Locks {
        _lock: lock,
        _signature: signature,
    }))
}

/// Closes `var` if it is sticky and open to others, as a new tmpfs is: they could create pins or a hold there.
fn close(var: &Path) -> Result<()> {
    let meta = fs::metadata(var).at("look at", var)?;
    let mode = meta.mode();
    if meta.uid() == credentials::effective_uid() && mode & 0o1000 != 0 && mode & 0o022 != 0 {
        fs::set_permissions(var, Permissions::from_mode(mode & 0o755)).at("close", var)?;
    }
    Ok(())
}

/// Makes the kernel name this process. Where it cannot, the updater runs all the same, and commands ask for the other lock.
fn sign(path: &Path) -> Result<File> {
    let file = lock::open(path).at("open", path)?;
    let begun = Instant::now();
    while let Err(error) = holder::sign(&file) {
        if begun.elapsed() >= LOCK_PATIENCE {
            log::warn(format_args!("{}", Error::new("lock", path, error)));
            break;
        }
        std::thread::sleep(PAUSE);
    }
    Ok(file)
}

/// Fails where files cannot be made or removed: no state file could be replaced there.
fn check_writable(own_dir: &Path) -> Result<()> {
    let probe = layout::probe(own_dir);
    drop(Staged::write(
        probe.clone(),
        own_dir,
        b"",
        layout::STATE_MODE,
    )?);
    disk::remove_tree(&probe)
}

/// Returns the pid of the updater that runs in this directory. Fails if that is not known, or another program holds its lock.
pub fn holder(own_dir: &Path) -> Result<Option<u32>> {
    let path = layout::lock(own_dir);
    let begun = Instant::now();
    loop {
        if let Some(pid) = named(own_dir)? {
            // Another user may not be permitted to see the program.
            return match process::runs_own_program(pid) {
                Ok(false) => {
                    let cause = format!("pid {pid}, which is no ops-updater, holds it: end it");
                    Err(Error::new("use", path, cause))
                }
                Ok(true) | Err(_) => Ok(Some(pid)),
            };
        }
        if !is_locked(&path)? {
            return Ok(None);
        }
        if begun.elapsed() >= NAME_PATIENCE {
            let cause = "this system does not name it: see fuser(1)";
            return Err(Error::new("find the holder of", path, cause));
        }
        std::thread::sleep(PAUSE);
    }
}

/// Sends the signal to the updater that runs in this directory, and to no other process. Returns its pid.
pub fn signal(own_dir: &Path, signal: i32) -> Result<Option<u32>> {
    let Some(pid) = holder(own_dir)? else {
        return Ok(None);
    };
    let subject = format!("pid {pid}");
    let process = process::Handle::open(pid);
    // The number may have got to another process before the handle was opened.
    if holder(own_dir)? != Some(pid) {
        return Ok(None);
    }
    let runs = process::runs_own_program(pid).at("look at", &subject)?;
    if runs {
        process.signal(signal).at("signal", &subject)?;
    }
    Ok(runs.then_some(pid))
}

/// Returns the holder that the kernel names. An updater of 0.1.0 holds only the first lock, and another user cannot open the
/// second.
fn named(own_dir: &Path) -> Result<Option<u32>> {
    let path = layout::signature(own_dir);
    let signer = match open(&path) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => None,
        opened => known(opened).at("open", &path)?,
    };
    let signer = signer.map_or(Ok(None), |file| holder::signer(&file));
    if let Some(pid) = signer.at("find the holder of", &path)? {
        return Ok(Some(pid));
    }
    let path = layout::lock(own_dir);
    let meta = known(fs::metadata(&path)).at("look at", &path)?;
    Ok(meta.and_then(|meta| holder::of_flock(&meta, true)))
}

fn is_locked(path: &Path) -> Result<bool> {
    let opened = known(open(path)).at("open", path);
    let hint = "only the user that the updater runs as can find out whether it runs";
    let Some(file) = opened.map_err(|error| error.with_hint(hint))? else {
        return Ok(false);
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(Error::new("lock", path, error)),
    }
}

/// Opens a lock to ask for its holder. Never waits for the other end of a fifo.
fn open(path: &Path) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    File::options().read(true).custom_flags(flags).open(path)
}

/// Turns the error that a file is missing into none.
fn known<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Err(error) if disk::is_absent(&error) => Ok(None),
        found => found.map(Some),
    }
}

//! Files that one process at a time holds by flock(2). Only their owner can open them: whoever can open a file, even for
//! reading only, can hold its lock.
#![expect(
    clippy::disallowed_methods,
    reason = "a lock is a file, and waiting for one takes time"
)]

use std::fs::{File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use super::{credentials, disk};
use crate::error::{At, Error, Result};

/// Read and write for the owner, nothing for anybody else.
const OWNER_ALONE: u32 = 0o600;

/// A locked file. The kernel releases the lock when it is dropped or the process ends.
pub struct Lock {
    pub file: File,
}

/// Takes the lock, and waits at most `patience` for it. Returns none if another process still holds it.
pub fn take(path: &Path, patience: Duration) -> Result<Option<Lock>> {
    hold(open(path).at("open", path)?, path, patience)
}

/// Takes the lock like `take`, but also on a read-only file system, where nothing can be written to the file.
pub fn take_anyway(path: &Path, patience: Duration) -> Result<Option<Lock>> {
    let file = match open(path) {
        Err(error) if error.raw_os_error() == Some(libc::EROFS) => {
            let mut options = File::options();
            options.read(true).custom_flags(libc::O_NOFOLLOW).open(path)
        }
        opened => opened,
    };
    hold(file.at("open", path)?, path, patience)
}

/// Opens the file, and creates it if it is missing. 0.1.0 created it with mode 0644: that is corrected.
pub fn open(path: &Path) -> io::Result<File> {
    let file = disk::open_or_create(path, OWNER_ALONE)?;
    let meta = file.metadata()?;
    let is_ours = meta.is_file() && meta.uid() == credentials::effective_uid();
    if is_ours && meta.mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(OWNER_ALONE))?;
    }
    Ok(file)
}

fn hold(file: File, path: &Path, patience: Duration) -> Result<Option<Lock>> {
    let give_up = Instant::now() + patience;
    let mut pause = Duration::from_millis(10);
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(Lock { file })),
            Err(TryLockError::WouldBlock) if Instant::now() >= give_up => return Ok(None),
            Err(TryLockError::WouldBlock) => std::thread::sleep(pause),
            Err(TryLockError::Error(error)) => {
                return Err(Error::new("lock", path, error));
            }
        }
        pause = (pause * 2).min(Duration::from_millis(500));
    }
}

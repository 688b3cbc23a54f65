//! The record of a script that runs: while a start or stop runs, its pid is in a file, which the script's own process
//! writes before its program begins. After an updater was killed, the next one waits for that script and never
//! signals it.
#![expect(
    clippy::disallowed_methods,
    reason = "it waits for a process and removes a file"
)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::agent::script;
use crate::error::Result;
use crate::os::{disk, process};

/// The pauses between two checks of an earlier script grow between these.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// Bytes of a pid, with room.
const SIZE_LIMIT: u64 = 32;

/// The pid file of one script. It is removed when this is dropped.
pub struct ScriptLock {
    path: PathBuf,
    file: File,
}

impl ScriptLock {
    /// Creates the empty file.
    pub fn create(path: &Path) -> Result<Self> {
        Ok(Self {
            file: disk::create(path, 0o600)?,
            path: path.to_owned(),
        })
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    /// Waits until a script that an earlier updater left running has ended, at most as long as any script may take.
    pub fn wait_for_earlier(path: &Path) {
        let Ok(text) = disk::read_small(path, SIZE_LIMIT) else {
            return;
        };
        let pid = text.trim().parse().unwrap_or(0);
        let age = fs::metadata(path).and_then(|meta| meta.modified());
        let is_old = age.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > script::LONGEST_RUN));
        let patience = if is_old {
            // No script runs this long: the pid belongs to another process by now.
            Duration::ZERO
        } else {
            script::LONGEST_RUN
        };
        let give_up_at = Instant::now() + patience;
        let mut pause = FIRST_PAUSE;
        while process::leads_session(pid) && Instant::now() < give_up_at {
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        // It may be gone already.
        let _ = fs::remove_file(path);
    }
}

impl Drop for ScriptLock {
    fn drop(&mut self) {
        // If the file stays, the next step only checks a pid that is gone.
        let _ = fs::remove_file(&self.path);
    }
}

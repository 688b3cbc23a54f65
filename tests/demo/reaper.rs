//! Cleans up after the demo, also if it failed, was interrupted or was killed.

use crate::support::host::end_sandbox;
use std::env;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// How the directory of `--serve` begins.
pub const SERVED: &str = "ops-meta-";

/// A child that waits for the end of the demo, then kills what the demo started and removes its files.
/// It leads its own process group, so Ctrl-C does not reach it.
pub struct Reaper(Child);

impl Reaper {
    /// Starts it. The directory is made only afterwards, so that no interrupt comes between the two.
    pub fn of(dir: &Path) -> Result<Self, String> {
        let mut child = env::current_exe()
            .and_then(|own| {
                Command::new(own)
                    .arg("--reap")
                    .stdin(Stdio::piped())
                    .stdout(Stdio::null())
                    .process_group(0)
                    .spawn()
            })
            .map_err(|e| format!("cannot start the reaper: {e}"))?;
        let mut pipe = child.stdin.as_ref().expect("stdin is a pipe");
        match pipe.write_all(dir.as_os_str().as_encoded_bytes()) {
            Ok(()) => Ok(Self(child)),
            Err(e) => {
                let _ = child.kill();
                Err(format!("cannot talk to the reaper: {e}"))
            }
        }
    }

    pub fn finish(mut self) -> Result<(), String> {
        drop(self.0.stdin.take());
        let ended = self.0.wait().map_err(|e| e.to_string())?;
        if ended.success() {
            Ok(())
        } else {
            Err("the sandbox could not be cleaned up".to_owned())
        }
    }
}

/// Waits until the demo's end of the pipe is closed. The path of the sandbox comes through the pipe: with the path in
/// its arguments this process would count as a part of the sandbox.
pub fn reap() -> Result<(), String> {
    let mut dir = String::new();
    io::stdin()
        .read_to_string(&mut dir)
        .map_err(|e| e.to_string())?;
    let dir = Path::new(&dir);
    // The directory is removed, so it must be one that a demo made.
    let name = dir.file_name().and_then(|name| name.to_str());
    let begins = |with| dir.is_absolute() && name.is_some_and(|name| name.starts_with(with));
    if begins("ops-updater-test-") {
        end_sandbox(dir);
    } else if !begins(SERVED) {
        return Err(format!("{} is no directory of a demo", dir.display()));
    }
    // The processes below a served directory are a person's, such as a shell.
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(format!("cannot remove {}: {e}", dir.display()))
        }
        _ => Ok(()),
    }
}

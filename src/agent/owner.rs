//! The owner mark, `.updater/owner`: which updater manages the agent in this directory. A second one whose own directory
//! is another leaves the agent alone as long as the first lives.
//!
//! The owner lives if the process in the mark does: pid and start time, which the kernel shows to everybody. Its lock
//! cannot be asked, because a worker that has become the agent's user must not be able to open it. Updaters in different
//! pid namespaces do not see each other's processes, so a work directory must not be shared between containers.
//!
//! The agent's user owns the file and can write any mark. With a false one it reaches that its own agent is not managed,
//! which is reported with what the mark says. A mark names no file that is read or written, and no process that is
//! signalled.

use std::time::Duration;

use crate::agent::paths::Paths;
use crate::error::{At, Error, Result};
use crate::log;
use crate::model::{AgentName, Updater};
use crate::os::{disk, lock, process};
use crate::text::brief;

/// Bytes. The longest part of a mark is a path, of 4096 at most.
const SIZE_LIMIT: u64 = 8192;
/// The longest path that is reported, in bytes.
const PATH_SHOWN: usize = 120;

/// The content of the file: these fields, one a line. The path comes last, so that it may contain anything.
struct Mark {
    /// The owner's daemon, `<pid> <start time>`.
    process: String,
    /// Device and inode of its own directory, by which an updater knows its own mark after a restart.
    directory: String,
    /// The path of that directory, for people.
    path: String,
}

impl Mark {
    /// Returns the mark, or none if there is none or its text means nothing. Fails if the host cannot read it now.
    fn read(paths: &Paths) -> Result<Option<Self>> {
        let path = paths.owner();
        match disk::read_small(&path, SIZE_LIMIT).at("read", &path) {
            Ok(text) => Ok(Self::parse(&text)),
            Err(error) if error.is_host_fault() => Err(error),
            Err(_) => Ok(None),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_suffix('\n')?.splitn(3, '\n').map(str::to_owned);
        Some(Self {
            process: parts.next()?,
            directory: parts.next()?,
            path: parts.next()?,
        })
    }

    /// Returns whether the mark is ours, by our directory. The device of some file systems has another number after each
    /// boot, so the path will do if its process is gone.
    fn is_of(&self, us: &Updater) -> bool {
        self.directory == us.own || self.path == us.dir && !self.is_alive()
    }

    /// Returns whether the mark is ours and needs no renewal.
    fn is_fresh(&self, us: &Updater) -> bool {
        self.directory == us.own && self.process == us.process && self.path == us.dir
    }

    fn is_alive(&self) -> bool {
        process::may_be_alive(&self.process)
    }

    /// Returns who the owner is, for people. The text may come from a hostile user.
    fn describe(&self) -> String {
        let pid = self.process.split(' ').next().unwrap_or_default();
        let dir = brief(&self.path, PATH_SHOWN);
        format!("managed by the updater in {dir} (pid {})", brief(pid, 20))
    }
}

/// Writes our mark in one step, without a sync: after a power cut no owner lives.
fn write(paths: &Paths, us: &Updater) -> Result<()> {
    let path = paths.owner();
    let text = format!("{}\n{}\n{}\n", us.process, us.own, us.dir);
    let written = disk::replace(&path, text.as_bytes(), 0o644);
    if written.is_err() {
        disk::remove_temporary(&path);
    }
    written
}

/// Returns which other living updater manages the agent, in words. Renews our own mark after a restart.
pub fn other(paths: &Paths, us: &Updater) -> Option<String> {
    let mark = Mark::read(paths).ok()??;
    if !mark.is_of(us) {
        return mark.is_alive().then(|| mark.describe());
    }
    if !mark.is_fresh(us) && us.acts() {
        renew(paths, us);
    }
    None
}

/// Renews our own mark, unless somebody works on the agent: a step of ours renews it too, and another updater may be about
/// to take over.
fn renew(paths: &Paths, us: &Updater) {
    let lock = lock::take_anyway(&paths.lock(), Duration::ZERO);
    let Ok(Some(_lock)) = lock else {
        return;
    };
    if matches!(Mark::read(paths), Ok(Some(mark)) if mark.is_of(us)) {
        // If it cannot be written, the next check tries again.
        let _ = write(paths, us);
    }
}

/// Marks the agent as ours before a step acts on it. The caller holds the agent's lock.
///
/// Fails if another living updater manages it. A mark that cannot be written is no reason to leave an agent down: on a
/// full or read-only disk the step goes on.
pub fn claim(name: &AgentName, paths: &Paths, us: &Updater) -> Result<()> {
    let before = Mark::read(paths)?;
    let mut other = None;
    if let Some(mark) = before {
        if mark.is_fresh(us) {
            return Ok(());
        }
        if !mark.is_of(us) {
            other = Some(mark.describe());
            if mark.is_alive() {
                return Err(Error::new("use", &paths.agent, mark.describe()));
            }
        }
    }
    match (write(paths, us), other) {
        (Ok(()), Some(other)) => {
            log::warn(format_args!(
                "{name}: taken over, it was {other}, which has ended"
            ));
        }
        (Ok(()), None) => {}
        (Err(error), _) => log::debug(format_args!("{name}: {error}")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_three_lines_and_anything_else_is_none() {
        let mark = Mark::parse("1 22\n3:4\n/opt/a\nb\n").expect("a mark");
        assert_eq!(
            [mark.process, mark.directory, mark.path],
            ["1 22", "3:4", "/opt/a\nb"]
        );
        for text in ["", "\n", "1 22\n", "1 22\n3:4\n", "1 22\n3:4\n/opt"] {
            assert!(Mark::parse(text).is_none(), "{text:?}");
        }
    }
}

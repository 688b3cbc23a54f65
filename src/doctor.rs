//! `doctor`: what fails in the field, looked at before it does; one line each, with what to do. Whatever may never answer,
//! a disk, a resolver, a server, is looked at by a copy of this process with a deadline. Changes nothing on this host.

use std::mem;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::checkup::{self, Patient};
use crate::config::Source;
use crate::control::{self, Ending};
use crate::error::{At, Error, Result};
use crate::log;
use crate::print;
use crate::sys::{self, Signals};
use crate::texts::{self, Name};

/// The lines of doctor.txt in their order: what each look tells, and what to do about it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Told {
    Fine,
    Warn,
    Fail,
    /// What a look is about to do: who reads on knows where it hung.
    Next,
    NextOwnDir,
    NextDir,
    NoAnswer,
    NotOurs,
    NoExec,
    NoRoom,
    NoInodes,
    Room,
    Leftover,
    NoList,
    NoLedger,
    Updater,
    UpdaterOfAnother,
    NoUpdater,
    Umask,
    OpenFiles,
    Proxy,
    NoShell,
    NextUser,
    User,
    UserToMake,
    NoUser,
    UserUnknown,
    Sudo,
    NextLookUp,
    NotFound,
    NextConnect,
    NotConnected,
    NextAsk,
    NotAnswered,
    AnsweredBadly,
    Took,
    NoDate,
    Clock,
    ClockOdd,
    ClockBad,
}

/// Longer than a resolver or a connection takes to fail by itself. There are two of them in a row, and 20 s in all.
const PATIENCE: Duration = Duration::from_secs(8);
/// A copy whose parent is gone ends itself.
const ORPHAN_SECONDS: u32 = 12;

/// Whether any line so far was of a failure.
static HAS_FAILED: AtomicBool = AtomicBool::new(false);

/// Prints what it finds; whether nothing of it fails.
pub fn is_well(file: &Path) -> bool {
    if let Err(error) = examine(file) {
        failed(Told::Fail, error);
    }
    !HAS_FAILED.load(Ordering::Relaxed)
}

fn examine(file: &Path) -> Result<()> {
    let signals = Signals::new(&[libc::SIGCHLD, libc::SIGTERM]).at("catch", "signals")?;
    let source = Source::new(file)?;
    // First alone: what a copy has read without hanging, this process can read too.
    if run(1, &|_| checkup::own(&source), &signals)? {
        let patient = Patient::of(&source);
        run(patient.looks(), &|at| patient.look(at), &signals)?;
        mem::forget(patient);
    }
    Ok(())
}

/// So many looks side by side, each in a copy of this process; whether all of them ended by themselves.
fn run(count: usize, look: &dyn Fn(usize), signals: &Signals) -> Result<bool> {
    let mut looks = Vec::new();
    for at in 0..count {
        let look = || {
            sys::alarm(ORPHAN_SECONDS);
            look(at);
        };
        looks.push(control::copy_look(&look, PATIENCE)?);
    }
    let mut all_ended = true;
    let answers = control::finish(looks, signals);
    for answer in &answers {
        let text = answer.whole_text();
        let mut next = "";
        for told in text.lines() {
            match told.strip_prefix("next  ") {
                Some(step) => next = step,
                None => tell(told),
            }
        }
        if !answer.succeeded() {
            all_ended = false;
            match answer.ending {
                Ending::Overdue => line(Told::NoAnswer, next),
                Ending::Exited(_) | Ending::Killed(_) => {
                    line(Told::Fail, &format!("{next}: {}", answer.complaint()));
                }
            }
        }
    }
    mem::forget(answers);
    Ok(all_ended)
}

/// The line of doctor.txt with this in the place of its `%`.
pub fn line(told: Told, what: &str) {
    let lines = texts::text(Name::Doctor);
    let text = lines.lines().nth(told as usize).unwrap_or_default();
    let (before, after) = text.split_once('%').unwrap_or((text, ""));
    tell(&log::printable(&format!("{before}{what}{after}")));
}

#[expect(clippy::needless_pass_by_value, reason = "no caller has to drop it")]
pub fn failed(told: Told, error: Error) {
    line(told, &error.to_string());
}

/// Where nobody reads it, the exit code still tells.
fn tell(line: &str) {
    print(line);
    if line.starts_with("fail") {
        HAS_FAILED.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_has_its_word() {
        let lines = include_str!("doctor.txt").lines();
        assert_eq!(lines.count(), Told::ClockBad as usize + 1);
    }
}

//! `doctor`: checks for what would keep the updater from working. Prints one line for each finding, with what to do.
//! It changes nothing on this host. A check that may never return, because of a disk, a resolver or a server, runs in a
//! forked process with a deadline.

/// Whether directories can be used: rights, free space, remains of a crash.
mod directories;
/// The lines that are printed.
mod findings;
/// The updater's files, the agents' directories, users, tools, limits.
mod host;
/// What root allows on this host.
mod local_policy;
/// The server's name, connection, answer and clock.
mod server;

use std::path::Path;
use std::time::Duration;

use self::host::{Check, Checks};
use super::args::Arguments;
use super::exit::{Exit, ExitResult};
use crate::agent::{Ending, ScriptOutput, script};
use crate::error::{At, Result};
use crate::os::process;
use crate::os::signals::Signals;
use crate::store::config::Source;

/// Longer than a resolver or a connection takes to fail. Two groups of checks run one after the other, within 20 s in all.
const PATIENCE: Duration = Duration::from_secs(8);
/// A forked process ends itself after this time, in case its parent is gone.
const ORPHAN_SECONDS: u32 = 12;

pub(super) fn run(arguments: &Arguments) -> ExitResult {
    findings::set_json(arguments.json);
    if let Err(error) = run_all(&arguments.config) {
        findings::fail(format_args!("{error}"));
    }
    if findings::has_failed() {
        return Err(Exit::Failure);
    }
    Ok(Exit::Success)
}

fn run_all(file: &Path) -> Result<()> {
    let signals = Signals::new(&[libc::SIGCHLD, libc::SIGTERM]).at("catch", "signals")?;
    let source = Source::new(file)?;
    // Alone and first: this process may then read the same files without a deadline.
    let first: Check = Box::new(|| host::check_own_files(&source));
    if run_forked(&[first], &signals)? {
        let checks = Checks::new(&source);
        run_forked(&checks.list(), &signals)?;
    }
    Ok(())
}

/// Runs the checks side by side, each in a forked process. Returns whether none of them hung or crashed.
fn run_forked(checks: &[Check], signals: &Signals) -> Result<bool> {
    let mut processes = Vec::new();
    for check in checks {
        let check = || {
            process::alarm(ORPHAN_SECONDS);
            // The parent reads lines of text.
            findings::set_json(false);
            check();
        };
        processes.push(script::fork_check(&check, PATIENCE)?);
    }
    let outputs = script::wait_for_all(processes, signals);
    for output in &outputs {
        print_findings(output);
    }
    Ok(outputs.iter().all(ScriptOutput::succeeded))
}

/// Prints the findings of a forked process. If it did not end by itself, also prints what it was about to do.
fn print_findings(output: &ScriptOutput) {
    let text = output.whole_text();
    let action = findings::relay(&text);
    if output.succeeded() {
        return;
    }
    match output.ending {
        Ending::Overdue => {
            let seconds = PATIENCE.as_secs();
            findings::fail(format_args!("{action}: no answer within {seconds} s"));
        }
        Ending::Exited(_) | Ending::Killed(_) => {
            findings::fail(format_args!("{action}: {}", output.complaint()));
        }
    }
}

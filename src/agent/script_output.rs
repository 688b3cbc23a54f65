//! What a script or a check printed, and how it ended. Output goes to a file and never to a pipe, so that an agent
//! which keeps its stdout open makes nobody wait.
#![expect(
    clippy::disallowed_methods,
    reason = "it opens and renames output files"
)]

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use crate::error::{At, Result};
use crate::os::{fd, files};
use crate::text;

/// Bytes. Longer output is cut off while the script runs, and at every check of the agent.
pub(super) const OUTPUT_LIMIT: u64 = 1 << 20;
/// Bytes. An answer has one or two words. An error message quotes the end of the output.
const ANSWER_LIMIT: u64 = 4096;
/// Lines at the end of a script's output that an error message quotes. The last one alone is often the end of a stack trace.
const LINES_QUOTED: usize = 3;
/// Characters of the last line.
const QUOTE_LIMIT: usize = 160;
/// Bytes up to which lines before it are quoted. A heartbeat has no room for more.
const LINES_LIMIT: usize = 120;

/// How a script ended.
#[derive(Debug)]
pub enum Ending {
    Exited(i32),
    Killed(i32),
    /// It did not end by itself in time.
    Overdue,
}

impl From<ExitStatus> for Ending {
    fn from(status: ExitStatus) -> Self {
        match status.signal() {
            Some(signal) => Self::Killed(signal),
            None => Self::Exited(status.code().unwrap_or_default()),
        }
    }
}

/// The output and the ending of one script.
pub struct ScriptOutput {
    /// What ran, for an error message.
    label: &'static str,
    /// The deadline that it had.
    patience: Duration,
    pub ending: Ending,
    /// Names the process that not even KILL has ended; else empty.
    pub stuck: String,
    /// The beginning of the output, kept when the rest was cut off.
    beginning: Option<String>,
    file: File,
}

impl ScriptOutput {
    pub(super) fn new(label: &'static str, patience: Duration, file: File) -> Self {
        Self {
            label,
            patience,
            ending: Ending::Overdue,
            stuck: String::new(),
            beginning: None,
            file,
        }
    }

    pub fn succeeded(&self) -> bool {
        matches!(self.ending, Ending::Exited(0))
    }

    /// Returns everything that was printed, up to `OUTPUT_LIMIT`.
    pub fn whole_text(&self) -> String {
        read(&self.file, 0, OUTPUT_LIMIT)
    }

    /// Returns the beginning of what was printed.
    pub fn text(&mut self) -> String {
        let beginning = self.beginning.take();
        beginning.unwrap_or_else(|| read(&self.file, 0, ANSWER_LIMIT))
    }

    /// Keeps the beginning and empties the file, if it has grown past the limit.
    pub(super) fn cut_if_too_long(&mut self) {
        if is_too_long(&self.file) {
            self.beginning = Some(self.text());
            cut_if_too_long(&self.file);
        }
    }

    /// Returns what went wrong, in one line, with the last lines that the script printed: `control start exited with 1: a | b`.
    pub fn complaint(&self) -> String {
        let label = self.label;
        let what = match self.ending {
            Ending::Exited(code) => format!("{label} exited with {code}"),
            Ending::Killed(signal) => format!("{label} was ended by signal {signal}"),
            Ending::Overdue if !self.stuck.is_empty() => {
                format!("{label} cannot be ended, not even by KILL; does a disk hang?")
            }
            Ending::Overdue => format!("{label} did not end within {} s", self.patience.as_secs()),
        };
        let text = self.end_of_text();
        let lines = text.lines().rev().map(str::trim);
        let mut quote = String::new();
        for line in lines.filter(|line| !line.is_empty()).take(LINES_QUOTED) {
            if quote.is_empty() {
                quote = text::brief(line, QUOTE_LIMIT);
            } else if quote.len() + line.len() < LINES_LIMIT {
                quote = format!("{line} | {quote}");
            } else {
                break;
            }
        }
        if quote.is_empty() {
            return what;
        }
        format!("{what}: {}", text::printable(&quote))
    }

    fn end_of_text(&self) -> String {
        let length = self.file.metadata().map_or(0, |meta| meta.len());
        read(
            &self.file,
            length.saturating_sub(ANSWER_LIMIT),
            ANSWER_LIMIT,
        )
    }
}

/// Returns an empty text if the output cannot be read: then the agent counts as not started, and nothing is quoted.
fn read(output: &File, from: u64, limit: u64) -> String {
    files::read_text(output, from, limit).unwrap_or_default()
}

/// Empties an output file that has grown past the limit. Its writers append, so they go on at the new end.
pub(super) fn cut_if_too_long(output: &File) {
    if is_too_long(output) {
        // This fails on a full or broken disk only, which the next writer reports.
        let _ = output.set_len(0);
    }
}

fn is_too_long(output: &File) -> bool {
    let meta = output.metadata();
    meta.is_ok_and(|meta| meta.len() > OUTPUT_LIMIT)
}

/// Opens an empty output file for a script that starts a program, which goes on writing to it.
pub(super) fn open_named(path: &Path) -> Result<File> {
    let mut options = File::options();
    options.read(true).append(true).create(true).mode(0o644);
    let file = options.custom_flags(libc::O_NOFOLLOW).open(path);
    let file = file.at("open", path)?;
    // If this fails, old output is at worst quoted as this script's.
    let _ = file.set_len(0);
    Ok(file)
}

/// Gives the output of a start that failed another name, because the next script empties the file. Returns whether there is
/// any; without, that of an earlier start is removed, which would be taken for it.
pub(super) fn keep(output: &Path, kept: &Path) -> bool {
    if fs::symlink_metadata(output).is_ok_and(|meta| meta.is_file() && meta.len() > 0) {
        return fs::rename(output, kept).is_ok();
    }
    // Mostly there is none.
    let _ = fs::remove_file(kept);
    false
}

/// Creates an output file without a name.
pub(super) fn create_nameless() -> Result<File> {
    let file = files::nameless_file().at("create", "a file for the output")?;
    // Writers append, as to a named output file. Otherwise they would leave a hole after the file was emptied.
    fd::set_flag(file.as_raw_fd(), libc::O_APPEND).at("prepare", "a file for the output")?;
    Ok(file)
}

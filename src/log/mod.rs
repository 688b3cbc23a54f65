//! Log lines on stderr: `2026-11-22T17:31:33Z WARN demo: cannot fetch http://…: 404`.
//! Each line is one `write`, so that lines of several processes never mix. Control characters in messages are replaced.
#![expect(
    clippy::disallowed_methods,
    reason = "this is the log, with the time on each line"
)]

/// `var/app.log` within its limit, with one old file beside it.
mod file;
/// The form of a line: text, JSON, or what the journal wants.
pub mod form;
/// How bad a line is.
mod level;
/// Logs a fault once when it begins and once when it ends.
pub mod on_change;
/// Counts lines that repeat the line before them.
mod repeats;

use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use self::file::LogFile;
use self::form::{TIME_LENGTH, formed};
pub use self::level::Level;
use self::repeats::Repeats;
use crate::os::{clock, fd};
use crate::text::{printable, timestamp};

/// The limit of a line in bytes, without what JSON adds around it: a pipe takes 4096 (`PIPE_BUF`) in one piece, and more would
/// wait for a reader.
const LINE_LIMIT: usize = 4000;

/// The part of the log that only the daemon has. Lines of its workers reach it through their stderr.
struct DaemonLog {
    file: Option<LogFile>,
    limit: u64,
    repeats: Repeats,
}

static DAEMON_LOG: Mutex<Option<DaemonLog>> = Mutex::new(None);
/// True while the terminal shows progress that the next line overwrites.
static SHOWS_PROGRESS: AtomicBool = AtomicBool::new(false);
/// The lowest level that is written.
static LOWEST_LEVEL: AtomicU8 = AtomicU8::new(Level::Info as u8);

pub fn set_level(level: Level) {
    LOWEST_LEVEL.store(level as u8, Ordering::Relaxed);
}

pub fn debug(message: fmt::Arguments) {
    line(Level::Debug, message);
}

pub fn info(message: fmt::Arguments) {
    line(Level::Info, message);
}

pub fn warn(message: fmt::Arguments) {
    line(Level::Warn, message);
}

pub fn error(message: fmt::Arguments) {
    line(Level::Error, message);
}

fn line(level: Level, message: fmt::Arguments) {
    if (level as u8) < LOWEST_LEVEL.load(Ordering::Relaxed) {
        return;
    }
    let text = shortened(printable(&message.to_string()));
    write(&stamped(&format!("{} {text}", level.name())));
}

fn stamped(text: &str) -> String {
    format!("{} {text}\n", timestamp(clock::unix_now()))
}

/// Returns the text, cut to the limit that it also keeps as JSON.
fn shortened(mut text: String) -> String {
    let mut length = 0;
    let too_long = text.char_indices().find(|(_, c)| {
        // JSON escapes these two.
        length += c.len_utf8() + usize::from(matches!(c, '"' | '\\'));
        length > LINE_LIMIT
    });
    if let Some((end, _)) = too_long {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Writes a line of a worker unchanged if it has a timestamp. Returns false if it has none.
pub fn pass_on(line: &str) -> bool {
    let is_stamped = line.get(TIME_LENGTH - 1..=TIME_LENGTH) == Some("Z ");
    if is_stamped {
        write(&(shortened(printable(line)) + "\n"));
    }
    is_stamped
}

/// Makes this process the writer of the daemon's log: repeats are counted, and the file at the path, if it is stderr,
/// is limited to `limit` bytes.
pub fn open(path: PathBuf, limit: u64) {
    *daemon_log() = Some(DaemonLog {
        file: LogFile::behind_stderr(path),
        limit,
        repeats: Repeats::default(),
    });
}

pub fn set_limit(limit: u64) {
    if let Some(log) = &mut *daemon_log() {
        log.limit = limit;
    }
}

/// Writes the count of repeats that is not written yet. Call it before the process ends.
pub fn finish() {
    let due = daemon_log().as_mut().and_then(|log| log.repeats.due());
    if let Some(due) = due {
        write_line(&formed(&stamped(&due)));
    }
}

/// Shows progress on a terminal until the next line overwrites it.
pub fn show_progress(text: &str) {
    if fd::stderr_file().is_terminal() {
        write_line(&format!("{text}\u{1b}[K\r"));
        SHOWS_PROGRESS.store(true, Ordering::Relaxed);
    }
}

/// Do not log while the guard is held: the only thread would wait for itself.
fn daemon_log() -> MutexGuard<'static, Option<DaemonLog>> {
    DAEMON_LOG.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes a line with a timestamp, unless it repeats the line before it.
fn write(line: &str) {
    let text = line.get(TIME_LENGTH + 1..).unwrap_or(line).trim_end();
    let counted = daemon_log()
        .as_mut()
        .map(|log| log.repeats.count(text, clock::unix_now()));
    let (due, is_new) = counted.unwrap_or((None, true));
    if let Some(due) = due {
        write_line(&formed(&stamped(&due)));
    }
    if is_new
        && !write_line(&formed(line))
        && let Some(log) = &mut *daemon_log()
    {
        // The line was lost, so its next occurrence is not a repeat.
        log.repeats = Repeats::default();
    }
}

/// Writes why a command fails.
pub fn complain(message: &str) {
    let message = shortened(format!("ops-updater: {message}"));
    write_line(&form::complaint(&message, || {
        stamped(&format!("ERROR {message}"))
    }));
}

/// Writes text to stderr as it is. Returns false if it was dropped: a reader that does not read, or a full disk, must not
/// stop the updater.
fn write_line(line: &str) -> bool {
    if !fd::is_writable(libc::STDERR_FILENO) {
        return false;
    }
    match &*daemon_log() {
        Some(DaemonLog {
            file: Some(file),
            limit,
            ..
        }) => write_within(file, *limit, line),
        _ if SHOWS_PROGRESS.swap(false, Ordering::Relaxed) => {
            write_stderr(&format!("\u{1b}[K{line}")).is_ok()
        }
        _ => write_stderr(line).is_ok(),
    }
}

/// Nothing buffers stderr, so a line is one write.
fn write_stderr(line: &str) -> io::Result<()> {
    fd::stderr_file().write_all(line.as_bytes())
}

fn write_within(file: &LogFile, limit: u64, line: &str) -> bool {
    let Ok(cause) = file.make_room(line.len() as u64, limit) else {
        return false;
    };
    if let Some(cause) = cause {
        let warning =
            format!("WARN the log was emptied, because it cannot be moved to app.log.1: {cause}");
        // If this cannot be written, neither can the line, and that is reported.
        let _ = file::write_whole(&formed(&stamped(&warning)));
    }
    file::write_whole(line).is_ok()
}

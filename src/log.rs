//! Log lines on stderr: `2026-11-22T17:31:33Z WARN demo: cannot fetch http://…: 404`.
//! One `write` a line, so that lines of several processes never mix; text from outside loses its control characters.
#![expect(
    clippy::disallowed_methods,
    reason = "this is the log, with the time on each line"
)]

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::log_file::{self, LogFile};
use crate::repeats::Repeats;
use crate::start;
use crate::sys;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

impl Level {
    /// The names that cfg.json may use; `warning` is the original's other word.
    pub fn parse(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "debug" => Some(Self::Debug),
            "info" => Some(Self::Info),
            "warn" | "warning" => Some(Self::Warn),
            "error" => Some(Self::Error),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
        }
    }
}

/// A pipe takes so much in one piece (`PIPE_BUF` is 4096), and nobody reads more.
const LINE_LIMIT: usize = 4000;

/// `2026-11-22T17:31:33Z`.
const TIME_LENGTH: usize = 20;

/// What the daemon's log has and its children's, which reach the daemon line by line, have not.
struct Kept {
    file: Option<LogFile>,
    limit: u64,
    repeats: Repeats,
}

static KEPT: Mutex<Option<Kept>> = Mutex::new(None);
/// On the terminal stands what the next line takes the place of.
static IS_TRANSIENT: AtomicBool = AtomicBool::new(false);
static LEAST: AtomicU8 = AtomicU8::new(Level::Info as u8);

pub fn set_level(level: Level) {
    LEAST.store(level as u8, Ordering::Relaxed);
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
    if (level as u8) < LEAST.load(Ordering::Relaxed) {
        return;
    }
    let text = shortened(printable(&message.to_string()));
    write(&stamped(&format!("{} {text}", level.name())));
}

fn stamped(text: &str) -> String {
    format!("{} {text}\n", timestamp(sys::unix_now()))
}

fn shortened(mut text: String) -> String {
    if text.len() > LINE_LIMIT {
        let ends = (0..=LINE_LIMIT).rev();
        let end = ends.into_iter().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
        text.push('…');
    }
    text
}

/// A child's line if it has its time already: it is passed on as it is.
pub fn pass_on(line: &str) -> bool {
    let is_stamped = line.get(TIME_LENGTH - 1..=TIME_LENGTH) == Some("Z ");
    if is_stamped {
        write(&(shortened(printable(line)) + "\n"));
    }
    is_stamped
}

/// From now on repeats are counted, and the file behind stderr, if it is this updater's log, has at most so many bytes.
pub fn keep(own_dir: &Path, limit: u64) {
    *kept() = Some(Kept {
        file: LogFile::behind_stderr(own_dir),
        limit,
        repeats: Repeats::default(),
    });
}

pub fn set_limit(limit: u64) {
    if let Some(kept) = &mut *kept() {
        kept.limit = limit;
    }
}

/// Tells what was counted and not yet told: nothing more will be written.
pub fn end() {
    let due = kept().as_mut().and_then(|kept| kept.repeats.due());
    if let Some(due) = due {
        put(&stamped(&due));
    }
}

/// Shows on a terminal what is under way, until the next line takes its place.
pub fn transient(text: &str) {
    if sys::is_terminal(libc::STDERR_FILENO) {
        put(&format!("{text}\u{1b}[K\r"));
        IS_TRANSIENT.store(true, Ordering::Relaxed);
    }
}

/// While it is held no line may be begun: the one thread would wait for itself.
fn kept() -> MutexGuard<'static, Option<Kept>> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes a stamped line, unless it only says again what the one before it said.
fn write(line: &str) {
    let text = line.get(TIME_LENGTH + 1..).unwrap_or(line).trim_end();
    let heard = kept()
        .as_mut()
        .map(|kept| kept.repeats.hear(text, sys::unix_now()));
    let (due, is_new) = heard.unwrap_or((None, true));
    if let Some(due) = due {
        put(&stamped(&due));
    }
    if is_new
        && !put(line)
        && let Some(kept) = &mut *kept()
    {
        // Nobody has seen it: it is news when it comes again.
        kept.repeats = Repeats::default();
    }
}

/// Writes a line to stderr, or drops it: a reader that sleeps, or a full disk, must not stop the work.
pub fn put(line: &str) -> bool {
    if !sys::is_writable(libc::STDERR_FILENO) {
        return false;
    }
    match &*kept() {
        Some(Kept {
            file: Some(file),
            limit,
            ..
        }) => put_within(file, *limit, line),
        _ if IS_TRANSIENT.swap(false, Ordering::Relaxed) => {
            start::write_stderr(&format!("\u{1b}[K{line}")).is_ok()
        }
        _ => start::write_stderr(line).is_ok(),
    }
}

fn put_within(file: &LogFile, limit: u64, line: &str) -> bool {
    let Ok(cut) = file.make_room(line.len() as u64, limit) else {
        return false;
    };
    if let Some(why) = cut {
        let why = format!("WARN the log was cut, for it cannot be moved to app.log.1: {why}");
        // If it finds no room, neither does the line.
        let _ = log_file::write_whole(&stamped(&why));
    }
    log_file::write_whole(line).is_ok()
}

/// The text without control characters, so that no printed word can forge a line or move a cursor.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\t' | '\n' | '\r' => ' ',
            // Bidirectional and line separators reorder or split what a person reads.
            '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '?',
            c if c.is_control() => '?',
            c => c,
        })
        .collect()
}

/// Where the part, which is not empty, is found last. `str::contains` and its kin cost 2.5 KB.
pub fn find_last(text: &str, part: &str) -> Option<usize> {
    let mut windows = text.as_bytes().windows(part.len());
    windows.rposition(|window| window == part.as_bytes())
}

pub fn holds(text: &str, part: &str) -> bool {
    part.is_empty() || find_last(text, part).is_some()
}

/// Printable ASCII of at most `limit` bytes, on one line and trimmed: what may go into a heartbeat.
pub fn brief(text: &str, limit: usize) -> String {
    let mut out = String::new();
    for word in text.split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        out.extend(
            word.chars()
                .map(|c| if c.is_ascii_graphic() { c } else { '?' }),
        );
        if out.len() >= limit {
            break;
        }
    }
    out.truncate(limit);
    out
}

/// Seconds since 1970 as RFC 3339 UTC. The date arithmetic is Howard Hinnant's `civil_from_days`.
pub fn timestamp(unix: u64) -> String {
    let days = u32::try_from(unix / 86_400 + 719_468).unwrap_or(u32::MAX);
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + u32::from(month <= 2);
    let (hour, minute, second) = (unix / 3_600 % 24, unix / 60 % 60, unix % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_match_the_calendar() {
        for (unix, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_367_521, "2026-11-22T17:12:01Z"),
            (4_102_444_799, "2099-12-31T23:59:59Z"),
        ] {
            assert_eq!(timestamp(unix), text);
        }
    }

    #[test]
    fn text_from_outside_cannot_forge_a_line() {
        assert_eq!(printable("a\nb\x1b[2Jc\u{202e}d"), "a b?[2Jc?d");
    }

    #[test]
    fn a_part_is_found_anywhere_and_nothing_everywhere() {
        for part in ["", "a", "bc", "abcd", "cd"] {
            assert!(holds("abcd", part), "{part}");
        }
        for part in ["ac", "abcde", "dc"] {
            assert!(!holds("abcd", part), "{part}");
        }
    }

    #[test]
    fn a_brief_text_is_one_line_of_printable_ascii() {
        assert_eq!(brief("  not\n started\u{e9}\x07 ", 200), "not started??");
        assert_eq!(brief("abcdef", 3), "abc");
    }
}

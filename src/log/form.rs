//! The form of a log line: as it is, as JSON, and with what the journal of systemd wants.

use std::os::unix::fs::MetadataExt as _;
use std::sync::atomic::{AtomicBool, Ordering};

use super::level::Level;
use crate::json;
use crate::os::{environment, fd};

/// The length of `2026-11-22T17:31:33Z`.
pub(super) const TIME_LENGTH: usize = 20;

static IS_JSON: AtomicBool = AtomicBool::new(false);

/// Writes lines as JSON from now on, or as text.
pub fn set_json(is_json: bool) {
    IS_JSON.store(is_json, Ordering::Relaxed);
}

/// Returns a line, which begins with its time and its level, in the form in which it is written.
pub(super) fn formed(line: &str) -> String {
    form(line, IS_JSON.load(Ordering::Relaxed), is_journal())
}

fn form(line: &str, is_json: bool, is_journal: bool) -> String {
    let (time, text) = line.split_at_checked(TIME_LENGTH).unwrap_or(("", line));
    let text = text.trim();
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    // What a hostile worker writes may have no level.
    let (level, msg) = match Level::parse(word) {
        Some(level) => (level, rest),
        None => (Level::Info, text),
    };
    let mut formed = match (is_json, is_journal) {
        // The keys and the spelling of levels are those of Go's slog, which log collectors know.
        (true, _) => json::object(&[("time", time), ("level", level.name()), ("msg", msg)]),
        // The journal has a time of its own.
        (false, true) => text.to_owned(),
        (false, false) => return line.to_owned(),
    };
    formed.push('\n');
    if is_journal {
        formed.insert_str(0, level.priority());
    }
    formed
}

/// Returns the words of a command that fails, for people. If the log is JSON, it is `line`, which has them as an error.
pub(super) fn complaint(words: &str, line: impl FnOnce() -> String) -> String {
    match (IS_JSON.load(Ordering::Relaxed), is_journal()) {
        (true, _) => formed(&line()),
        (false, true) => format!("{}{words}\n", Level::Error.priority()),
        (false, false) => format!("{words}\n"),
    }
}

/// Whether stderr is the journal of systemd. `JOURNAL_STREAM` has the device and inode of the stream (systemd.exec(5)); a
/// process whose stderr was redirected has inherited the variable only.
fn is_journal() -> bool {
    let stream = environment::variable("JOURNAL_STREAM");
    !stream.is_empty()
        && fd::stderr_file()
            .metadata()
            .is_ok_and(|held| stream == format!("{}:{}", held.dev(), held.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WARNING: &str = "2026-11-22T17:31:33Z WARN demo: it said \"no\"\n";

    #[test]
    fn text_is_written_as_it_is() {
        assert_eq!(form(WARNING, false, false), WARNING);
    }

    #[test]
    fn json_has_time_level_and_message() {
        let line = r#"{"time":"2026-11-22T17:31:33Z","level":"WARN","msg":"demo: it said \"no\""}"#;
        assert_eq!(form(WARNING, true, false), format!("{line}\n"));
        assert_eq!(form(WARNING, true, true), format!("<4>{line}\n"));
    }

    #[test]
    fn the_journal_gets_a_priority_and_no_time() {
        assert_eq!(form(WARNING, false, true), "<4>WARN demo: it said \"no\"\n");
    }

    #[test]
    fn a_line_without_a_level_is_information() {
        let line = form("2026-11-22T17:31:33Z odd line\n", false, true);
        assert_eq!(line, "<6>odd line\n");
        assert_eq!(
            form("é", true, true),
            "<6>{\"time\":\"\",\"level\":\"INFO\",\"msg\":\"é\"}\n"
        );
    }
}

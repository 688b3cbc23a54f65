//! The lines of `doctor`. Each begins with a word for its kind. A forked check prints them to its parent, which relays them.

use std::fmt::Arguments;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::cli::exit::print;
use crate::{json, text};

/// The kind of a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Ok,
    Warn,
    Fail,
    /// What a check does next. Only a parent reads it: it prints the last one as a failure if the check hangs.
    Next,
}

/// Whether a finding is printed as JSON.
static IS_JSON: AtomicBool = AtomicBool::new(false);
/// Whether this process has printed a failure.
static HAS_FAILED: AtomicBool = AtomicBool::new(false);

impl Kind {
    const ALL: [Self; 4] = [Self::Ok, Self::Warn, Self::Fail, Self::Next];

    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
            Self::Next => "next",
        }
    }

    fn write(self, what: &str) -> String {
        format!("{:4}  {what}", self.word())
    }

    /// The inverse of `write`. `None` for a line of another program, which a check has run.
    fn parse(line: &str) -> Option<(Self, &str)> {
        let (word, what) = line.split_at_checked(4)?;
        let kind = Self::ALL
            .into_iter()
            .find(|kind| kind.word() == word.trim_end())?;
        Some((kind, what.strip_prefix("  ")?))
    }
}

pub(super) fn set_json(is_json: bool) {
    IS_JSON.store(is_json, Ordering::Relaxed);
}

/// Prints that a check found no problem.
pub(super) fn ok(what: Arguments) {
    print_line(Kind::Ok, what);
}

/// Prints a problem with which the updater still works.
pub(super) fn warn(what: Arguments) {
    print_line(Kind::Warn, what);
}

/// Prints a problem that keeps the updater from working.
pub(super) fn fail(what: Arguments) {
    print_line(Kind::Fail, what);
}

/// Prints what a check does next, before each action that may hang.
pub(super) fn next(what: Arguments) {
    print_line(Kind::Next, what);
}

pub(super) fn has_failed() -> bool {
    HAS_FAILED.load(Ordering::Relaxed)
}

/// Prints the findings of a forked check. Returns what the check was about to do last.
pub(super) fn relay(text: &str) -> &str {
    let mut action = "";
    for line in text.lines() {
        match Kind::parse(line) {
            Some((Kind::Next, what)) => action = what,
            Some((kind, what)) => put(Some(kind), what),
            None => put(None, line),
        }
    }
    action
}

fn print_line(kind: Kind, what: Arguments) {
    put(Some(kind), &text::printable(&what.to_string()));
}

/// Prints a finding, or a line of another program if there is no kind. Ignores whether it could be printed: the exit code
/// reports a failure too.
fn put(kind: Option<Kind>, what: &str) {
    let line = match kind {
        _ if IS_JSON.load(Ordering::Relaxed) => {
            let word = kind.map_or("note", Kind::word);
            json::object(&[("kind", word), ("text", what)])
        }
        Some(kind) => kind.write(what),
        None => what.to_owned(),
    };
    print(&line);
    if kind == Some(Kind::Fail) {
        HAS_FAILED.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_line_is_parsed_to_its_kind() {
        for kind in Kind::ALL {
            let line = kind.write("a  text");
            assert_eq!(Kind::parse(&line), Some((kind, "a  text")));
        }
        for line in ["", "ok", "okay  text", "other  text", "fail text"] {
            assert_eq!(Kind::parse(line), None, "{line}");
        }
    }
}

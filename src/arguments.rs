//! The command line → what is asked for. By hand: one option with a value and a list of words, and a crate for them costs
//! 8 KB on every host.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    Run,
    Status,
    Plan,
    Once,
    Apply,
    Check,
    Doctor,
    Pin,
    Unpin,
    Rollback,
    Retry,
    Hold,
    Release,
    Pid,
    Beat,
    Act,
    Version,
    LongVersion,
    Help,
}

#[derive(PartialEq, Eq, Debug)]
pub struct Arguments {
    pub config: PathBuf,
    pub command: Command,
    /// What the command is about: a name, a version, a reason, a file.
    pub operands: Vec<String>,
    pub json: bool,
}

/// A word, what it asks for, and how many operands it wants, at least and at most.
type Word = (&'static str, Command, u8, u8);

const WORDS: [Word; 21] = [
    ("-v", Command::Version, 0, 0),
    ("--version", Command::LongVersion, 0, 0),
    ("-h", Command::Help, 0, 1),
    ("--help", Command::Help, 0, 1),
    ("help", Command::Help, 0, 1),
    ("status", Command::Status, 0, 0),
    ("plan", Command::Plan, 0, 0),
    ("once", Command::Once, 0, 0),
    ("apply", Command::Apply, 1, 1),
    ("check", Command::Check, 0, 0),
    ("doctor", Command::Doctor, 0, 0),
    ("pin", Command::Pin, 1, 2),
    ("unpin", Command::Unpin, 1, 1),
    ("rollback", Command::Rollback, 1, 1),
    ("retry", Command::Retry, 1, 1),
    ("hold", Command::Hold, 1, 1),
    ("release", Command::Release, 0, 0),
    ("pid", Command::Pid, 0, 0),
    ("beat", Command::Beat, 0, 0),
    ("act", Command::Act, 0, 0),
    ("", Command::Run, 0, 0),
];

/// Takes the words after the program's name. Of two options the last counts; a command with `-h` asks for its help.
pub fn parse(words: &[OsString]) -> Result<Arguments, String> {
    let mut config: &[u8] = b"cfg.json";
    let mut json = false;
    let mut asked: Option<&Word> = None;
    let mut option_asked: Option<&Word> = None;
    let mut operands = Vec::new();
    // They are needed as long as the process lives.
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let bytes = word.as_bytes();
        if bytes == b"-c" || bytes == b"--config" {
            let Some(file) = words.next() else {
                return Err(about("", word, " wants a file after it"));
            };
            config = file.as_bytes();
        } else if let Some(file) = file_within(bytes) {
            config = file;
        } else if bytes == b"--json" {
            json = true;
        } else if bytes.starts_with(b"-") && (asked.is_none() || bytes.len() > 1) {
            option_asked = known(bytes);
            if option_asked.is_none() {
                return Err(about("there is no option ", word, ""));
            }
        } else if asked.is_none() {
            asked = known(bytes);
            if asked.is_none() || bytes.is_empty() {
                return Err(about("there is no command ", word, ""));
            }
        } else {
            match word.to_str() {
                Some(word) => operands.push(word.to_owned()),
                None => return Err(about("", word, " is no UTF-8")),
            }
        }
    }
    let (name, command, least, most) = *option_asked.or(asked).unwrap_or(&WORDS[WORDS.len() - 1]);
    if let (Command::Help, Some(about)) = (command, asked)
        && about.1 != Command::Help
    {
        operands = vec![about.0.to_owned()];
    } else if let Some(word) = operands.get(usize::from(most)) {
        return Err(about("", OsStr::new(word), " is too much"));
    } else if operands.len() < usize::from(least) {
        return Err(about("", OsStr::new(name), " wants more words after it"));
    } else if json && command != Command::Status {
        return Err("--json is for status".to_owned());
    }
    Ok(Arguments {
        config: OsStr::from_bytes(config).into(),
        command,
        operands,
        json,
    })
}

fn known(word: &[u8]) -> Option<&'static Word> {
    WORDS.iter().find(|known| known.0.as_bytes() == word)
}

fn about(before: &str, word: &OsStr, after: &str) -> String {
    format!("{before}{}{after}", word.display())
}

/// Of `--config=FILE`, `-cFILE` and `-c=FILE`.
fn file_within(word: &[u8]) -> Option<&[u8]> {
    if let Some(file) = word.strip_prefix(b"--config=") {
        return Some(file);
    }
    let file = word.strip_prefix(b"-c")?;
    Some(file.strip_prefix(b"=").unwrap_or(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<(String, Command), String> {
        let words: Vec<_> = words.iter().map(OsString::from).collect();
        let arguments = parse(&words)?;
        let config = arguments.config.display().to_string();
        Ok((config, arguments.command))
    }

    #[test]
    fn a_file_and_a_command_may_come_in_any_order_and_spelling() {
        for words in [
            &["-c", "x", "check"][..],
            &["check", "-c", "x"],
            &["-cx", "check"],
            &["-c=x", "check"],
            &["--config", "x", "check"],
            &["--config=x", "check"],
            &["-c", "y", "-c", "x", "check"],
        ] {
            let expected = Ok(("x".to_owned(), Command::Check));
            assert_eq!(parsed(words), expected, "{words:?}");
        }
        assert_eq!(parsed(&[]), Ok(("cfg.json".to_owned(), Command::Run)));
        assert_eq!(
            parsed(&["--config=a=b"]).map(|(file, _)| file).as_deref(),
            Ok("a=b")
        );
    }

    #[test]
    fn each_form_of_help_and_version_is_known() {
        for (word, command) in [
            ("-h", Command::Help),
            ("--help", Command::Help),
            ("help", Command::Help),
            ("-v", Command::Version),
            ("--version", Command::LongVersion),
        ] {
            assert_eq!(parsed(&[word]).map(|(_, command)| command), Ok(command));
        }
    }

    #[test]
    fn a_dash_after_a_command_is_an_operand() {
        let words = ["apply", "-"].map(OsString::from);
        let arguments = parse(&words).expect("valid");
        assert_eq!(arguments.operands, ["-"]);
    }

    #[test]
    fn what_nobody_knows_is_named() {
        for (words, told) in [
            (&["--frobnicate"][..], "there is no option --frobnicate"),
            (&["-x"], "there is no option -x"),
            (&["-vx"], "there is no option -vx"),
            (&["--version=1"], "there is no option --version=1"),
            (&["-"], "there is no option -"),
            (&["frobnicate"], "there is no command frobnicate"),
            (&["check", "pid"], "pid is too much"),
            (&["-c"], "-c wants a file after it"),
            (&["check", "--config"], "--config wants a file after it"),
            (&[""], "there is no command "),
        ] {
            assert_eq!(parsed(words), Err(told.to_owned()), "{words:?}");
        }
    }
}

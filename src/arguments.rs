//! The command line → what is asked for. By hand: one option with a value and a handful of words, and a crate for them
//! costs 8 KB on every host.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    Run,
    Check,
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
}

const WORDS: [(&str, Command); 9] = [
    ("-v", Command::Version),
    ("--version", Command::LongVersion),
    ("-h", Command::Help),
    ("--help", Command::Help),
    ("help", Command::Help),
    ("check", Command::Check),
    ("pid", Command::Pid),
    ("beat", Command::Beat),
    ("act", Command::Act),
];

/// Takes the words after the program's name. Of two options the last counts.
pub fn parse(words: Vec<OsString>) -> Result<Arguments, String> {
    let mut config = OsString::from("cfg.json");
    let mut command = None;
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let (option, value) = split(&word);
        if let b"-c" | b"--config" = option {
            let value = value.map(OsString::from).or_else(|| words.next());
            config = value.ok_or_else(|| about("", &word, " wants a file after it"))?;
            continue;
        }
        let is_option = option.starts_with(b"-");
        let found = WORDS.iter().find(|(known, _)| word == *known);
        command = Some(match found {
            _ if !is_option && command.is_some() => return Err(about("", &word, " is too much")),
            Some((_, command)) => *command,
            None if is_option => return Err(about("there is no option ", &word, "")),
            None => return Err(about("there is no command ", &word, "")),
        });
    }
    Ok(Arguments {
        config: config.into(),
        command: command.unwrap_or(Command::Run),
    })
}

fn about(before: &str, word: &OsStr, after: &str) -> String {
    format!("{before}{}{after}", word.display())
}

/// `--config=FILE`, `-cFILE` and `-c=FILE` are an option with its value.
fn split(word: &OsStr) -> (&[u8], Option<&OsStr>) {
    let bytes = word.as_bytes();
    let end = match bytes {
        [b'-', b'-', ..] => bytes.iter().position(|byte| *byte == b'='),
        [b'-', _, _, ..] => Some(2),
        _ => None,
    };
    match end {
        Some(2) => {
            let value = bytes[2..].strip_prefix(b"=").unwrap_or(&bytes[2..]);
            (&bytes[..2], Some(OsStr::from_bytes(value)))
        }
        Some(end) => (&bytes[..end], Some(OsStr::from_bytes(&bytes[end + 1..]))),
        None => (bytes, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<(String, Command), String> {
        let words = words.iter().map(OsString::from).collect();
        let arguments = parse(words)?;
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

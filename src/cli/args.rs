//! The arguments of the command line. Pure.

use std::ffi::{OsStr, OsString};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use lexopt::Arg::{Long, Short, Value};
use lexopt::Parser;

use crate::text;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Command {
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
    /// Hidden: `control` runs it to signal the daemon.
    Signal,
    /// Hidden: the daemon runs it as a child, to send a heartbeat.
    Beat,
    /// Hidden: the daemon runs it as a child, to do one step of an agent.
    Act,
    Version,
    LongVersion,
    Help,
}

#[derive(PartialEq, Eq, Debug)]
pub(super) struct Arguments {
    pub(super) config: PathBuf,
    pub(super) command: Command,
    /// The words after the command: a name, a version, a reason, a file. As many as the command takes.
    pub(super) operands: Vec<String>,
    pub(super) json: bool,
    /// `once` and `apply` end with `Exit::Changes` if they changed something.
    pub(super) detailed_exitcode: bool,
    /// The seconds that `status` waits until all is as desired.
    pub(super) wait: Option<u32>,
}

/// The seconds of `--wait` without a number: an agent is installed and watched in less, if its download is not slow.
const DEFAULT_WAIT: u32 = 300;

const WORDS: [(&str, Command); 17] = [
    ("help", Command::Help),
    ("status", Command::Status),
    ("plan", Command::Plan),
    ("once", Command::Once),
    ("apply", Command::Apply),
    ("check", Command::Check),
    ("doctor", Command::Doctor),
    ("pin", Command::Pin),
    ("unpin", Command::Unpin),
    ("rollback", Command::Rollback),
    ("retry", Command::Retry),
    ("hold", Command::Hold),
    ("release", Command::Release),
    ("pid", Command::Pid),
    ("signal", Command::Signal),
    ("beat", Command::Beat),
    ("act", Command::Act),
];

impl Command {
    pub(super) fn parse(word: &OsStr) -> Option<Self> {
        let mut words = WORDS.iter();
        words.find(|(name, _)| *name == word).map(|found| found.1)
    }

    /// Returns what the help calls the first operand.
    fn operand(self) -> &'static str {
        if self == Self::Apply {
            "FILE|URL"
        } else if self == Self::Hold {
            "REASON"
        } else {
            "NAME"
        }
    }

    /// Returns how many operands the command takes.
    fn operands(self) -> RangeInclusive<usize> {
        match self {
            Self::Help => 0..=1,
            Self::Apply
            | Self::Unpin
            | Self::Rollback
            | Self::Retry
            | Self::Hold
            | Self::Signal => 1..=1,
            Self::Pin => 1..=2,
            Self::Run
            | Self::Status
            | Self::Plan
            | Self::Once
            | Self::Check
            | Self::Doctor
            | Self::Release
            | Self::Pid
            | Self::Beat
            | Self::Act
            | Self::Version
            | Self::LongVersion => 0..=0,
        }
    }
}

/// Parses the words after the program's name. The last one of equal options counts. A command with `-h` asks for the help
/// of that command.
pub(super) fn parse(words: Parser) -> Result<Arguments, String> {
    let mut arguments = Arguments {
        config: "cfg.json".into(),
        command: Command::Run,
        operands: Vec::new(),
        json: false,
        detailed_exitcode: false,
        wait: None,
    };
    let typed = read(words, &mut arguments)?;
    resolve(typed, &mut arguments)?;
    check_options(&arguments)?;
    Ok(arguments)
}

/// What decides the command.
#[derive(Default)]
struct Typed {
    /// `-h` or `-v`. It takes precedence over the command.
    option: Option<Command>,
    /// The word that was typed for the command.
    word: Option<String>,
}

fn read(mut words: Parser, arguments: &mut Arguments) -> Result<Typed, String> {
    let mut typed = Typed::default();
    while let Some(word) = words.next().map_err(unexpected)? {
        match word {
            Short('c') | Long("config") => {
                let option = if word == Short('c') { "-c" } else { "--config" };
                let file = words
                    .value()
                    .map_err(|_| format!("{option} needs a file"))?;
                arguments.config = file.into();
            }
            Long("json") => arguments.json = true,
            Long("detailed-exitcode") => arguments.detailed_exitcode = true,
            Long("wait") => arguments.wait = Some(seconds(words.optional_value())?),
            Short('v') => typed.option = Some(Command::Version),
            Long("version") => typed.option = Some(Command::LongVersion),
            Short('h') | Long("help") => typed.option = Some(Command::Help),
            Short(name) => return Err(format!("unknown option -{name}")),
            Long(name) => return Err(format!("unknown option --{name}")),
            Value(word) if typed.word.is_none() => {
                let text = word.to_string_lossy().into_owned();
                let command = Command::parse(&word);
                arguments.command = command.ok_or_else(|| unknown(&text))?;
                typed.word = Some(text);
            }
            Value(word) => {
                let text = word.into_string();
                let text = text.map_err(|word| format!("{} is not valid UTF-8", word.display()))?;
                arguments.operands.push(text);
            }
        }
    }
    Ok(typed)
}

/// Returns the error for a word that is no command. It names the one that may be meant.
pub(super) fn unknown(word: &str) -> String {
    use Command::{Act, Beat, Signal};
    let shown = WORDS
        .iter()
        .filter(|row| !matches!(row.1, Signal | Beat | Act));
    let hint = text::did_you_mean(word, &mut shown.map(|row| row.0));
    format!("unknown command {word}{hint}")
}

/// Returns the only error of `Parser::next` in words: a value at an option that takes none.
fn unexpected(error: lexopt::Error) -> String {
    match error {
        lexopt::Error::UnexpectedValue { option, value } => {
            let value = value.to_string_lossy();
            format!("unexpected argument for option '{option}': {value:?}")
        }
        _ => "unexpected argument".to_owned(),
    }
}

fn seconds(typed: Option<OsString>) -> Result<u32, String> {
    let Some(typed) = typed else {
        return Ok(DEFAULT_WAIT);
    };
    let number = typed.to_str().and_then(|text| text.parse().ok());
    number.ok_or_else(|| "--wait needs a number of seconds, such as --wait=300".to_owned())
}

fn resolve(typed: Typed, arguments: &mut Arguments) -> Result<(), String> {
    let Arguments {
        command, operands, ..
    } = arguments;
    match (typed.option, typed.word) {
        (Some(Command::Help), Some(word)) if *command != Command::Help => {
            *operands = vec![word];
            *command = Command::Help;
        }
        (Some(option), _) => *command = option,
        (None, Some(word)) if operands.len() < *command.operands().start() => {
            return Err(format!("{word}: missing {}", command.operand()));
        }
        (None, _) => {}
    }
    match operands.get(*command.operands().end()) {
        Some(word) => Err(format!("unexpected operand {word}")),
        None => Ok(()),
    }
}

/// Fails for an option that the command does not have.
fn check_options(typed: &Arguments) -> Result<(), String> {
    use Command::{Apply, Check, Doctor, Help, Once, Plan, Status};
    let command = typed.command;
    let wrong = if typed.json && !matches!(command, Status | Plan | Check | Doctor | Help) {
        "--json works only with status, plan, check and doctor"
    } else if typed.wait.is_some() && !matches!(command, Status | Help) {
        "--wait works only with status"
    } else if typed.detailed_exitcode && !matches!(command, Once | Apply | Help) {
        "--detailed-exitcode works only with once and apply"
    } else {
        return Ok(());
    };
    Err(wrong.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<(String, Command), String> {
        let arguments = parse(Parser::from_args(words))?;
        let config = arguments.config.display().to_string();
        Ok((config, arguments.command))
    }

    #[test]
    fn the_file_and_the_command_may_have_any_order_and_spelling() {
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
    fn a_wait_has_the_seconds_after_its_equals_sign_or_some_minutes() {
        let wait = |words: &[&str]| {
            let arguments = parse(Parser::from_args(words));
            arguments.map(|arguments| arguments.wait)
        };
        assert_eq!(wait(&["status"]), Ok(None));
        assert_eq!(wait(&["status", "--wait"]), Ok(Some(DEFAULT_WAIT)));
        assert_eq!(wait(&["--wait=0", "status"]), Ok(Some(0)));
        assert!(wait(&["status", "--wait", "7"]).is_err());
    }

    #[test]
    fn a_dash_after_a_command_is_an_operand() {
        let arguments = parse(Parser::from_args(["apply", "-"])).expect("valid");
        assert_eq!(arguments.operands, ["-"]);
    }

    #[test]
    fn an_error_names_the_word_that_is_wrong() {
        for (words, error) in [
            (&["--frobnicate"][..], "unknown option --frobnicate"),
            (&["-x"], "unknown option -x"),
            (&["-vx"], "unknown option -x"),
            (
                &["--version=1"],
                "unexpected argument for option '--version': \"1\"",
            ),
            (&["-"], "unknown command -"),
            (&["frobnicate"], "unknown command frobnicate"),
            (&["statu"], "unknown command statu (did you mean status?)"),
            (&["acts"], "unknown command acts"),
            (&["check", "pid"], "unexpected operand pid"),
            (&["pin"], "pin: missing NAME"),
            (&["apply"], "apply: missing FILE|URL"),
            (&["hold"], "hold: missing REASON"),
            (&["pin", "a", "1", "2"], "unexpected operand 2"),
            (&["-v", "pin", "a"], "unexpected operand a"),
            (
                &["once", "--json"],
                "--json works only with status, plan, check and doctor",
            ),
            (&["plan", "--wait"], "--wait works only with status"),
            (
                &["plan", "--detailed-exitcode"],
                "--detailed-exitcode works only with once and apply",
            ),
            (
                &["status", "--wait=1s"],
                "--wait needs a number of seconds, such as --wait=300",
            ),
            (&["-c"], "-c needs a file"),
            (&["check", "--config"], "--config needs a file"),
            (&[""], "unknown command "),
        ] {
            assert_eq!(parsed(words), Err(error.to_owned()), "{words:?}");
        }
    }
}

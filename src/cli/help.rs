//! The help texts: one file for the program, and one for each command.

use super::args::Command;

pub(super) const OVERVIEW: &str = include_str!("help/overview.txt");

/// Returns the help of a command; `None` for a command that only the daemon uses.
pub(super) fn text(command: Command) -> Option<&'static str> {
    Some(match command {
        Command::Run | Command::Help | Command::Version | Command::LongVersion => OVERVIEW,
        Command::Status => include_str!("help/status.txt"),
        Command::Plan => include_str!("help/plan.txt"),
        Command::Once => include_str!("help/once.txt"),
        Command::Apply => include_str!("help/apply.txt"),
        Command::Check => include_str!("help/check.txt"),
        Command::Doctor => include_str!("help/doctor.txt"),
        Command::Pin => include_str!("help/pin.txt"),
        Command::Unpin => include_str!("help/unpin.txt"),
        Command::Rollback => include_str!("help/rollback.txt"),
        Command::Retry => include_str!("help/retry.txt"),
        Command::Hold => include_str!("help/hold.txt"),
        Command::Release => include_str!("help/release.txt"),
        Command::Pid => include_str!("help/pid.txt"),
        Command::Signal | Command::Beat | Command::Act => return None,
    })
}

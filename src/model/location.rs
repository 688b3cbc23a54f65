//! Where an agent lives, in one spelling.

use miniserde::{Deserialize, Serialize};

use super::checks::one_spelling;

/// The updater's own directory and user: the meaning of an empty `workDir` and an empty `runUser`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Own {
    pub dir: String,
    pub user: String,
}

/// Where an agent lives: in `<work_dir>/<name>`, run as `run_user` (empty: the updater's own user). Only `Location::of`
/// makes one, so equal places are equal values.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Location {
    pub work_dir: String,
    pub run_user: String,
}

impl Location {
    /// Returns the one spelling of the place. A second spelling would look like a move.
    pub(super) fn of(work_dir: &str, run_user: &str, own: &Own) -> Self {
        let work_dir = match work_dir {
            "" => own.dir.clone(),
            // Text that is cut at slashes stays UTF-8.
            path => String::from_utf8(one_spelling(path.as_bytes())).unwrap_or_default(),
        };
        let run_user = if run_user == own.user { "" } else { run_user };
        Self {
            work_dir,
            run_user: run_user.to_owned(),
        }
    }
}

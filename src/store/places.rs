//! The files and directories of the updater itself. Whoever can replace one of them decides what the updater does.

use std::path::PathBuf;

use super::config::Source;
use super::layout;
use crate::error::Result;
use crate::os::own_program::OwnProgram;
use crate::os::walk::{self, Trusted};

/// Returns the program, the updater's own directory and what the updater reads there first.
pub fn all(source: &Source) -> Result<[PathBuf; 5]> {
    let own_dir = &source.own_dir;
    Ok([
        OwnProgram::find()?.started_as().to_owned(),
        own_dir.clone(),
        source.file.clone(),
        layout::desired_state(own_dir),
        layout::var(own_dir),
    ])
}

/// Fails if anybody but root and the user of this process could replace one of them.
pub fn check(source: &Source) -> Result<()> {
    for place in all(source)? {
        walk::check(&place, Trusted::strict())?;
    }
    Ok(())
}

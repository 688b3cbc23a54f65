//! `check`: prints the settings in force and the source of each: cfg.json, our default, or the system. Then the
//! local policy. Reads only cfg.json and policy.json. Fails where root's updater would not start.

use std::fmt::Write as _;
use std::path::Path;

use super::exit::{Exit, ExitResult, complain, fail, load, misused, print};
use super::run::refuse_open_places;
use super::signatures;
use crate::os::process;
use crate::store::config::Line;
use crate::store::{policy, reach};

/// Prints one line for each setting.
pub(super) fn run(file: &Path) -> ExitResult {
    let (source, config) = load(file)?;
    // `control restart` asks before it stops an updater that could not start again.
    refuse_open_places(&source)?;
    let file = source.file.to_string_lossy();
    for warning in &config.warnings {
        complain(&format!("warning: {file}: {warning}"));
    }
    reach::check(&config).map_err(misused)?;
    if let Some(lack) = process::without_proc() {
        complain(&lack);
    }
    let mut text = format!("{file} is valid\nheartbeats go to           {}", config.url);
    for Line { key, from, value } in config.lines() {
        let _ = write!(text, "\n{key:17}{from:10}{value}");
    }
    let policy = policy::load(Some(&source.own_dir)).map_err(misused)?;
    match policy::file(Some(&source.own_dir)) {
        None => text.push_str("\npolicy           none"),
        Some(file) => {
            let _ = write!(text, "\npolicy           {}", file.display());
            for (rule, value) in policy::lines(&policy) {
                let _ = write!(text, "\n{rule:17}policy    {value}");
            }
        }
    }
    if !policy.unusable.is_empty() {
        return Err(fail(Exit::BadUsage, &policy.unusable));
    }
    text.push_str("\nsignatures      ");
    text.push_str(&signatures::words(&config, &policy));
    Ok(print(&text))
}

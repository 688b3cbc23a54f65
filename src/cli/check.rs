//! `check`: prints the settings in force and the source of each: cfg.json, our default, or the system. Then the
//! local policy. Reads only cfg.json and policy.json. Fails where root's updater would not start.

use super::args::Arguments;
use super::exit::{Exit, ExitResult, complain, fail, load, misused, print};
use super::run::refuse_open_places;
use super::signatures;
use crate::json;
use crate::os::process;
use crate::store::config::Line;
use crate::store::{policy, reach};

/// Prints one line for each setting and each rule of the policy.
pub(super) fn run(arguments: &Arguments) -> ExitResult {
    let (source, config) = load(&arguments.config)?;
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
    let policy = policy::load(Some(&source.own_dir)).map_err(misused)?;
    if !policy.unusable.is_empty() {
        return Err(fail(Exit::BadUsage, &policy.unusable));
    }
    let mut lines = config.lines();
    let mut add = |key, from, value| lines.push(Line { key, from, value });
    match policy::file(Some(&source.own_dir)) {
        None => add("policy", "", "none".to_owned()),
        Some(file) => {
            add("policy", "", file.to_string_lossy().into_owned());
            for (rule, value) in policy::lines(&policy) {
                add(rule, "policy", value);
            }
        }
    }
    add("signatures", "", signatures::words(&config, &policy));
    let mut rows = Vec::new();
    if !arguments.json {
        let url = &config.url;
        rows.push(format!("{file} is valid\nheartbeats go to           {url}"));
    }
    for line in &lines {
        rows.push(row(line, arguments.json));
    }
    Ok(print(&rows.join("\n")))
}

fn row(line: &Line, is_json: bool) -> String {
    let Line { key, from, value } = line;
    if is_json {
        return json::object(&[("key", key), ("from", from), ("value", value)]);
    }
    let width = if from.is_empty() { 0 } else { 10 };
    format!("{key:17}{from:width$}{value}")
}

//! `check`: the settings in force, and where each comes from: cfg.json, our default, or the system. Reads cfg.json alone.

use std::path::Path;

use crate::config::find;
use crate::fields::Json;
use crate::json::{self, Object, Value};
use crate::sys;
use crate::{Exit, FAILED, fail, load, print};

const ROWS: [&str; 9] = [
    "server",
    "interval",
    "hostname",
    "ip",
    "log_level",
    "log_max_size",
    "sudo",
    "http.enabled",
    "http.listen",
];

/// One line a setting; the exit code.
pub fn run(file: &Path) -> Exit {
    let (source, config) = load(file)?;
    let file = source.file.to_string_lossy();
    for warning in &config.warnings {
        fail(FAILED, &format!("warning: {file}: {warning}"));
    }
    let mut text = format!("{file} is fine\nheartbeats go to        {}", config.url);
    let system = sys::hostname().unwrap_or_default();
    let mut written = Json::default();
    config.write(&mut written);
    if let Ok(Value::Object(in_force)) = json::parse(&written.finish()) {
        for key in ROWS {
            text += &row(key, &in_force, &config.written, &system);
        }
    }
    // The process ends here.
    std::mem::forget((source, config));
    Ok(print(&text))
}

fn row(key: &str, in_force: &Object, written: &Object, system: &str) -> String {
    let mut from = "default";
    let number;
    let shown = match find(in_force, key) {
        Some(Value::Text(text)) => text,
        Some(Value::Number(found)) => {
            let unit = if key == "interval" { "s" } else { "MB" };
            number = format!("{found} {unit}");
            &number
        }
        Some(Value::Bool(true)) => "true",
        Some(_) => "false",
        None => {
            from = "system";
            if key == "ip" {
                "the address toward the server"
            } else {
                system
            }
        }
    };
    let by_debug = key == "log_level" && matches!(find(written, "debug"), Some(Value::Bool(true)));
    if by_debug || find(written, key).is_some() {
        from = "cfg.json";
    }
    format!("\n{key:14}{from:10}{shown}")
}

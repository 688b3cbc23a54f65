//! The settings in force, as `check` prints them and as `/config/reload` answers.

use std::borrow::Cow;

use miniserde::Serialize;
use miniserde::ser::{Fragment, Map};

use super::network_settings;
use super::settings::{Config, Setting};
use super::value::{Plain, find};
use crate::json::{Object, Value};

/// One line of `check`.
pub struct Line {
    pub key: &'static str,
    /// `cfg.json`, `default`, `system`, or `variable` of the environment.
    pub from: &'static str,
    pub value: String,
}

impl Config {
    /// Returns one line for each setting, in the order of `check`.
    pub fn lines(&self) -> Vec<Line> {
        let at = |line| network_settings::all().find(|setting| setting.line == Some(line));
        let mut lines = Vec::new();
        while let Some(setting) = at(lines.len() + 1) {
            lines.push(self.line(setting));
        }
        lines
    }

    fn line(&self, setting: &Setting) -> Line {
        let key = setting.key;
        let is_debug = matches!(find(&self.written, "debug"), Some(Value::Bool(true)));
        let is_written = find(&self.written, key).is_some() || key == "log_level" && is_debug;
        let mut from = if is_written { "cfg.json" } else { "default" };
        let value = match (setting.get)(self) {
            Plain::Text("") => {
                from = "system";
                (setting.if_empty)()
            }
            Plain::Text(text) => {
                if !is_written && setting.default.text().is_empty() {
                    from = "variable";
                }
                text.to_owned()
            }
            Plain::Number(number) => format!("{number}{}", setting.unit),
            Plain::List(texts) if texts.is_empty() => "none".to_owned(),
            value @ (Plain::Flag(_) | Plain::List(_)) => value.to_string(),
        };
        Line { key, from, value }
    }

    /// Returns the settings under the keys of cfg.json, in the order of the table.
    pub fn in_force(&self) -> InForce {
        let mut values: Vec<(&'static str, Value)> = Vec::new();
        for setting in network_settings::all() {
            let value = (setting.get)(self).into_json();
            let Some((group, key)) = setting.key.split_once('.') else {
                values.push((setting.key, value));
                continue;
            };
            if let Some((last, Value::Object(object))) = values.last_mut()
                && *last == group
            {
                object.insert(key.to_owned(), value);
            } else {
                let mut object = Object::new();
                object.insert(key.to_owned(), value);
                values.push((group, Value::Object(object)));
            }
        }
        InForce(values)
    }
}

/// A JSON object whose keys keep their order.
pub struct InForce(Vec<(&'static str, Value)>);

impl Serialize for InForce {
    fn begin(&self) -> Fragment<'_> {
        Fragment::Map(Box::new(Entries(self.0.iter())))
    }
}

struct Entries<'a>(std::slice::Iter<'a, (&'static str, Value)>);

impl Map for Entries<'_> {
    fn next(&mut self) -> Option<(Cow<'_, str>, &dyn Serialize)> {
        let (key, value) = self.0.next()?;
        Some((Cow::Borrowed(key), value))
    }
}

//! One value of cfg.json, of the kind that its setting wants.

use std::fmt;

use crate::json::{self, Array, Number, Object, Value};

#[derive(Clone)]
pub(super) enum Plain<'a> {
    Text(&'a str),
    Number(u64),
    Flag(bool),
    List(Vec<String>),
}

impl<'a> Plain<'a> {
    /// Reads a value of the same kind as `default`. The error says what was found instead.
    pub(super) fn read(found: &'a Value, default: &Plain) -> Result<Self, String> {
        match (default, found) {
            (Plain::Text(_), Value::String(text)) if text.chars().any(char::is_control) => {
                Err("a text with control characters".to_owned())
            }
            (Plain::Text(_), Value::String(text)) => Ok(Plain::Text(text.trim())),
            (Plain::Number(_), Value::Number(Number::U64(number))) => Ok(Plain::Number(*number)),
            (Plain::Number(_), Value::Number(number @ Number::I64(_))) => Err(number.to_string()),
            (Plain::Flag(_), Value::Bool(flag)) => Ok(Plain::Flag(*flag)),
            (Plain::List(_), Value::Array(values)) => {
                let mut texts = Vec::new();
                for value in values {
                    let Value::String(text) = value else {
                        return Err(format!("a list with {}", json::kind(value)));
                    };
                    texts.push(text.trim().to_owned());
                }
                Ok(Plain::List(texts))
            }
            (Plain::Text(_) | Plain::Number(_) | Plain::Flag(_) | Plain::List(_), other) => {
                Err(json::kind(other).to_owned())
            }
        }
    }

    /// The text, or an empty one if the value is of another kind.
    pub(super) fn text(&self) -> &'a str {
        match self {
            Plain::Text(text) => text,
            Plain::Number(_) | Plain::Flag(_) | Plain::List(_) => "",
        }
    }

    /// The texts of a list, or none if the value is of another kind.
    pub(super) fn list(self) -> Vec<String> {
        match self {
            Plain::List(texts) => texts,
            Plain::Text(_) | Plain::Number(_) | Plain::Flag(_) => Vec::new(),
        }
    }

    pub(super) fn flag(&self) -> bool {
        matches!(self, Plain::Flag(true))
    }

    /// The number if it is between 1 and `most`. The error says what was found.
    pub(super) fn number_up_to(&self, most: u64) -> Result<u64, String> {
        match self {
            Plain::Number(number) if (1..=most).contains(number) => Ok(*number),
            other => Err(other.to_string()),
        }
    }

    /// The number if it is 0 or not above `most`. The error says what was found.
    pub(super) fn number_or_none(&self, most: u64) -> Result<u64, String> {
        match self {
            Plain::Number(0) => Ok(0),
            other => other.number_up_to(most),
        }
    }

    pub(super) fn into_json(self) -> Value {
        match self {
            Plain::Text(text) => Value::String(text.to_owned()),
            Plain::Number(number) => Value::Number(Number::U64(number)),
            Plain::Flag(flag) => Value::Bool(flag),
            Plain::List(texts) => {
                let mut list = Array::new();
                for text in texts {
                    list.push(Value::String(text));
                }
                Value::Array(list)
            }
        }
    }
}

/// As an error message shows it: a text is quoted.
impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Plain::Text(text) => write!(f, "{text:?}"),
            Plain::Number(number) => write!(f, "{number}"),
            Plain::Flag(flag) => write!(f, "{flag}"),
            Plain::List(texts) => f.write_str(&texts.join(" ")),
        }
    }
}

/// Returns the value under a key; `http.listen` is `listen` within `http`. An empty text counts as no value.
pub(super) fn find<'a>(object: &'a Object, key: &str) -> Option<&'a Value> {
    let found = match (key.strip_prefix("http."), object.get("http")) {
        (Some(key), Some(Value::Object(http))) => json::get(http, key),
        _ => json::get(object, key),
    };
    found.filter(|value| !matches!(value, Value::String(text) if text.trim().is_empty()))
}

//! Reads JSON loosely: a missing value is null, and a value that is not text is an empty text.

use miniserde::json::{self, Number, Value};

static NULL: Value = Value::Null;

pub trait Json {
    fn field(&self, key: &str) -> &Value;
    fn has(&self, key: &str) -> bool;
    fn items(&self) -> &[Value];
    fn text(&self) -> &str;
    fn number(&self) -> Option<u64>;
}

impl Json for Value {
    fn field(&self, key: &str) -> &Value {
        match self {
            Value::Object(object) => object.get(key).unwrap_or(&NULL),
            _ => &NULL,
        }
    }

    fn has(&self, key: &str) -> bool {
        matches!(self, Value::Object(object) if object.contains_key(key))
    }

    fn items(&self) -> &[Value] {
        match self {
            Value::Array(array) => array,
            _ => &[],
        }
    }

    fn text(&self) -> &str {
        match self {
            Value::String(text) => text,
            _ => "",
        }
    }

    fn number(&self) -> Option<u64> {
        match self {
            Value::Number(Number::U64(number)) => Some(*number),
            _ => None,
        }
    }
}

/// Parses a text. Returns null if it is not JSON.
pub fn parse(text: &str) -> Value {
    json::from_str(text).unwrap_or(Value::Null)
}

pub fn quote(text: &str) -> String {
    json::to_string(text)
}

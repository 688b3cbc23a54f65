//! How structs and words stand in JSON. A field that is missing or of a wrong kind spoils the whole; an unknown one is
//! passed over. A struct is filled in by reference and written to one text, field after field, by one piece of code
//! for all.

use std::fmt::{self, Write};
use std::mem;

use crate::json::{self, Value};

/// What is read.
pub trait FromJson {
    /// What is filled in; a blank that was not filled means nothing.
    fn blank() -> Self
    where
        Self: Sized;

    /// Takes what it needs out of the value. False when the value is not of this kind.
    fn fill(&mut self, value: &mut Value) -> bool;
}

/// What is written; apart from `FromJson`, so that what is only written needs no code to be read.
pub trait ToJson {
    fn write(&self, out: &mut String);
}

pub fn read<T: FromJson>(text: &str) -> Option<T> {
    let mut read = T::blank();
    read_into(text, &mut read).then_some(read)
}

pub fn read_into(text: &str, blank: &mut dyn FromJson) -> bool {
    json::parse(text).is_ok_and(|mut value| blank.fill(&mut value))
}

pub fn write(value: &dyn ToJson) -> String {
    let mut out = String::new();
    value.write(&mut out);
    out
}

/// Fills in all fields, each from the value under its key.
pub fn fill_all(value: &mut Value, keys: &[&str], fields: &mut [&mut dyn FromJson]) -> bool {
    let Value::Object(object) = value else {
        return false;
    };
    let mut pairs = keys.iter().zip(fields);
    pairs.all(|(key, field)| field.fill(&mut object.take(key)))
}

fn each_item(list: &mut Value, fill: &mut dyn FnMut(&mut Value) -> bool) -> bool {
    let Value::List(list) = list else {
        return false;
    };
    list.iter_mut().all(fill)
}

/// Writes all fields, each under its key.
pub fn write_all(keys: &[&str], fields: &[&dyn ToJson], out: &mut String) {
    out.push('{');
    for (key, field) in keys.iter().zip(fields) {
        write_key(key, out);
        field.write(out);
    }
    out.push('}');
}

/// To be called before each member of an object.
pub fn write_key(key: &str, out: &mut String) {
    separate(out);
    write_text(key, out);
    out.push(':');
}

/// To be called before each item of a list. Only what has just been opened ends in a bracket.
fn separate(out: &mut String) {
    if !out.ends_with(['[', '{']) {
        out.push(',');
    }
}

pub fn write_text(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        let escape = match c {
            '"' | '\\' => c,
            '\n' => 'n',
            '\r' => 'r',
            '\t' => 't',
            '\u{8}' => 'b',
            '\u{c}' => 'f',
            '\0'..' ' => {
                write_as(format_args!("\\u{:04x}", u32::from(c)), out);
                continue;
            }
            _ => {
                out.push(c);
                continue;
            }
        };
        out.push('\\');
        out.push(escape);
    }
    out.push('"');
}

fn write_as(text: fmt::Arguments, out: &mut String) {
    // A String takes whatever it is given.
    let _ = out.write_fmt(text);
}

/// Which of the words the value is.
pub fn word(value: &Value, words: &[&str]) -> Option<usize> {
    match value {
        Value::Text(text) => words.iter().position(|word| word == text),
        _ => None,
    }
}

/// A struct with all its fields, each under its own name or the one that follows it.
macro_rules! fields {
    ($type:ident { $($field:ident $($key:literal)?),+ $(,)? }) => {
        $crate::fields::written!($type { $($field $($key)?),+ });

        impl $crate::fields::FromJson for $type {
            fn blank() -> Self {
                Self {
                    $($field: $crate::fields::FromJson::blank()),+
                }
            }

            fn fill(&mut self, value: &mut $crate::json::Value) -> bool {
                $crate::fields::fill_all(value, Self::KEYS, &mut [$(&mut self.$field),+])
            }
        }
    };
}

/// The same of a struct that is only written.
macro_rules! written {
    ($type:ident $(<$life:lifetime>)? { $($field:ident $($key:literal)?),+ $(,)? }) => {
        impl$(<$life>)? $type$(<$life>)? {
            pub const KEYS: &'static [&'static str] = &[$($crate::fields::key!($field $($key)?)),+];
        }

        impl$(<$life>)? $crate::fields::ToJson for $type$(<$life>)? {
            fn write(&self, out: &mut String) {
                $crate::fields::write_all(Self::KEYS, &[$(&self.$field),+], out);
            }
        }
    };
}

macro_rules! key {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $key:literal) => {
        $key
    };
}

/// An enum without data: its variants' names, the first one for a blank. It defines the enum too, since a second list
/// in another order would write one word for another.
macro_rules! words {
    (
        $(#[$of_type:meta])*
        $visibility:vis enum $type:ident {
            $($(#[$of_variant:meta])* $variant:ident),+ $(,)?
        }
    ) => {
        $(#[$of_type])*
        $visibility enum $type {
            $($(#[$of_variant])* $variant),+
        }

        impl $type {
            const ALL: &[Self] = &[$(Self::$variant),+];
            const WORDS: &[&str] = &[$(stringify!($variant)),+];
        }

        impl $crate::fields::FromJson for $type {
            fn blank() -> Self {
                Self::ALL[0]
            }

            fn fill(&mut self, value: &mut $crate::json::Value) -> bool {
                let found = $crate::fields::word(value, Self::WORDS);
                found.map(|at| *self = Self::ALL[at]).is_some()
            }
        }

        impl $crate::fields::ToJson for $type {
            fn write(&self, out: &mut String) {
                $crate::fields::write_text(Self::WORDS[*self as usize], out);
            }
        }
    };
}

pub(crate) use {fields, key, words, written};

impl FromJson for bool {
    fn blank() -> Self {
        false
    }

    fn fill(&mut self, value: &mut Value) -> bool {
        let Value::Bool(value) = value else {
            return false;
        };
        *self = *value;
        true
    }
}

impl ToJson for bool {
    fn write(&self, out: &mut String) {
        out.push_str(if *self { "true" } else { "false" });
    }
}

impl FromJson for u64 {
    fn blank() -> Self {
        0
    }

    fn fill(&mut self, value: &mut Value) -> bool {
        let Value::Number(number) = value else {
            return false;
        };
        *self = *number;
        true
    }
}

impl ToJson for u64 {
    fn write(&self, out: &mut String) {
        write_as(format_args!("{self}"), out);
    }
}

impl FromJson for u32 {
    fn blank() -> Self {
        0
    }

    fn fill(&mut self, value: &mut Value) -> bool {
        let mut number = 0_u64;
        number.fill(value) && number.try_into().map(|number| *self = number).is_ok()
    }
}

impl ToJson for u32 {
    fn write(&self, out: &mut String) {
        u64::from(*self).write(out);
    }
}

impl FromJson for String {
    fn blank() -> Self {
        Self::new()
    }

    fn fill(&mut self, value: &mut Value) -> bool {
        let Value::Text(text) = value else {
            return false;
        };
        *self = mem::take(text);
        true
    }
}

impl ToJson for str {
    fn write(&self, out: &mut String) {
        write_text(self, out);
    }
}

impl ToJson for String {
    fn write(&self, out: &mut String) {
        write_text(self, out);
    }
}

impl<T: FromJson> FromJson for Option<T> {
    fn blank() -> Self {
        None
    }

    fn fill(&mut self, value: &mut Value) -> bool {
        matches!(value, Value::Null) || self.get_or_insert_with(T::blank).fill(value)
    }
}

impl<T: ToJson> ToJson for Option<T> {
    fn write(&self, out: &mut String) {
        match self {
            Some(value) => value.write(out),
            None => out.push_str("null"),
        }
    }
}

impl<T: FromJson> FromJson for Vec<T> {
    fn blank() -> Self {
        Self::new()
    }

    fn fill(&mut self, value: &mut Value) -> bool {
        each_item(value, &mut |value| {
            self.push(T::blank());
            self.last_mut().is_some_and(|item| item.fill(value))
        })
    }
}

impl<T: ToJson + ?Sized> ToJson for &T {
    fn write(&self, out: &mut String) {
        (*self).write(out);
    }
}

impl<T: ToJson> ToJson for Vec<T> {
    fn write(&self, out: &mut String) {
        out.push('[');
        for item in self {
            separate(out);
            item.write(out);
        }
        out.push(']');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(PartialEq, Debug)]
    struct Thing {
        name: String,
        count: u32,
        kind: Option<Kind>,
        tags: Vec<String>,
    }

    fields!(Thing { name "theName", count, kind, tags });
    words! {
        #[derive(Clone, Copy, PartialEq, Debug)]
        enum Kind {
            Good,
            Bad,
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let text = r#"{"theName":"x","count":3,"kind":"Bad","tags":["a","b"]}"#;
        let thing: Thing = read(text).expect("a thing");
        assert_eq!(thing.kind, Some(Kind::Bad));
        assert_eq!(write(&thing), text);
        let text = r#"{"theName":"","count":0,"kind":null,"tags":[]}"#;
        assert_eq!(write(&read::<Thing>(text).expect("a thing")), text);
    }

    #[test]
    fn every_character_of_a_text_is_read_back() {
        let text: String = ('\0'..='\u{ff}').chain(['\u{2028}', '\u{1f600}']).collect();
        let written = write(&text);
        for part in [
            "\"\\u0000\\u0001",
            "\\u0007\\b\\t\\n\\u000b\\f\\r\\u000e",
            " !\\\"#",
            "[\\\\]",
        ] {
            assert!(written.contains(part), "{part}");
        }
        assert_eq!(read::<String>(&written), Some(text));
    }

    #[test]
    fn one_wrong_or_missing_field_spoils_the_whole_and_an_unknown_one_is_passed_over() {
        let good = r#"{"theName":"x","count":3,"kind":"Good","tags":[],"new":{"x":[1]}}"#;
        read::<Thing>(good).expect("a thing");
        for (from, to) in [
            ("\"theName\"", "\"name\""),
            (":3", ":\"3\""),
            (":3", ":-3"),
            (":3", ":4294967296"),
            (":3", ":1.5"),
            ("\"Good\"", "\"Ugly\""),
            ("[]", "[1]"),
            ("[]", "null"),
            (good, "[]"),
            (good, "null"),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_eq!(read::<Thing>(&bad), None, "{bad}");
        }
    }
}

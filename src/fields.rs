//! How structs and words stand in JSON. A field that is missing or of a wrong kind spoils the whole; an unknown one is
//! passed over. One list of fields for each struct serves both ways: a document that is read fills them in, one that is
//! written takes them down.

use std::fmt::{self, Write};
use std::mem;

use crate::json::{self, Value};

/// What stands in a document. It is changed by none that is written.
pub trait Field {
    /// What is filled in; a blank that was not filled means nothing.
    fn blank() -> Self
    where
        Self: Sized;

    /// Is read from the document, or written to it.
    fn pass(&mut self, json: &mut Json);
}

pub fn read<T: Field>(text: &str) -> Option<T> {
    let mut read = T::blank();
    read_into(text, &mut read).then_some(read)
}

pub fn read_into(text: &str, blank: &mut dyn Field) -> bool {
    json::parse(text).is_ok_and(|value| fill(value, blank))
}

/// False when something is missing or wrong; what is right is filled in even so.
pub fn fill(value: Value, blank: &mut dyn Field) -> bool {
    let mut json = Json {
        is_read: true,
        is_ahead: true,
        next: value,
        ..Json::default()
    };
    blank.pass(&mut json);
    !json.is_bad
}

pub fn write(value: &mut dyn Field) -> String {
    let mut json = Json::default();
    value.pass(&mut json);
    json.finish()
}

/// A document on its way in or out, and how far it has come.
#[derive(Default)]
pub struct Json {
    /// As far as it is written.
    out: String,
    is_read: bool,
    /// Something in it is not what was wanted; what is read from there on means nothing.
    is_bad: bool,
    /// The value that is up, and whether it was only looked at.
    next: Value,
    is_ahead: bool,
    /// The object or list that is open, and those around it.
    inner: Level,
    outer: Vec<Level>,
}

#[derive(Default)]
struct Level {
    /// Of an object's members that are still to come, with blanks between; none for those of a list and of a map.
    keys: &'static str,
    /// The bracket that ends it.
    end: char,
    /// The rest of what is read, and how many of its items are.
    value: Value,
    at: usize,
}

impl Json {
    /// Goes on to the next member or item. Tells whether it is read; if not, its key is written.
    fn advance(&mut self) -> bool {
        if mem::take(&mut self.is_ahead) {
            return true;
        }
        let level = &mut self.inner;
        let (key, keys) = level.keys.split_once(' ').unwrap_or((level.keys, ""));
        level.keys = keys;
        if self.is_read {
            let next = match &mut level.value {
                Value::Object(object) => object.take(key),
                Value::List(list) => list.get_mut(level.at).map(mem::take).unwrap_or_default(),
                _ => Value::Null,
            };
            level.at += 1;
            self.next = next;
        } else if key.is_empty() {
            self.separate();
        } else {
            self.key(key);
        }
        self.is_read
    }

    /// Begins an object of these members, each of which is to be passed in turn; or a map, of none.
    pub fn open(&mut self, keys: &'static str) {
        self.enter(keys, '{', '}');
    }

    pub fn open_list(&mut self) {
        self.enter("", '[', ']');
    }

    fn enter(&mut self, keys: &'static str, begin: char, end: char) {
        if self.advance() {
            let is_wanted = match self.next {
                Value::Object(_) => begin == '{',
                Value::List(_) => begin == '[',
                _ => false,
            };
            self.want(is_wanted);
        } else {
            self.out.push(begin);
        }
        let inner = Level {
            keys,
            end,
            value: mem::take(&mut self.next),
            at: 0,
        };
        self.outer.push(mem::replace(&mut self.inner, inner));
    }

    pub fn close(&mut self) {
        if !self.is_read {
            self.out.push(self.inner.end);
        }
        self.inner = self.outer.pop().unwrap_or_default();
    }

    /// Whether another item is to be read.
    fn has_more(&self) -> bool {
        match &self.inner.value {
            Value::List(list) => self.inner.at < list.len() && !self.is_bad,
            _ => false,
        }
    }

    /// The name of the next member of a map, whose value comes next; none when it is written.
    pub fn next_name(&mut self) -> Option<String> {
        let Value::Object(object) = &mut self.inner.value else {
            return None;
        };
        let (name, value) = object.pairs_mut().nth(self.inner.at)?;
        self.inner.at += 1;
        self.next = mem::take(value);
        self.is_ahead = true;
        Some(name.to_owned())
    }

    /// The text of what was written.
    pub fn finish(self) -> String {
        self.out
    }

    pub fn want(&mut self, is_good: bool) {
        self.is_bad |= !is_good;
    }

    /// Whether null stands for what may be missing.
    fn is_null(&mut self, is_there: bool) -> bool {
        if !self.is_read {
            if !is_there {
                self.put("null");
            }
            return !is_there;
        }
        self.advance();
        self.is_ahead = !matches!(self.next, Value::Null);
        !self.is_ahead
    }

    pub fn text(&mut self, text: &mut String) {
        if !self.advance() {
            write_text(text, &mut self.out);
        } else if let Value::Text(read) = &mut self.next {
            *text = mem::take(read);
        } else {
            self.is_bad = true;
        }
    }

    /// Of what is only written.
    pub fn put_text(&mut self, text: &str) {
        self.advance();
        write_text(text, &mut self.out);
    }

    fn put(&mut self, word: &str) {
        self.advance();
        self.out.push_str(word);
    }

    pub fn number(&mut self, number: &mut u64) {
        if !self.advance() {
            write_as(format_args!("{number}"), &mut self.out);
        } else if let Value::Number(read) = self.next {
            *number = read;
        } else {
            self.is_bad = true;
        }
    }

    pub fn truth(&mut self, truth: &mut bool) {
        if !self.is_read {
            self.put(if *truth { "true" } else { "false" });
            return;
        }
        self.advance();
        match self.next {
            Value::Bool(read) => *truth = read,
            _ => self.is_bad = true,
        }
    }

    /// Which of the words it is.
    pub fn word(&mut self, words: &str, at: usize) -> usize {
        let mut words = words.split(' ');
        if !self.is_read {
            self.put_text(words.nth(at).unwrap_or_default());
            return at;
        }
        self.advance();
        let found = match &self.next {
            Value::Text(text) => words.position(|word| word == text),
            _ => None,
        };
        self.want(found.is_some());
        found.unwrap_or(0)
    }

    /// To be called before each member of a map.
    pub fn key(&mut self, key: &str) {
        self.separate();
        write_text(key, &mut self.out);
        self.out.push(':');
    }

    /// To be called before each item of a list. Only what has just been opened ends in a bracket.
    fn separate(&mut self) {
        if !matches!(self.out.as_bytes().last(), None | Some(b'[' | b'{' | b':')) {
            self.out.push(',');
        }
    }
}

fn write_text(text: &str, out: &mut String) {
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

/// A struct with all its fields, each under its own name or the one that follows it.
macro_rules! fields {
    ($type:ident { $first:ident $($key:literal)? $(, $field:ident $($other:literal)?)* $(,)? }) => {
        impl $type {
            /// With blanks between.
            pub const KEYS: &'static str = concat!(
                $crate::fields::key!($first $($key)?),
                $(" ", $crate::fields::key!($field $($other)?)),*
            );
        }

        impl $crate::fields::Field for $type {
            #[inline(never)]
            fn blank() -> Self {
                Self {
                    $first: $crate::fields::Field::blank(),
                    $($field: $crate::fields::Field::blank()),*
                }
            }

            fn pass(&mut self, json: &mut $crate::fields::Json) {
                json.open(Self::KEYS);
                self.$first.pass(json);
                $(self.$field.pass(json);)*
                json.close();
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
            $(#[$of_first:meta])* $first:ident $(, $(#[$of_variant:meta])* $variant:ident)* $(,)?
        }
    ) => {
        $(#[$of_type])*
        $visibility enum $type {
            $(#[$of_first])* $first, $($(#[$of_variant])* $variant),*
        }

        impl $type {
            const ALL: &[Self] = &[Self::$first, $(Self::$variant),*];
            /// With blanks between.
            const WORDS: &str = concat!(stringify!($first), $(" ", stringify!($variant)),*);
        }

        impl $crate::fields::Field for $type {
            fn blank() -> Self {
                Self::$first
            }

            fn pass(&mut self, json: &mut $crate::fields::Json) {
                if let Some(read) = Self::ALL.get(json.word(Self::WORDS, *self as usize)) {
                    *self = *read;
                }
            }
        }
    };
}

pub(crate) use {fields, key, words};

impl Field for bool {
    fn blank() -> Self {
        false
    }

    fn pass(&mut self, json: &mut Json) {
        json.truth(self);
    }
}

impl Field for u64 {
    fn blank() -> Self {
        0
    }

    fn pass(&mut self, json: &mut Json) {
        json.number(self);
    }
}

impl Field for u32 {
    fn blank() -> Self {
        0
    }

    fn pass(&mut self, json: &mut Json) {
        let mut number = u64::from(*self);
        json.number(&mut number);
        match number.try_into() {
            Ok(number) => *self = number,
            Err(_) => json.want(false),
        }
    }
}

impl Field for String {
    fn blank() -> Self {
        Self::new()
    }

    fn pass(&mut self, json: &mut Json) {
        json.text(self);
    }
}

impl<T: Field> Field for Option<T> {
    fn blank() -> Self {
        None
    }

    fn pass(&mut self, json: &mut Json) {
        if json.is_null(self.is_some()) {
            return;
        }
        if self.is_none() {
            // There is nothing to drop, which the compiler does not see.
            mem::forget(self.replace(T::blank()));
        }
        if let Some(value) = self {
            value.pass(json);
        }
    }
}

impl<T: Field> Field for Vec<T> {
    fn blank() -> Self {
        Self::new()
    }

    fn pass(&mut self, json: &mut Json) {
        json.open_list();
        for item in &mut *self {
            item.pass(json);
        }
        while json.has_more() {
            let mut item = T::blank();
            item.pass(json);
            self.push(item);
        }
        json.close();
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
        let mut thing: Thing = read(text).expect("a thing");
        assert_eq!(thing.kind, Some(Kind::Bad));
        assert_eq!(write(&mut thing), text);
        let text = r#"{"theName":"","count":0,"kind":null,"tags":[]}"#;
        assert_eq!(write(&mut read::<Thing>(text).expect("a thing")), text);
    }

    #[test]
    fn every_character_of_a_text_is_read_back() {
        let mut text: String = ('\0'..='\u{ff}').chain(['\u{2028}', '\u{1f600}']).collect();
        let written = write(&mut text);
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

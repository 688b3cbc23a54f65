//! How structs and words stand in JSON. A field that is missing or of a wrong kind spoils the whole; an unknown one is
//! passed over. A struct is filled in by reference, field after field, by one piece of code for all.

use crate::json::{self, Object, Value};

pub trait Field {
    /// What is filled in; a blank that was not filled means nothing.
    fn blank() -> Self
    where
        Self: Sized;

    /// False when the value is not of this kind.
    fn fill(&mut self, value: Value) -> bool;

    fn to_value(&self) -> Value;
}

pub fn read<T: Field>(text: &str) -> Option<T> {
    let mut read = T::blank();
    let value = json::parse(text).ok()?;
    read.fill(value).then_some(read)
}

pub fn write(value: &dyn Field) -> String {
    json::print(&value.to_value())
}

/// Fills in all fields, each from the value under its key.
pub fn fill_all(value: Value, keys: &[&str], fields: &mut [&mut dyn Field]) -> bool {
    let Value::Object(mut object) = value else {
        return false;
    };
    let mut pairs = keys.iter().zip(fields);
    pairs.all(|(key, field)| field.fill(object.take(key)))
}

pub fn object(keys: &[&str], fields: &[&dyn Field]) -> Value {
    let mut object = Object::default();
    for (key, field) in keys.iter().zip(fields) {
        object.put(key, field.to_value());
    }
    Value::Object(object)
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
        impl $type {
            pub const KEYS: &[&str] = &[$($crate::fields::key!($field $($key)?)),+];
        }

        impl $crate::fields::Field for $type {
            fn blank() -> Self {
                Self {
                    $($field: $crate::fields::Field::blank()),+
                }
            }

            fn fill(&mut self, value: $crate::json::Value) -> bool {
                $crate::fields::fill_all(value, Self::KEYS, &mut [$(&mut self.$field),+])
            }

            fn to_value(&self) -> $crate::json::Value {
                $crate::fields::object(Self::KEYS, &[$(&self.$field),+])
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

/// An enum without data: its variants' names, the first one for a blank.
macro_rules! words {
    ($type:ident { $first:ident $(, $other:ident)* $(,)? }) => {
        impl $type {
            const ALL: &[Self] = &[Self::$first $(, Self::$other)*];
            const WORDS: &[&str] = &[stringify!($first) $(, stringify!($other))*];
        }

        impl $crate::fields::Field for $type {
            fn blank() -> Self {
                Self::$first
            }

            fn fill(&mut self, value: $crate::json::Value) -> bool {
                let found = $crate::fields::word(&value, Self::WORDS);
                found.map(|at| *self = Self::ALL[at]).is_some()
            }

            fn to_value(&self) -> $crate::json::Value {
                $crate::json::Value::Text(Self::WORDS[*self as usize].to_owned())
            }
        }
    };
}

pub(crate) use {fields, key, words};

/// What has a kind of JSON of its own.
macro_rules! plain {
    ($($type:ty: $kind:ident;)+) => {
        $(impl Field for $type {
            fn blank() -> Self {
                Self::default()
            }

            fn fill(&mut self, value: Value) -> bool {
                match value {
                    Value::$kind(value) => *self = value,
                    _ => return false,
                }
                true
            }

            fn to_value(&self) -> Value {
                Value::$kind(self.clone())
            }
        })+
    };
}

plain! {
    bool: Bool;
    u64: Number;
    String: Text;
}

impl Field for u32 {
    fn blank() -> Self {
        0
    }

    fn fill(&mut self, value: Value) -> bool {
        let Value::Number(number) = value else {
            return false;
        };
        number.try_into().map(|number| *self = number).is_ok()
    }

    fn to_value(&self) -> Value {
        Value::Number(u64::from(*self))
    }
}

impl<T: Field> Field for Option<T> {
    fn blank() -> Self {
        None
    }

    fn fill(&mut self, value: Value) -> bool {
        value == Value::Null || self.insert(T::blank()).fill(value)
    }

    fn to_value(&self) -> Value {
        self.as_ref().map_or(Value::Null, Field::to_value)
    }
}

impl<T: Field> Field for Vec<T> {
    fn blank() -> Self {
        Vec::new()
    }

    fn fill(&mut self, value: Value) -> bool {
        let Value::List(list) = value else {
            return false;
        };
        list.into_iter().all(|value| {
            let mut item = T::blank();
            let is_filled = item.fill(value);
            self.push(item);
            is_filled
        })
    }

    fn to_value(&self) -> Value {
        Value::List(self.iter().map(Field::to_value).collect())
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

    #[derive(Clone, Copy, PartialEq, Debug)]
    enum Kind {
        Good,
        Bad,
    }

    fields!(Thing { name "theName", count, kind, tags });
    words!(Kind { Good, Bad });

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

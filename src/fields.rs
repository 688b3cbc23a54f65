//! How structs and words stand in JSON. A field that is missing or of a wrong kind spoils the whole; an unknown one is
//! passed over. Nothing is built by halves: a spoiled struct is finished with blanks, and thrown away.

use crate::json::{self, Object, Value};

pub trait Field: Sized {
    fn to_value(&self) -> Value;

    /// Sets `spoiled` when the value is not of this kind, and then what is returned means nothing.
    fn take(value: Value, spoiled: &mut bool) -> Self;
}

pub fn read<T: Field>(text: &str) -> Option<T> {
    let value = json::parse(text).ok()?;
    let mut spoiled = false;
    let read = T::take(value, &mut spoiled);
    (!spoiled).then_some(read)
}

pub fn write(value: &impl Field) -> String {
    json::print(&value.to_value())
}

pub fn object(value: Value, spoiled: &mut bool) -> Object {
    match value {
        Value::Object(object) => object,
        _ => spoil(spoiled),
    }
}

pub fn spoil<T: Default>(spoiled: &mut bool) -> T {
    *spoiled = true;
    T::default()
}

/// A struct with all its fields, each under its own name or the one that follows it.
macro_rules! fields {
    ($type:ident { $($field:ident $($key:literal)?),+ $(,)? }) => {
        impl $crate::fields::Field for $type {
            fn to_value(&self) -> $crate::json::Value {
                let mut object = $crate::json::Object::default();
                $(object.put(
                    $crate::fields::key!($field $($key)?),
                    $crate::fields::Field::to_value(&self.$field),
                );)+
                $crate::json::Value::Object(object)
            }

            fn take(value: $crate::json::Value, spoiled: &mut bool) -> Self {
                let mut object = $crate::fields::object(value, spoiled);
                Self {
                    $($field: $crate::fields::Field::take(
                        object.take($crate::fields::key!($field $($key)?)),
                        spoiled,
                    ),)+
                }
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

/// An enum without data: its variants' names, the first one where a blank is needed.
macro_rules! words {
    ($type:ident { $first:ident $(, $other:ident)* $(,)? }) => {
        impl $crate::fields::Field for $type {
            fn to_value(&self) -> $crate::json::Value {
                let word = match self {
                    Self::$first => stringify!($first),
                    $(Self::$other => stringify!($other),)*
                };
                $crate::json::Value::Text(word.to_owned())
            }

            fn take(value: $crate::json::Value, spoiled: &mut bool) -> Self {
                match String::take(value, spoiled).as_str() {
                    $(stringify!($other) => return Self::$other,)*
                    word => *spoiled |= word != stringify!($first),
                }
                Self::$first
            }
        }
    };
}

pub(crate) use {fields, key, words};

impl Field for String {
    fn to_value(&self) -> Value {
        Value::Text(self.clone())
    }

    fn take(value: Value, spoiled: &mut bool) -> Self {
        match value {
            Value::Text(text) => text,
            _ => spoil(spoiled),
        }
    }
}

impl Field for bool {
    fn to_value(&self) -> Value {
        Value::Bool(*self)
    }

    fn take(value: Value, spoiled: &mut bool) -> Self {
        match value {
            Value::Bool(value) => value,
            _ => spoil(spoiled),
        }
    }
}

impl Field for u64 {
    fn to_value(&self) -> Value {
        Value::Number(*self)
    }

    fn take(value: Value, spoiled: &mut bool) -> Self {
        match value {
            Value::Number(value) => value,
            _ => spoil(spoiled),
        }
    }
}

impl Field for u32 {
    fn to_value(&self) -> Value {
        Value::Number(u64::from(*self))
    }

    fn take(value: Value, spoiled: &mut bool) -> Self {
        u64::take(value, spoiled)
            .try_into()
            .unwrap_or_else(|_| spoil(spoiled))
    }
}

impl<T: Field> Field for Option<T> {
    fn to_value(&self) -> Value {
        self.as_ref().map_or(Value::Null, Field::to_value)
    }

    fn take(value: Value, spoiled: &mut bool) -> Self {
        (value != Value::Null).then(|| T::take(value, spoiled))
    }
}

impl<T: Field> Field for Vec<T> {
    fn to_value(&self) -> Value {
        Value::List(self.iter().map(Field::to_value).collect())
    }

    fn take(value: Value, spoiled: &mut bool) -> Self {
        let list: Vec<Value> = match value {
            Value::List(list) => list,
            _ => spoil(spoiled),
        };
        let values = list.into_iter();
        values.map(|value| T::take(value, spoiled)).collect()
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

    #[derive(PartialEq, Debug)]
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

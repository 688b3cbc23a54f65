//! JSON as a tree. miniserde parses and prints it; its own tree and its derived code for each struct cost 45 KB more.
//! What a struct looks like in it is told in `fields.rs`, where a text stops being JSON in `syntax.rs`.

use std::borrow::Cow;
use std::mem;

use miniserde::de::{self, Visitor};
use miniserde::ser::{self, Fragment};
use miniserde::{Deserialize, Serialize, make_place};

/// Deeper than anything of ours or of a server's; a tree is dropped by recursion.
const DEPTH_LIMIT: usize = 32;

#[derive(Clone, PartialEq, Debug, Default)]
pub enum Value {
    #[default]
    Null,
    Bool(bool),
    Number(u64),
    Negative(i64),
    Fraction,
    Text(String),
    List(Vec<Value>),
    Object(Object),
}

/// In the order of the text.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Object(Vec<(String, Value)>);

impl Object {
    /// Of two with one key the last counts; null is like nothing.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let pair = self.0.iter().rfind(|(known, _)| known == key)?;
        (pair.1 != Value::Null).then_some(&pair.1)
    }

    /// The text under the key, or an empty one.
    pub fn text(&self, key: &str) -> &str {
        match self.get(key) {
            Some(Value::Text(text)) => text,
            _ => "",
        }
    }

    pub fn take(&mut self, key: &str) -> Value {
        let pair = self.0.iter_mut().rfind(|(known, _)| known == key);
        pair.map(|(_, value)| mem::take(value)).unwrap_or_default()
    }

    pub fn put(&mut self, key: &str, value: Value) {
        self.0.push((key.to_owned(), value));
    }

    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(key, _)| key.as_str())
    }

    pub fn into_pairs(self) -> Vec<(String, Value)> {
        self.0
    }
}

impl Value {
    /// The kind of a value in words.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "true or false",
            Self::Number(_) | Self::Negative(_) => "a number",
            Self::Fraction => "a fraction",
            Self::Text(_) => "a string",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }
}

/// The tree of a text; the error is where it stops being JSON that we take.
pub fn parse(text: &str) -> Result<Value, String> {
    if is_deep(text) {
        return Err(format!("it is nested deeper than {DEPTH_LIMIT}"));
    }
    miniserde::json::from_str(text).map_err(|_| {
        crate::syntax::error(text).unwrap_or_else(|| "a number in it is out of range".to_owned())
    })
}

pub fn print(value: &Value) -> String {
    miniserde::json::to_string(value)
}

fn is_deep(text: &str) -> bool {
    let (mut depth, mut is_text, mut is_escaped) = (0_usize, false, false);
    text.bytes().any(|byte| {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = is_text,
            b'"' => is_text = !is_text,
            b'[' | b'{' if !is_text => depth += 1,
            b']' | b'}' if !is_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth > DEPTH_LIMIT
    })
}

impl Serialize for Value {
    fn begin(&self) -> Fragment<'_> {
        match self {
            Self::Null | Self::Fraction => Fragment::Null,
            Self::Bool(value) => Fragment::Bool(*value),
            Self::Number(value) => Fragment::U64(*value),
            Self::Negative(value) => Fragment::I64(*value),
            Self::Text(text) => Fragment::Str(Cow::Borrowed(text)),
            Self::List(list) => Fragment::Seq(Box::new(Items(list.iter()))),
            Self::Object(object) => Fragment::Map(Box::new(Pairs(object.0.iter()))),
        }
    }
}

struct Items<'a>(std::slice::Iter<'a, Value>);

impl ser::Seq for Items<'_> {
    fn next(&mut self) -> Option<&dyn Serialize> {
        self.0.next().map(|value| value as &dyn Serialize)
    }
}

struct Pairs<'a>(std::slice::Iter<'a, (String, Value)>);

impl ser::Map for Pairs<'_> {
    fn next(&mut self) -> Option<(Cow<'_, str>, &dyn Serialize)> {
        let (key, value) = self.0.next()?;
        Some((Cow::Borrowed(key), value))
    }
}

make_place!(Place);

impl Deserialize for Value {
    fn begin(out: &mut Option<Self>) -> &mut dyn Visitor {
        Place::new(out)
    }
}

impl Visitor for Place<Value> {
    fn null(&mut self) -> miniserde::Result<()> {
        self.out = Some(Value::Null);
        Ok(())
    }

    fn boolean(&mut self, value: bool) -> miniserde::Result<()> {
        self.out = Some(Value::Bool(value));
        Ok(())
    }

    fn string(&mut self, text: &str) -> miniserde::Result<()> {
        self.out = Some(Value::Text(text.to_owned()));
        Ok(())
    }

    fn negative(&mut self, value: i64) -> miniserde::Result<()> {
        self.out = Some(Value::Negative(value));
        Ok(())
    }

    fn nonnegative(&mut self, value: u64) -> miniserde::Result<()> {
        self.out = Some(Value::Number(value));
        Ok(())
    }

    fn float(&mut self, _: f64) -> miniserde::Result<()> {
        self.out = Some(Value::Fraction);
        Ok(())
    }

    fn seq(&mut self) -> miniserde::Result<Box<dyn de::Seq + '_>> {
        Ok(Box::new(ListBuilder {
            out: &mut self.out,
            list: Vec::new(),
            next: None,
        }))
    }

    fn map(&mut self) -> miniserde::Result<Box<dyn de::Map + '_>> {
        Ok(Box::new(ObjectBuilder {
            out: &mut self.out,
            pairs: Vec::new(),
            key: String::new(),
            next: None,
        }))
    }
}

struct ListBuilder<'a> {
    out: &'a mut Option<Value>,
    list: Vec<Value>,
    next: Option<Value>,
}

impl de::Seq for ListBuilder<'_> {
    fn element(&mut self) -> miniserde::Result<&mut dyn Visitor> {
        self.list.extend(self.next.take());
        Ok(Deserialize::begin(&mut self.next))
    }

    fn finish(&mut self) -> miniserde::Result<()> {
        self.list.extend(self.next.take());
        *self.out = Some(Value::List(mem::take(&mut self.list)));
        Ok(())
    }
}

struct ObjectBuilder<'a> {
    out: &'a mut Option<Value>,
    pairs: Vec<(String, Value)>,
    key: String,
    next: Option<Value>,
}

impl ObjectBuilder<'_> {
    fn shift(&mut self) {
        if let Some(value) = self.next.take() {
            self.pairs.push((mem::take(&mut self.key), value));
        }
    }
}

impl de::Map for ObjectBuilder<'_> {
    fn key(&mut self, key: &str) -> miniserde::Result<&mut dyn Visitor> {
        self.shift();
        key.clone_into(&mut self.key);
        Ok(Deserialize::begin(&mut self.next))
    }

    fn finish(&mut self) -> miniserde::Result<()> {
        self.shift();
        *self.out = Some(Value::Object(Object(mem::take(&mut self.pairs))));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_parsed_is_printed_again() {
        let text = r#"{"b":[1,-2,null,true,"x\n"],"a":{},"":[{"c":[]}]}"#;
        assert_eq!(parse(text).map(|value| print(&value)).as_deref(), Ok(text));
    }

    #[test]
    fn of_two_with_one_key_the_last_counts_and_null_is_like_nothing() {
        let Ok(Value::Object(mut object)) = parse(r#"{"a":1,"a":"x","b":null,"c":1.5}"#) else {
            panic!("it is an object");
        };
        assert_eq!(object.text("a"), "x");
        assert_eq!(object.get("b"), None);
        assert_eq!(object.get("c").map(Value::kind), Some("a fraction"));
        assert_eq!(object.take("a"), Value::Text("x".to_owned()));
        assert_eq!(object.take("nothing"), Value::Null);
    }

    #[test]
    fn depth_is_bounded_and_brackets_in_a_text_are_not_depth() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        parse(&nested(DEPTH_LIMIT)).expect("deep enough");
        parse(&nested(DEPTH_LIMIT + 1)).expect_err("too deep");
        parse(&nested(3_000_000)).expect_err("far too deep");
        parse(&format!("[\"\\\"{}\"]", "[".repeat(100))).expect("a text");
        parse(&vec!["[]"; 100].join(",")).expect_err("no list");
        parse(&format!("[{}]", vec!["[{}]"; 100].join(","))).expect("flat");
    }
}

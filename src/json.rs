//! JSON as a tree. miniserde parses it; its own tree and its derived code for each struct cost 45 KB more, and what
//! prints numbers with a fraction, which we have none of, 3 KB.
//! How a struct is read and written is told in `fields.rs`, where a text stops being JSON in `syntax.rs`.

use std::mem;

use miniserde::de::{self, Visitor};
use miniserde::{Deserialize, make_place};

/// Deeper than anything of ours or of a server's; a tree is dropped by recursion.
const DEPTH_LIMIT: usize = 128;

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
        (!matches!(pair.1, Value::Null)).then_some(&pair.1)
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

    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(key, _)| key.as_str())
    }

    pub fn pairs_mut(&mut self) -> impl Iterator<Item = (&str, &mut Value)> {
        self.0.iter_mut().map(|(key, value)| (key.as_str(), value))
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
    fn every_kind_of_value_is_parsed() {
        let pair = |key: &str, value| (key.to_owned(), value);
        let b = Value::List(vec![
            Value::Number(1),
            Value::Negative(-2),
            Value::Null,
            Value::Bool(true),
            Value::Text("x\n".to_owned()),
        ]);
        let c = Value::Object(Object(vec![pair("c", Value::List(Vec::new()))]));
        let tree = Value::Object(Object(vec![
            pair("b", b),
            pair("a", Value::Object(Object::default())),
            pair("", Value::List(vec![c])),
        ]));
        let text = r#"{"b":[1,-2,null,true,"x\n"],"a":{},"":[{"c":[]}]}"#;
        assert_eq!(parse(text), Ok(tree));
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

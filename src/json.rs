//! JSON beyond miniserde: where a text stops being JSON, which kind a value is, and a limit for nesting.

pub use miniserde::json::{Array, Number, Object, Value, to_string};

use std::mem;

use miniserde::Deserialize;

/// The maximum depth of nesting. miniserde parses and drops values without recursion, but clones and prints them with it.
const DEPTH_LIMIT: usize = 128;

/// Returns none if a field is missing or has a wrong kind. Unknown fields are ignored.
pub fn read<T: Deserialize>(text: &str) -> Option<T> {
    let text = without_mark(text);
    if is_deep(text) {
        return None;
    }
    miniserde::json::from_str(text).ok()
}

/// Returns the text without a byte order mark at its beginning. Editors on Windows put one there, and it is not JSON.
pub fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// Parses a text, which may begin with a byte order mark. The error names the line and column where it stops being JSON.
pub fn parse(text: &str) -> Result<Value, String> {
    let text = without_mark(text);
    if is_deep(text) {
        return Err(format!("it is nested deeper than {DEPTH_LIMIT}"));
    }
    miniserde::json::from_str(text).map_err(|_| {
        syntax_error(text).unwrap_or_else(|| "a number in it is out of range".to_owned())
    })
}

/// Returns the value of the key; none if it is null.
pub fn get<'a>(object: &'a Object, key: &str) -> Option<&'a Value> {
    let value = object.get(key)?;
    (!matches!(value, Value::Null)).then_some(value)
}

/// Takes the value of the key out of the object; none if it has none. Null stays in its place.
pub fn take(object: &mut Object, key: &str) -> Option<Value> {
    object.get_mut(key).map(mem::take)
}

/// Returns the text of the key; empty if it has none.
pub fn text<'a>(object: &'a Object, key: &str) -> &'a str {
    match object.get(key) {
        Some(Value::String(text)) => text,
        _ => "",
    }
}

/// Returns the JSON of an object of texts, in this order.
pub fn object(fields: &[(&str, &str)]) -> String {
    let mut json = String::new();
    for (key, text) in fields {
        json.push(if json.is_empty() { '{' } else { ',' });
        json.push_str(&to_string(key));
        json.push(':');
        json.push_str(&to_string(text));
    }
    json.push('}');
    json
}

/// Returns the kind of a value in words.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(Number::U64(_) | Number::I64(_)) => "a number",
        Value::Number(Number::F64(_)) => "a fraction",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
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

/// Returns position and cause of the first syntax error, or none if the text is JSON (RFC 8259). It runs only after
/// miniserde has failed, so that the usual case stays fast.
fn syntax_error(text: &str) -> Option<String> {
    let mut scan = Scan {
        bytes: text.as_bytes(),
        at: 0,
    };
    let wanted = scan.document().err()?;
    let before = &text.as_bytes()[..scan.at.min(text.len())];
    let line = before.split(|byte| *byte == b'\n').count();
    let line_start = before
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    let column = String::from_utf8_lossy(&before[line_start..])
        .chars()
        .count()
        + 1;
    Some(format!("line {line}, column {column}: wanted {wanted}"))
}

/// A scanner that reads the text once, without recursion.
struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

type Wanted = &'static str;

impl Scan<'_> {
    fn document(&mut self) -> Result<(), Wanted> {
        let mut open: Vec<u8> = Vec::new();
        loop {
            self.value(&mut open)?;
            // A value is complete. Close the brackets that end here; then a next member follows, or the text ends.
            loop {
                let Some(bracket) = open.last().copied() else {
                    self.space();
                    return match self.peek() {
                        None => Ok(()),
                        Some(_) => Err("the end of the text"),
                    };
                };
                self.space();
                match (self.peek(), bracket) {
                    (Some(b','), b'{') => {
                        self.at += 1;
                        self.key()?;
                        break;
                    }
                    (Some(b','), _) => {
                        self.at += 1;
                        break;
                    }
                    (Some(b'}'), b'{') | (Some(b']'), b'[') => {
                        self.at += 1;
                        open.pop();
                    }
                    (_, b'{') => return Err("a comma or }"),
                    _ => return Err("a comma or ]"),
                }
            }
        }
    }

    /// Reads until a value without inner values is complete, and adds the brackets that open before it.
    fn value(&mut self, open: &mut Vec<u8>) -> Result<(), Wanted> {
        loop {
            self.space();
            match self.peek() {
                Some(b'{') => {
                    self.at += 1;
                    self.space();
                    if self.skip(b'}') {
                        return Ok(());
                    }
                    self.key()?;
                    open.push(b'{');
                }
                Some(b'[') => {
                    self.at += 1;
                    self.space();
                    if self.skip(b']') {
                        return Ok(());
                    }
                    open.push(b'[');
                }
                Some(b'"') => return self.string(),
                Some(b'-' | b'0'..=b'9') => return self.number(),
                _ => return self.word(),
            }
        }
    }

    fn key(&mut self) -> Result<(), Wanted> {
        self.space();
        if self.peek() != Some(b'"') {
            return Err("a key in double quotes");
        }
        self.string()?;
        self.space();
        if self.skip(b':') {
            Ok(())
        } else {
            Err("a colon")
        }
    }

    fn string(&mut self) -> Result<(), Wanted> {
        self.at += 1;
        loop {
            match self.peek() {
                None | Some(0..0x20) => return Err("the closing double quote"),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    self.at += 1;
                    match self.peek() {
                        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {}
                        Some(b'u') => {
                            let digits = self.bytes.get(self.at + 1..self.at + 5);
                            if !digits.is_some_and(|d| d.iter().all(u8::is_ascii_hexdigit)) {
                                return Err("four hex digits");
                            }
                        }
                        _ => return Err("an escape such as \\n or \\\\"),
                    }
                }
                Some(_) => {}
            }
            self.at += 1;
        }
    }

    fn number(&mut self) -> Result<(), Wanted> {
        self.skip(b'-');
        let leading_zero = self.peek() == Some(b'0');
        let digits = self.digits()?;
        if leading_zero && digits > 1 {
            return Err("a number without a leading zero");
        }
        if self.skip(b'.') {
            self.digits()?;
        }
        if self.skip(b'e') || self.skip(b'E') {
            let _ = self.skip(b'+') || self.skip(b'-');
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<usize, Wanted> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start {
            return Err("a digit");
        }
        Ok(self.at - start)
    }

    fn word(&mut self) -> Result<(), Wanted> {
        for word in ["true", "false", "null"] {
            if self.bytes[self.at..].starts_with(word.as_bytes()) {
                self.at += word.len();
                return Ok(());
            }
        }
        Err("a value")
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use miniserde::Serialize;

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct Thing {
        #[serde(rename = "theName")]
        name: String,
        count: u32,
        kind: Option<Kind>,
        tags: Vec<String>,
    }

    #[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Debug)]
    enum Kind {
        Good,
        Bad,
    }

    #[test]
    fn one_byte_order_mark_at_the_beginning_is_no_part_of_the_text() {
        assert!(parse("\u{feff}[1]").is_ok());
        assert_eq!(read("\u{feff}7"), Some(7_u32));
        for text in ["\u{feff}\u{feff}[1]", "[\u{feff}1]", "[1]\u{feff}"] {
            let error = parse(text).expect_err("a second mark, or one elsewhere");
            assert!(error.starts_with("line 1, column "), "{error}");
        }
    }

    #[test]
    fn a_written_value_is_read_back() {
        let text = r#"{"theName":"x","count":3,"kind":"Bad","tags":["a","b"]}"#;
        let thing: Thing = read(text).expect("a thing");
        assert_eq!(thing.kind, Some(Kind::Bad));
        assert_eq!(to_string(&thing), text);
        let text = r#"{"theName":"","count":0,"kind":null,"tags":[]}"#;
        assert_eq!(to_string(&read::<Thing>(text).expect("a thing")), text);
    }

    #[test]
    fn every_character_of_a_text_is_read_back() {
        let text: String = ('\0'..='\u{ff}').chain(['\u{2028}', '\u{1f600}']).collect();
        let written = to_string(&text);
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
    fn a_wrong_or_missing_field_is_an_error_and_an_unknown_one_is_ignored() {
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

    #[test]
    fn every_kind_of_value_has_its_words() {
        let text = r#"{"b":[1,-2,null,true,"x\n",1.5,{}],"a":{},"":[{"c":[]}]}"#;
        let Ok(Value::Object(object)) = parse(text) else {
            panic!("it is an object");
        };
        assert_eq!(object.get("a").map(kind), Some("an object"));
        assert_eq!(object.get("").map(kind), Some("a list"));
        let Some(Value::Array(list)) = object.get("b") else {
            panic!("it is a list");
        };
        let kinds: Vec<&str> = list.iter().map(kind).collect();
        assert_eq!(
            kinds,
            [
                "a number",
                "a number",
                "null",
                "true or false",
                "a string",
                "a fraction",
                "an object"
            ]
        );
        assert!(matches!(&list[4], Value::String(text) if text == "x\n"));
    }

    #[test]
    fn the_last_of_two_equal_keys_counts_and_null_counts_as_missing() {
        let Ok(Value::Object(object)) = parse(r#"{"a":1,"a":"x","b":null,"c":1.5}"#) else {
            panic!("it is an object");
        };
        assert_eq!(text(&object, "a"), "x");
        assert_eq!(text(&object, "c"), "");
        assert!(get(&object, "b").is_none());
        assert_eq!(get(&object, "c").map(kind), Some("a fraction"));
    }

    #[test]
    fn depth_is_bounded_and_brackets_in_a_text_are_not_depth() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        parse(&nested(DEPTH_LIMIT)).expect("deep enough");
        parse(&nested(DEPTH_LIMIT + 1)).expect_err("too deep");
        parse(&nested(3_000_000)).expect_err("far too deep");
        let unknown = |depth| {
            format!(
                "{{\"theName\":\"\",\"count\":0,\"tags\":[],\"x\":{}}}",
                nested(depth)
            )
        };
        read::<Thing>(&unknown(DEPTH_LIMIT - 1)).expect("deep enough");
        assert_eq!(read::<Thing>(&unknown(DEPTH_LIMIT)), None);
        parse(&format!("[\"\\\"{}\"]", "[".repeat(100))).expect("a text");
        parse(&vec!["[]"; 100].join(",")).expect_err("no list");
        parse(&format!("[{}]", vec!["[{}]"; 100].join(","))).expect("flat");
    }

    #[test]
    fn good_json_has_no_error() {
        for text in [
            "{}",
            "[]",
            " [1, -2.5e+3, \"a\\u00e9\\n\", true, null, {\"a\": [[]], \"b\": {}}] ",
            "\"x\"",
        ] {
            assert_eq!(syntax_error(text), None, "{text}");
        }
        let deep = "[".repeat(300_000) + &"]".repeat(300_000);
        assert_eq!(syntax_error(&deep), None);
    }

    #[test]
    fn the_position_of_the_first_error_is_reported() {
        for (text, error) in [
            ("", "line 1, column 1: wanted a value"),
            (
                "{\n  \"a\": 1,\n}",
                "line 3, column 1: wanted a key in double quotes",
            ),
            ("{\"a\" 1}", "line 1, column 6: wanted a colon"),
            (
                "{\"a\": 1 \"b\": 2}",
                "line 1, column 9: wanted a comma or }",
            ),
            ("[1 2]", "line 1, column 4: wanted a comma or ]"),
            ("{\"é\": tru}", "line 1, column 7: wanted a value"),
            (
                "{\"a\": \"x\n\"}",
                "line 1, column 9: wanted the closing double quote",
            ),
            ("{} x", "line 1, column 4: wanted the end of the text"),
            (
                "[01]",
                "line 1, column 4: wanted a number without a leading zero",
            ),
            ("{\"a\": 1", "line 1, column 8: wanted a comma or }"),
            ("[[[", "line 1, column 4: wanted a value"),
        ] {
            assert_eq!(syntax_error(text).as_deref(), Some(error), "{text:?}");
        }
    }
}

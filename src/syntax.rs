//! What miniserde does not say: where a text stops being JSON. Runs only after a failure, so that the common case
//! stays small and fast. One pass, no recursion.

/// The place and the reason of the first syntax error, or none if the text is JSON (RFC 8259).
pub fn error(text: &str) -> Option<String> {
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
            // A value is complete; close what ends here, then either the next member follows or the text ends.
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

    /// Reads on until a value without inner values is complete, noting the brackets that open on the way.
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
        let is_there = self.peek() == Some(byte);
        self.at += usize::from(is_there);
        is_there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_json_has_no_error() {
        for text in [
            "{}",
            "[]",
            " [1, -2.5e+3, \"a\\u00e9\\n\", true, null, {\"a\": [[]], \"b\": {}}] ",
            "\"x\"",
        ] {
            assert_eq!(error(text), None, "{text}");
        }
        let deep = "[".repeat(300_000) + &"]".repeat(300_000);
        assert_eq!(error(&deep), None);
    }

    #[test]
    fn the_place_of_the_first_error_is_told() {
        for (text, told) in [
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
            assert_eq!(error(text).as_deref(), Some(told), "{text:?}");
        }
    }
}

//! Text for people: without characters that could forge a line, short enough for a heartbeat, and dates as in the log.
//! Imports no other module, so that all can use it.

/// Replaces control characters, so that text from outside can neither forge a line nor move the cursor.
pub fn printable(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        out.push(match c {
            '\t' | '\n' | '\r' => ' ',
            // Line separators split a line, and bidirectional controls reorder it.
            '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '?',
            c if c.is_control() => '?',
            c => c,
        });
    }
    out
}

/// Replaces what stands before an `@`, back to the quote that begins a string of JSON: in a URL it is the user and the
/// password. It is for refused values and debug lines, so it rather replaces too much: a password may hold a slash or a quote.
pub fn without_passwords(text: &str) -> String {
    let mut out = String::new();
    let (mut start, mut last) = (0, ' ');
    for c in text.chars() {
        if c == '@' {
            out.truncate(start);
            out.push_str("***");
        }
        out.push(c);
        // A quote elsewhere ends a string, or is a part of it.
        if c == '"' && matches!(last, '{' | '[' | ',' | ':' | ' ' | '\n') {
            start = out.len();
        }
        last = c;
    }
    out
}

/// Returns the text before the first of these ASCII characters.
pub fn before<'a>(text: &'a str, ends: &[u8]) -> &'a str {
    let end = text.bytes().position(|byte| ends.contains(&byte));
    &text[..end.unwrap_or(text.len())]
}

/// Returns a hint in parentheses, with a space before it, that names the first word that may be meant. Empty if there is none.
pub fn did_you_mean(typed: &str, words: &mut dyn Iterator<Item = &str>) -> String {
    for word in words {
        if is_near(typed.as_bytes(), word.as_bytes()) {
            return format!(" (did you mean {word}?)");
        }
    }
    String::new()
}

/// The shortest beginning that is taken for its word: two letters begin too many.
const BEGINNING: usize = 3;

/// Whether a missing, additional, other or swapped letter makes one word of the other, or the word begins with what was typed.
/// Case does not count.
fn is_near(typed: &[u8], word: &[u8]) -> bool {
    let is_same = |pair: &(&u8, &u8)| pair.0.eq_ignore_ascii_case(pair.1);
    let first = typed.iter().zip(word).take_while(is_same).count();
    let (typed, word) = (&typed[first..], &word[first..]);
    let last = typed.iter().rev().zip(word.iter().rev());
    let last = last.take_while(is_same).count();
    match (&typed[..typed.len() - last], &word[..word.len() - last]) {
        ([a, b], [c, d]) => a == d && b == c,
        ([], missing) => missing.len() <= 1 || first >= BEGINNING && typed.is_empty(),
        (typed, word) => typed.len() <= 1 && word.len() <= 1,
    }
}

/// Returns one trimmed line of printable ASCII of at most `limit` bytes, as a heartbeat may hold.
pub fn brief(text: &str, limit: usize) -> String {
    let mut out = String::new();
    for word in text.split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        for c in word.chars() {
            out.push(if c.is_ascii_graphic() { c } else { '?' });
        }
        if out.len() >= limit {
            break;
        }
    }
    out.truncate(limit);
    out
}

/// Formats seconds since 1970 as RFC 3339 in UTC. The date arithmetic is Howard Hinnant's `civil_from_days`.
pub fn timestamp(unix: u64) -> String {
    let days = u32::try_from(unix / 86_400 + 719_468).unwrap_or(u32::MAX);
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + u32::from(month <= 2);
    let (hour, minute, second) = (unix / 3_600 % 24, unix / 60 % 60, unix % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Returns the two largest units of a number of seconds: `12s`, `4m 48s`, `2h 5m`, `3d 4h`.
pub fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
        86_400.. => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// Returns megabytes with one digit after the point.
pub fn megabytes(bytes: u64) -> String {
    format!("{}.{}", bytes / 1_000_000, bytes / 100_000 % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_match_the_calendar() {
        for (unix, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_367_521, "2026-11-22T17:12:01Z"),
            (4_102_444_799, "2099-12-31T23:59:59Z"),
        ] {
            assert_eq!(timestamp(unix), text);
        }
    }

    #[test]
    fn a_span_has_its_two_largest_units() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m 0s"),
            (288, "4m 48s"),
            (7_500, "2h 5m"),
            (86_399, "23h 59m"),
            (273_600, "3d 4h"),
        ] {
            assert_eq!(span(seconds), text);
        }
    }

    #[test]
    fn text_from_outside_cannot_forge_a_line() {
        assert_eq!(printable("a\nb\x1b[2Jc\u{202e}d"), "a b?[2Jc?d");
    }

    #[test]
    fn no_user_and_no_password_of_a_url_is_shown() {
        for (text, shown) in [
            ("http://user:pw@store/x", "***@store/x"),
            ("http://user:p@w/w@store", "***@store"),
            (
                r#"{"a":"http:\/\/u:p@b","c":"d@e"}"#,
                r#"{"a":"***@b","c":"***@e"}"#,
            ),
            (r#"{"a": "u:p\"w@b"}"#, r#"{"a": "***@b"}"#),
            (r#"user:p"w@store"#, "***@store"),
            (r#""""@"#, r#""***@"#),
            ("http://store/x", "http://store/x"),
        ] {
            assert_eq!(without_passwords(text), shown);
        }
    }

    #[test]
    fn a_brief_text_is_one_line_of_printable_ascii() {
        assert_eq!(brief("  not\n started\u{e9}\x07 ", 200), "not started??");
        assert_eq!(brief("abcdef", 3), "abc");
    }

    #[test]
    fn a_word_that_is_cut_short_or_has_one_slip_is_near_and_no_other() {
        let words = ["status", "rollback", "pin", "log_level"];
        let hint = |typed| did_you_mean(typed, &mut words.into_iter());
        for (typed, word) in [
            ("statu", "status"),
            ("sta", "status"),
            ("statuss", "status"),
            ("stauts", "status"),
            ("xtatus", "status"),
            ("status ", "status"),
            ("Status", "status"),
            ("roll", "rollback"),
            ("rollbakc", "rollback"),
            ("pn", "pin"),
            ("logLevel", "log_level"),
        ] {
            assert_eq!(hint(typed), format!(" (did you mean {word}?)"), "{typed}");
        }
        for typed in [
            "",
            "-",
            "st",
            "start",
            "p",
            "statusxx",
            "sattsu",
            "rollforth",
            "ü",
        ] {
            assert_eq!(hint(typed), "", "{typed}");
        }
    }
}

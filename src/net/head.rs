//! Filters the head of an answer before minreq reads it, because minreq refuses a whole answer for one byte that is not UTF-8
//! in any header of any proxy, and takes `103 Early Hints` for the answer itself. Pure; the program's `recv` calls it.

use std::ops::Range;

/// `HTTP/1.1 103`: what must be known of a status line to judge it. A `d` is a digit. Nothing longer is ever kept back.
const INTERIM: &[u8; 12] = b"HTTP/1.d 1dd";
/// The most bytes of interim answers that are left out. The next one is taken for the answer.
const INTERIM_LIMIT: usize = 64 << 10;
/// All headers together, in bytes. Gateways add 20 KB of policies and cookies.
pub(super) const LIMIT: usize = 64 << 10;
pub(super) const TOO_LARGE: &str = "the headers of the answer exceed 64 KB";
/// The control character SUB, "in place of a character that is invalid". A Location that has one is refused.
const SUBSTITUTE: u8 = 0x1a;

/// Where in the answers the next byte is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    /// At a status line.
    Begin,
    /// In the head of an answer such as `103 Early Hints`, which is left out.
    Interim,
    /// In the head of the answer.
    Head,
    /// Behind it: everything passes.
    Body,
}

/// What has come of the present line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Line {
    Empty,
    Return,
    Text,
}

/// The state between two reads of one connection.
#[derive(Clone, Copy, Debug)]
pub struct AnswerHead {
    part: Part,
    line: Line,
    /// The last bytes that have come, if they cannot be judged yet.
    kept: [u8; INTERIM.len()],
    kept_length: usize,
    left_out: usize,
}

impl AnswerHead {
    pub const fn new() -> Self {
        Self {
            part: Part::Begin,
            line: Line::Empty,
            kept: [0; INTERIM.len()],
            kept_length: 0,
            left_out: 0,
        }
    }

    /// Returns whether the next bytes are of the body, so that nothing is to be filtered any more.
    pub fn is_over(&self) -> bool {
        self.part == Part::Body
    }

    /// Returns the bytes that the next read begins with.
    pub fn kept(&self) -> &[u8] {
        &self.kept[..self.kept_length]
    }

    /// Filters bytes in place: those that were kept, and then those that have just come. Returns which of them pass. `is_end`:
    /// no more will come.
    pub fn pass(&mut self, bytes: &mut [u8], is_end: bool) -> Range<usize> {
        self.kept_length = 0;
        let mut start = 0;
        while start < bytes.len() {
            let rest = &mut bytes[start..];
            match self.part {
                Part::Begin => {
                    self.part = match is_interim(rest) {
                        None if !is_end => {
                            self.keep(rest);
                            break;
                        }
                        Some(true) => Part::Interim,
                        _ => Part::Head,
                    }
                }
                Part::Interim => {
                    let length = self.in_this_head(rest, Part::Begin);
                    start += length;
                    self.left_out += length;
                    if self.left_out > INTERIM_LIMIT {
                        self.part = Part::Head;
                    }
                }
                Part::Head => {
                    let length = self.in_this_head(rest, Part::Body);
                    self.replace_invalid(&mut rest[..length], is_end);
                    break;
                }
                Part::Body => break,
            }
        }
        start..bytes.len() - self.kept_length
    }

    /// Returns how many of the bytes are of the present head. `next` follows its empty line.
    fn in_this_head(&mut self, bytes: &[u8], next: Part) -> usize {
        for (at, byte) in bytes.iter().enumerate() {
            self.line = match (byte, self.line) {
                (b'\n', Line::Text) => Line::Empty,
                (b'\n', Line::Empty | Line::Return) => {
                    (self.part, self.line) = (next, Line::Empty);
                    return at + 1;
                }
                (b'\r', Line::Empty) => Line::Return,
                _ => Line::Text,
            };
        }
        bytes.len()
    }

    /// Replaces bytes that are not UTF-8, and keeps those of a character whose end has not come.
    fn replace_invalid(&mut self, mut bytes: &mut [u8], is_end: bool) {
        while let Err(error) = std::str::from_utf8(bytes) {
            bytes = &mut bytes[error.valid_up_to()..];
            let length = match error.error_len() {
                Some(length) => length,
                None if is_end => bytes.len(),
                None => return self.keep(bytes),
            };
            bytes[..length].fill(SUBSTITUTE);
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.kept_length = bytes.len();
        self.kept[..bytes.len()].copy_from_slice(bytes);
    }
}

/// Returns whether a status line is that of an interim answer: 1xx, but not 101, which is final. `None`: too little has come.
fn is_interim(line: &[u8]) -> Option<bool> {
    let fits = line.iter().zip(INTERIM).all(|(byte, form)| match form {
        b'd' => byte.is_ascii_digit(),
        form => byte == form,
    });
    match line.get(10..INTERIM.len()) {
        _ if !fits => Some(false),
        code => code.map(|code| code != b"01"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Passes the parts as a connection brings them, and returns what comes out.
    fn filtered(parts: &[&[u8]]) -> Vec<u8> {
        let mut head = AnswerHead::new();
        let mut out = Vec::new();
        for part in parts.iter().chain([&&b""[..]]) {
            let mut bytes = [head.kept(), part].concat();
            let passed = head.pass(&mut bytes, part.is_empty());
            let is_kept = bytes.len() - passed.len() == head.kept().len();
            out.extend_from_slice(&bytes[passed]);
            assert!(is_kept || head.left_out > 0, "nothing gets lost");
        }
        assert!(head.kept().is_empty());
        out
    }

    const PLAIN: &[u8] = b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nHTTP/1.1 103 \xe9\r\n\r\n\xff";

    #[test]
    fn an_answer_comes_out_the_same_wherever_it_is_cut() {
        let rows: [(&[u8], &[u8]); 16] = [
            (PLAIN, PLAIN),
            (b"", b""),
            (b"HTTP/1", b"HTTP/1"),
            (
                b"SSH-2.0-x\r\n\0\xff\xfe\r\n",
                b"SSH-2.0-x\r\n\0\x1a\x1a\r\n",
            ),
            (
                b"HTTP/1.1 101 Switch\r\n\r\n",
                b"HTTP/1.1 101 Switch\r\n\r\n",
            ),
            (b"HTTP/1.1 1x3 A\n\n", b"HTTP/1.1 1x3 A\n\n"),
            (
                b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 204 N\r\n\r\n",
                b"HTTP/1.0 204 N\r\n\r\n",
            ),
            (
                b"HTTP/1.1 100\n\nHTTP/1.1 103 E\nLink: \xe9\n\nHTTP/1.1 200 O\n\n\xe9",
                b"HTTP/1.1 200 O\n\n\xe9",
            ),
            (b"HTTP/1.1 103 E\r\nA: b", b""),
            // Latin-1, GBK, and UTF-8 that is right, wrong and cut.
            (
                b"HTTP/1.1 404 Non trouv\xe9\r\n\r\n\xe9",
                b"HTTP/1.1 404 Non trouv\x1a\r\n\r\n\xe9",
            ),
            (
                b"HTTP/1.1 200 \xb3\xc9\xb9\xa6\r\nVia: \xd6\xd0\r\n\r\n",
                b"HTTP/1.1 200 \x1a\xc9\xb9\x1a\r\nVia: \x1a\x1a\r\n\r\n",
            ),
            (
                "HTTP/1.1 200 O\r\nA: \u{e9}\u{4e2d}\u{1f600}\r\n\r\n".as_bytes(),
                "HTTP/1.1 200 O\r\nA: \u{e9}\u{4e2d}\u{1f600}\r\n\r\n".as_bytes(),
            ),
            (
                b"HTTP/1.1 200 O\r\nA: \xe4\xb8\r\n\r\n",
                b"HTTP/1.1 200 O\r\nA: \x1a\x1a\r\n\r\n",
            ),
            (
                b"HTTP/1.1 200 O\r\nA: \xf0\x9f\x98",
                b"HTTP/1.1 200 O\r\nA: \x1a\x1a\x1a",
            ),
            (
                b"HTTP/1.1 200 O\r\n\r\r\nA: \xff\n\r\n\xff",
                b"HTTP/1.1 200 O\r\n\r\r\nA: \x1a\n\r\n\xff",
            ),
            (b"\r\nHTTP/1.1 103\r\n\r\n", b"\r\nHTTP/1.1 103\r\n\r\n"),
        ];
        for (bytes, wanted) in rows {
            let shown = String::from_utf8_lossy(bytes);
            assert_eq!(filtered(&[bytes]), wanted, "{shown}");
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(filtered(&single), wanted, "{shown}, byte by byte");
            for at in 1..bytes.len() {
                let (first, rest) = bytes.split_at(at);
                assert_eq!(filtered(&[first, rest]), wanted, "{shown} cut at {at}");
                for length in 1..rest.len() {
                    let (second, third) = rest.split_at(length);
                    assert_eq!(filtered(&[first, second, third]), wanted, "{shown}");
                }
            }
        }
    }

    #[test]
    fn what_has_come_of_the_answer_passes_at_once() {
        let mut head = AnswerHead::new();
        for length in 1..PLAIN.len() {
            let mut bytes = [head.kept(), &PLAIN[length - 1..length]].concat();
            head.pass(&mut bytes, false);
            assert!(head.kept().len() < INTERIM.len());
            assert!(head.kept().is_empty() || length <= b"HTTP/1.1 ".len());
        }
        assert!(head.is_over());
    }

    #[test]
    fn interim_answers_without_end_are_not_read_for_ever() {
        for line in ["HTTP/1.1 100 Continue\r\n\r\n", "Link: x\r\n"] {
            let mut head = AnswerHead::new();
            head.pass(&mut b"HTTP/1.1 103 E\r\n".to_vec(), false);
            let mut bytes = line.repeat(9).into_bytes();
            let mut is_passed = |_| !head.pass(&mut bytes, false).is_empty();
            assert!((0..1000).any(&mut is_passed), "{line}");
        }
    }
}

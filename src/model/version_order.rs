//! The order of versions, which decides what a downgrade is. Pure, and total: any two versions are below, equal or above.
//!
//! A version is compared part by part. A number counts by its value, a text by its bytes, and a text is below every number.
//! Parts that are missing count as 0, so that `1.0` is `1.0.0`, and `1.0-rc.1` is below both.

use std::cmp::Ordering;

use super::names::Version;

impl Version {
    /// Whether the other version is the higher one. Their derived order is that of their texts, for maps.
    pub fn is_below(&self, other: &Self) -> bool {
        compare(self.as_str(), other.as_str()).is_lt()
    }
}

fn compare(one: &str, other: &str) -> Ordering {
    let (mut one, mut other) = (without_frame(one), without_frame(other));
    while !(one.is_empty() && other.is_empty()) {
        let order = compare_parts(next_part(&mut one), next_part(&mut other));
        if order.is_ne() {
            return order;
        }
    }
    Ordering::Equal
}

/// Cuts off what decides nothing: a `v` before the first number, and the build after `+`.
fn without_frame(version: &str) -> &[u8] {
    let (version, _) = split(version.as_bytes(), |byte| byte != b'+');
    match version {
        [b'v' | b'V', rest @ ..] if is_number(rest) => rest,
        version => version,
    }
}

/// Takes the next part off: a text, or the digits of a number without its leading zeros. Empty: zero, or no part is left.
fn next_part<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let (_, mut next) = split(rest, |byte| byte == b'0' || is_separator(byte));
    if is_number(next) {
        (_, next) = split(rest, is_separator);
    }
    // Otherwise zeros before a text or the end are skipped, for 1.0-rc is 1.0.0-rc.
    let is_within = if is_number(next) {
        |byte: u8| byte.is_ascii_digit()
    } else {
        |byte: u8| !byte.is_ascii_digit() && !is_separator(byte)
    };
    let (part, left) = split(next, is_within);
    *rest = left;
    split(part, |byte| byte == b'0').1
}

fn compare_parts(one: &[u8], other: &[u8]) -> Ordering {
    let is_text = |part: &[u8]| !part.is_empty() && !is_number(part);
    match (is_text(one), is_text(other)) {
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        (true, true) => one.cmp(other),
        // Without leading zeros the longer number is the higher one, however long they are.
        (false, false) => one.len().cmp(&other.len()).then(one.cmp(other)),
    }
}

/// Splits before the first byte that does not belong to the beginning.
fn split(text: &[u8], is_within: fn(u8) -> bool) -> (&[u8], &[u8]) {
    let mut end = 0;
    while end < text.len() && is_within(text[end]) {
        end += 1;
    }
    text.split_at(end)
}

fn is_number(text: &[u8]) -> bool {
    text.first().is_some_and(u8::is_ascii_digit)
}

fn is_separator(byte: u8) -> bool {
    matches!(byte, b'.' | b'_' | b'-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use nanorand::{Rng, WyRand};

    #[test]
    fn versions_are_ordered_as_their_authors_mean_it() {
        for (lower, higher) in [
            ("1.9", "1.10"),
            ("1.0.0", "1.0.1"),
            ("1.0", "1.0.1"),
            ("1", "1.0.0.1"),
            ("0.9", "1"),
            ("2026.9.30", "2026.11.3"),
            ("2026-11-29", "2026.11.30"),
            ("20261130", "20261201"),
            ("v1.2", "1.3"),
            ("1.2", "v1.3"),
            ("1.0.0-rc.1", "1.0.0"),
            ("1.0.0-rc.2", "1.0.0-rc.10"),
            ("1.0.0-rc2", "1.0.0-rc10"),
            ("1.0rc1", "1.0"),
            ("1.0.0-beta", "1.0.0"),
            ("1.0.0-alpha.9", "1.0.0-beta.1"),
            ("1.0.0-beta", "1.0.0-rc"),
            ("1.0-rc.1", "1.0.0"),
            ("1.0.0-rc.1", "1.0"),
            ("0.9.9", "1.0.0-rc.1"),
            ("1.0.0-rc", "1.0.0-rc.1"),
            ("1.0.0", "1.0.0-1"),
            ("1.0.0-1", "1.0.0-2"),
            ("1.0.2a", "1.0.2b"),
            ("1.0.0+9", "1.0.1+1"),
            ("1.05.1", "1.5.2"),
            ("9", "18446744073709551616"),
            ("18446744073709551616", "18446744073709551617"),
            ("1.99999999999999999999999999999999", "2"),
            ("main", "0.1"),
        ] {
            assert_eq!(compare(lower, higher), Ordering::Less, "{lower} {higher}");
            assert_eq!(compare(higher, lower), Ordering::Greater);
        }
    }

    #[test]
    fn some_spellings_mean_one_version() {
        for (one, other) in [
            ("1.0", "1.0.0"),
            ("1", "1.0.0.0"),
            ("1.2", "v1.2"),
            ("V1.2", "v1.2"),
            ("1.0.0+build.5", "1.0.0+build.7"),
            ("1.0.0+x", "1.0.0"),
            ("1.2.3", "1-2_3"),
            ("1.02", "1.2"),
            ("1.0-rc.1", "1.0.0-rc.1"),
            ("1.0.0-rc1", "1.0.0-rc.1"),
            ("1.0.0-rc", "1.0.0-rc.0"),
            ("0", "0.0"),
            ("1.0.", "1.0"),
        ] {
            assert_eq!(compare(one, other), Ordering::Equal, "{one} {other}");
        }
    }

    /// Returns versions made of what versions are made of, and a few that nobody would make.
    fn samples() -> Vec<String> {
        let pieces = [
            "0",
            "1",
            "2",
            "10",
            "007",
            "99999999999999999999999",
            ".",
            ".",
            "-",
            "_",
            "+",
            "rc",
            "beta",
            "a",
            "A",
            "v",
            "x1",
            "0.0",
        ];
        let mut random = WyRand::new_seed(20_261_130);
        let mut samples = vec![String::new()];
        for _ in 0..60 {
            let mut version = String::new();
            for _ in 0..random.generate_range(1..8_usize) {
                version += pieces[random.generate_range(0..pieces.len())];
            }
            samples.push(version);
        }
        samples
    }

    #[test]
    fn the_order_is_total() {
        let samples = samples();
        for a in &samples {
            assert_eq!(compare(a, a), Ordering::Equal, "{a}");
            for b in &samples {
                let order = compare(a, b);
                assert_eq!(order, compare(b, a).reverse(), "{a} {b}");
                for c in &samples {
                    // Not above, and not above: then not above. Equal versions stand in the same place.
                    if order.is_le() && compare(b, c).is_le() {
                        assert!(compare(a, c).is_le(), "{a} {b} {c}");
                    }
                    if order.is_eq() {
                        assert_eq!(compare(a, c), compare(b, c), "{a} {b} {c}");
                    }
                }
            }
        }
    }
}

//! Reads the names and numbers in headers of tar as GNU tar does. The accessors of the crate tar refuse empty numbers and sums
//! of signed bytes, and ignore the prefix of a name in some archives. Pure.

use tar::Header;

pub(super) const BLOCK: usize = 512;

/// Returns the value of a numeric field: octal digits that end at a blank or NUL, or base 256 if the first byte is 0x80. An
/// empty field is 0. Returns None if it is something else, such as a negative number.
pub(super) fn number(field: &[u8]) -> Option<u64> {
    if let [0x80, rest @ ..] = field {
        return rest.iter().try_fold(0_u64, |value, byte| {
            Some(value.checked_mul(256)? | u64::from(*byte))
        });
    }
    let digits = field.trim_ascii_start();
    let length = digits.iter().position(|byte| matches!(byte, 0 | b' '));
    let digits = &digits[..length.unwrap_or(digits.len())];
    digits.iter().try_fold(0, |value, digit| match digit {
        b'0'..=b'7' => Some(value << 3 | u64::from(digit - b'0')),
        _ => None,
    })
}

/// Returns None if it is not a number in decimal.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |value, digit| match digit {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// Returns the bytes before the first NUL.
pub(super) fn text(field: &[u8]) -> &[u8] {
    let length = field.iter().position(|byte| *byte == 0);
    &field[..length.unwrap_or(field.len())]
}

/// Returns the name in the header itself. The prefix counts whatever the version after the magic is.
pub(super) fn name(header: &Header) -> Vec<u8> {
    let mut name = Vec::new();
    if let Some(b"ustar\0") = header.as_bytes().get(257..263) {
        name.extend_from_slice(text(&header.as_bytes()[345..500]));
        if !name.is_empty() {
            name.push(b'/');
        }
    }
    name.extend_from_slice(text(&header.as_old().name));
    name
}

/// Returns whether the checksum of the header is right. Some old tar programs added up signed bytes.
pub(super) fn is_sound(header: &Header) -> bool {
    let sum = &header.as_old().cksum;
    // Its own bytes count as blanks.
    let mut unsigned = 8 * u64::from(b' ');
    let mut high = 0;
    for byte in header.as_bytes() {
        unsigned += u64::from(*byte);
        high += u64::from(byte >> 7);
    }
    for byte in sum {
        unsigned -= u64::from(*byte);
        high -= u64::from(byte >> 7);
    }
    number(sum).is_some_and(|sum| sum == unsigned || sum + 256 * high == unsigned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_octal_or_base_256_and_nothing_is_zero() {
        for (field, value) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"00000001000 ", Some(512)),
            (b"777777777777", Some((1 << 36) - 1)),
            (b"5\0junk", Some(5)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"            ", Some(0)),
            (b"", Some(0)),
            (b"\x80\0\0\0\0\0\0\x01\0\0\0\0", Some(1 << 32)),
            (
                b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff",
                Some(u64::MAX),
            ),
            (b"\x80\0\0\x01\0\0\0\0\0\0\0\0", None),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
            (b"\xc0\0\0\0", None),
            (b"0000008\0", None),
            (b"-000001\0", None),
            (b"5junk", None),
            (b"0x10", None),
        ] {
            assert_eq!(number(field), value, "{}", field.escape_ascii());
        }
    }

    #[test]
    fn a_checksum_of_signed_bytes_is_right_too() {
        let mut header = Header::new_ustar();
        header.as_old_mut().name[..2].copy_from_slice("é".as_bytes());
        header.set_cksum();
        assert!(is_sound(&header));
        let unsigned = number(&header.as_old().cksum).expect("a sum");
        let signed = format!("{:06o}\0 ", unsigned - 512);
        header.as_old_mut().cksum.copy_from_slice(signed.as_bytes());
        assert!(is_sound(&header));
        header.as_old_mut().name[0] = b'e';
        assert!(!is_sound(&header));
    }

    #[test]
    fn a_prefix_counts_in_ustar_of_any_version_only() {
        let mut header = Header::new_ustar();
        header.as_old_mut().name[..4].copy_from_slice(b"name");
        header.as_mut_bytes()[345..348].copy_from_slice(b"dir");
        for (magic, wanted) in [
            (b"ustar\x0000", &b"dir/name"[..]),
            (b"ustar\0\0\0", b"dir/name"),
            (b"ustar  \0", b"name"),
            (b"\0\0\0\0\0\0\0\0", b"name"),
        ] {
            header.as_mut_bytes()[257..265].copy_from_slice(magic);
            assert_eq!(name(&header), wanted);
        }
    }
}

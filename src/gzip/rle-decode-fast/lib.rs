//! The one function that libflate takes from the crate of this name, which its author has given up: it calls memcpy for each
//! copy. Most copies have a few bytes, for which a call of musl's memcpy takes longer than all the rest.

/// Bytes that are copied at once.
const AT_ONCE: usize = 8;

/// Appends `fill` bytes to the buffer, which begin `lookbehind` bytes before its end and repeat from there.
///
/// # Panics
///
/// If the buffer has fewer than `lookbehind` bytes, or `lookbehind` is 0.
pub fn rle_decode(buffer: &mut Vec<u8>, lookbehind: usize, fill: usize) {
    let start = buffer.len();
    assert!(
        (1..=start).contains(&lookbehind),
        "the bytes to repeat are not there"
    );
    let end = start + fill;
    // The bytes past `end` are overwritten or cut off.
    buffer.resize(end + AT_ONCE, 0);
    if lookbehind >= AT_ONCE {
        for at in (start..end).step_by(AT_ONCE) {
            buffer.copy_within(at - lookbehind..at - lookbehind + AT_ONCE, at);
        }
    } else {
        for at in start..end {
            buffer[at] = buffer[at - lookbehind];
        }
    }
    buffer.truncate(end);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Repeats byte by byte, as RFC 1951 describes it.
    fn repeated(buffer: &[u8], lookbehind: usize, fill: usize) -> Vec<u8> {
        let mut buffer = buffer.to_vec();
        for _ in 0..fill {
            buffer.push(buffer[buffer.len() - lookbehind]);
        }
        buffer
    }

    #[test]
    fn every_distance_and_length_repeats_like_byte_by_byte() {
        let start: Vec<u8> = (0..40).collect();
        for lookbehind in 1..=start.len() {
            for fill in (0..60).chain([257, 258]) {
                let mut buffer = start.clone();
                rle_decode(&mut buffer, lookbehind, fill);
                let expected = repeated(&start, lookbehind, fill);
                assert_eq!(buffer, expected, "{fill} bytes from {lookbehind} back");
            }
        }
    }

    #[test]
    #[should_panic(expected = "not there")]
    fn a_distance_of_zero_is_refused() {
        rle_decode(&mut vec![1, 2], 0, 3);
    }

    #[test]
    #[should_panic(expected = "not there")]
    fn a_distance_beyond_the_beginning_is_refused() {
        rle_decode(&mut vec![1, 2], 3, 3);
    }
}

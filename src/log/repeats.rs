//! Finds log lines that repeat the line before them, and counts them. Pure: the time is an argument.

/// A repeat is written again after this number of seconds, so that a fault that lasts does not look as if it had ended.
const SILENCE: u64 = 3600;

#[derive(Default)]
pub struct Repeats {
    /// Level and message of the last line that was written.
    last: String,
    /// The number of repeats since.
    times: u64,
    /// The number of repeats that was written last.
    written: u64,
    /// Unix time in seconds when the line or its count was last written.
    at: u64,
}

impl Repeats {
    /// Returns the count to write before a line of this level and message, and whether to write the line itself. A count is
    /// written at 10, 100, 1000…, so that a flood shows while it lasts, without a timer.
    pub fn count(&mut self, text: &str, now: u64) -> (Option<String>, bool) {
        // After a jump of the wall clock the line is written again.
        if text != self.last || now.abs_diff(self.at) >= SILENCE {
            let due = self.due();
            *self = Self {
                last: text.to_owned(),
                at: now,
                ..Self::default()
            };
            return (due, true);
        }
        self.times += 1;
        if self.times < 10.max(self.written.saturating_mul(10)) {
            return (None, false);
        }
        self.at = now;
        (self.due(), false)
    }

    /// Returns the count that is not written yet.
    pub fn due(&mut self) -> Option<String> {
        if self.times == self.written {
            return None;
        }
        self.written = self.times;
        let level = self.last.split(' ').next().unwrap_or_default();
        Some(match self.times {
            1 => format!("{level} last line repeated once"),
            times => format!("{level} last line repeated {times} times"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns what is written for these lines, each at its second.
    fn written(lines: impl IntoIterator<Item = (u64, &'static str)>) -> Vec<String> {
        let mut repeats = Repeats::default();
        let mut out = Vec::new();
        for (now, line) in lines {
            let (due, is_new) = repeats.count(line, now);
            out.extend(due);
            out.extend(is_new.then(|| line.to_owned()));
        }
        out.extend(repeats.due());
        out
    }

    #[test]
    fn a_new_line_is_written_at_once() {
        let lines = ["WARN a", "WARN b", "INFO b", "WARN a"];
        assert_eq!(written(lines.map(|line| (5, line))), lines);
    }

    #[test]
    fn a_repeated_line_is_written_once_and_its_count_before_the_next_or_at_the_end() {
        let lines = [
            (1, "WARN a"),
            (2, "WARN a"),
            (3, "WARN a"),
            (4, "INFO b"),
            (5, "INFO b"),
        ];
        let expected = [
            "WARN a",
            "WARN last line repeated 2 times",
            "INFO b",
            "INFO last line repeated once",
        ];
        assert_eq!(written(lines), expected);
    }

    #[test]
    fn a_flood_shows_while_it_lasts_in_ever_fewer_lines() {
        let flood = (0..1_234).map(|_| (7, "WARN a"));
        let expected = [
            "WARN a",
            "WARN last line repeated 10 times",
            "WARN last line repeated 100 times",
            "WARN last line repeated 1000 times",
            "WARN last line repeated 1233 times",
        ];
        assert_eq!(written(flood), expected);
        // A count that was just written is not written again.
        assert_eq!(
            written((0..11).map(|_| (7, "WARN a"))).last(),
            Some(&"WARN last line repeated 10 times".to_owned())
        );
    }

    #[test]
    fn a_repeat_is_written_again_after_an_hour() {
        let lines = (0..8).map(|at| (at * 1_800, "WARN a"));
        let count = "WARN last line repeated once";
        let expected = [
            "WARN a", count, "WARN a", count, "WARN a", count, "WARN a", count,
        ];
        assert_eq!(written(lines), expected);
    }

    #[test]
    fn a_jump_of_the_clock_in_either_direction_hides_nothing() {
        for (before, after) in [(9_000, 1), (1, 9_000)] {
            let lines = [(before, "WARN a"), (after, "WARN a")];
            assert_eq!(written(lines), ["WARN a", "WARN a"]);
        }
    }
}

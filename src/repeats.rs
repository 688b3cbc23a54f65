//! Which line of the log only says again what the one before it said. Pure: the time is an argument.

/// A line that comes again is written again after so long: what lasts must not look like what has ended.
const SILENCE: u64 = 3600;

#[derive(Default)]
pub struct Repeats {
    /// Level and message of the line that was written last.
    last: String,
    /// How often it has come since, and how often when that was told last.
    times: u64,
    told: u64,
    /// When something was last written of it, in seconds.
    at: u64,
}

impl Repeats {
    /// What is due before a line of this level and message, and whether the line itself is to be written. A count is
    /// told at 10, 100, 1000…, so that a flood shows while it lasts without a timer.
    pub fn hear(&mut self, text: &str, now: u64) -> (Option<String>, bool) {
        // A jump of the wall clock counts as silence.
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
        if self.times < 10.max(self.told.saturating_mul(10)) {
            return (None, false);
        }
        self.at = now;
        (self.due(), false)
    }

    /// The count that was not told yet.
    pub fn due(&mut self) -> Option<String> {
        if self.times == self.told {
            return None;
        }
        self.told = self.times;
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

    /// What is written when these lines come, each at its second.
    fn written(lines: impl IntoIterator<Item = (u64, &'static str)>) -> Vec<String> {
        let mut repeats = Repeats::default();
        let mut out = Vec::new();
        for (now, line) in lines {
            let (due, is_new) = repeats.hear(line, now);
            out.extend(due);
            out.extend(is_new.then(|| line.to_owned()));
        }
        out.extend(repeats.due());
        out
    }

    #[test]
    fn a_line_that_says_something_new_is_written_at_once() {
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
        // A count that was told just now is not told again.
        assert_eq!(
            written((0..11).map(|_| (7, "WARN a"))).last(),
            Some(&"WARN last line repeated 10 times".to_owned())
        );
    }

    #[test]
    fn what_goes_on_for_hours_is_written_again() {
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

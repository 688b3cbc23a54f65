//! What the daemon has told last of a subject, so that a fault that lasts is one line in the log, and one more at its end.

use crate::log;
use crate::sys;

#[derive(Default)]
pub struct Said(Vec<(String, Last)>);

struct Last {
    text: String,
    since: u64,
    times: u64,
}

impl Said {
    pub fn is_news(&mut self, subject: &str, text: &str) -> bool {
        let known = self.0.iter_mut().find(|(known, _)| known == subject);
        if let Some((_, last)) = known
            && last.text == text
        {
            last.times += 1;
            return false;
        }
        self.forget(subject);
        let last = Last {
            text: text.to_owned(),
            since: sys::unix_now(),
            times: 1,
        };
        self.0.push((subject.to_owned(), last));
        true
    }

    /// Ends a subject, and tells how often it came if that was more than once; false if there was none.
    pub fn forget(&mut self, subject: &str) -> bool {
        let known = self.0.iter().position(|(known, _)| known == subject);
        let Some(at) = known else {
            return false;
        };
        let (subject, last) = self.0.swap_remove(at);
        let Last { text, since, times } = last;
        // Of a step it is told how it failed.
        if times > 1 && !subject.ends_with(" step") {
            let since = log::timestamp(since);
            log::info(format_args!("{text}: {times} times in all since {since}"));
        }
        true
    }

    /// Drops the others without a word.
    pub fn retain(&mut self, is_kept: impl Fn(&str) -> bool) {
        self.0.retain(|(subject, _)| is_kept(subject));
    }
}

//! The last text that was logged about each subject, so that a fault that lasts is one line when it begins and one line when
//! it ends, and not one line per attempt.

use crate::log;
use crate::model::AgentName;
use crate::os::clock;
use crate::text;

/// What a text is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Subject {
    /// The POST to the server.
    Heartbeat,
    /// The check of all agents, which cannot be begun.
    Checks,
    /// The HTTP endpoint.
    Endpoint,
    /// Saving the ledger.
    Ledger,
    /// The step that was started for the agent.
    Step(AgentName),
    /// Why the last step of the agent failed.
    StepError(AgentName),
    /// Why the agent cannot be checked.
    Check(AgentName),
}

impl Subject {
    fn agent(&self) -> Option<&AgentName> {
        match self {
            Self::Heartbeat | Self::Checks | Self::Endpoint | Self::Ledger => None,
            Self::Step(name) | Self::StepError(name) | Self::Check(name) => Some(name),
        }
    }

    /// Returns whether the number of repeats is logged at the end. The result of a step has its own line.
    fn is_counted(&self) -> bool {
        !matches!(self, Self::Step(_))
    }
}

#[derive(Default)]
pub struct OnChange(Vec<(Subject, Last)>);

struct Last {
    text: String,
    /// Unix time of the first occurrence, in seconds.
    since: u64,
    times: u64,
}

impl OnChange {
    /// Records the text. Returns true if it differs from the last one about this subject; the caller then logs it.
    pub fn record(&mut self, subject: Subject, text: &str) -> bool {
        let known = self.0.iter_mut().find(|(known, _)| *known == subject);
        if let Some((_, last)) = known
            && last.text == text
        {
            last.times += 1;
            return false;
        }
        self.clear(&subject);
        let last = Last {
            text: text.to_owned(),
            since: clock::unix_now(),
            times: 1,
        };
        self.0.push((subject, last));
        true
    }

    /// Removes the subject because its fault is over, and logs how often the text was recorded if that was more than once.
    /// Returns false if the subject was unknown.
    pub fn clear(&mut self, subject: &Subject) -> bool {
        let known = self.0.iter().position(|(known, _)| known == subject);
        let Some(at) = known else {
            return false;
        };
        let (subject, Last { text, since, times }) = self.0.swap_remove(at);
        if times > 1 && subject.is_counted() {
            let since = text::timestamp(since);
            log::info(format_args!("{text}: {times} times in all since {since}"));
        }
        true
    }

    /// Removes the subjects of all other agents, without a log line.
    pub fn retain_agents(&mut self, is_kept: impl Fn(&AgentName) -> bool) {
        self.0
            .retain(|(subject, _)| subject.agent().is_none_or(&is_kept));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> AgentName {
        AgentName::parse(text).expect("a valid name")
    }

    #[test]
    fn a_text_is_new_once_for_each_subject_and_again_after_it_was_cleared() {
        let mut on_change = OnChange::default();
        let step = || Subject::Step(name("a"));
        assert!(on_change.record(step(), "x"));
        assert!(!on_change.record(step(), "x"));
        assert!(on_change.record(Subject::StepError(name("a")), "x"));
        assert!(on_change.record(Subject::Step(name("b")), "x"));
        assert!(on_change.record(step(), "y"));
        assert!(on_change.clear(&step()));
        assert!(!on_change.clear(&step()));
        assert!(on_change.record(step(), "y"));
    }

    #[test]
    fn only_subjects_of_removed_agents_are_dropped() {
        let mut on_change = OnChange::default();
        on_change.record(Subject::Ledger, "x");
        on_change.record(Subject::Check(name("a")), "x");
        on_change.record(Subject::Check(name("b")), "x");
        on_change.retain_agents(|agent| *agent == name("a"));
        assert!(on_change.clear(&Subject::Ledger));
        assert!(on_change.clear(&Subject::Check(name("a"))));
        assert!(!on_change.clear(&Subject::Check(name("b"))));
    }
}

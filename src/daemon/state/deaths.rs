//! A death of an agent, in words for the log.

use crate::model::{AgentName, Build, Observed};
use crate::plan::deaths::AfterDeath;
use crate::plan::history::AgentHistory;
use crate::text::{printable, span};

/// An agent that should run was found dead.
pub struct Death {
    /// What was found, and when the agent is started again.
    pub words: String,
    /// What changes for the agent because of it, if anything does.
    pub verdict: Option<Verdict>,
}

/// A crash loop has begun, or a new version was given up.
pub struct Verdict {
    pub words: String,
    /// The version before is started.
    pub is_rollback: bool,
}

impl Death {
    /// Records a death in the history. `ran` is for how long the agent was seen running, in seconds.
    pub(super) fn record(
        name: &AgentName,
        (build, observed): (&Build, &Observed),
        ran: u64,
        history: &mut AgentHistory,
        now: u64,
    ) -> Self {
        let after = history.fold_death(build, ran, now);
        let number = match (history.crash_loop, history.deaths.len()) {
            (true, _) => ", in a crash loop".to_owned(),
            (false, 0 | 1) => String::new(),
            (false, times) => format!(", {times} times in a row"),
        };
        let verdict = verdict(name, Some(after), history);
        let next = match history.restart_at.saturating_sub(now) {
            // The verdict says what is started.
            _ if verdict.is_some() => String::new(),
            0 => "; next start now".to_owned(),
            wait => format!("; next start in {}", span(wait)),
        };
        let status = printable(&observed.status);
        Self {
            words: format!("{name}: {build} died{number}, its status is {status:?}{next}"),
            verdict,
        }
    }
}

/// Returns none if the agent is only started again.
pub(super) fn verdict(
    name: &AgentName,
    after: Option<AfterDeath>,
    history: &AgentHistory,
) -> Option<Verdict> {
    let is_rollback = match after? {
        AfterDeath::Restart => return None,
        AfterDeath::CrashLoop => false,
        AfterDeath::RollBack => true,
    };
    Some(Verdict {
        words: format!("{name}: {}", history.error),
        is_rollback,
    })
}

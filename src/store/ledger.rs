//! The ledger: what is remembered of each agent from one run to the next. Without it, failed versions are tried again
//! and retries begin afresh, but no agent is stopped or lost.
#![expect(
    clippy::disallowed_methods,
    reason = "a corrupt ledger is renamed on disk"
)]

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::mem;
use std::path::Path;

// Not `use Deserialize`: its `default` would make `Default::default` ambiguous.
use miniserde::Serialize;

use crate::json;
use crate::log;
use crate::model::AgentName;
use crate::os::disk;
use crate::plan::history::AgentHistory;

/// The largest ledger, in bytes: more agents than any host has.
const LEDGER_LIMIT: u64 = 16 << 20;
/// Agents that left the desired state are remembered, so that they are found if they come back. This many at most.
const UNNAMED_KEPT: usize = 256;

#[derive(Debug, Default, Serialize, miniserde::Deserialize)]
pub struct Ledger {
    /// The history of each agent under its name. Boxed, so that the nodes of the map stay small.
    pub agents: BTreeMap<String, Box<AgentHistory>>,
}

impl Ledger {
    /// Returns `None` if the text is no ledger. Skips names that no agent can have.
    pub fn read(text: &str) -> Option<Self> {
        let mut ledger: Self = json::read(text)?;
        ledger.retain(&mut |name, _| AgentName::parse(name).is_some());
        Some(ledger)
    }

    /// Forgets agents that the desired state names no more, except some of those that may still run because of us.
    pub fn forget_unnamed(&mut self, is_named: impl Fn(&AgentName) -> bool) {
        let mut unnamed = 0;
        self.retain(&mut |name, history| {
            let is_kept = AgentName::parse(name).is_some_and(|name| is_named(&name));
            let may_run = history.last_good.is_some() && unnamed < UNNAMED_KEPT;
            unnamed += usize::from(!is_kept && may_run);
            is_kept || may_run
        });
    }

    fn retain(&mut self, is_kept: &mut dyn FnMut(&str, &AgentHistory) -> bool) {
        for (name, history) in mem::take(&mut self.agents) {
            if is_kept(&name, &history) {
                self.agents.insert(name, history);
            }
        }
    }
}

/// Reads the ledger without changing it: another process may be using it.
pub fn peek(path: &Path) -> Option<Ledger> {
    Ledger::read(&disk::read_small(path, LEDGER_LIMIT).ok()?)
}

/// Loads the ledger. One that cannot be used is set aside with a warning, and the result is empty.
pub fn load(path: &Path, now: u64) -> Ledger {
    let text = match disk::read_patiently(path, LEDGER_LIMIT) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ledger::default(),
        read => read,
    };
    let Some(mut ledger) = text.ok().and_then(|text| Ledger::read(&text)) else {
        set_aside(path);
        return Ledger::default();
    };
    for history in ledger.agents.values_mut() {
        history.clamp(now);
    }
    ledger
}

fn set_aside(path: &Path) {
    let aside = disk::with_suffix(path, ".corrupt");
    let outcome = match std::fs::rename(path, &aside) {
        Ok(()) => format!("set aside as {}", aside.display()),
        Err(error) => format!("it stays until it can be replaced ({error})"),
    };
    log::warn(format_args!(
        "cannot read {}: not a ledger; {outcome}, all retry counts start afresh, and only what runs now is known to have run",
        path.display(),
    ));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Build, Deployment, Location, Version};
    use crate::plan::history::UnfinishedStart;

    #[test]
    fn a_ledger_from_before_the_newest_fields_is_read() {
        let ledger = |unfinished_start| {
            let mut ledger = Ledger::default();
            ledger
                .agents
                .entry("demo".to_owned())
                .or_default()
                .unfinished_start = unfinished_start;
            json::to_string(&ledger)
        };
        let old = ledger(None).replace(
            ",\"left\":null,\"begun\":null,\"trial\":null,\"aside\":null,\"highest\":null,\"turn\":null",
            "",
        );
        assert!(!old.contains("left"));
        let read = Ledger::read(&old).expect("a ledger");
        assert_eq!(json::to_string(&read), ledger(None));
        let unfinished_start = UnfinishedStart {
            build: Build {
                version: Version::parse("1").expect("valid"),
                md5: String::new(),
            },
            boot: "a".into(),
            host_crashes: 1,
        };
        let new = ledger(Some(Box::new(unfinished_start)));
        assert!(Ledger::read(&new).is_some_and(|read| json::to_string(&read) == new));
    }

    #[test]
    fn agents_that_left_are_remembered_only_if_they_may_still_run_and_not_without_end() {
        let mut ledger = Ledger::default();
        let name = |text: &str| AgentName::parse(text).expect("valid");
        for number in 0..=UNNAMED_KEPT {
            let history = ledger.agents.entry(format!("left{number}"));
            history.or_default().last_good = Some(Deployment {
                location: Location {
                    work_dir: "/work".to_owned(),
                    run_user: "falcon".to_owned(),
                },
                build: Build {
                    version: Version::parse("1").expect("valid"),
                    md5: String::new(),
                },
            });
        }
        for text in ["never-ran", "still-desired"] {
            ledger.agents.entry(text.to_owned()).or_default();
        }
        ledger.forget_unnamed(|agent| *agent == name("still-desired"));
        assert_eq!(ledger.agents.len(), UNNAMED_KEPT + 1);
        assert!(ledger.agents.contains_key("still-desired"));
        assert!(!ledger.agents.contains_key("never-ran"));
    }

    #[test]
    fn an_impossible_name_is_skipped_and_a_wrong_field_makes_the_ledger_unreadable() {
        let mut ledger = Ledger::default();
        let names = ["z", "a"].map(str::to_owned);
        ledger
            .agents
            .extend(names.map(|name| (name, Box::default())));
        let good = json::to_string(&ledger);
        let history = json::to_string(&AgentHistory::default());
        let odd = good.replace(r#""z":"#, &format!(r#""../x":{history},"z":"#));
        assert_ne!(odd, good);
        let read = Ledger::read(&odd).expect("a ledger");
        assert_eq!(json::to_string(&read), good);
        let bad = good.replacen(r#""restarts":0"#, r#""restarts":-1"#, 1);
        assert!(Ledger::read(&bad).is_none());
    }
}

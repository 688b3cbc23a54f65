//! Versions that are not followed: a higher one ran here, and `allow_downgrade` is false. An entry is refused when it enters,
//! and asked about again before each step: what ran here may be known only later, and a pin may end.

use super::State;
use crate::model::{Cmd, Desired, Refusal, Version};
use crate::plan::history;
use crate::protocol::desired::{REFUSALS_REPORTED, and_more};

impl State {
    /// Returns the higher version for which the agent is not brought to its desired one. None: that version runs already, is
    /// no lower than what ran here, or is what an operator wants; or the agent is to be stopped, which starts no version.
    pub(super) fn higher(&self, desired: &Desired) -> Option<&Version> {
        let (name, version) = (&desired.name, &desired.release.version);
        let is_allowed = !self.refuses_downgrades || desired.cmd == Cmd::Stop;
        if is_allowed || self.desired.pin(name) == version.as_str() {
            return None;
        }
        let observation = self.observations.get(name);
        let in_force = observation.and_then(|observation| observation.current().current.as_ref());
        if in_force.is_some_and(|build| build.version == *version) {
            return None;
        }
        self.history.get(name)?.higher_than(version)
    }

    /// Returns why the agent is not brought to its desired version. None: it is.
    pub(super) fn downgrade(&self, desired: &Desired) -> Option<String> {
        let highest = self.higher(desired)?;
        Some(history::downgrade(&desired.release.version, highest))
    }

    /// Reports the entries that ask for a downgrade as refused. The former entry of the agent takes their place, if there is
    /// one; otherwise what is in force is only kept running.
    pub(super) fn refuse_downgrades(&self, agents: &mut [Desired], refused: &mut Vec<Refusal>) {
        let mut unreported = 0_u32;
        for desired in agents {
            let Some(cause) = self.downgrade(desired) else {
                continue;
            };
            if refused.len() < REFUSALS_REPORTED {
                let name = desired.wire.name.clone();
                refused.push(Refusal { name, cause });
            } else {
                unreported += 1;
            }
            if let Some(former) = self.desired.of_server(&desired.name) {
                desired.clone_from(former);
            }
        }
        if unreported > 0 {
            refused.push(and_more(unreported));
        }
    }
}

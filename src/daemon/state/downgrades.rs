//! Versions that are not followed: a higher one ran here, and `allow_downgrade` is false. An entry is refused when it enters,
//! and asked about again before each step: what ran here may be known only later, and a pin may end.

use super::State;
use crate::model::{Cmd, Desired, Refusal, Version};
use crate::plan::history;
use crate::protocol::desired::Refusals;

impl State {
    /// Returns the higher version for which the agent is not brought to its desired one. None: that version runs already, is
    /// no lower than what ran here, or is what an operator wants; or the agent is to be stopped, which starts no version.
    pub(super) fn higher(&self, desired: &Desired) -> Option<&Version> {
        let (name, version) = (&desired.name, &desired.version);
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
        Some(history::downgrade(&desired.version, highest))
    }

    /// Returns the refused entries together with those that ask for a downgrade. The former entry of the agent takes their place, if there is
    /// one; otherwise what is in force is only kept running.
    pub(super) fn refuse_downgrades(
        &self,
        agents: &mut [Desired],
        refused: Vec<Refusal>,
    ) -> Vec<Refusal> {
        let mut refused = Refusals::after(refused);
        for desired in agents {
            let Some(cause) = self.downgrade(desired) else {
                continue;
            };
            refused.add(desired.wire.name.clone(), cause);
            if let Some(former) = self.desired.of_server(&desired.name) {
                desired.clone_from(former);
            }
        }
        refused.into_reported()
    }
}

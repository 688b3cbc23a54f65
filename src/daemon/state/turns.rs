//! Whose download waits for its turn: the hosts of a fleet install a release one after another, over `download_spread`.

use super::State;
use crate::model::{AgentState, Desired, Observed, Task};
use crate::plan::history::AgentHistory;
use crate::plan::turn::Turns;

impl State {
    /// Notes when the turns come of what the server did not desire before.
    pub(super) fn note_turns(&mut self, agents: &[Desired], turns: &Turns) {
        for desired in agents {
            let before = self.desired.of_server(&desired.name);
            let is_same = before.is_some_and(|before| {
                before.location == desired.location && before.build() == desired.build()
            });
            if !is_same {
                let history = self.history.entry(&desired.name);
                history.turn_at = (turns.spread > 0).then(|| turns.of(desired));
            }
        }
    }

    /// Returns when the turn of a desired agent comes. None: it has come by `now`, or an operator does not wait for it.
    pub(super) fn turn(&self, desired: &Desired, now: u64) -> Option<u64> {
        let turn = self.history.get(&desired.name)?.turn_at?;
        let waits = self.takes_turns && turn > now && self.desired.pin(&desired.name).is_empty();
        waits.then_some(turn)
    }

    /// Returns whether an agent can do without what is to be installed until its turn: it is up, it never was here, or what
    /// last ran well is brought up meanwhile. Otherwise the installation is what repairs it.
    pub(super) fn can_wait(
        observed: &Observed,
        history: &AgentHistory,
        meanwhile: &[Task],
    ) -> bool {
        let is_up = !observed.is_down() && observed.state != AgentState::NotInstalled;
        let was_here = observed.current.is_some() || history.last_good.is_some();
        is_up || !was_here || history.last_good.is_some() && !meanwhile.is_empty()
    }
}

//! The status document as commands show it and judge by it.

use std::path::Path;

use crate::model::AgentName;
use crate::protocol::status::Status;
use crate::store::overrides::Overrides;
use crate::store::status;

/// Reads the status. The overrides on disk count, even if the updater has not read them yet. None: there is no readable
/// file.
pub(super) fn load(own_dir: &Path) -> Option<Status> {
    let mut status = status::load(own_dir)?;
    let overrides = Overrides::load(own_dir);
    for agent in &mut status.agents {
        let pin = AgentName::parse(&agent.name).and_then(|name| overrides.pin(&name));
        let pin = pin.map_or("", |version| version.as_str());
        if agent.pinned != pin {
            pin.clone_into(&mut agent.pinned);
            let wanted = if pin.is_empty() { &agent.desired } else { pin };
            agent.converged &= agent.cmd == "stop" || agent.version == *wanted;
        }
    }
    status.hold = overrides.hold;
    Some(status)
}

/// Returns whether all agents are in the desired state.
pub(super) fn is_converged(status: &Status) -> bool {
    status.agents.iter().all(|agent| agent.converged)
}

/// Returns whether it is known which agents are desired: the server has said so, or an earlier run has left them.
pub(super) fn is_known(status: &Status) -> bool {
    !status.agents.is_empty() || status.heartbeat.answered > 0
}

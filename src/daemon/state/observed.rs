//! The last observation of each agent, and since when the agent is in its state. In memory only.

use std::collections::BTreeMap;

use crate::model::{AgentName, AgentState, Location, Observation, Observed};
use crate::plan::schedule::dated_anew;
use crate::protocol::status::Status;

pub(super) const UNKNOWN: &str = "unknown";

#[derive(Default)]
pub(super) struct Observations {
    /// Boxed, so that the nodes of the map stay small.
    agents: BTreeMap<AgentName, Box<Known>>,
}

#[derive(Default)]
struct Known {
    /// None: the agent must be checked before anything else.
    last: Option<Observation>,
    /// The word of the status document. Empty: it was never observed.
    state: &'static str,
    version: String,
    /// When the agent was first observed in this state and version, in seconds since 1970. 0: unknown.
    since: u64,
    /// When it was last observed so.
    seen: u64,
    /// It was started when its state was last known, and no step has stopped it since. What the last daemon saw does not
    /// count: the host may have booted since.
    is_up: bool,
    /// Starts after it was found dead.
    restarts: u64,
}

impl Observations {
    /// Takes over from the last daemon since when the agents are in their states.
    pub(super) fn recall(&mut self, status: &Status) {
        for agent in &status.agents {
            if let Some(name) = AgentName::parse(&agent.name) {
                let known = Known {
                    last: None,
                    state: known_word(&agent.state),
                    version: agent.version.clone(),
                    since: agent.since,
                    seen: agent.since,
                    is_up: false,
                    restarts: agent.restarts.unwrap_or_default(),
                };
                self.agents.insert(name, Box::new(known));
            }
        }
    }

    pub(super) fn date_anew(&mut self, before: u64, set: i64) {
        for known in self.agents.values_mut() {
            known.since = dated_anew(known.since, before, set);
            known.seen = dated_anew(known.seen, before, set);
        }
    }

    pub(super) fn get(&self, name: &AgentName) -> Option<&Observation> {
        self.agents.get(name)?.last.as_ref()
    }

    pub(super) fn since(&self, name: &AgentName) -> u64 {
        self.agents.get(name).map_or(0, |known| known.since)
    }

    pub(super) fn record(&mut self, mut observation: Observation, now: u64) {
        // Most agents have one or two builds, and the list was read with room for four.
        observation.at_desired.builds.shrink_to_fit();
        let known = self.agents.entry(observation.name.clone()).or_default();
        known.note(observation.current(), now);
        known.last = Some(observation);
    }

    pub(super) fn restarts(&self, name: &AgentName) -> u64 {
        self.agents.get(name).map_or(0, |known| known.restarts)
    }

    pub(super) fn count_restart(&mut self, name: &AgentName) {
        if let Some(known) = self.agents.get_mut(name) {
            known.restarts += 1;
        }
    }

    /// A step has started the agent. Its state counts from now, even if it is the same as before.
    pub(super) fn begin_run(&mut self, name: &AgentName, now: u64) {
        if let Some(known) = self.agents.get_mut(name) {
            known.since = now;
        }
    }

    /// Returns for how long the agent was seen running, in seconds, if this check is the first to find it dead.
    pub(super) fn death(&self, name: &AgentName, observed: &Observed) -> Option<u64> {
        let known = self.agents.get(name)?;
        let is_dead = known.is_up && observed.is_down();
        is_dead.then(|| known.seen.saturating_sub(known.since))
    }

    /// Forgets the last observation. A step may have stopped the agent since.
    pub(super) fn forget(&mut self, name: &AgentName) {
        if let Some(known) = self.agents.get_mut(name) {
            known.last = None;
            known.is_up = false;
        }
    }

    pub(super) fn forget_unnamed(&mut self, is_named: impl Fn(&AgentName) -> bool) {
        for (name, known) in &mut self.agents {
            if !is_named(name) {
                known.last = None;
            }
        }
    }

    /// Merges what a step reported into the last observation. At another location than the desired one the step was at
    /// the place where the agent lived before. `is_settled`: the agent runs well at the desired location, so nothing is
    /// elsewhere any more.
    pub(super) fn merge(
        &mut self,
        observation: Observation,
        desired: Option<&Location>,
        is_settled: bool,
        now: u64,
    ) {
        let Some(known) = self.agents.get_mut(&observation.name) else {
            return;
        };
        let Some(mut last) = known.last.take() else {
            return;
        };
        if desired == Some(&observation.at_desired.location) {
            last.at_desired = observation.at_desired;
            last.elsewhere = observation.elsewhere.or(last.elsewhere.take());
            if is_settled {
                last.elsewhere = None;
            }
        } else {
            last.elsewhere = Some(Box::new(observation.at_desired));
        }
        // A step may have seen another location than that where the agent lives, as the install before a move does.
        known.note(last.current(), now);
        known.last = Some(last);
    }
}

impl Known {
    /// Notes the state of the agent. The time changes only with the state or the version.
    fn note(&mut self, observed: &Observed, now: u64) {
        let (state, version) = (word_of(observed.state), version_at(observed));
        if self.state != state || self.version != version {
            self.since = now;
            self.version = version;
            self.state = state;
        }
        self.seen = now;
        self.is_up = match observed.state {
            AgentState::Started => true,
            AgentState::NoAnswer | AgentState::NotAsked => self.is_up,
            AgentState::Stopped | AgentState::Unrecognized | AgentState::NotInstalled => false,
        };
    }
}

pub(super) fn version_at(observed: &Observed) -> String {
    let version = observed.current.as_ref().map(ToString::to_string);
    version.unwrap_or_default()
}

/// Returns the word of a document that another version of the updater may have written.
fn known_word(word: &str) -> &'static str {
    let words = [
        AgentState::Started,
        AgentState::Stopped,
        AgentState::Unrecognized,
        AgentState::NotInstalled,
    ];
    let mut words = words.into_iter().map(word_of);
    words.find(|known| *known == word).unwrap_or(UNKNOWN)
}

/// Returns the word for a state in the status document.
pub(super) fn word_of(state: AgentState) -> &'static str {
    match state {
        AgentState::Started => "started",
        AgentState::Stopped => "stopped",
        AgentState::Unrecognized => "other",
        AgentState::NotInstalled => "absent",
        AgentState::NoAnswer | AgentState::NotAsked => UNKNOWN,
    }
}

//! The lanes of steps: which steps wait for which. Steps of one lane share its slots, and no lane waits for another, so that
//! a slow download or a script that hangs never keeps another agent down or up. Pure: ages are arguments.

use std::time::Duration;

use crate::model::Step;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lane {
    Install,
    Prune,
    /// An agent that runs is changed over.
    Switch,
    /// An agent is brought up by a build that has never run well here.
    FirstStart,
    /// An agent is stopped, or brought up by a build that has run well.
    UpOrDown,
}

impl Lane {
    /// `is_down` says that the agent is down now, so that a switch brings it up. `is_proven` says that the build which the step
    /// starts has run well before.
    pub(super) fn of(step: &Step, is_down: bool, is_proven: bool) -> Self {
        match step {
            Step::Install(_) => Self::Install,
            Step::Prune(_) => Self::Prune,
            Step::Switch { .. } if !is_down => Self::Switch,
            Step::Start(_) | Step::Switch { .. } if !is_proven => Self::FirstStart,
            Step::Start(_) | Step::Switch { .. } | Step::Stop(_) => Self::UpOrDown,
        }
    }

    fn slots(self) -> usize {
        match self {
            // A store that says nothing holds a slot for a minute: with fewer slots, some dead stores would keep the others
            // waiting for long. With more, a host would spend itself on unpacking, or on scripts of unknown versions.
            Self::Install | Self::FirstStart => 16,
            // They load the disk, and nobody waits for them.
            Self::Prune => 4,
            // One agent of a host is between two versions.
            Self::Switch => 1,
            // Hundreds of agents that died together must not all be started in one moment.
            Self::UpOrDown => 64,
        }
    }

    /// Returns what is left of a rate for one worker if all slots are taken. 0: there is no limit.
    pub(super) fn least_share(self, rate: u64) -> u64 {
        rate.div_ceil(self.slots() as u64)
    }

    /// Returns how long a worker holds its slot. Longer than an honest start takes, which is watched for 5 s, if others must not
    /// wait until one that hangs has ended.
    fn holds_for(self) -> Duration {
        match self {
            Self::Install | Self::Prune | Self::Switch => Duration::MAX,
            Self::FirstStart => Duration::from_secs(30),
            Self::UpOrDown => Duration::from_secs(10),
        }
    }

    /// Returns whether a slot is free beside these workers, each with its lane and its age.
    pub(super) fn has_room(self, workers: impl Iterator<Item = (Self, Duration)>) -> bool {
        let holders = workers.filter(|(lane, age)| *lane == self && *age < self.holds_for());
        holders.count() < self.slots()
    }

    /// Returns whether slots become free by the age of a worker, without its end.
    pub(super) fn has_ages(self) -> bool {
        self.holds_for() != Duration::MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Build, Release, Version};

    fn version() -> Version {
        Version::parse("1").expect("a version")
    }

    fn build() -> Build {
        Build {
            version: version(),
            md5: String::new(),
        }
    }

    fn switch() -> Step {
        Step::Switch {
            back: None,
            to: build(),
        }
    }

    #[test]
    fn a_step_that_brings_an_agent_up_or_down_shares_no_slot_with_other_steps() {
        let install = Step::Install(Release {
            version: version(),
            tarball: String::new(),
            md5: String::new(),
            config_file_name: String::new(),
            config_remote_url: String::new(),
        });
        for (step, is_down, is_proven, lane) in [
            (install, true, true, Lane::Install),
            (Step::Prune(Vec::new()), false, true, Lane::Prune),
            (switch(), false, true, Lane::Switch),
            (switch(), false, false, Lane::Switch),
            (switch(), true, true, Lane::UpOrDown),
            (switch(), true, false, Lane::FirstStart),
            (Step::Start(build()), true, true, Lane::UpOrDown),
            (Step::Start(build()), true, false, Lane::FirstStart),
            (Step::Stop(version()), false, false, Lane::UpOrDown),
        ] {
            assert_eq!(Lane::of(&step, is_down, is_proven), lane, "{step:?}");
        }
    }

    #[test]
    fn a_worker_that_hangs_gives_its_slot_up_where_others_must_not_wait() {
        let seconds = Duration::from_secs;
        for (lane, workers, age, has_room) in [
            (Lane::Switch, 0, 0, true),
            (Lane::Switch, 1, 800, false),
            (Lane::Install, 15, 0, true),
            (Lane::Install, 16, 7000, false),
            (Lane::FirstStart, 16, 29, false),
            (Lane::FirstStart, 16, 30, true),
            (Lane::UpOrDown, 63, 0, true),
            (Lane::UpOrDown, 64, 9, false),
            (Lane::UpOrDown, 500, 10, true),
        ] {
            let in_lane = std::iter::repeat_n((lane, seconds(age)), workers);
            let others = std::iter::repeat_n((Lane::Prune, seconds(0)), 100);
            let room = lane.has_room(in_lane.chain(others));
            assert_eq!(room, has_room, "{workers} workers of {lane:?}");
        }
    }
}

//! Every step on paper, as `worker/step.rs` carries it out on a real host. Read the two side by side.

use super::host::{End, Held, Outcome, Paper, host};
use crate::model::{AgentState, Build, Deployment, Fault, Location, Release, Step, Version};
use crate::protocol::job::StepJob;

impl Paper {
    /// Carries out a job, and notes in `done` what it really did.
    pub fn act(&mut self, job: &StepJob) -> Outcome {
        self.done.clear();
        self.may_fail("lock")?;
        match job.step.as_ref().expect("a step, not a check") {
            Step::Install(release) => self.install(&job.location, release),
            Step::Switch { back, to } => self.switch(job, back.as_ref(), to),
            Step::Start(build) => self.start(job, build),
            Step::Stop(_) => self.stop(&job.location),
            Step::Prune(keep) => self.prune(&job.location, keep),
        }
    }

    fn install(&mut self, location: &Location, release: &Release) -> Outcome {
        let wanted = release.build();
        if self.observed(location).has(&wanted) {
            return Ok(());
        }
        self.disk(location).litter = true;
        self.may_fail("fetch")?;
        let mut build = wanted.clone();
        if build.md5.is_empty() {
            build.md5.clone_from(&self.store);
        }
        self.note(&format!("install {build}"), location);
        let observed = self.observed(location);
        let disk = self.disk(location);
        disk.litter = false;
        if observed.whole && observed.current.is_some_and(|c| c.version == build.version) {
            disk.spares.retain(|spare| spare.version != build.version);
            disk.spares.push(build);
        } else {
            disk.held.retain(|held| held.build.version != build.version);
            disk.held.insert(0, Held::fresh(build));
        }
        if !self.observed(location).has(&wanted) {
            return Err(host("it is not where it was put"));
        }
        Ok(())
    }

    fn stop_other_locations(&mut self, job: &StepJob) -> Outcome {
        let other_locations = job.other_locations.iter();
        let other_locations = other_locations.filter(|other| job.elsewhere.as_ref() != Some(other));
        for other in other_locations {
            self.stop(other)?;
        }
        Ok(())
    }

    fn start(&mut self, job: &StepJob, build: &Build) -> Outcome {
        self.stop_other_locations(job)?;
        let at_desired = &job.location;
        let observed = self.observed(at_desired);
        let is_in_force = observed.is_in_force(build);
        if is_in_force && observed.state == AgentState::Started {
            return Ok(());
        }
        if !is_in_force {
            self.stop(at_desired)?;
            self.put_in_force(at_desired, build, false)?;
        }
        let launched = self.start_and_watch(at_desired, &build.version);
        if let Err(End::Failed(_)) = &launched
            && job.role.moving
            && !is_in_force
        {
            // Its errors are only reported.
            if let Err(End::Killed) = self.stop_anyway(at_desired) {
                return Err(End::Killed);
            }
            self.up.retain(|(at, _)| at != at_desired);
            self.disk(at_desired).in_force = None;
        }
        launched
    }

    fn switch(&mut self, job: &StepJob, back: Option<&Deployment>, to: &Build) -> Outcome {
        let at_desired = &job.location;
        assert!(
            self.observed(at_desired).has(to),
            "{to} is not whole where it is wanted"
        );
        self.stop_other_locations(job)?;
        let before = self.observed(at_desired);
        if let Some(elsewhere) = &job.elsewhere {
            self.stop(elsewhere)?;
        }
        let changed = if before.is_in_force(to) {
            Ok(())
        } else {
            self.change_over(job, to)
        };
        let started = changed.and_then(|()| match self.observed(at_desired).state {
            AgentState::Started => Ok(()),
            _ => self.start_and_watch(at_desired, &to.version),
        });
        let failure = match started {
            Ok(()) => {
                self.vouch_for(at_desired, before.current.as_ref());
                return Ok(());
            }
            Err(End::Killed) => return Err(End::Killed),
            Err(End::Failed(failure)) => failure,
        };
        let returned = match (back, failure.fault, &job.elsewhere) {
            (None, _, _) | (_, Fault::Host, None) => Ok(()),
            (Some(back), Fault::Host, Some(elsewhere)) => self.run_again(elsewhere, back),
            (Some(back), Fault::Version, elsewhere) => {
                self.return_to(at_desired, elsewhere.as_ref(), back)
            }
        };
        match returned {
            Err(End::Killed) => Err(End::Killed),
            Ok(()) | Err(End::Failed(_)) => Err(End::Failed(failure)),
        }
    }

    fn change_over(&mut self, job: &StepJob, to: &Build) -> Outcome {
        let at_desired = &job.location;
        let old = self.disk(at_desired).in_force.clone();
        let changed = self.put_in_force(at_desired, to, true);
        if let (Err(End::Failed(_)), Some(old), None) = (&changed, old, &job.elsewhere)
            && self.disk(at_desired).in_force.as_ref() == Some(&old)
            && self.observed(at_desired).is_down()
            && let Err(End::Killed) = self.start_and_watch(at_desired, &old)
        {
            return Err(End::Killed);
        }
        changed
    }

    fn return_to(
        &mut self,
        at_desired: &Location,
        elsewhere: Option<&Location>,
        back: &Deployment,
    ) -> Outcome {
        let stopped = self.stop_anyway(at_desired);
        if let Err(End::Killed) = stopped {
            return stopped;
        }
        // On a real host a version that cannot be stopped is doubled, so that the agent is not left down. Not here.
        self.up.retain(|(at, _)| at != at_desired);
        if elsewhere.is_some() {
            self.disk(at_desired).in_force = None;
        }
        self.run_again(elsewhere.unwrap_or(at_desired), back)?;
        stopped
    }

    fn run_again(&mut self, home: &Location, back: &Deployment) -> Outcome {
        if !self.observed(home).is_in_force(&back.build) {
            self.put_in_force(home, &back.build, false)?;
        }
        self.start_and_watch(home, &back.build.version)
    }

    fn put_in_force(&mut self, location: &Location, build: &Build, stops_other: bool) -> Outcome {
        self.may_fail("write")?;
        if stops_other {
            self.stop(location)?;
        }
        let disk = self.disk(location);
        let mut received = disk.held.iter().filter_map(Held::received);
        let is_held = received.any(|held| held.satisfies(build));
        let spare = disk.spares.iter().position(|spare| spare.satisfies(build));
        if let Some(spare) = spare.filter(|_| !is_held) {
            let fresh = disk.spares.remove(spare);
            let old = disk
                .held
                .iter()
                .position(|held| held.build.version == build.version);
            match old
                .map(|old| disk.held.remove(old))
                .and_then(|old| old.received().map(|_| old.build))
            {
                Some(old) => disk.spares.push(old),
                None => disk.litter = true,
            }
            disk.held.insert(0, Held::fresh(fresh));
        }
        self.may_fail("rename")?;
        self.disk(location).in_force = Some(build.version.clone());
        Ok(())
    }

    fn vouch_for(&mut self, at_desired: &Location, old: Option<&Build>) {
        let disk = self.disk(at_desired);
        for held in &mut disk.held {
            let is_old = old.is_some_and(|old| old.version == held.build.version);
            if is_old
                && disk.in_force.as_ref() != Some(&held.build.version)
                && held.received().is_none()
                && held.control
            {
                held.receipt = Some(String::new());
            }
        }
    }

    fn prune(&mut self, location: &Location, keep: &[Version]) -> Outcome {
        self.note("prune", location);
        self.may_fail("remove")?;
        let disk = self.disk(location);
        disk.litter = false;
        disk.spares.clear();
        let in_force = disk.in_force.clone();
        disk.held.retain(|held| {
            let is_kept = keep.contains(&held.build.version);
            held.received().is_none() || is_kept || in_force.as_ref() == Some(&held.build.version)
        });
        Ok(())
    }
}

//! Every step carried out on paper, as `act` does it on a real host; read the two side by side.

use super::host::{End, Held, Outcome, Paper, host};
use crate::job::ActJob;
use crate::model::{Build, Fault, Place, Release, Spot, State, Step, Version};

impl Paper {
    /// Carries out a job. The words of what it really did are in `done`.
    pub fn act(&mut self, job: &ActJob) -> Outcome {
        self.done.clear();
        self.may_fail("lock")?;
        match job.step().expect("a step, not a look") {
            Step::Install(release) => self.install(&job.place, &release),
            Step::Switch { back, to } => self.switch(job, back.as_ref(), &to),
            Step::Start(build) => self.start(job, &build),
            Step::Stop(_) => self.halt(&job.place),
            Step::Prune(keep) => self.prune(&job.place, &keep),
        }
    }

    fn install(&mut self, place: &Place, release: &Release) -> Outcome {
        let wanted = release.build();
        if self.site(place).has(&wanted) {
            return Ok(());
        }
        self.disk(place).litter = true;
        self.may_fail("fetch")?;
        let mut build = wanted.clone();
        if build.md5.is_empty() {
            build.md5.clone_from(&self.store);
        }
        self.note(&format!("install {build}"), place);
        let site = self.site(place);
        let disk = self.disk(place);
        disk.litter = false;
        if site.whole && site.current.is_some_and(|c| c.version == build.version) {
            disk.spares.retain(|spare| spare.version != build.version);
            disk.spares.push(build);
        } else {
            disk.held.retain(|held| held.build.version != build.version);
            disk.held.insert(0, Held::fresh(build));
        }
        if !self.site(place).has(&wanted) {
            return Err(host("it is not seen where it was put"));
        }
        Ok(())
    }

    fn halt_strays(&mut self, job: &ActJob) -> Outcome {
        let strays = job.strays.iter();
        let strays = strays.filter(|stray| job.there.as_ref() != Some(stray));
        for stray in strays {
            self.halt(stray)?;
        }
        Ok(())
    }

    fn start(&mut self, job: &ActJob, build: &Build) -> Outcome {
        self.halt_strays(job)?;
        let here = &job.place;
        let site = self.site(here);
        let is_in_force = site.is_in_force(build);
        if is_in_force && site.state == State::Started {
            return Ok(());
        }
        if !is_in_force {
            self.halt(here)?;
            self.put_in_force(here, build, false)?;
        }
        let launched = self.launch(here, &build.version);
        if let Err(End::Failed(_)) = &launched
            && job.role.moving
            && !is_in_force
        {
            // Its errors are only told.
            if let Err(End::Killed) = self.halt_anyway(here) {
                return Err(End::Killed);
            }
            self.up.retain(|(at, _)| at != here);
            self.disk(here).in_force = None;
        }
        launched
    }

    fn switch(&mut self, job: &ActJob, back: Option<&Spot>, to: &Build) -> Outcome {
        let here = &job.place;
        assert!(
            self.site(here).has(to),
            "{to} is not whole where it is wanted"
        );
        self.halt_strays(job)?;
        let before = self.site(here);
        if let Some(there) = &job.there {
            self.halt(there)?;
        }
        let changed = if before.is_in_force(to) {
            Ok(())
        } else {
            self.change_over(job, to)
        };
        let started = changed.and_then(|()| match self.site(here).state {
            State::Started => Ok(()),
            _ => self.launch(here, &to.version),
        });
        let failure = match started {
            Ok(()) => {
                self.vouch_for(here, before.current.as_ref());
                return Ok(());
            }
            Err(End::Killed) => return Err(End::Killed),
            Err(End::Failed(failure)) => failure,
        };
        let returned = match (back, failure.fault, &job.there) {
            (None, _, _) | (_, Fault::Host, None) => Ok(()),
            (Some(back), Fault::Host, Some(there)) => self.run_again(there, back),
            (Some(back), Fault::Version, there) => self.return_to(here, there.as_ref(), back),
        };
        match returned {
            Err(End::Killed) => Err(End::Killed),
            Ok(()) | Err(End::Failed(_)) => Err(End::Failed(failure)),
        }
    }

    fn change_over(&mut self, job: &ActJob, to: &Build) -> Outcome {
        let here = &job.place;
        let old = self.disk(here).in_force.clone();
        let changed = self.put_in_force(here, to, true);
        if let (Err(End::Failed(_)), Some(old), None) = (&changed, old, &job.there)
            && self.disk(here).in_force.as_ref() == Some(&old)
            && self.site(here).is_down()
            && let Err(End::Killed) = self.launch(here, &old)
        {
            return Err(End::Killed);
        }
        changed
    }

    fn return_to(&mut self, here: &Place, there: Option<&Place>, back: &Spot) -> Outcome {
        let stopped = self.halt_anyway(here);
        if let Err(End::Killed) = stopped {
            return stopped;
        }
        // A version that cannot even be stopped is doubled knowingly: the agent is not left down for it. Not here.
        self.up.retain(|(at, _)| at != here);
        if there.is_some() {
            self.disk(here).in_force = None;
        }
        self.run_again(there.unwrap_or(here), back)?;
        stopped
    }

    fn run_again(&mut self, home: &Place, back: &Spot) -> Outcome {
        if !self.site(home).is_in_force(&back.build) {
            self.put_in_force(home, &back.build, false)?;
        }
        self.launch(home, &back.build.version)
    }

    fn put_in_force(&mut self, place: &Place, build: &Build, stops_other: bool) -> Outcome {
        self.may_fail("write")?;
        if stops_other {
            self.halt(place)?;
        }
        let disk = self.disk(place);
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
        self.disk(place).in_force = Some(build.version.clone());
        Ok(())
    }

    fn vouch_for(&mut self, here: &Place, old: Option<&Build>) {
        let disk = self.disk(here);
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

    fn prune(&mut self, place: &Place, keep: &[Version]) -> Outcome {
        self.note("prune", place);
        self.may_fail("remove")?;
        let disk = self.disk(place);
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

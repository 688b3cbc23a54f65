//! The daemon's part on paper: looks, takes the first step of each plan with the real roster, and folds how it ended.

use std::time::Duration;

use super::super::{Attempt, Roster};
use super::assert_is_told;
use super::host::End;
use super::world::World;
use crate::fields;
use crate::job::{ActJob, Role, SeenAgent};
use crate::model::{Cmd, Failure, Fault, Step, Task};
use crate::record::Ledger;

const INTERVAL: Duration = Duration::from_secs(300);

impl World {
    pub fn look(&mut self) {
        let here = self.desired().place;
        let there = self.roster.elsewhere(&self.name, &here);
        let seen = SeenAgent {
            name: self.name.clone(),
            here: self.paper.site(&here),
            there: there.map(|there| self.paper.site(&there)),
        };
        self.roster.observe(seen, self.now);
    }

    /// One step, as the daemon takes it; false when there is nothing to do now.
    pub fn step(&mut self) -> bool {
        let Some(task) = self.roster.next_task(&self.name, self.now) else {
            return false;
        };
        self.roster.begin(&self.name, &task);
        let there = self.roster.elsewhere(&self.name, &task.place);
        let role = Role::new("ops", &task.place, there.as_ref(), false);
        let strays = self.roster.strays(&self.name, &task.place);
        let job = ActJob::new(&self.name, &task, strays, role, "");
        self.keeps_promise_1(&task);
        self.tell(&format!("{task} in {}", task.place.work_dir));
        let outcome = self.paper.act(&job);
        let words = format!("        {:?}: {outcome:?}", self.paper.done);
        self.tell(&words);
        assert_is_told(&task, &self.paper.done, outcome.is_ok());
        self.now += 1;
        let failure = match outcome {
            Ok(()) => None,
            Err(End::Failed(failure)) => Some(failure),
            Err(End::Killed) if self.paper.chance(50) => {
                self.restart();
                return true;
            }
            Err(End::Killed) => Some(Failure {
                fault: Fault::Host,
                error: "killed".to_owned(),
            }),
        };
        let is_killed = failure.as_ref().is_some_and(|why| why.error == "killed");
        let seen = SeenAgent {
            name: self.name.clone(),
            here: self.paper.site(&task.place),
            there: job.there.map(|there| self.paper.site(&there)),
        };
        let attempt = Attempt {
            name: self.name.clone(),
            entry: self.roster.entry(&self.name),
            task,
            failure,
            seen: (!is_killed).then_some(seen),
        };
        self.roster.finish(attempt, self.now, INTERVAL);
        true
    }

    /// The daemon went with its child, and another one comes up with what was saved.
    fn restart(&mut self) {
        let saved = fields::write(&mut self.roster.ledger);
        let wires: Vec<_> = self
            .roster
            .agents
            .iter()
            .map(|(wire, _)| wire.clone())
            .collect();
        self.roster = Roster::load("/nowhere".as_ref(), "ops", self.now);
        self.roster.ledger = fields::read::<Ledger>(&saved).expect("a ledger of ours");
        self.roster.accept(wires, Vec::new());
        self.look();
    }

    /// Nothing is stopped to be replaced before its replacement is there.
    fn keeps_promise_1(&mut self, task: &Task) {
        let desired = self.desired();
        if let (Cmd::Start, Step::Stop(_)) = (desired.cmd, &task.step) {
            let site = self.paper.site(&desired.place);
            assert!(site.has(&desired.release.build()), "stopped for nothing");
        }
    }

    /// Steps until there is nothing more to do, or so long; how many there were.
    pub fn settle(&mut self, patience: u64) -> u64 {
        let give_up = self.now + patience;
        let (mut steps, mut idle) = (0, 0);
        while self.now < give_up && idle < 3 {
            self.look();
            if self.step() {
                (steps, idle) = (steps + 1, 0);
                continue;
            }
            let next = self.roster.next_try(self.now);
            idle += u32::from(next.is_none());
            self.now = next.unwrap_or(self.now + 1000).min(give_up);
        }
        steps
    }
}

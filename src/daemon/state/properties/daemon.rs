//! The daemon on paper: checks, carries out the first step of each plan with the real state, and records its end.

use std::time::Duration;

use super::super::{Attempt, State};
use super::assert_is_named;
use super::host::End;
use super::world::World;
use crate::json;
use crate::model::Observation;
use crate::model::{Cmd, Failure, Fault, Step, Task, Updater};
use crate::protocol::job::{Role, StepJob};
use crate::store::ledger::Ledger;

const INTERVAL: Duration = Duration::from_secs(300);

impl World {
    pub fn check(&mut self) {
        let at_desired = self.desired().location;
        let elsewhere = self.state.elsewhere(&self.name, &at_desired);
        let observation = Observation {
            name: self.name.clone(),
            at_desired: self.paper.observed(&at_desired),
            elsewhere: elsewhere.map(|elsewhere| Box::new(self.paper.observed(&elsewhere))),
        };
        self.state.observe(observation, self.now);
    }

    /// Carries out one step as the daemon does. Returns false if there is nothing to do now.
    pub fn step(&mut self) -> bool {
        let Some(task) = self.state.next_task(&self.name, self.now) else {
            return false;
        };
        self.state.begin(&self.name, &task);
        let elsewhere = self.state.elsewhere(&self.name, &task.location);
        let role = Role::new("ops", &task.location, elsewhere.as_ref(), false);
        let other_locations = self.state.other_locations(&self.name, &task.location);
        let job = StepJob::new(
            &self.name,
            &task,
            other_locations,
            role,
            &Updater::default(),
            "",
        );
        self.keeps_promise_1(&task);
        self.note(&format!("{task} in {}", task.location.work_dir));
        let outcome = self.paper.act(&job);
        let words = format!("        {:?}: {outcome:?}", self.paper.done);
        self.note(&words);
        assert_is_named(&task, &self.paper.done, outcome.is_ok());
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
        let observation = Observation {
            name: self.name.clone(),
            at_desired: self.paper.observed(&task.location),
            elsewhere: job
                .elsewhere
                .map(|elsewhere| Box::new(self.paper.observed(&elsewhere))),
        };
        let attempt = Attempt {
            name: self.name.clone(),
            desired_digest: self.state.desired_digest(&self.name),
            task,
            failure,
            has_started: false,
            observation: (!is_killed).then_some(observation),
        };
        self.state.finish(attempt, self.now, INTERVAL);
        true
    }

    /// Replaces the daemon, which was killed with its child, by one that loads what was saved.
    fn restart(&mut self) {
        let saved = json::to_string(&self.state.history.ledger);
        let agents = self.state.desired.agents().iter();
        let agents = agents.map(|agent| agent.desired.clone()).collect();
        self.state = State::load("/nowhere".as_ref(), "ops", self.now);
        self.state.history.ledger = Ledger::read(&saved).expect("a ledger of ours");
        self.take(agents);
        self.check();
    }

    /// Asserts that nothing is stopped before its replacement is on disk.
    fn keeps_promise_1(&mut self, task: &Task) {
        let desired = self.desired();
        if let (Cmd::Start, Step::Stop(_)) = (desired.cmd, &task.step) {
            let observed = self.paper.observed(&desired.location);
            assert!(observed.has(&desired.build()), "stopped for nothing");
        }
    }

    /// Carries out steps until nothing is left to do, or for `patience` seconds. Returns the number of steps.
    pub fn settle(&mut self, patience: u64) -> u64 {
        let give_up = self.now + patience;
        let (mut steps, mut idle) = (0, 0);
        while self.now < give_up && idle < 3 {
            self.check();
            if self.step() {
                (steps, idle) = (steps + 1, 0);
                continue;
            }
            let next = self.state.next_try(self.now);
            idle += u32::from(next.is_none());
            self.now = next.unwrap_or(self.now + 1000).min(give_up);
        }
        steps
    }
}

//! A task that is carried out, and its end as the child reports it.

use crate::model::{AgentName, Failure, Fault, Observation, Task};
use crate::protocol::event::Event;

/// One task and its end.
pub struct Attempt {
    pub name: AgentName,
    /// The digest of the desired entry for which the task was begun.
    pub desired_digest: String,
    pub task: Task,
    pub failure: Option<Failure>,
    /// The step has started the agent, perhaps in the version that ran before.
    pub has_started: bool,
    pub observation: Option<Observation>,
}

impl Attempt {
    /// Takes over the report of the child.
    pub fn end(&mut self, mut event: Event) {
        self.has_started = event.has_started;
        self.failure = event.error.map(|error| Failure {
            fault: event.fault.unwrap_or(Fault::Host),
            error,
        });
        let observation = event.observations.pop();
        // The next task may be made from this observation, and carried out as the user of its location. A child that
        // became another user may therefore report its own agent only, and only the locations of its task.
        let elsewhere = self.task.elsewhere();
        self.observation = observation.filter(|observation| {
            observation.name == self.name
                && observation.at_desired.location == self.task.location
                && observation
                    .elsewhere
                    .iter()
                    .all(|observed| Some(&observed.location) == elsewhere)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Build, Deployment, Location, Observed, Step, Version};

    fn location(work_dir: &str, run_user: &str) -> Location {
        Location {
            work_dir: work_dir.to_owned(),
            run_user: run_user.to_owned(),
        }
    }

    fn build() -> Build {
        Build {
            version: Version::parse("1").expect("a version"),
            md5: String::new(),
        }
    }

    /// Returns whether the daemon accepts a report about this agent at this location and at the other one.
    fn is_accepted(
        step: Step,
        name: &str,
        at_desired: Location,
        elsewhere: Option<Location>,
    ) -> bool {
        let mut attempt = Attempt {
            name: AgentName::parse("demo").expect("a name"),
            desired_digest: String::new(),
            task: Task {
                location: location("/new", "falcon"),
                step,
            },
            failure: None,
            has_started: false,
            observation: None,
        };
        attempt.end(Event {
            observations: vec![Observation {
                name: AgentName::parse(name).expect("a name"),
                at_desired: Observed::empty(at_desired),
                elsewhere: elsewhere.map(|at| Box::new(Observed::empty(at))),
            }],
            ..Event::default()
        });
        attempt.observation.is_some()
    }

    #[test]
    fn a_child_can_report_its_own_agent_at_the_locations_of_its_task_only() {
        let new = || location("/new", "falcon");
        let from = |work_dir: &str, run_user: &str| Step::Switch {
            back: Some(Deployment {
                location: location(work_dir, run_user),
                build: build(),
            }),
            to: build(),
        };
        let old = Some(location("/old", "falcon"));
        assert!(is_accepted(Step::Start(build()), "demo", new(), None));
        assert!(is_accepted(
            from("/old", "falcon"),
            "demo",
            new(),
            old.clone()
        ));
        // The child may have found that both locations are one.
        assert!(is_accepted(from("/old", "falcon"), "demo", new(), None));
        for (step, name, at_desired, elsewhere) in [
            (Step::Start(build()), "other", new(), None),
            (Step::Start(build()), "demo", location("/new", ""), None),
            (Step::Start(build()), "demo", new(), old.clone()),
            (from("/new", "falcon"), "demo", new(), Some(new())),
            (from("/old", ""), "demo", new(), Some(location("/old", ""))),
            (
                from("/old", "falcon"),
                "demo",
                new(),
                Some(location("/", "")),
            ),
        ] {
            let report = format!("{step:?} of {name} in {at_desired:?} and {elsewhere:?}");
            assert!(!is_accepted(step, name, at_desired, elsewhere), "{report}");
        }
    }
}

//! What the tests of the history have in common: one agent at /work.

use std::time::Duration;

use crate::model::{
    AgentState, Build, Desired, Failure, Fault, Location, Observed, Own, Step, Task, Version,
    WireAgent,
};

pub(super) const INTERVAL: Duration = Duration::from_secs(300);

pub(super) fn location() -> Location {
    Location {
        work_dir: "/work".into(),
        run_user: String::new(),
    }
}

pub(super) fn build(version: &str) -> Build {
    Build {
        version: Version::parse(version).expect("valid"),
        md5: String::new(),
    }
}

pub(super) fn desired(version: &str) -> Desired {
    let wire = WireAgent {
        name: "demo".into(),
        version: version.into(),
        tarball: "http://x".into(),
        cmd: "start".into(),
        ..Default::default()
    };
    Desired::check(
        &wire,
        &Own {
            dir: "/work".into(),
            ..Default::default()
        },
    )
    .expect("valid")
}

/// The version in force, in this state.
pub(super) fn observed(version: &str, state: AgentState) -> Observed {
    let mut observed = Observed::empty(location());
    observed.current = Some(build(version));
    observed.whole = true;
    observed.state = state;
    observed
}

pub(super) fn task(step: Step) -> Task {
    Task {
        location: location(),
        step,
    }
}

pub(super) fn failed(fault: Fault) -> Failure {
    Failure {
        fault,
        error: "why".into(),
    }
}

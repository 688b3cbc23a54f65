//! Runs one step of one agent, in a process of its own and under the agent's locks. Every step checks the agent before
//! it changes anything, so that it can be taken again after a crash at any point. The planner has chosen the step.

use crate::agent::lifecycle::Agent;
use crate::agent::paths::Paths;
use crate::error::{At, Result};
use crate::model::{Observed, Outcome, Step};
use crate::net::network;
use crate::net::signature::Keys;
use crate::os::signals::Signals;
use crate::os::user;
use crate::protocol::job::StepJob;
use crate::worker::identity::become_run_user;
use crate::worker::install;
use crate::worker::locations::Locations;
use crate::worker::permission;
use crate::worker::prune::prune;
use crate::worker::report;
use crate::worker::start_stop;
use crate::worker::switch::switch;

/// Carries out the job of the hidden subcommand `act`, and reports the outcome and what the agent looks like afterwards.
pub fn run(job: &StepJob) -> Result<()> {
    let signals = Signals::new(&[libc::SIGCHLD]).at("catch", "signals")?;
    let caller = user::caller_of_sudo();
    if caller.is_some() {
        signals.end_with_stdout();
    }
    let nothing_observed = || Observed::empty(job.location.clone());
    match enter(job, caller) {
        Ok(Some(entered)) => run_as_user(job, entered, &signals),
        Ok(None) => report::done(job, None, false, (nothing_observed(), None)),
        Err(error) => {
            // The agent may well be there, and even run.
            let mut unknown = nothing_observed();
            unknown.set_no_answer(&error.to_string());
            report::done(job, Some(error.into()), false, (unknown, None))
        }
    }
}

/// An agent whose user this process has become.
struct Entered {
    paths: Paths,
    /// The digest of the tarball, if it had to be known first.
    md5: Option<String>,
    keys: Keys,
}

/// Does what root must do: checks the job, and prepares the agent's directory. Nothing is made on disk for a new agent before
/// the digest of its tarball is known.
fn enter(job: &StepJob, caller: Option<u32>) -> Result<Option<Entered>> {
    let policy = permission::check(job, caller)?;
    let keys = Keys(policy.keys_in_force(&job.public_keys).cloned());
    if caller.is_none() {
        network::set(job.network.clone());
    }
    let md5 = install::digest_of_new(job, caller.is_some())?;
    let paths = become_run_user(job, &policy, caller)?;
    if caller.is_some() {
        network::set(permission::network(job, &policy));
    }
    Ok(paths.map(|paths| Entered { paths, md5, keys }))
}

fn run_as_user(job: &StepJob, entered: Entered, signals: &Signals) -> Result<()> {
    let locations = Locations::new(job, entered.paths, signals);
    let outcome = match &job.step {
        Some(step) => run_locked(job, &locations, signals, step, entered.md5, &entered.keys),
        None => Ok(()),
    };
    let mut failure = outcome.err();
    if let (Some(failure), Some(user)) = (&mut failure, &job.role.run_as) {
        failure.error = format!("{} (as {user})", failure.error);
    }
    let elsewhere = locations.previous.as_ref();
    let has_started = locations.desired.has_started() || elsewhere.is_some_and(Agent::has_started);
    let observed = (
        locations.desired.check_processes(),
        elsewhere.map(Agent::check_processes),
    );
    report::done(job, failure, has_started, observed)
}

fn run_locked(
    job: &StepJob,
    locations: &Locations,
    signals: &Signals,
    step: &Step,
    md5: Option<String>,
    keys: &Keys,
) -> Outcome {
    let _locks = locations.lock()?;
    let agent = &locations.desired;
    match step {
        Step::Install(release) => Ok(install::install(agent, release, md5, keys)?),
        Step::Switch { back, to } => switch(locations, signals, back.as_ref(), to),
        Step::Start(build) => start_stop::start(job, locations, signals, build),
        Step::Stop(_) if job.is_move => start_stop::stop_for_move(agent, signals),
        Step::Stop(_) => start_stop::stop(agent),
        Step::Prune(keep) => Ok(prune(agent, keep)?),
    }
}

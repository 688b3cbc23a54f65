//! Becomes the user that an agent runs as, for good. Root prepares the agent's directory before that, and reads or
//! writes nothing in it.

use crate::agent::directory::{self, Owner, Purpose};
use crate::agent::foreign;
use crate::agent::paths::Paths;
use crate::error::{Error, Result};
use crate::model::{Policy, Step};
use crate::os::credentials;
use crate::os::user::{self, Account};
use crate::os::walk::Trusted;
use crate::protocol::job::StepJob;

/// Prepares the agent's directory, becomes the user that it runs as, and returns where the directory is.
///
/// Returns `None` if the user does not exist and the step does not need it: then there is no agent either.
///
/// `caller` is the user who called sudo.
pub(super) fn become_run_user(
    job: &StepJob,
    policy: &Policy,
    caller: Option<u32>,
) -> Result<Option<Paths>> {
    let paths = Paths::new(&job.name, &job.location);
    foreign::check_not_ours(&paths, job.step.as_ref(), &job.updater)?;
    let Some(user) = &job.role.run_as else {
        directory::check(&paths)?;
        return Ok(Some(paths));
    };
    if credentials::effective_uid() != 0 {
        return Err(Error::new("become", user, "only root can"));
    }
    let purpose = purpose(job);
    let account = match Account::find(user)? {
        Some(account) => account,
        None if purpose == Purpose::Find => return Ok(None),
        None if !policy.may_create(user) => {
            let cause = "create_users in policy.json does not allow it";
            return Err(Error::new("create the user", user, cause));
        }
        None => {
            directory::check_unowned(&job.name, &job.location)?;
            Account::create(user)?
        }
    };
    let owner = Owner {
        account: &account,
        moving: job.role.moving,
        trusted: caller,
    };
    if job.is_move && job.keeps_work_dir {
        directory::check_can_be_put_aside(&job.name, &job.location, caller)?;
    }
    let dir = directory::prepare(&job.name, &job.location, &owner, purpose)?;
    user::become_user(&account)?;
    let paths = Paths::in_dir(dir, Trusted::user(account.uid, owner.trusted));
    directory::check(&paths)?;
    Ok(Some(paths))
}

fn purpose(job: &StepJob) -> Purpose {
    match &job.step {
        Some(Step::Start(_) | Step::Switch { .. }) if job.role.moving => Purpose::Run,
        Some(Step::Install(_) | Step::Start(_) | Step::Switch { .. }) => Purpose::Install,
        Some(Step::Stop(_) | Step::Prune(_)) | None => Purpose::Find,
    }
}

//! Whether the local policy allows a job. Root asks before it does anything else: under sudo the job may be forged, and then
//! nothing in it is believed. Who called sudo, and where the policy is, does not come from the job.

use std::path::Path;

use crate::error::{Error, Result};
use crate::model::{Location, Network, Policy, Step};
use crate::net::stores;
use crate::os::{credentials, user};
use crate::protocol::job::StepJob;
use crate::store::policy;

/// Returns the policy in force if it allows the job.
///
/// The entries of a job of root's own daemon were checked where they entered. Only what installs is checked again: what runs
/// already is started again and stopped whatever the policy says now. `caller` is the user who called sudo.
pub(super) fn check(job: &StepJob, caller: Option<u32>) -> Result<Policy> {
    if job.step.is_none() && caller.is_none() {
        return Ok(Policy::default());
    }
    let own_dir = caller.is_none().then(|| Path::new(&job.updater.dir));
    let policy = policy::load_or_refuse(own_dir);
    let release = match &job.step {
        Some(Step::Install(release)) => Some(release),
        _ => None,
    };
    if caller.is_some() || release.is_some() {
        let user = job.role.run_as.clone().unwrap_or_else(user::own_name);
        // In another location a script of the caller's could wait, which the agent's user would run.
        let others = job.elsewhere.iter().chain(&job.other_locations);
        let others = others.filter(|_| caller.is_some());
        for Location { work_dir, .. } in others.chain([&job.location]) {
            allow(job, policy.check_location(work_dir, &user))?;
        }
    }
    if let Some(release) = release {
        allow(job, policy.check_release(release))?;
    }
    if let Some(allowed) = &policy.stores {
        stores::allow_only(allowed.clone());
    }
    Ok(policy)
}

/// Returns how a job through sudo reaches stores, when this process has become its user. Curl does not run before that.
///
/// A caller's own curl is never run, and no file that it names is read by root. With a rule for stores, its proxy and its
/// authorities are not used either: with them the caller could answer in the name of any store.
pub(super) fn network(job: &StepJob, policy: &Policy) -> Network {
    let mut network = job.network.clone();
    let is_root = credentials::effective_uid() == 0;
    network.curl.clear();
    if policy.stores.is_some() {
        network.proxy.clear();
        network.tls_proxy.clear();
    }
    if policy.stores.is_some() || is_root {
        network.ca_file.clear();
    }
    if is_root {
        network.client_cert.clear();
        network.client_key.clear();
    }
    for file in [
        &mut network.ca_file,
        &mut network.client_cert,
        &mut network.client_key,
    ] {
        // curl takes other names for things that are no files.
        if !file.starts_with('/') || file.contains(':') {
            file.clear();
        }
    }
    network
}

fn allow(job: &StepJob, checked: std::result::Result<(), String>) -> Result<()> {
    checked.map_err(|cause| Error::new("run", job.name.as_str(), cause))
}

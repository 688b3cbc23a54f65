//! Asks the release store whether it has a version, so that `pin` can warn of one that cannot be installed. The answer
//! changes nothing. A disk, a resolver or a store may hang, so a forked process with a deadline asks.

use std::path::Path;
use std::time::Duration;

use super::exit::{complain, print};
use crate::agent::paths::Paths;
use crate::agent::script;
use crate::build_info::ARCH;
use crate::error::{At, Result};
use crate::model::{Desired, Version};
use crate::net::{MEMORY_LIMIT, http, network};
use crate::os::limits::MemoryLimit;
use crate::os::signals::Signals;
use crate::os::{disk, process};
use crate::store::config::Source;
use crate::store::{policy, tokens};

/// An operator waits for it.
const PATIENCE: Duration = Duration::from_secs(5);
/// The forked process ends itself after this time, in case its parent is gone.
const ORPHAN_SECONDS: u32 = 8;

/// Prints a warning to stderr if the version is neither on disk nor in the store, or if the store gives no answer.
pub(super) fn warn_of_missing(file: &Path, desired: &Desired, version: &Version) {
    let cause = check(file, &desired.at_version(version));
    let cause = cause.unwrap_or_else(|error| error.to_string());
    if !cause.is_empty() {
        complain(&format!(
            "warning: cannot get {version} from the store: {cause}"
        ));
    }
}

/// Returns what the forked process has found, or that it has hung.
fn check(file: &Path, desired: &Desired) -> Result<String> {
    let signals = Signals::new(&[libc::SIGCHLD, libc::SIGTERM]).at("catch", "signals")?;
    let check = || {
        process::alarm(ORPHAN_SECONDS);
        match problem(file, desired) {
            Ok(None) => {}
            Ok(Some(cause)) => drop(print(&cause)),
            Err(error) => drop(print(&error.to_string())),
        }
    };
    let output = script::wait_for(script::fork_check(&check, PATIENCE)?, &signals);
    Ok(if output.succeeded() {
        output.whole_text().trim().to_owned()
    } else {
        output.complaint()
    })
}

/// Returns why the version cannot be installed. None: it is on disk, or the store seems to have it.
fn problem(file: &Path, desired: &Desired) -> Result<Option<String>> {
    let (name, release) = (&desired.name, desired.release());
    if disk::is_dir(&Paths::new(name, &desired.location).version(&release.version)) {
        return Ok(None);
    }
    let source = Source::new(file)?;
    let config = Box::leak(source.load_without_server()?);
    let policy = policy::load_or_refuse(Some(&source.own_dir));
    if let Err(refusal) = policy.check_release(&release) {
        return Ok(Some(refusal));
    }
    let _limit = MemoryLimit::set(MEMORY_LIMIT);
    let url = release.tarball_url(name, ARCH);
    let mut network = config.network.clone();
    network.tokens = tokens::of_stores(config, Some(&release))?;
    network::set(network);
    // Where a redirect ends is found out by the install.
    let (status, _) = http::status_and_date(&url)?;
    let is_there = matches!(status, 200..400);
    Ok((!is_there).then(|| format!("{url} answers {status}")))
}

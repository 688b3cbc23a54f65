//! The URLs that this process may fetch from: the rule `stores` of the local policy. A worker carries out one step, so the
//! rule is set once for the process, and each request and each redirect of it is checked.

use std::sync::OnceLock;

use crate::error::{Error, Result};
use crate::model::is_in_stores;

/// Not set: every URL is allowed.
static STORES: OnceLock<Vec<String>> = OnceLock::new();

/// From now on only what lies below these URLs is fetched. Only the first call counts.
pub fn allow_only(stores: Vec<String>) {
    let _ = STORES.set(stores);
}

/// Fails for a URL that the policy does not allow. The error shows it in the form `shown`.
pub(super) fn check(url: &str, shown: &str) -> Result<()> {
    match STORES.get() {
        Some(stores) if !is_in_stores(stores, url) => {
            let cause = "it is not below one of stores in policy.json";
            Err(Error::new("fetch", shown, cause))
        }
        _ => Ok(()),
    }
}

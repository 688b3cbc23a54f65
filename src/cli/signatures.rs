//! Whether releases are verified by their signatures, in a line of `check` and `doctor`.

use crate::model::Policy;
use crate::store::config::{Config, Source};
use crate::store::policy;

/// Returns the number of public keys in force and their file, or that there are none.
pub(super) fn words(source: &Source, config: &Config, policy: &Policy) -> String {
    let Some(keys) = policy.keys_in_force(&config.public_keys) else {
        return "releases are not verified by signature: there are no public_keys".to_owned();
    };
    let of_policy = policy::file(Some(&source.own_dir)).filter(|_| policy.public_keys.is_some());
    let file = of_policy.unwrap_or_else(|| source.file.clone());
    let (count, file) = (keys.len(), file.display());
    format!("every release must be signed by a key of {file}, which has {count}")
}

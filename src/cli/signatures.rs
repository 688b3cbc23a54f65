//! Whether releases are verified by their signatures, in a line of `check` and `doctor`.

use crate::model::Policy;
use crate::store::config::Config;

/// Returns the number of public keys in force and their file, or that there are none.
pub(super) fn words(config: &Config, policy: &Policy) -> String {
    let file = match &policy.public_keys {
        Some(_) => "policy.json",
        None => "cfg.json",
    };
    match policy.keys_in_force(&config.public_keys) {
        None => "releases are not verified by signature: there are no public_keys".to_owned(),
        Some(keys) => {
            let count = keys.len();
            format!("every release must be signed by a key of {file}, which has {count}")
        }
    }
}

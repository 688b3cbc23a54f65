//! The local policy, as `doctor` shows it.

use std::path::Path;

use super::findings::{fail, ok};
use crate::model::{Own, Policy};
use crate::store::policy;

/// Returns the local policy. Prints each rule, or that there is none.
pub(super) fn check(own: &Own) -> Policy {
    let own_dir = Some(Path::new(&own.dir));
    let Some(file) = policy::file(own_dir) else {
        ok(format_args!("policy: none"));
        return Policy::default();
    };
    let policy = policy::load_or_refuse(own_dir);
    if policy.unusable.is_empty() {
        for (rule, value) in policy::lines(&policy) {
            ok(format_args!("{}: {rule}: {value}", file.display()));
        }
    } else {
        fail(format_args!("{}", policy.unusable));
    }
    policy
}

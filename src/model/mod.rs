//! The nouns: what a server desires, what a host has, and the steps from one to the other. Values only, no input and no
//! output. A value is checked once, where it is made.

/// The rules for the text of a field.
mod checks;
/// One agent of the desired state.
mod desired;
/// Where an agent lives.
mod location;
/// `AgentName` and `Version`.
mod names;
/// How this host reaches servers.
mod network;
/// The state of an agent, as a check finds it.
mod observed;
/// What root allows on this host.
mod policy;
/// A version to fetch, on disk, and in force.
mod release;
/// The steps of an agent, and their failures.
mod step;
/// What identifies an updater.
mod updater;
/// Which of two versions is the higher one.
mod version_order;

pub use checks::{
    HAS_USER, has_user, is_md5, is_plain_host, is_public_key, is_url, is_user, is_work_dir,
    one_spelling, url_parts,
};
pub use desired::{Cmd, Desired, Refusal, WireAgent};
pub use location::{Location, Own};
pub use names::{AgentName, Version};
pub use network::{Network, has_tls, is_fetched};
pub use observed::{AgentState, Observation, Observed, STATUS_LIMIT};
pub use policy::{MAX_AGENTS, Policy, has_same_origin, is_in_stores};
pub use release::{Build, Deployment, Release};
pub use step::{Failure, Fault, Outcome, Step, Task};
pub use updater::{FileId, Updater};

//! How this process reaches servers. A process serves one configuration, so it is set once.

use std::sync::OnceLock;

use crate::model::Network;

/// Not set: servers are reached by plain HTTP only.
static NETWORK: OnceLock<&Network> = OnceLock::new();

/// From now on servers are reached like this. Only the first call counts.
pub fn set(network: Network) {
    let _ = NETWORK.set(Box::leak(Box::new(network)));
}

pub(super) fn get() -> Option<&'static Network> {
    NETWORK.get().copied()
}

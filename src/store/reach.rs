//! Whether this host can reach servers as cfg.json says.

use super::config::Config;
use super::tokens;
use crate::error::Result;
use crate::net::curl;

/// Fails if no heartbeat can be sent, or no token: curl or a file is missing or cannot be used.
pub fn check(config: &Config) -> Result<()> {
    curl::check(&config.network, &config.url)?;
    tokens::check(config)
}

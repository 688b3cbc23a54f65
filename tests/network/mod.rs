//! Tests of downloads and heartbeats over all kinds of networks and from all kinds of servers.

/// Bad answers to heartbeats.
mod bad_answers;
/// Bad answers of stores.
pub mod bad_downloads;
/// The count of downloaded bytes.
mod bytes;
/// Redirects, forms of md5 files, and heartbeats during a download.
pub mod downloads;
/// All faults of an answer: the rows for `bad_answers` and `bad_downloads`.
mod fault_table;
/// Limits for floods from a server or a store.
mod limits;
/// Names that do not resolve, or that have several addresses.
mod names;
/// The web server nginx as a store.
#[cfg(target_os = "linux")]
mod nginx;
/// Other versions of curl.
mod odd_curl;
/// Passwords in URLs.
mod passwords;
/// Requests through a proxy.
mod proxy;
/// The download rate of a host.
mod rate;
/// Where a redirect may lead.
mod redirects;
/// Links that break again and again.
mod resets;
/// Downloads that resume where they broke.
mod resume;
/// Releases and configurations that must be signed.
pub mod signatures;
/// Which keys must have signed.
mod signing_keys;
/// Servers that accept a connection and send nothing.
mod silence;
/// nginx as a cache for the hosts of a site.
#[cfg(target_os = "linux")]
mod site_cache;
/// Unusual answers of stores and servers of configurations.
pub mod store_answers;
/// HTTPS.
mod tls;
/// Tokens for servers and stores.
mod tokens;
/// Stores that serve the wrong content.
mod wrong_releases;

//! HTTP as a client, for the workers. It ends a transfer that drips; the daemon ends a worker that is silent or takes too long.
//! It knows nothing of agents.

/// Addresses: of a server, and of this host as that server sees it.
pub mod address;
/// The status, the headers and the body of an answer.
mod answer;
/// The encoding of a body, and pages for browsers.
mod content;
/// One request by the host's curl.
pub mod curl;
/// What curl is told.
mod curl_config;
/// What the failures of curl mean.
mod curl_faults;
/// The digest that a release store keeps in a file beside each tarball.
pub mod digest;
/// One large file, resumed after broken connections and verified by its digest.
pub mod download;
/// The head of an answer, made readable for minreq.
pub mod head;
/// One request, its redirects, and bodies that fit into memory.
pub mod http;
/// How this process reaches servers.
pub mod network;
/// The least pace of a transfer.
mod pace;
/// The download rate, and the share that this process has of it.
pub mod rate;
/// Which addresses a redirect may lead to.
pub mod reach;
/// The URL that a redirect leads to.
mod redirect;
/// One request, before it is known what sends it.
mod request;
/// The signature of minisign beside a file.
pub mod signature;
/// The URLs that may be fetched from.
pub mod stores;
/// What sends a request.
mod transport;

/// The soft limit of the address space, in bytes, of a worker while it reads what the network sent. A hostile body or
/// archive ends that worker, and nothing else on the host.
pub const MEMORY_LIMIT: u64 = 64 << 20;

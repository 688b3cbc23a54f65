//! HTTP as a client, for the workers. It ends a transfer that drips; the daemon ends a worker that is silent or takes too long.
//! It knows nothing of agents.

/// Addresses: of a server, and of this host as that server sees it.
pub mod address;
/// The status and the headers of an answer.
mod answer;
/// The encoding of a body, and pages for browsers.
mod content;
/// The digest that a release store keeps in a file beside each tarball.
pub mod digest;
/// One large file, resumed after broken connections and verified by its digest.
pub mod download;
/// The head of an answer, made readable for minreq.
pub mod head;
/// One request, its redirects, and bodies that fit into memory.
pub mod http;
/// The least pace of a transfer.
mod pace;
/// Which addresses a redirect may lead to.
pub mod reach;
/// The URL that a redirect leads to.
mod redirect;
/// The signature of minisign beside a file.
pub mod signature;
/// The URLs that may be fetched from.
pub mod stores;

/// The soft limit of the address space, in bytes, of a worker while it reads what the network sent. A hostile body or
/// archive ends that worker, and nothing else on the host.
pub const MEMORY_LIMIT: u64 = 64 << 20;

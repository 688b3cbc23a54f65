//! The rules for the text of a field: URLs, paths, digests, users. Pure.

use super::names::NAME_LIMIT;
use crate::minisign::PublicKey;
use crate::text::before;

/// The longest URL in bytes. A signed URL of an object store has up to 3 KB; nginx and Apache refuse a request line of 8 KB.
const URL_LIMIT: usize = 8000;
/// Why a URL is refused that `has_user`.
pub const HAS_USER: &str = "a URL with user and password, which is not supported";
/// The longest path from a server in bytes, far below the `PATH_MAX` of every system.
const PATH_LIMIT: usize = 512;

/// Returns an absolute path without empty parts, without `.`, and without a slash at its end.
pub fn one_spelling(path: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        if !matches!(part, b"" | b".") {
            plain.push(b'/');
            plain.extend(part);
        }
    }
    if plain.is_empty() {
        plain.push(b'/');
    }
    plain
}

pub fn is_md5(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Returns whether this is a public key of minisign: the second line of its file.
pub fn is_public_key(text: &str) -> bool {
    PublicKey::parse(text).is_some()
}

pub(super) fn is_md5_source(text: &str) -> bool {
    let text = text.trim();
    text.is_empty() || is_md5(text) || is_url(text)
}

/// Returns whether this is a whole http or https URL in printable ASCII, without user and password. Whether this
/// host can fetch https is found out at the download, where the error is reported.
pub fn is_url(text: &str) -> bool {
    let is_plain = text.len() <= URL_LIMIT && text.bytes().all(|b| b.is_ascii_graphic());
    is_plain
        && url_parts(text).is_some_and(|(scheme, authority, _)| {
            matches!(scheme, "http" | "https") && is_authority(authority)
        })
}

/// Returns whether a URL names a user before its host. minreq would look up the user as the host.
pub fn has_user(url: &str) -> bool {
    url_parts(url).is_some_and(|(_, authority, _)| authority.contains('@'))
}

/// Returns whether this is a host, and a number if there is a port. Otherwise it may be half a password:
/// `http://user:pass/word@host`.
fn is_authority(authority: &str) -> bool {
    let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
    // An IPv6 address fails at its download, like https.
    let is_port = port.is_empty() || port.parse::<u16>().is_ok() || host.starts_with('[');
    is_port && !host.is_empty() && !host.starts_with('#') && !authority.contains('@')
}

/// Returns whether every byte is one that names and IPv4 addresses have.
pub fn is_plain_host(host: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    host.bytes().all(is_plain)
}

/// Returns the scheme, `host:port`, and the path with all that follows.
pub fn url_parts(url: &str) -> Option<(&str, &str, &str)> {
    let (scheme, rest) = url.split_once(':')?;
    let rest = rest.strip_prefix("//")?;
    // minreq ends the host at these. A `#` or `@` before them belongs to the host.
    let authority = before(rest, b"/?");
    Some((scheme, authority, &rest[authority.len()..]))
}

pub(super) fn is_url_or_empty(text: &str) -> bool {
    text.is_empty() || is_url(text)
}

pub fn is_user(text: &str) -> bool {
    text.is_empty()
        || text.len() <= NAME_LIMIT
            && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

pub fn is_work_dir(text: &str) -> bool {
    // The slashes at its end do not hide a blank before them.
    is_path(text)
        && is_path(text.trim_end_matches('/'))
        && (text.is_empty() || text.starts_with('/'))
        && text.split('/').all(|part| part != "..")
}

/// Returns whether this may be a path from a server. A blank at an end is a slip that no person sees.
fn is_path(text: &str) -> bool {
    text.len() <= PATH_LIMIT && text.trim() == text && !text.chars().any(char::is_control)
}

/// Returns whether this is a file below the version's directory, and none of those that make the directory a version.
pub(super) fn is_config_path(text: &str) -> bool {
    let first = text.split('/').next();
    !matches!(first, Some("control" | ".receipt.json")) && is_inner_path(text)
}

fn is_inner_path(text: &str) -> bool {
    text.is_empty()
        || is_path(text)
            && !text.starts_with('/')
            && !text.ends_with('/')
            && text.split('/').all(|part| !matches!(part, ".." | "." | ""))
}

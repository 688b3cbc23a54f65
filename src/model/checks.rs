//! The rules for the text of a field: URLs, paths, digests, users. Pure.

use super::names::NAME_LIMIT;

/// The longest URL in bytes. Common servers refuse longer ones.
const URL_LIMIT: usize = 2048;
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

pub(super) fn is_md5_source(text: &str) -> bool {
    let text = text.trim();
    text.is_empty() || is_md5(text) || is_url(text)
}

/// Returns whether this is a whole http or https URL in printable ASCII. minreq can fetch http only; an https URL fails
/// at its download, where the error is reported.
pub fn is_url(text: &str) -> bool {
    let rest = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"));
    text.len() <= URL_LIMIT
        && text.bytes().all(|b| b.is_ascii_graphic())
        && rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['/', ':', '?', '#']))
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
    text.is_empty()
        || text.len() <= PATH_LIMIT
            && text.starts_with('/')
            && !text.chars().any(char::is_control)
            && text.split('/').all(|part| part != "..")
}

/// Returns whether this is a file below the version's directory, and none of those that make the directory a version.
pub(super) fn is_config_path(text: &str) -> bool {
    let first = text.split('/').next();
    !matches!(first, Some("control" | ".receipt.json")) && is_inner_path(text)
}

fn is_inner_path(text: &str) -> bool {
    text.is_empty()
        || text.len() <= PATH_LIMIT
            && !text.starts_with('/')
            && !text.ends_with('/')
            && !text.chars().any(char::is_control)
            && text.split('/').all(|part| !matches!(part, ".." | "." | ""))
}

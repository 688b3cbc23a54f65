//! The files of tokens, which tell a server or a store who asks. They are read whenever a token is sent, so that a new token
//! needs no reload.
#![expect(
    clippy::disallowed_methods,
    reason = "it reads files and asks who can read them"
)]

use std::fs::File;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::config::Config;
use crate::error::{At, Error, Result};
use crate::model::{Network, Release, has_same_origin, is_url};
use crate::os::disk;
use crate::os::walk::{self, Trusted};

/// The largest file, in bytes.
const FILE_LIMIT: u64 = 4096;

/// Fails if one of the files cannot be used.
pub fn check(config: &Config) -> Result<()> {
    of_server(config).and(of_stores(config, None)).map(drop)
}

/// Returns a line of the URL of heartbeats and their token, empty if there is none.
pub fn of_server(config: &Config) -> Result<String> {
    let file = &config.token_file;
    let text = read(file)?;
    let token = text.trim_end();
    if file.is_empty() {
        return Ok(text);
    }
    if !is_token(token) {
        let cause = "it is not one line of printable ASCII without spaces";
        return Err(Error::new("use", file, cause));
    }
    let network = Network {
        tokens: format!("{} {token}", config.url),
        ..Default::default()
    };
    if network.token(&config.url).is_none() {
        let cause = "the path of server has .., %2e, %2f, %5c or \\, and could mean another one";
        return Err(Error::new("use", file, cause));
    }
    Ok(network.tokens)
}

/// Returns the lines of a URL and the token for what lies below it: all, or those that a release needs. Its worker runs as the
/// agent's user, who can read them.
pub fn of_stores(config: &Config, release: Option<&Release>) -> Result<String> {
    let file = &config.store_token_file;
    let mut needed = String::new();
    for line in read(file)?.lines() {
        let is_good = |(url, token): &(&str, &str)| is_url(url) && is_token(token);
        let Some((store, _)) = line.split_once(' ').filter(is_good) else {
            // The line is not shown: it may be a token.
            let cause = "a line is not the URL of a store, one space and a token";
            return Err(Error::new("use", file, cause));
        };
        if release.is_none_or(|release| is_from(release, store)) {
            needed.push_str(line);
            needed.push('\n');
        }
    }
    Ok(needed)
}

/// Returns whether a part of the release is fetched from the server of this URL.
fn is_from(release: &Release, store: &str) -> bool {
    let parts = [&release.tarball, &release.md5, &release.config_remote_url];
    parts.into_iter().any(|url| has_same_origin(store, url))
}

/// Reads a file that nobody but root and this user can read or replace. No file has an empty text.
fn read(file: &str) -> Result<String> {
    let path = Path::new(file);
    if file.is_empty() {
        return Ok(String::new());
    }
    walk::check(path, Trusted::strict())?;
    let mut options = File::options();
    let opened = options.read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let opened = opened.at("read", path)?;
    let meta = opened.metadata().at("read", path)?;
    if !meta.is_file() || meta.mode() & 0o077 != 0 {
        let cause = "it must be a regular file that others cannot read; chmod 600";
        return Err(Error::new("use", path, cause));
    }
    disk::read_text(&opened, FILE_LIMIT).at("read", path)
}

fn is_token(token: &str) -> bool {
    !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic())
}

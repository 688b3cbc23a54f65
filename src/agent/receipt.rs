//! `<version>/.receipt.json`: the proof that the updater fetched, verified and unpacked this version completely.

use std::path::Path;

// Not Deserialize: its trait has a `default` that would hide the one of `Default`.
use miniserde::Serialize;

use crate::error::Result;
use crate::json;
use crate::model::{AgentName, Build, Version, is_md5};
use crate::os::disk;

const FILE_NAME: &str = ".receipt.json";
/// Bytes. A receipt holds one URL and some short fields.
const SIZE_LIMIT: u64 = 8192;

/// The content of the file.
#[derive(Serialize, miniserde::Deserialize)]
pub struct Receipt {
    pub name: String,
    pub version: Version,
    pub md5: String,
    /// Bytes of the tarball.
    pub size: u64,
    pub url: String,
    /// Seconds since 1970.
    pub time: u64,
    /// The public key of whoever signed the tarball. None: no signature was wanted.
    pub signer: Option<String>,
}

impl Receipt {
    /// Writes the receipt into the directory of its version.
    pub fn write(&self, version_dir: &Path) -> Result<()> {
        let text = json::to_string(self);
        disk::write_atomic(&version_dir.join(FILE_NAME), text.as_bytes(), 0o644)
    }

    fn is_of(&self, name: &AgentName, version: &Version) -> bool {
        self.name == name.as_str() && self.version == *version
    }

    fn read(version_dir: &Path) -> Option<Self> {
        let text = disk::read_small(&version_dir.join(FILE_NAME), SIZE_LIMIT).ok()?;
        json::read(&text)
    }
}

/// Returns whether `dir` is a directory with our receipt for this agent and version, and so ours to replace.
pub fn is_in(dir: &Path, name: &AgentName, version: &Version) -> bool {
    // A link of this name leads to somebody else's directory, whatever is in it.
    disk::is_real_dir(dir) && Receipt::read(dir).is_some_and(|receipt| receipt.is_of(name, version))
}

/// A build that the updater unpacked.
pub struct Received {
    pub build: Build,
    /// Seconds since 1970.
    pub time: u64,
}

/// Returns the build in `dir`, if its receipt names this agent and version and its `control` can be run.
pub fn received(name: &AgentName, version: &Version, dir: &Path) -> Option<Received> {
    let receipt = Receipt::read(dir)?;
    let is_digest_valid = receipt.md5.is_empty() || is_md5(&receipt.md5);
    let is_its_own = is_digest_valid && receipt.is_of(name, version);
    if !is_its_own || !disk::is_program(&dir.join("control")) {
        return None;
    }
    Some(Received {
        build: Build {
            version: receipt.version,
            md5: receipt.md5,
        },
        time: receipt.time,
    })
}

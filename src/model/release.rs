//! A version as it is fetched (`Release`), as it lies on disk (`Build`), and where it is in force (`Deployment`).

use std::fmt;

use miniserde::{Deserialize, Serialize};

use super::checks::is_md5;
use super::location::Location;
use super::names::{AgentName, Version};

/// Everything that is needed to fetch and install a version.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Release {
    pub version: Version,
    pub tarball: String,
    /// 32 hex digits, or the base URL of an `.md5` file, or empty for the tarball's own base URL.
    pub md5: String,
    pub config_file_name: String,
    pub config_remote_url: String,
}

impl Release {
    /// Returns the digest that the desired state itself names, in lower case. None: it lies in a file beside the tarball.
    pub fn inline_md5(&self) -> Option<String> {
        inline_md5(&self.md5)
    }

    pub fn build(&self) -> Build {
        Build::wanted(&self.version, &self.md5)
    }

    /// Returns the name of the tarball in a release store.
    pub fn file_name(&self, name: &AgentName) -> String {
        format!("{name}-{}.tar.gz", self.version)
    }

    /// Returns the URL of the tarball for this arch. That of the original: `{tarball}/{arch}/{name}-{version}.tar.gz`.
    pub fn tarball_url(&self, name: &AgentName, arch: &str) -> String {
        format!("{}/{arch}/{}", self.tarball, self.file_name(name))
    }
}

/// See `Release::inline_md5`. The field may be as the server wrote it.
pub(super) fn inline_md5(field: &str) -> Option<String> {
    let digest = field.trim();
    is_md5(digest).then(|| digest.to_ascii_lowercase())
}

/// A version and the digest of its tarball. An empty digest is an unknown one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Build {
    pub version: Version,
    pub md5: String,
}

impl Build {
    /// Returns the build that an entry asks for. `md5` is its field.
    pub(super) fn wanted(version: &Version, md5: &str) -> Self {
        Self {
            version: version.clone(),
            md5: inline_md5(md5).unwrap_or_default(),
        }
    }

    /// Returns whether `self`, on disk, is the build that `wanted` asks for. An unknown digest on either side matches.
    pub fn satisfies(&self, wanted: &Self) -> bool {
        self.version == wanted.version
            && (self.md5 == wanted.md5 || self.md5.is_empty() || wanted.md5.is_empty())
    }
}

impl fmt::Display for Build {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.version.fmt(f)
    }
}

/// A build at a location.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Deployment {
    #[serde(rename = "place")]
    pub location: Location,
    pub build: Build,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_digest_is_no_difference() {
        let build = |md5: &str| Build {
            version: Version::parse("1").expect("valid"),
            md5: md5.into(),
        };
        assert!(build("").satisfies(&build("a")));
        assert!(build("a").satisfies(&build("")));
        assert!(build("a").satisfies(&build("a")));
        assert!(!build("a").satisfies(&build("b")));
    }
}

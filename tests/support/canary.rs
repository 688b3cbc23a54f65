//! Files that a test must leave unchanged, and the comparison that shows it.

use super::host::Host;
use super::users::mode;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown, symlink};
use std::path::{Path, PathBuf};

/// A directory tree of root that no agent's user may read or change.
pub struct Canary {
    pub dir: PathBuf,
    before: BTreeMap<PathBuf, String>,
}

impl Canary {
    pub fn in_sandbox(host: &Host) -> Self {
        let dir = host.dir.join("canary");
        for path in ["dir/.updater/1.0.0.new", "dir/1.0.0", "empty"] {
            fs::create_dir_all(dir.join(path)).expect("a directory");
        }
        for file in [
            "file",
            "dir/.version",
            "dir/.updater/lock",
            "dir/1.0.0/control",
        ] {
            fs::write(dir.join(file), "1.0.0").expect("a file");
        }
        fs::write(dir.join("big"), vec![b'x'; 2 << 20]).expect("a file");
        symlink("file", dir.join("link")).expect("a link");
        mode(&dir.join("empty"), 0o750);
        chown(dir.join("dir"), Some(0), Some(1)).expect("a group");
        let before = Self::look(&dir);
        Self { dir, before }
    }

    fn look(dir: &Path) -> BTreeMap<PathBuf, String> {
        let mut found = BTreeMap::new();
        for (path, entry) in super::watch::tree(dir) {
            let meta = fs::symlink_metadata(&path).expect("the path exists");
            let content = super::md5_hex(&fs::read(&path).unwrap_or_default());
            let owner = (
                meta.uid(),
                meta.gid(),
                meta.nlink(),
                meta.ctime(),
                meta.ctime_nsec(),
            );
            found.insert(path, format!("{entry:?} {owner:?} {content:?}"));
        }
        found
    }

    #[track_caller]
    pub fn assert_unharmed(&self, after: &str) {
        assert_eq!(Self::look(&self.dir), self.before, "after {after}");
    }
}

//! Compares what the updater makes of an archive with what GNU tar makes of it.

use crate::archives::hostile::PATIENCE;
use crate::support::host::Host;
use crate::support::json::Json as _;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// An archive, and what is to become of it.
pub struct Case {
    name: String,
    archive: Vec<u8>,
    wanted: Wanted,
}

enum Wanted {
    /// Unpacked, with the tree that GNU tar makes.
    GnuTree,
    /// Refused, with this in the reason.
    Refused(&'static str),
}

impl Case {
    pub fn same_as_gnu(name: &str, archive: Vec<u8>) -> Self {
        Self {
            name: name.to_owned(),
            archive,
            wanted: Wanted::GnuTree,
        }
    }

    pub fn refused(name: &str, archive: Vec<u8>, reason: &'static str) -> Self {
        Self {
            name: name.to_owned(),
            archive,
            wanted: Wanted::Refused(reason),
        }
    }
}

/// Offers each archive as an agent of its own.
pub fn check(mut host: Host, cases: &[Case]) {
    let mut entries = Vec::new();
    for Case { name, archive, .. } in cases {
        host.meta.publish(name, "1.0.0", archive.clone());
        entries.push(host.want(name, "1.0.0"));
    }
    host.desire(&entries);
    host.start();
    for case in cases {
        match case.wanted {
            Wanted::GnuTree => check_tree(&host, case),
            Wanted::Refused(reason) => check_refused(&host, &case.name, reason),
        }
    }
}

fn error(host: &Host, name: &str) -> String {
    let beat = host.last_beat();
    beat.map_or_else(String::new, |beat| {
        beat.agent(name).field("error").text().to_owned()
    })
}

fn check_tree(host: &Host, case: &Case) {
    let name = &case.name;
    let dir = host.agent_dir(name).join("1.0.0");
    host.wait_within(PATIENCE, &format!("{name} to be installed"), || {
        let error = error(host, name);
        assert!(error.is_empty() || dir.exists(), "{name}: {error}");
        dir.exists()
    });
    let theirs = host.dir.join("gnu").join(name);
    unpack_with_gnu_tar(case, &theirs);
    let (ours, theirs) = (tree(&dir), tree(&theirs));
    for path in theirs.keys().chain(ours.keys()) {
        assert_eq!(ours.get(path), theirs.get(path), "{name}: {path:?}");
    }
}

fn check_refused(host: &Host, name: &str, reason: &str) {
    host.wait_within(PATIENCE, &format!("{name} to be refused"), || {
        let installed = host.agent_dir(name).join("1.0.0").exists();
        assert!(!installed, "{name} was installed, wanted: {reason}");
        !error(host, name).is_empty()
    });
    let error = error(host, name);
    assert!(
        error.contains(reason),
        "{name}: {error:?}, wanted: {reason}"
    );
}

fn unpack_with_gnu_tar(case: &Case, dir: &Path) {
    fs::create_dir_all(dir).expect("a directory");
    let mut tar = Command::new("tar");
    let tar = tar.args(["-xpzf", "-", "--no-same-owner", "-C"]).arg(dir);
    let child = tar.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.expect("tar runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    // tar may end before the last bytes.
    let _ = stdin.write_all(&case.archive);
    drop(stdin);
    let output = child.wait_with_output().expect("a child of ours");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "tar refuses {}: {error}",
        case.name
    );
}

/// Returns what each path is. Modes are as the updater sets them: within 0755, and no directory is closed to its owner.
fn tree(root: &Path) -> BTreeMap<String, String> {
    let mut tree = BTreeMap::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            let meta = fs::symlink_metadata(&path).expect("it is there");
            let mode = meta.mode() & 0o755;
            let what = if meta.is_dir() {
                dirs.push(path.clone());
                format!("directory {:o}", mode | 0o700)
            } else if meta.is_symlink() {
                let target = fs::read_link(&path).expect("a link");
                format!("link to {}", target.display())
            } else {
                let content = crate::support::md5_hex(&fs::read(&path).expect("a file"));
                format!(
                    "file {mode:o}, {} names, {} bytes, {content}",
                    meta.nlink(),
                    meta.size()
                )
            };
            let path = path.strip_prefix(root).expect("it is inside");
            tree.insert(path.to_string_lossy().into_owned(), what);
        }
    }
    tree.remove(".receipt.json");
    tree
}

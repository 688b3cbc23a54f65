//! Shared by the targets: a directory, an updater, and the properties of all accepted input.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use ops_updater::json;
use ops_updater::log;
use ops_updater::model::{Desired, Own, Policy};
use ops_updater::protocol::desired::{self, Entries, Sorted};

/// The time of all tests, in seconds since 1970.
pub const NOW: u64 = 1_800_000_000;

/// The updater that reads the input.
pub fn own() -> Own {
    Own {
        dir: "/opt/updater".to_owned(),
        user: "root".to_owned(),
    }
}

/// Returns a directory of this process, the same at each call; TMPDIR should be in memory. Turns log lines about its files
/// off, because they would fill the log of a run.
pub fn dir(name: &str) -> PathBuf {
    log::set_level(log::Level::Error);
    let dir = std::env::temp_dir().join(format!("{name}.{}", std::process::id()));
    fs::create_dir_all(&dir).expect("TMPDIR can be written");
    dir
}

/// Writes the file, and replaces what was there.
pub fn put(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).expect("TMPDIR can be written");
}

/// A logged or reported text is one line of limited length.
pub fn check_words(words: &str, limit: usize) {
    assert!(!words.chars().any(char::is_control), "{words:?}");
    assert!(words.len() <= limit, "{} bytes: {words}", words.len());
}

/// Sorts the entries as the updater does, checks accepted and refused ones, and returns the accepted ones.
pub fn check_entries(entries: Entries, own: &Own) -> Vec<Desired> {
    let count = entries.len();
    let policy = Policy::default();
    let Sorted {
        accepted, refused, ..
    } = desired::sort(entries, own, &policy);
    assert!(refused.len() <= 21 && accepted.len() <= count);
    for refusal in &refused {
        check_words(&refusal.to_string(), 600);
    }
    let mut names = BTreeSet::new();
    for desired in &accepted {
        check_desired(desired, own);
        let is_first = names.insert(desired.name.clone());
        assert!(is_first, "{} twice", desired.name);
    }
    let wires: Vec<_> = accepted.iter().map(|desired| &desired.wire).collect();
    let written = json::to_string(&wires);
    let again = desired::saved(&written).expect("what we write is a list");
    let again = desired::sort(again, own, &policy);
    assert!(again.refused.is_empty(), "{:?}", again.refused);
    assert_eq!(again.accepted, accepted);
    accepted
}

/// Checks what the rest of the program relies on, written independently of src/model.
fn check_desired(desired: &Desired, own: &Own) {
    for name in [desired.name.as_str(), desired.version.as_str()] {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
        assert!(name.chars().all(is_plain) && name.len() <= 64, "{name:?}");
        assert!(!name.starts_with(['.', '-', '+', '_']) && !name.is_empty());
    }
    let location = &desired.location;
    let path = format!("{}/{}", location.work_dir, desired.name);
    check_path(&path, true);
    assert!(!path.starts_with(&format!("{}/var/", own.dir)), "{path}");
    assert_ne!(path, format!("{}/var", own.dir));
    let user = &location.run_user;
    assert!(!user.starts_with(|c: char| c == '-' || c.is_ascii_digit()));
    assert!(!user.contains(|c: char| c.is_whitespace() || "/:;'\"".contains(c)));
    assert_ne!(*user, own.user, "it has one spelling, the empty one");
    let release = desired.release();
    for url in [&release.tarball, &release.md5, &release.config_remote_url] {
        check_words(url, 8000);
        assert!(url.is_ascii() && !url.contains(' '), "{url:?}");
    }
    assert!(release.tarball.starts_with("http"));
    if let Some(md5) = release.inline_md5() {
        check_md5(&md5);
    }
    if !release.config_file_name.is_empty() {
        check_path(&release.config_file_name, false);
    }
}

fn check_path(path: &str, is_absolute: bool) {
    check_words(path, 512 + 1 + 64);
    assert_eq!(path.starts_with('/'), is_absolute, "{path}");
    assert!(path.split('/').all(|part| part != ".."), "{path}");
    assert!(!path.ends_with('/'), "{path}");
}

pub fn check_md5(md5: &str) {
    let is_digit = |c: char| matches!(c, '0'..='9' | 'a'..='f');
    assert!(md5.len() == 32 && md5.chars().all(is_digit), "{md5:?}");
}

//! What the targets share: a directory to work in, an updater to ask, and what must hold of whatever was accepted.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::fields;
use crate::heartbeat::{self, Entry};
use crate::model::{Desired, Own, WireAgent};

/// An hour in which everything happens, in seconds since 1970.
pub const NOW: u64 = 1_800_000_000;

/// The updater that the inputs are for.
pub fn own() -> Own {
    Own {
        dir: "/opt/updater".to_owned(),
        user: "root".to_owned(),
    }
}

/// A directory of this process's own, the same at every call; TMPDIR should be in memory.
pub fn dir(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("{name}.{}", std::process::id()));
    fs::create_dir_all(&dir).expect("TMPDIR can be written");
    dir
}

/// Puts the file there, in place of what stood there.
pub fn put(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).expect("TMPDIR can be written");
}

/// What is logged and reported is one line of bounded length.
pub fn check_words(words: &str, limit: usize) {
    assert!(!words.chars().any(char::is_control), "{words:?}");
    assert!(words.len() <= limit, "{} bytes: {words}", words.len());
}

/// Sorts the entries as the updater does and checks both halves; gives those that it would follow.
pub fn check_entries(entries: Vec<Entry>, own: &Own) -> Vec<WireAgent> {
    let count = entries.len();
    let (mut accepted, refused) = heartbeat::sort(entries, own);
    assert!(refused.len() <= 21 && accepted.len() <= count);
    for refusal in &refused {
        check_words(&refusal.to_string(), 600);
    }
    let mut names = BTreeSet::new();
    for wire in &accepted {
        let desired = Desired::check(wire, own).expect("it was accepted");
        check_desired(&desired, own);
        assert!(names.insert(wire.name.clone()), "{} twice", wire.name);
    }
    let written = fields::write(&mut accepted);
    let again = heartbeat::saved(&written).expect("what we write is a list");
    let (again, refused) = heartbeat::sort(again, own);
    assert!(refused.is_empty(), "{refused:?}");
    assert_eq!(again, accepted);
    accepted
}

/// What the rest of the program relies on, in other words than model.rs has for it.
fn check_desired(desired: &Desired, own: &Own) {
    for name in [desired.name.as_str(), desired.release.version.as_str()] {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
        assert!(name.chars().all(is_plain) && name.len() <= 64, "{name:?}");
        assert!(!name.starts_with(['.', '-', '+', '_']) && !name.is_empty());
    }
    let place = &desired.place;
    let path = format!("{}/{}", place.work_dir, desired.name);
    check_path(&path, true);
    assert!(!path.starts_with(&format!("{}/var/", own.dir)), "{path}");
    assert_ne!(path, format!("{}/var", own.dir));
    let user = &place.run_user;
    assert!(!user.starts_with(|c: char| c == '-' || c.is_ascii_digit()));
    assert!(!user.contains(|c: char| c.is_whitespace() || "/:;'\"".contains(c)));
    assert_ne!(*user, own.user, "it has one spelling, the empty one");
    let release = &desired.release;
    for url in [&release.tarball, &release.md5, &release.config_remote_url] {
        check_words(url, 2048);
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

//! A tarball with the right digest and any content. Nothing may be written outside the target directory, and only files,
//! directories and links that stay inside it, within the limits.
#![no_main]

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use ops_updater::net::download::Verified;
use ops_updater::net::signature::{Keys, Signer};
use ops_updater::os::files;
use ops_updater::worker::install::unpack;
use ops_updater_fuzz::{bench, members, tarball};

const ENTRIES_MOST: usize = 65_536;
/// Bytes with the holes of sparse files.
const SIZE_MOST: u64 = 4 << 30;
/// Bytes by which a file may take more room on disk than its content has.
const ROUNDING: u64 = 4096;
const CANARY: &[u8] = b"it sings";

fuzz_target!(|archive: &[u8]| {
    let outer = bench::dir("unpack");
    let (canary, root) = (outer.join("canary"), outer.join("root"));
    if !canary.exists() {
        bench::put(&canary, CANARY);
    }
    let before = fs::metadata(&canary).expect("it is there");
    fs::create_dir(&root).expect("the last run left nothing");
    let packed = members::stored(archive);
    let size = packed.len() as u64;
    let mut file = files::nameless_file().expect("memory for a file");
    file.write_all(&packed).expect("memory for a file");
    std::io::Seek::rewind(&mut file).expect("it can be read again");
    let md5 = String::new();
    let tarball = Verified {
        file,
        md5,
        size,
        signer: unsigned(),
    };
    unpack::check_space(&tarball, &root).expect("there is room");
    let done = unpack::unpack(tarball, &root, false, &mut || Ok(()));
    check_outside(&outer, &canary, &before);
    let observation = walk(&root, done.is_ok());
    observation.check((size * 200).max(1 << 20));
    match done {
        Ok(()) => {
            let meta = fs::symlink_metadata(root.join("control")).expect("it was accepted");
            assert!(
                meta.is_file() && meta.mode() & 0o111 != 0,
                "control is no program"
            );
        }
        Err(error) => {
            let error = error.to_string();
            assert!(error.len() < 1500, "{} bytes", error.len());
        }
    }
    fs::remove_dir_all(&root).expect("all in it is ours");
});

fn unsigned() -> Signer {
    let seal = Keys(None).fetch("", "", &[], &mut |_| Ok(()));
    let signer = seal.and_then(|seal| seal.verify(&mut std::io::empty(), &mut || Ok(())));
    signer.expect("without keys nothing is fetched")
}

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    if seed.is_multiple_of(16) {
        return fuzzer_mutate(data, size, max_size);
    }
    let mut inner = |field: &mut [u8]| {
        fuzzer_mutate(field, field.len(), field.len());
    };
    let archive = tarball::mutate(&data[..size], max_size, seed, &mut inner);
    data[..archive.len()].copy_from_slice(&archive);
    archive.len()
});

fn check_outside(outer: &Path, canary: &Path, before: &Metadata) {
    let names = fs::read_dir(outer).expect("it is there");
    let names: BTreeSet<_> = names
        .map(|entry| entry.expect("it can be read").file_name())
        .collect();
    assert_eq!(names, BTreeSet::from(["canary".into(), "root".into()]));
    let after = fs::symlink_metadata(canary).expect("it is there");
    let looks = |meta: &Metadata| {
        let changed = (
            meta.mtime(),
            meta.mtime_nsec(),
            meta.ctime(),
            meta.ctime_nsec(),
        );
        (
            meta.ino(),
            meta.mode(),
            meta.nlink(),
            meta.uid(),
            meta.len(),
            changed,
        )
    };
    assert_eq!(
        looks(&after),
        looks(before),
        "something was done to the file outside"
    );
    assert_eq!(fs::read(canary).expect("it can be read"), CANARY);
}

#[derive(Default)]
struct Inside {
    entries: usize,
    /// The sum over all files; a file with several names counts once.
    bytes: u64,
    /// The same without holes.
    taken: u64,
    files: BTreeSet<u64>,
}

impl Inside {
    fn check(&self, limit: u64) {
        assert!(self.entries <= ENTRIES_MOST, "{} entries", self.entries);
        assert!(self.bytes <= SIZE_MOST, "{} bytes", self.bytes);
        let limit = limit + self.files.len() as u64 * ROUNDING;
        assert!(self.taken <= limit, "{} of {limit} bytes", self.taken);
    }

    fn add(&mut self, path: &Path, meta: &Metadata) {
        self.entries += 1;
        let kind = meta.file_type();
        if kind.is_symlink() {
            return;
        }
        assert!(
            kind.is_file() || kind.is_dir(),
            "{} is special",
            path.display()
        );
        let mode = meta.permissions().mode() & 0o7777;
        assert_eq!(mode & !0o755, 0, "{} has mode {mode:o}", path.display());
        if kind.is_dir() {
            assert_eq!(
                mode & 0o700,
                0o700,
                "{} is closed to its owner",
                path.display()
            );
        } else if self.files.insert(meta.ino()) {
            self.bytes += meta.len();
            self.taken += meta.blocks() * 512;
        }
    }
}

/// The links of an archive that was refused may lead anywhere: nothing is written through them, and they are removed.
fn walk(root: &Path, was_accepted: bool) -> Inside {
    let mut inside = Inside::default();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).expect("it can be read") {
            let path = entry.expect("it can be read").path();
            let meta = fs::symlink_metadata(&path).expect("it is there");
            inside.add(&path, &meta);
            if meta.is_dir() {
                dirs.push(path);
            } else if meta.is_symlink() && was_accepted {
                check_link(root, &path);
            }
        }
    }
    inside
}

/// Follows a link name by name, as the kernel does. It must never lead above the root.
fn check_link(root: &Path, link: &Path) {
    let mut at = link.parent().expect("it is inside").to_owned();
    let target = fs::read_link(link).expect("it is a link");
    let mut todo: Vec<PathBuf> = target
        .components()
        .rev()
        .map(|part| part.as_os_str().into())
        .collect();
    let mut links = 0;
    while let Some(part) = todo.pop() {
        match part.components().next() {
            Some(Component::ParentDir) => drop(at.pop()),
            Some(Component::Normal(name)) => at.push(name),
            Some(Component::CurDir) | None => {}
            Some(_) => panic!("{} leads to {}", link.display(), target.display()),
        }
        assert!(
            at.starts_with(root),
            "{} leads to {}",
            link.display(),
            target.display()
        );
        if let Ok(next) = fs::read_link(&at) {
            links += 1;
            if links > 40 {
                return;
            }
            at.pop();
            todo.extend(
                next.components()
                    .rev()
                    .map(|part| PathBuf::from(part.as_os_str())),
            );
        }
    }
}

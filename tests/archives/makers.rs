//! The updater unpacks what the tar programs of the world write into the same tree as GNU tar.

use crate::archives::trees::{Case, check};
use crate::support::archive::noise;
use crate::support::host::Host;
use crate::support::platform::skipped;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Lengths of names at which a format changes its ways; `./` comes before them.
const ALL: &[usize] = &[97, 98, 99, 100, 101, 155, 254, 256, 300];
/// The same for formats that have fields of 100 bytes for names and links.
const V7: &[usize] = &[97];
/// The same with a prefix of 155 bytes for names, but not for links.
const USTAR: &[usize] = &[97, 98, 99, 100, 155];

/// Makes a tree with everything that an archive of an agent may have, and names of these lengths.
fn source(dir: &Path, lengths: &[usize]) {
    let file = |path: &str, mode: u32, content: &[u8]| {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().expect("it has one")).expect("a directory");
        fs::write(&path, content).expect("a file");
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("a mode");
    };
    file("control", 0o755, b"#!/bin/sh\necho started\n");
    file("empty", 0o644, b"");
    file("private", 0o600, b"secret");
    file("suid", 0o4755, b"x");
    file("two words \u{e9}", 0o664, b"a name");
    file("whole", 0o644, &[b'w'; 1024]);
    file("lib/v1/x", 0o755, b"x");
    fs::create_dir(dir.join("lib/none")).expect("a directory");
    fs::set_permissions(dir.join("lib/none"), Permissions::from_mode(0o750)).expect("a mode");
    for (to, link) in [
        ("lib/v1/x", "link"),
        ("../control", "lib/up"),
        ("../lib/v1/../v1/x", "lib/cur"),
        (".", "self"),
        ("lib", "dir"),
        ("missing/file", "dangling"),
    ] {
        symlink(to, dir.join(link)).expect("a link");
    }
    fs::hard_link(dir.join("control"), dir.join("same")).expect("a link");
    fs::hard_link(dir.join("link"), dir.join("link2")).expect("a link");
    // Holes compress so well that the archive would be taken for a bomb.
    file("noise", 0o644, &noise(100_000, 1));
    for length in lengths {
        let name = name_of(*length);
        file(&name, 0o644, name.as_bytes());
        if lengths == ALL || *length < 98 {
            fs::hard_link(dir.join(&name), dir.join(format!("hard{length}"))).expect("a link");
            symlink(&name, dir.join(format!("soft{length}"))).expect("a link");
        }
    }
    for (name, size, pieces) in [
        ("holes", 400_000, &[0, 100_000, 300_000][..]),
        ("hole-first", 200_001, &[199_000]),
        ("hole-only", 100_000, &[]),
        (
            "many-holes",
            4_000_000,
            &(0..60).map(|at| at * 65_536).collect::<Vec<_>>(),
        ),
    ] {
        let sparse = File::create(dir.join(name)).expect("a file");
        sparse.set_len(size).expect("a hole");
        for offset in pieces {
            sparse
                .write_all_at(&[b'h'; 1001], *offset)
                .expect("a piece");
        }
    }
}

/// Returns a path of this length: up to 101 bytes it is one name.
fn name_of(length: usize) -> String {
    let whole = "n".repeat(length);
    if length <= 101 {
        return whole;
    }
    let bytes = whole.into_bytes().into_iter().enumerate();
    let path = bytes.map(|(at, byte)| if at % 61 == 60 { b'/' } else { byte });
    String::from_utf8(path.collect()).expect("it is ASCII")
}

/// Returns what the command prints: the archive.
fn output(command: &mut Command) -> Vec<u8> {
    let output = command.output().expect("it runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {error}");
    output.stdout
}

fn has(program: &str) -> bool {
    let found = Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .output();
    let is_found = found.is_ok_and(|found| found.status.success());
    if !is_found {
        skipped(&format!("needs {program}"));
    }
    is_found
}

/// A sandbox with a tree to pack.
struct Sources {
    host: Host,
}

impl Sources {
    fn new() -> Self {
        Self { host: Host::new() }
    }

    fn tree(&self, format: &str) -> PathBuf {
        let lengths = match format {
            "v7" => V7,
            "ustar" => USTAR,
            _ => ALL,
        };
        let dir = self.host.dir.join(format!("source{}", lengths.len()));
        if !dir.exists() {
            source(&dir, lengths);
        }
        dir
    }
}

fn gnu(sources: &Sources, name: &str, arguments: &str) -> Case {
    let arguments: Vec<_> = arguments.split_whitespace().collect();
    let format = arguments[0].trim_start_matches("--format=");
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(sources.tree(format)).args(arguments);
    Case::same_as_gnu(name, output(tar.args(["-czf", "-", "."])))
}

#[test]
fn archives_of_gnu_tar_unpack_to_the_tree_that_gnu_tar_makes() {
    let sources = Sources::new();
    let cases = [
        ("v7", "--format=v7"),
        ("oldgnu", "--format=oldgnu"),
        ("gnu", "--format=gnu"),
        ("ustar", "--format=ustar"),
        ("pax", "--format=pax"),
        ("label", "--format=gnu --label=release"),
        ("pax-label", "--format=pax --label=release"),
        (
            "pax-global",
            "--format=pax --pax-option=globexthdr.name=g,comment=built",
        ),
        ("one-block", "--format=gnu --blocking-factor=1"),
        ("no-links", "--format=gnu --hard-dereference"),
        ("incremental", "--format=gnu --incremental"),
        ("pax-incremental", "--format=pax --incremental"),
        (
            "owners",
            "--format=gnu --owner=someone:123456789 --group=some:4294967294",
        ),
        ("old-dates", "--format=gnu --mtime=@-1"),
    ];
    let cases = cases.map(|(name, arguments)| gnu(&sources, name, arguments));
    check(sources.host, &cases);
}

#[test]
fn sparse_files_are_unpacked_in_each_form_of_gnu_tar() {
    let sources = Sources::new();
    let cases = [
        ("sparse-oldgnu", "--format=oldgnu --sparse"),
        ("sparse-gnu", "--format=gnu --sparse --hole-detection=raw"),
        (
            "sparse-0.0",
            "--format=pax --sparse-version=0.0 --hole-detection=raw",
        ),
        (
            "sparse-0.1",
            "--format=pax --sparse-version=0.1 --hole-detection=raw",
        ),
        (
            "sparse-1.0",
            "--format=pax --sparse-version=1.0 --hole-detection=raw",
        ),
    ];
    let cases =
        cases.map(|(name, arguments)| gnu(&sources, name, &format!("{arguments} --sparse")));
    check(sources.host, &cases);
}

#[test]
fn values_with_a_newline_do_not_spoil_the_records_around_them() {
    if !has("setfattr") {
        return;
    }
    let sources = Sources::new();
    let dir = sources.tree("any");
    let mut set = Command::new("setfattr");
    let set = set.args(["-n", "user.note", "-v", "a\n14 path=elsewhere\n"]);
    if !set
        .arg(dir.join("private"))
        .status()
        .expect("it runs")
        .success()
    {
        skipped("needs a filesystem with extended attributes");
        return;
    }
    let mut cases = vec![gnu(&sources, "gnu-xattrs", "--format=pax --xattrs")];
    if has("bsdtar") {
        cases.push(bsd(&sources, "bsd-xattrs", "--format=pax --xattrs"));
    }
    check(sources.host, &cases);
}

fn bsd(sources: &Sources, name: &str, arguments: &str) -> Case {
    let arguments: Vec<_> = arguments.split_whitespace().collect();
    let format = arguments[0].trim_start_matches("--format=");
    let mut tar = Command::new("bsdtar");
    tar.args(arguments).arg("-C").arg(sources.tree(format));
    Case::same_as_gnu(name, output(tar.args(["-czf", "-", "."])))
}

#[test]
fn archives_of_bsdtar_unpack_to_the_tree_that_gnu_tar_makes() {
    if !has("bsdtar") {
        return;
    }
    let sources = Sources::new();
    let cases = [
        ("v7", "--format=v7"),
        ("ustar", "--format=ustar"),
        ("gnutar", "--format=gnutar"),
        ("pax", "--format=pax"),
        ("restricted", "--format=paxr"),
        ("flags", "--format=pax --fflags --acls --xattrs"),
        ("mac", "--format=pax --mac-metadata"),
        ("no-holes", "--format=pax --no-read-sparse"),
    ];
    let cases = cases.map(|(name, arguments)| bsd(&sources, name, arguments));
    check(sources.host, &cases);
}

#[test]
fn archives_of_busybox_unpack_to_the_tree_that_gnu_tar_makes() {
    if !has("busybox") {
        return;
    }
    let sources = Sources::new();
    let mut tar = Command::new("busybox");
    tar.args(["tar", "-C"])
        .arg(sources.tree("any"))
        .args(["-czf", "-", "."]);
    let case = Case::same_as_gnu("busybox", output(&mut tar));
    check(sources.host, &[case]);
}

const PYTHON: &str = "\
import sys, tarfile
format = getattr(tarfile, sys.argv[2] + '_FORMAT')
more = {'pax_headers': {'comment': 'built\\nby hand'}} if sys.argv[2] == 'PAX' else {}
with tarfile.open(fileobj=sys.stdout.buffer, mode='w|gz', format=format, **more) as tar:
    tar.add(sys.argv[1], '.')
";

#[test]
fn archives_of_python_unpack_to_the_tree_that_gnu_tar_makes() {
    if !has("python3") {
        return;
    }
    let sources = Sources::new();
    let cases = [("ustar", "USTAR"), ("gnu", "GNU"), ("pax", "PAX")].map(|(name, format)| {
        let mut python = Command::new("python3");
        python
            .args(["-c", PYTHON])
            .arg(sources.tree(name))
            .arg(format);
        Case::same_as_gnu(name, output(&mut python))
    });
    check(sources.host, &cases);
}

#[test]
fn archives_of_git_unpack_to_the_tree_that_gnu_tar_makes() {
    if !has("git") {
        return;
    }
    let sources = Sources::new();
    let dir = sources.tree("any");
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.arg("-C")
            .arg(&dir)
            .args(["-c", "user.name=x", "-c", "user.email=x@x"]);
        output(git.args(arguments))
    };
    git(&["init", "--quiet"]);
    git(&["add", "."]);
    git(&["commit", "--quiet", "--message=x"]);
    let archive = git(&["archive", "--format=tar.gz", "HEAD"]);
    check(sources.host, &[Case::same_as_gnu("git", archive)]);
}

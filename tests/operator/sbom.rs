//! Tests the list of crates that contrib/pack makes of each release.

use crate::support::host::Host;
use crate::support::json::{self, Json as _};
use miniserde::json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const LOCK: &str = include_str!("../../Cargo.lock");
const VERSION: &str = env!("CARGO_PKG_VERSION");
const ARCHS: [&str; 4] = ["linux_386", "linux_amd64", "linux_arm64", "darwin_amd64"];
/// Crates, and whether they are linked: the others are run by the compiler or by tests only.
const KNOWN: [(&str, bool); 11] = [
    ("minreq", true),
    ("miniserde", true),
    ("libflate", true),
    ("adler32", true),
    ("libc", true),
    ("mini-internal", false),
    ("syn", false),
    ("proc-macro2", false),
    ("unicode-ident", false),
    ("tiny_http", false),
    ("ascii", false),
];

/// Crates of this source tree.
const OWN: [&str; 2] = ["ops-updater-gzip", "rle-decode-fast"];

/// Runs `contrib/pack sbom all` after these lines of shell. Returns the directory of the lists.
fn lists(host: &Host, target: &str, before: &str) -> PathBuf {
    let target = host.dir.join(target);
    let output = Command::new("sh")
        .args(["-c", &format!("{before}\nexec \"$0\" sbom all")])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/pack"))
        .env("CARGO_TARGET_DIR", &target)
        .output()
        .expect("sh runs");
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{message}");
    target.join("pack")
}

fn file(arch: &str) -> String {
    format!("ops-updater-{VERSION}-{arch}.cdx.json")
}

/// Returns name, version and checksum of each package of Cargo.lock that comes from a registry.
fn locked() -> Vec<[String; 3]> {
    let mut locked = Vec::new();
    for package in LOCK.split("[[package]]").skip(1) {
        let field = |key: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(key));
            line.map(|value| value.trim_matches([' ', '=', '"']).to_owned())
        };
        if let Some(checksum) = field("checksum") {
            let name = field("name").expect("a name");
            locked.push([name, field("version").expect("a version"), checksum]);
        }
    }
    locked
}

/// Checks one component. Returns its name.
fn check_crate(component: &Value, locked: &[[String; 3]]) -> String {
    let name = component.field("name").text();
    let version = component.field("version").text();
    let purl = format!("pkg:cargo/{name}@{version}");
    assert_eq!(component.field("purl").text(), purl);
    let license = &component.field("licenses").items()[0];
    let license = license.field("expression").text();
    let is_expression = !license.is_empty() && !license.contains('/');
    assert!(is_expression, "{name}: {license}");
    if OWN.contains(&name) {
        return name.to_owned();
    }
    let hash = &component.field("hashes").items()[0];
    let row = [name, version, hash.field("content").text()].map(str::to_owned);
    assert!(locked.contains(&row), "{row:?} is not in Cargo.lock");
    name.to_owned()
}

#[test]
fn a_list_has_each_crate_that_is_linked_with_purl_license_and_checksum_and_no_other() {
    let host = Host::new();
    let dir = lists(&host, "target", "");
    let locked = locked();
    for arch in ARCHS {
        let list = fs::read_to_string(dir.join(file(arch))).expect("a list");
        let list = json::parse(&list);
        let program = list.field("metadata").field("component");
        assert_eq!(program.field("name").text(), "ops-updater");
        assert_eq!(program.field("version").text(), VERSION);
        let property = &program.field("properties").items()[0];
        assert_eq!(property.field("value").text(), arch);
        let crates = list.field("components").items();
        let mut names = Vec::new();
        for component in crates {
            names.push(check_crate(component, &locked));
        }
        for (name, is_linked) in KNOWN {
            let found = names.iter().filter(|found| *found == name).count();
            assert_eq!(found, usize::from(is_linked), "{name} for {arch}");
        }
        let rows = list.field("dependencies").items();
        assert_eq!(rows.len(), crates.len() + 1);
        for component in crates {
            let reference = component.field("bom-ref").text();
            let is_needed = rows.iter().any(|row| {
                let mut needs = row.field("dependsOn").items().iter();
                needs.any(|needed| needed.text() == reference)
            });
            assert!(is_needed, "nothing needs {reference}");
        }
    }
}

#[test]
fn a_list_is_the_same_bytes_whoever_makes_it_and_whenever_and_has_its_digest() {
    let host = Host::new();
    let one = lists(&host, "one", "");
    let other = "umask 077; cd /; export TZ=Asia/Tokyo LC_ALL=C CARGO_TERM_COLOR=always";
    let other = lists(&host, "other", other);
    for arch in ARCHS {
        let read = |dir: &Path| fs::read(dir.join(file(arch))).expect("a list");
        assert_eq!(read(&one), read(&other), "{arch}");
        let digest = format!("{}.sha256", file(arch));
        let mut check = Command::new("sha256sum");
        check.args(["--check", "--strict", "--quiet", &digest]);
        let status = check.current_dir(&one).status();
        assert!(status.expect("it runs").success());
    }
}

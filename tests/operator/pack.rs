//! Tests the release that contrib/pack makes of a binary. An operator unpacks it, and a release store can hold it.

use crate::support::host::Host;
use crate::support::minisign::{Key, beside, list};
use crate::support::{platform, release_path};
use libflate::gzip::Decoder;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::UNIX_EPOCH;

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Runs `contrib/pack archive` after these lines of shell. Returns the path of the archive.
fn archive(host: &Host, arch: &str, program: &Path, before: &str) -> PathBuf {
    let target = host.dir.join("target");
    let output = Command::new("sh")
        .args(["-c", &format!("{before}\nexec \"$0\" archive \"$@\"")])
        .arg(source("contrib/pack"))
        .arg(arch)
        .arg(program)
        .env("CARGO_TARGET_DIR", &target)
        .output()
        .expect("sh runs");
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{message}");
    target.join(format!("pack/ops-updater-{VERSION}-{arch}.tar.gz"))
}

/// Returns a file that stands in for the binary and is quickly compressed.
fn stand_in(host: &Host) -> PathBuf {
    let path = host.dir.join("stand-in");
    fs::write(&path, "not a program\n").expect("a file");
    path
}

/// Returns path, kind, mode, owner and group of each entry, and the text of `control`.
fn entries(archive: &Path) -> (Vec<String>, String) {
    let file = fs::File::open(archive).expect("an archive");
    let mut tar = tar::Archive::new(Decoder::new(file).expect("gzip"));
    let (mut list, mut control) = (Vec::new(), String::new());
    for entry in tar.entries().expect("tar") {
        let mut entry = entry.expect("an entry");
        let header = entry.header();
        let path = entry.path().expect("a path").display().to_string();
        list.push(format!(
            "{path} {:?} {:o} {}:{}",
            header.entry_type(),
            header.mode().expect("a mode"),
            header.uid().expect("an owner"),
            header.gid().expect("a group"),
        ));
        if path == "control" {
            entry.read_to_string(&mut control).expect("text");
        }
    }
    (list, control)
}

#[test]
fn a_pack_holds_what_an_operator_needs_and_nothing_else() {
    let host = Host::new();
    let (entries, _) = entries(&archive(
        &host,
        "linux_arm64",
        &stand_in(&host),
        "umask 077",
    ));
    assert_eq!(
        entries,
        [
            "CHANGELOG.md Regular 644 0:0",
            "CONTRIBUTING.md Regular 644 0:0",
            "LICENSE Regular 644 0:0",
            "README.md Regular 644 0:0",
            "THIRD_PARTY Regular 644 0:0",
            "_ops-updater Regular 644 0:0",
            "cfg.example.json Regular 644 0:0",
            "contrib/grafana/ops-updater.json Regular 644 0:0",
            "contrib/install-fleet Regular 755 0:0",
            "contrib/nginx-site-cache.conf Regular 644 0:0",
            "contrib/prometheus/ops-updater.rules.yml Regular 644 0:0",
            "control Regular 755 0:0",
            "docs/AGENTS.md Regular 644 0:0",
            "docs/ARCHITECTURE.md Regular 644 0:0",
            "docs/COMPATIBILITY.md Regular 644 0:0",
            "docs/CONFIGURATION.md Regular 644 0:0",
            "docs/DESIRED_STATE.md Regular 644 0:0",
            "docs/INSTALL.md Regular 644 0:0",
            "docs/OPERATING.md Regular 644 0:0",
            "docs/PERFORMANCE.md Regular 644 0:0",
            "docs/RELIABILITY.md Regular 644 0:0",
            "docs/SCALE.md Regular 644 0:0",
            "docs/SECURITY.md Regular 644 0:0",
            "docs/SIGNING.md Regular 644 0:0",
            "docs/USERS.md Regular 644 0:0",
            "docs/images/page.png Regular 644 0:0",
            "docs/scale/booted.svg Regular 644 0:0",
            "docs/scale/busy-hour.svg Regular 644 0:0",
            "docs/scale/busy-minute.svg Regular 644 0:0",
            "docs/scale/down.svg Regular 644 0:0",
            "docs/scale/downloads.svg Regular 644 0:0",
            "docs/scale/release.svg Regular 644 0:0",
            "docs/schema/answer.schema.json Regular 644 0:0",
            "docs/schema/entry.schema.json Regular 644 0:0",
            "docs/schema/heartbeat.schema.json Regular 644 0:0",
            "docs/schema/policy.schema.json Regular 644 0:0",
            "docs/schema/status.schema.json Regular 644 0:0",
            "ops-updater Regular 755 0:0",
            "ops-updater.8 Regular 644 0:0",
            "ops-updater.bash Regular 644 0:0",
            "ops-updater.fish Regular 644 0:0",
            "ops-updater.logrotate Regular 644 0:0",
            "ops-updater.plist Regular 644 0:0",
            "ops-updater.service Regular 644 0:0",
        ]
    );
}

/// Returns the files to which a document links, without the headings in them.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text.split("](").skip(1);
    let targets = targets.map(|rest| rest.split([')', '#']).next().unwrap_or_default());
    targets.filter(|target| !target.is_empty() && !target.contains(':'))
}

#[test]
fn each_link_of_a_document_in_a_pack_leads_to_a_file_of_the_pack() {
    let host = Host::new();
    let packed = archive(&host, "linux_arm64", &stand_in(&host), "");
    let root = host.dir.join("unpacked");
    let file = fs::File::open(packed).expect("an archive");
    let mut tar = tar::Archive::new(Decoder::new(file).expect("gzip"));
    tar.unpack(&root).expect("a tarball");
    let mut count = 0;
    for dir in [root.clone(), root.join("docs")] {
        for document in fs::read_dir(&dir).expect("a directory") {
            let document = document.expect("an entry").path();
            if document.extension().is_none_or(|kind| kind != "md") {
                continue;
            }
            let text = fs::read_to_string(&document).expect("text");
            for link in links(&text) {
                count += 1;
                let target = dir.join(link);
                assert!(target.exists(), "{} links to {link}", document.display());
            }
        }
    }
    assert!(count > 50, "{count} links");
}

#[test]
fn the_control_of_a_pack_offers_nothing_that_needs_the_sources() {
    let host = Host::new();
    let (_, control) = entries(&archive(&host, "linux_amd64", &stand_in(&host), ""));
    let path = host.own.join("control");
    fs::write(&path, control).expect("a file");
    let run = |verb: &str| {
        let mut command = Command::new("sh");
        command.arg(&path).arg(verb).output().expect("sh runs")
    };
    let help = run("help");
    assert!(help.status.success());
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    assert!(
        help.contains("  start ") && !help.contains("  pack "),
        "{help}"
    );
    assert_eq!(run("pack").status.code(), Some(2));
    assert_eq!(run("build").status.code(), Some(2));
}

#[test]
fn a_build_that_wants_cross_does_not_fall_back_to_cargo() {
    let host = Host::new();
    let build = |with: &str| {
        let mut command = Command::new(source("contrib/pack"));
        command.args(["build", "linux_amd64"]);
        command.env("CARGO_TARGET_DIR", host.dir.join("target"));
        command.env("CROSS_CONTAINER_ENGINE", "false");
        let output = command.env("PACK_WITH", with).output();
        let output = output.expect("bash runs");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{error}");
        error
    };
    let error = build("cross");
    assert!(error.contains("cannot build with cross: "), "{error}");
    let error = build("crosss");
    assert!(error.contains("PACK_WITH is cross, cargo or"), "{error}");
}

#[test]
fn a_pack_is_the_same_bytes_whoever_makes_it_and_whenever() {
    let host = Host::new();
    let program = stand_in(&host);
    let one = archive(&host, "linux_amd64", &program, "");
    let one = fs::read(one).expect("an archive");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o600)).expect("a mode");
    let file = fs::File::options().append(true).open(&program);
    let file = file.expect("a file");
    file.set_modified(UNIX_EPOCH).expect("a time");
    let other = "umask 027; cd /; export TZ=Asia/Tokyo GZIP=-1 TAR_OPTIONS=--mtime=now";
    let other = archive(&host, "linux_amd64", &program, other);
    assert_eq!(one, fs::read(other).expect("an archive"));
}

#[test]
fn the_digests_beside_a_pack_are_what_the_usual_tools_check() {
    let host = Host::new();
    let archive = archive(&host, "linux_386", &stand_in(&host), "");
    for tool in ["md5", "sha256"] {
        let digests = format!("{}.{tool}", archive.display());
        let mut command = Command::new(format!("{tool}sum"));
        command.args(["--check", "--strict", "--quiet", &digests]);
        command.current_dir(archive.parent().expect("a directory"));
        assert!(command.status().expect("it runs").success(), "{digests}");
    }
}

#[test]
fn a_signed_pack_is_installed_by_an_updater_that_wants_its_signature() {
    let mut host = Host::new();
    let Some(key) = Key::new(&host, "release") else {
        return;
    };
    let arch = platform::arch();
    let sign = || {
        let mut command = Command::new(source("contrib/pack"));
        command.arg("sign").arg(&key.secret).arg(&arch);
        command.env("CARGO_TARGET_DIR", host.dir.join("target"));
        command.stdin(Stdio::null()).output().expect("bash runs")
    };
    let too_early = sign();
    let error = String::from_utf8_lossy(&too_early.stderr).into_owned();
    assert_eq!(too_early.status.code(), Some(1), "{error}");
    assert!(
        error.contains("it is not there; run contrib/pack pack"),
        "{error}"
    );
    let pack = archive(&host, &arch, &host.program(), "");
    let signed = sign();
    let error = String::from_utf8_lossy(&signed.stderr).into_owned();
    assert!(signed.status.success(), "{error}");
    let signature = format!("{}\n", beside(&pack).display());
    assert_eq!(String::from_utf8_lossy(&signed.stdout), signature);
    let signature = fs::read(signature.trim_end()).expect("a signature");
    let bytes = fs::read(&pack).expect("an archive");
    host.meta.publish("ops-updater", VERSION, bytes);
    let path = release_path("ops-updater", VERSION) + ".minisig";
    host.meta.put(&path, signature);
    host.set("public_keys", &list(&[&key]));
    host.desire(&[host.want("ops-updater", VERSION)]);
    host.start();
    let dir = host.agent_dir("ops-updater").join(VERSION);
    host.wait_for("the signed pack to be installed", || {
        dir.join(".receipt.json").is_file()
    });
}

#[test]
fn a_pack_lies_in_a_release_store_as_any_agent_does() {
    let mut host = Host::new();
    let pack = archive(&host, &platform::arch(), &host.program(), "");
    let pack = fs::read(pack).expect("an archive");
    host.meta.publish("ops-updater", VERSION, pack);
    let config = "{\"server\": \"127.0.0.1:1\"}";
    host.meta.put("/cfg.json", config);
    let entry = host.want("ops-updater", VERSION);
    let entry = entry.config("cfg.json", host.meta.url("/cfg.json"));
    host.desire(&[entry]);
    host.start();
    let started = (VERSION.to_owned(), "started".to_owned());
    host.wait_for("the inner updater to run", || {
        host.last_beat().is_some() && host.reported("ops-updater") == started
    });
    let dir = host.agent_dir("ops-updater").join(VERSION);
    let status = Command::new(dir.join("control")).arg("status").output();
    assert_eq!(status.expect("it runs").stdout, b"started\n");
}

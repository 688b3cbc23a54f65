//! The updater installs every kind of archive that real build systems make.

use crate::support::agent::Agent;
use crate::support::archive::{Tarball, gzip, pax_record};
use crate::support::host::Host;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::process::Command;
use tar::EntryType;

/// Installs the archive that `make` returns for demo. Returns the host and the directory in which demo runs.
fn installed(make: impl FnOnce(&Agent, &Host) -> Vec<u8>) -> (Host, PathBuf) {
    let mut host = Host::new();
    let bytes = make(&Agent::new("demo", "1.0.0"), &host);
    host.meta.publish("demo", "1.0.0", bytes);
    host.desire(&[host.want("demo", "1.0.0")]);
    host.start();
    let dir = host.wait_running("demo", "1.0.0").dir;
    (host, dir)
}

/// Returns a tarball with the agent's control script as its first entry.
fn with_control(agent: &Agent, host: &Host) -> Tarball {
    Tarball::new().file("control", 0o755, agent.control(&host.dir))
}

#[test]
fn long_names_of_gnu_and_pax_archives_are_kept() {
    let long = format!("{}/{}/file", "d".repeat(120), "e".repeat(120));
    let (_host, dir) = installed(|agent, host| {
        with_control(agent, host)
            .gnu_long_name(&format!("gnu/{long}"), 0o644, b"gnu")
            .pax_name(&format!("pax/{long}"), 0o644, b"pax")
            .gzip()
    });
    assert_eq!(
        fs::read(dir.join("gnu").join(&long)).expect("a file"),
        b"gnu"
    );
    assert_eq!(
        fs::read(dir.join("pax").join(&long)).expect("a file"),
        b"pax"
    );
}

#[test]
fn names_may_begin_with_a_dot_and_a_slash() {
    let (_host, dir) = installed(|agent, host| {
        Tarball::new()
            .dir("./")
            .file("./control", 0o755, agent.control(&host.dir))
            .dir("./etc/")
            .file("./etc/cfg.json", 0o644, "{}")
            .gzip()
    });
    assert!(dir.join("etc/cfg.json").is_file());
}

#[test]
fn links_that_stay_inside_are_made() {
    let (_host, dir) = installed(|agent, host| {
        with_control(agent, host)
            .dir("bin")
            .file("bin/program", 0o755, "text")
            .symlink("current", "bin/program")
            .symlink("bin/up", "../control")
            .hardlink("bin/same", "bin/program")
            .gzip()
    });
    assert_eq!(
        fs::read_link(dir.join("current")).expect("a link"),
        PathBuf::from("bin/program")
    );
    assert_eq!(
        fs::read_to_string(dir.join("current")).expect("a file"),
        "text"
    );
    assert!(dir.join("bin/up").is_file());
    let inode = |path: &str| fs::metadata(dir.join(path)).expect("a file").ino();
    assert_eq!(inode("bin/same"), inode("bin/program"));
}

#[test]
fn gzip_members_that_follow_one_another_are_one_archive() {
    let (_host, dir) = installed(|agent, host| {
        let tar = with_control(agent, host)
            .file("data", 0o644, "after the seam")
            .tar();
        let (one, two) = tar.split_at(700);
        [gzip(one), gzip(two)].concat()
    });
    assert_eq!(
        fs::read_to_string(dir.join("data")).expect("a file"),
        "after the seam"
    );
}

#[test]
fn directories_that_are_not_named_are_made() {
    let (_host, dir) = installed(|agent, host| {
        with_control(agent, host)
            .file("a/b/c/data", 0o644, "deep")
            .gzip()
    });
    assert_eq!(
        fs::read_to_string(dir.join("a/b/c/data")).expect("a file"),
        "deep"
    );
}

#[test]
fn pax_headers_that_say_nothing_of_names_are_skipped() {
    let (_host, dir) = installed(|agent, host| {
        let records = pax_record("mtime", "1477380651.5") + &pax_record("comment", "built by hand");
        with_control(agent, host)
            .entry(
                EntryType::XGlobalHeader,
                "pax_global_header",
                "",
                0o644,
                records.as_bytes(),
            )
            .entry(
                EntryType::XHeader,
                "PaxHeaders.0/data",
                "",
                0o644,
                records.as_bytes(),
            )
            .file("data", 0o644, "x")
            .gzip()
    });
    assert!(dir.join("data").is_file());
    assert!(!dir.join("pax_global_header").exists());
}

#[test]
fn modes_are_the_archives_within_0755_and_the_owner_is_who_unpacks() {
    let (_host, dir) = installed(|agent, host| {
        let mut foreign =
            crate::support::archive::header(EntryType::Regular, "foreign", "", 0o640, 0);
        foreign.set_uid(4242);
        foreign.set_gid(4242);
        foreign.set_cksum();
        with_control(agent, host)
            .file("suid", 0o6755, "x")
            .file("open", 0o777, "x")
            .file("closed", 0o600, "x")
            .entry(EntryType::Directory, "sticky", "", 0o1777, b"")
            .raw(&foreign, b"")
            .gzip()
    });
    let mode = |path: &str| {
        fs::metadata(dir.join(path))
            .expect("a file")
            .permissions()
            .mode()
            & 0o7777
    };
    assert_eq!(mode("control"), 0o755);
    assert_eq!(mode("suid"), 0o755);
    assert_eq!(mode("open"), 0o755);
    assert_eq!(mode("closed"), 0o600);
    assert_eq!(mode("sticky"), 0o755);
    let own = fs::metadata(&dir).expect("a directory");
    let foreign = fs::metadata(dir.join("foreign")).expect("a file");
    assert_eq!((foreign.uid(), foreign.gid()), (own.uid(), own.gid()));
}

#[test]
fn an_archive_of_the_hosts_own_tar_installs() {
    for format in ["gnu", "pax", "ustar"] {
        let (_host, dir) = installed(|agent, host| {
            let source = host.dir.join("source");
            let deep = source.join("d".repeat(60)).join("e".repeat(60));
            fs::create_dir_all(&deep).expect("directories");
            fs::write(deep.join("file"), format).expect("a file");
            std::os::unix::fs::symlink("control", source.join("link")).expect("a link");
            let script = source.join("control");
            fs::write(&script, agent.control(&host.dir)).expect("a file");
            fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("a mode");
            let mut tar = Command::new("tar");
            tar.arg(format!("--format={format}"))
                .arg("-C")
                .arg(&source)
                .args(["-czf", "-", "."]);
            let output = tar.output().expect("tar runs");
            assert!(output.status.success());
            output.stdout
        });
        let file = dir.join("d".repeat(60)).join("e".repeat(60)).join("file");
        assert_eq!(fs::read_to_string(file).expect("a file"), format);
    }
}

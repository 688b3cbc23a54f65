//! What the updater did not put there stays: directories that are no agents, versions without a receipt, and the updater's
//! own files, whatever path leads to them.

use crate::support::agent::Agent;
use crate::support::host::Host;
use crate::support::prepared;
use crate::support::watch::{names, tree};
use crate::support::wire::Desired;
use std::fs;
use std::path::Path;

/// Publishes an agent of this name and version, and returns the entry that wants it in this work directory.
fn wanted_in(host: &Host, work_dir: &Path, name: &str, version: &str) -> Desired {
    host.publish(&Agent::new(name, version));
    let mut entry = host.want(name, version);
    entry.work_dir = work_dir.display().to_string();
    entry
}

/// Starts the updater, waits until it refuses the entry, and returns the reason.
fn refused(host: &mut Host, entry: Desired) -> String {
    let name = entry.name.clone();
    host.desire(&[entry]);
    host.start();
    let error = host.wait_error(&name);
    host.wait_beats(3);
    assert!(host.daemon_is_well());
    error
}

#[test]
fn a_directory_that_is_no_agent_is_refused_by_name_and_left_as_it_is() {
    let mut host = Host::new();
    let root = host.dir.join("root");
    fs::create_dir_all(root.join("etc/cron.d")).expect("a directory");
    fs::write(root.join("etc/cron.d/job"), "* * * * * root true").expect("a file");
    let before = tree(&root);
    let entry = wanted_in(&host, &root, "etc", "cron.d");
    let error = refused(&mut host, entry);
    let dir = root.join("etc").display().to_string();
    assert!(error.contains(&dir), "{error}");
    assert_eq!(tree(&root), before);
    let fetched = host.meta.downloads();
    assert!(fetched.iter().all(|seen| seen.path.contains(".md5")));
}

#[test]
fn an_empty_directory_of_the_agents_name_is_used() {
    let mut host = Host::new();
    fs::create_dir(host.agent_dir("demo")).expect("a directory");
    // What a new file system has at its root is no content either.
    fs::create_dir(host.agent_dir("demo").join("lost+found")).expect("a directory");
    let entry = wanted_in(&host, &host.work, "demo", "1.0.0");
    host.desire(&[entry]);
    host.start();
    host.wait_running("demo", "1.0.0");
}

#[test]
fn what_lies_in_the_way_of_a_version_without_a_receipt_is_kept_under_a_name_that_says_so() {
    let mut host = Host::with_demo("1.0.0");
    let dir = host.agent_dir("demo");
    for version in ["1.0.1", "1.0.2"] {
        fs::create_dir(dir.join(version)).expect("a directory");
        fs::write(dir.join(version).join("keep"), version).expect("a file");
    }
    let other = fs::read(dir.join("1.0.0/.receipt.json")).expect("a receipt");
    fs::write(dir.join("1.0.2/.receipt.json"), other).expect("a receipt of another version");
    for version in ["1.0.1", "1.0.2", "1.0.3"] {
        host.publish(&Agent::new("demo", version));
        host.desire(&[host.want("demo", version)]);
        host.wait_running("demo", version);
    }
    host.wait_for("1.0.1 to be pruned", || !dir.join("1.0.1").exists());
    for version in ["1.0.1", "1.0.2"] {
        let kept = dir.join(format!("{version}.not-ours/keep"));
        assert_eq!(fs::read_to_string(kept).expect("it is kept"), version);
    }
    host.stop();
}

#[test]
fn a_second_thing_in_the_way_is_left_and_the_install_refused() {
    let host = Host::with_demo("1.0.0");
    let dir = host.agent_dir("demo");
    for name in ["1.0.1", "1.0.1.not-ours"] {
        fs::create_dir(dir.join(name)).expect("a directory");
        fs::write(dir.join(name).join("keep"), name).expect("a file");
    }
    host.publish(&Agent::new("demo", "1.0.1"));
    host.desire(&[host.want("demo", "1.0.1")]);
    let error = host.wait_error("demo");
    assert!(error.contains("1.0.1.not-ours"), "{error}");
    for name in ["1.0.1", "1.0.1.not-ours"] {
        assert_eq!(names(&dir.join(name)), ["keep"]);
    }
    assert_eq!(host.calls("demo"), ["1.0.0 start"]);
}

#[test]
fn a_spare_build_does_not_replace_a_version_without_a_receipt() {
    let mut host = Host::new();
    let agent = Agent::new("demo", "1.0.1");
    prepared::settle(&host, &[Agent::new("demo", "1.0.0")]);
    let dir = host.agent_dir("demo");
    let spare = prepared::unpack(&host, &host.work, &agent);
    fs::rename(spare, dir.join(".updater/1.0.1.other")).expect("a spare build");
    fs::create_dir(dir.join("1.0.1")).expect("a directory");
    fs::write(dir.join("1.0.1/keep"), "me").expect("a file");
    host.publish(&agent);
    host.desire(&[host.want("demo", "1.0.1")]);
    host.start();
    host.wait_running("demo", "1.0.1");
    host.wait_for("the end of the prune", || {
        !dir.join(".updater/1.0.1.other").exists()
    });
    assert!(dir.join("1.0.1.not-ours/keep").exists());
}

/// Entries whose directory is the updater's own or its `var`, by names that a comparison of texts does not find.
#[test]
fn the_updaters_own_directory_and_var_are_refused_whatever_their_spelling() {
    for (work_dir, name, version) in [
        ("", "updater", "var"),
        ("/proc/self/root", "updater", "var"),
        ("/proc/self/root", "updater", "1.0.0"),
        ("/proc/self/root", "updater/var", "pins"),
        ("/proc/self/root", "updater/var/new", "1.0.0"),
        ("link", "updater/var/new", "1.0.0"),
    ] {
        let mut host = Host::new();
        let base = match work_dir {
            "link" => {
                let link = host.dir.join("link");
                std::os::unix::fs::symlink(&host.dir, &link).expect("a link");
                link.display().to_string()
            }
            prefix => format!("{prefix}{}", host.dir.display()),
        };
        let path = Path::new(&base).join(name);
        let (parent, last) = (path.parent().expect("a parent"), path.file_name());
        let last = last.expect("a name").to_str().expect("text");
        // The test of what is no agent must not be what refuses it.
        fs::create_dir_all(host.own.join("var")).expect("a directory");
        fs::write(host.own.join(".version"), "1.0.0").expect("a file");
        fs::write(host.own.join("var/.version"), "1.0.0").expect("a file");
        let entry = wanted_in(&host, parent, last, version);
        let error = refused(&mut host, entry);
        assert!(error.contains("the updater's own"), "{error}");
        assert!(host.own.join("var/lock").exists());
        assert!(!host.own.join("var/new").exists());
        for dir in [host.own.clone(), host.own.join("var")] {
            let names = names(&dir);
            let is_ours = |name: &String| name == ".updater" || name.ends_with(".not-ours");
            assert!(!names.iter().any(is_ours), "{names:?}");
        }
        assert_eq!(host.run("pid").status.code(), Some(0), "the lock is held");
    }
}

#[test]
fn an_agent_beside_the_updaters_own_files_is_installed_by_any_spelling() {
    let mut host = Host::new();
    let own = format!("/proc/self/root{}", host.own.display());
    let entry = wanted_in(&host, Path::new(&own), "demo", "1.0.0");
    host.desire(&[entry]);
    host.start();
    let version = host.own.join("demo/.version");
    host.wait_for("the agent beside cfg.json", || {
        fs::read_to_string(&version).is_ok_and(|text| text == "1.0.0")
    });
}

//! `control upgrade` and `control revert`: another release of the updater takes the place of the one that runs.

use crate::operator::releases::{FILES, PREVIOUS, Site};
use crate::support::json::quote;
use crate::support::platform::skipped;
use crate::support::watch::names;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

#[test]
fn an_upgrade_keeps_the_release_before_and_the_agents_run_on_under_every_shell() {
    let site = Site::new();
    let agent = site.host.running("demo");
    fs::write(site.host.own.join("mine"), "").expect("a file");
    let mut version = "1.0.0".to_owned();
    for shell in ["sh", "dash", "bash", "busybox sh"] {
        let program = shell.split(' ').next().unwrap_or_default();
        if Command::new(program).arg("--help").output().is_err() {
            skipped(&format!("needs {program}"));
            continue;
        }
        let new = if version == "1.0.0" { "2.0.0" } else { "1.0.0" };
        let tarball = site.pack(new);
        let said = site.succeed(&format!(
            "cd .. && {shell} updater/control upgrade {tarball}"
        ));
        let kept = format!(
            "ops-updater {new} runs; {version} is kept in {PREVIOUS}, and ./control revert goes back to it\n"
        );
        assert!(said.ends_with(&kept), "{shell}: {said}");
        assert!(!said.contains("cannot"), "{shell}: {said}");
        site.assert_runs(new);
        assert_eq!(site.version_in(PREVIOUS), Some(version));
        assert_eq!(site.host.running("demo"), agent);
        let kept = names(&site.host.own.join(PREVIOUS));
        assert_eq!(kept, [&[".answered"], &FILES[..]].concat());
        site.wait_answered(new);
        version = new.to_owned();
    }
    assert!(site.host.own.join("mine").exists());
}

#[test]
fn a_tarball_without_a_sum_is_installed_and_this_is_said() {
    let site = Site::new();
    let tarball = site.host.dir.join(site.pack("2.0.0"));
    let sum = format!("{}.sha256", tarball.display());
    fs::remove_file(&sum).expect("it was there");
    let said = site.succeed(&format!("./control upgrade {}", tarball.display()));
    assert!(said.contains(&format!("there is no {sum}\n")), "{said}");
    site.assert_runs("2.0.0");
}

#[test]
fn a_release_that_does_not_start_gives_way_to_the_one_before_with_its_configuration() {
    let site = Site::new();
    site.release_that("2.0.0", "echo it is lame >&2; exit 1");
    let agent = site.host.running("demo");
    let config = fs::read(site.host.config_file()).expect("a configuration");
    for _ in 0..2 {
        site.unpack("2.0.0", ".new");
        let other = [&config[..], b"\n"].concat();
        fs::write(site.host.own.join(".new/cfg.json"), other).expect("a configuration");
        let error = site.fail("sh .new/control upgrade");
        assert!(
            error.ends_with("2.0.0 does not start; 1.0.0 was started again"),
            "{error}"
        );
        fs::remove_dir_all(site.host.own.join(".new")).expect("it is kept");
        site.assert_runs("1.0.0");
        assert_eq!(fs::read(site.host.config_file()).expect("a file"), config);
        assert!(!site.host.own.join(PREVIOUS).exists());
        assert_eq!(site.host.running("demo"), agent);
    }
}

#[test]
fn a_caller_that_is_gone_does_not_end_an_upgrade() {
    let site = Site::new();
    let tarball = site.pack("2.0.0");
    site.run(&format!(
        "cd .. && updater/control upgrade {tarball} | true"
    ));
    site.assert_runs("2.0.0");
    site.run("./control revert | true");
    site.assert_runs("1.0.0");
}

#[test]
fn a_configuration_that_is_a_link_comes_back_as_it_was() {
    let site = Site::new();
    site.release_that("2.0.0", "exit 1");
    let file = site.host.config_file();
    let config = fs::read(&file).expect("a configuration");
    fs::rename(&file, site.host.own.join("cfg.prod.json")).expect("a rename");
    symlink("cfg.prod.json", &file).expect("a link");
    site.unpack("2.0.0", ".new");
    let other = [&config[..], b"\n"].concat();
    fs::write(site.host.own.join(".new/cfg.json"), other).expect("a configuration");
    site.fail("sh .new/control upgrade");
    let link = fs::read_link(&file).expect("it is a link");
    assert_eq!(link.to_str(), Some("cfg.prod.json"));
    assert_eq!(fs::read(&file).expect("a file"), config);
}

#[test]
fn the_same_release_once_more_does_not_push_out_the_one_before() {
    let site = Site::new();
    let tarball = site.pack("2.0.0");
    let upgrade = format!("cd .. && updater/control upgrade {tarball}");
    site.succeed(&upgrade);
    site.wait_answered("2.0.0");
    let pid = site.pid();
    let said = site.succeed(&upgrade);
    assert!(said.contains("2.0.0 is here already"), "{said}");
    assert_eq!(site.pid(), pid);
    site.assert_runs("2.0.0");
    assert_eq!(site.version_in(PREVIOUS).as_deref(), Some("1.0.0"));
}

#[test]
fn a_release_whose_heartbeats_were_not_answered_does_not_push_out_the_last_good_one() {
    let site = Site::new();
    site.fall_silent();
    for (new, said) in [
        ("2.0.0", "1.0.0 is kept in ops-updater.previous, and"),
        (
            "3.0.0",
            "1.0.0 stays in ops-updater.previous: 2.0.0 had no answer",
        ),
    ] {
        site.unpack(new, ".new");
        let printed = site.succeed("sh .new/control upgrade");
        assert!(printed.contains(said), "{printed}");
        site.assert_runs(new);
        assert_eq!(site.version_in(PREVIOUS).as_deref(), Some("1.0.0"));
    }
    site.host.meta.answer_normally();
    site.wait_answered("3.0.0");
    site.unpack("4.0.0", ".new");
    site.succeed("sh .new/control upgrade");
    assert_eq!(site.version_in(PREVIOUS).as_deref(), Some("3.0.0"));
}

#[test]
fn revert_goes_back_and_again_forth_with_the_configuration() {
    let mut site = Site::new();
    let agent = site.host.running("demo");
    let old = fs::read_to_string(site.host.config_file()).expect("a file");
    site.host.set("log_level", &quote("warn"));
    let new = fs::read_to_string(site.host.config_file()).expect("a file");
    site.unpack("2.0.0", ".new");
    fs::rename(site.host.config_file(), site.host.own.join(".new/cfg.json")).expect("a rename");
    fs::write(site.host.config_file(), &old).expect("a file");
    site.succeed("sh .new/control upgrade");
    for (version, other, config) in [
        ("1.0.0", "2.0.0", &old),
        ("2.0.0", "1.0.0", &new),
        ("1.0.0", "2.0.0", &old),
    ] {
        let said = site.succeed("./control revert");
        assert!(
            said.contains(&format!("{version} runs; {other} is kept")),
            "{said}"
        );
        site.assert_runs(version);
        assert_eq!(site.version_in(PREVIOUS).as_deref(), Some(other));
        let now = fs::read_to_string(site.host.config_file()).expect("a file");
        assert_eq!(now, *config);
        assert_eq!(site.host.running("demo"), agent);
    }
}

#[test]
fn the_release_that_an_operator_went_back_to_is_kept_and_not_the_one_that_was_left() {
    let site = Site::new();
    site.unpack("2.0.0", ".new");
    site.succeed("sh .new/control upgrade");
    site.fall_silent();
    site.succeed("./control revert");
    site.unpack("3.0.0", ".new");
    site.succeed("sh .new/control upgrade");
    assert_eq!(site.version_in(PREVIOUS).as_deref(), Some("1.0.0"));
}

#[test]
fn a_release_that_cannot_be_gone_back_to_stops_nothing() {
    let site = Site::new();
    let pid = site.pid();
    let error = site.fail("./control revert");
    assert!(error.contains("there is no release in "), "{error}");
    site.unpack("2.0.0", PREVIOUS);
    fs::write(site.host.own.join(PREVIOUS).join("cfg.json"), "{}").expect("a file");
    let error = site.fail("./control revert");
    assert!(error.contains("2.0.0 cannot run with "), "{error}");
    assert_eq!(site.pid(), pid);
    site.assert_runs("1.0.0");
}

#[test]
fn the_first_release_of_a_host_is_installed_beside_a_configuration_and_nothing_else() {
    let site = Site::without_updater();
    site.unpack("1.0.0", ".new");
    fs::write(site.host.own.join("README.md"), "of something else").expect("a file");
    let error = site.fail("sh .new/control upgrade");
    assert!(error.ends_with("has README.md, but no updater"), "{error}");
    assert_eq!(names(&site.host.own), [".new", "README.md", "cfg.json"]);
    fs::remove_file(site.host.own.join("README.md")).expect("it is there");
    let said = site.succeed("sh .new/control upgrade");
    assert!(said.ends_with("ops-updater 1.0.0 runs\n"), "{said}");
    site.assert_runs("1.0.0");
    assert!(!site.host.own.join(PREVIOUS).exists());
}

/// The original trusts a file, does not wait for the end of what it stops, and its binary takes any word for a start.
const ORIGINAL: [(&str, &str); 2] = [
    (
        "control",
        r#"#!/bin/sh
cd "$(dirname "$0")" || exit
runs() { grep -q '^State:[[:space:]]*[DRS]' "/proc/$(cat var/app.pid)/status" 2>/dev/null; }
case $1 in
start)
    runs && exit 1
    nohup ./ops-updater -c cfg.json >var/app.log 2>&1 &
    echo $! >var/app.pid
    ;;
stop) kill "$(cat var/app.pid)" ;;
status) if runs; then echo started; else echo stoped; fi ;;
esac
"#,
    ),
    (
        "ops-updater",
        r#"#!/bin/sh
case $1 in
-v) echo 0.0.9 && exit ;;
--version) echo "flag provided but not defined: -version" >&2; exit 2 ;;
esac
echo "$*" >>../starts
trap 'sleep 0.5; exit' TERM
while :; do sleep 0.1; done
"#,
    ),
];

#[test]
fn the_original_updater_is_replaced_and_gone_back_to() {
    use crate::support::procs::write_script;
    let site = Site::without_updater();
    fs::create_dir(site.host.own.join("var")).expect("a directory");
    for (file, text) in ORIGINAL {
        write_script(&site.host.own.join(file), text);
    }
    site.succeed("./control start");
    site.unpack("1.0.0", ".new");
    site.succeed("sh .new/control upgrade");
    site.assert_runs("1.0.0");
    // The server has answered this one, but only the operator says whether it is good.
    site.wait_answered("1.0.0");
    let said = site.succeed("./control revert");
    let how = "and sh ops-updater.previous/control revert goes back to it";
    assert!(said.contains("0.0.9 runs; 1.0.0 is kept"), "{said}");
    assert!(said.trim_end().ends_with(how), "{said}");
    assert_eq!(site.succeed("./control status"), "started\n");
    let starts = fs::read_to_string(site.host.dir.join("starts")).expect("it ran");
    assert_eq!(starts, "-c cfg.json\n-c cfg.json\n");
    site.succeed("sh ops-updater.previous/control revert");
    site.assert_runs("1.0.0");
    let kept = fs::read_to_string(site.host.own.join(PREVIOUS).join("ops-updater"));
    assert_eq!(kept.expect("a file"), ORIGINAL[1].1);
}

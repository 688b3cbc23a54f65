//! `control upgrade` and `control revert` are killed before each rename and each removal. The next command ends well, and at no
//! moment the only copy of the old release is lost. A run of all tests takes one step in three; `OPS_TEST_MOMENTS=1` takes each.

use crate::operator::releases::{PREVIOUS, Site};
use crate::support::procs::write_script;
use crate::support::trial;
use std::fs;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};

/// Stands for `mv` and `rm`. Before the call with the number in `at`, it kills all that its caller has begun.
const FATAL: &str = r#"#!/bin/sh
count=$(($(cat "$FATAL/count") + 1))
echo "$count" >"$FATAL/count"
[ "$count" != "$(cat "$FATAL/at")" ] || kill -KILL 0
PATH=${PATH#*:}
exec "${0##*/}" "$@"
"#;

/// More steps than a command has.
const STEPS: usize = 60;

/// A site on which 1.0.0 ran, with answers, and 0.9.0 before it.
struct Killed {
    site: Site,
    status: Vec<u8>,
}

impl Killed {
    fn new() -> Self {
        let site = Site::new();
        for name in ["mv", "rm"] {
            let bin = site.host.dir.join("bin");
            fs::create_dir_all(&bin).expect("a directory");
            write_script(&bin.join(name), FATAL);
        }
        site.fall_silent();
        site.succeed("./control stop");
        let status = fs::read(site.host.own.join("var/status.json")).expect("a status");
        Self { site, status }
    }

    /// Makes the site what it was in the beginning. 1.0.0 had its answer, and no other release gets one.
    fn begin(&self) {
        let own = &self.site.host.own;
        self.site.succeed("./control stop");
        for dir in [
            ".new",
            ".ops-updater.old",
            ".ops-updater.kept",
            PREVIOUS,
            "docs",
        ] {
            let _ = fs::remove_dir_all(own.join(dir));
        }
        for file in ["README.md", "control", "ops-updater"] {
            fs::remove_file(own.join(file)).expect("it is there");
        }
        self.site.unpack("1.0.0", ".");
        self.site.unpack("0.9.0", PREVIOUS);
        fs::write(own.join("var/status.json"), &self.status).expect("a status");
    }

    /// Runs a command that is killed before its step with this number. Returns false if it ended before.
    fn kill(&self, line: &str, step: usize) -> bool {
        let dir = &self.site.host.dir;
        fs::write(dir.join("count"), "0\n").expect("a file");
        fs::write(dir.join("at"), format!("{step}\n")).expect("a file");
        let path = std::env::var("PATH").expect("a PATH");
        let mut command = self.site.command(line);
        command.env("PATH", format!("{}:{path}", dir.join("bin").display()));
        command.env("FATAL", dir).process_group(0);
        let output = command.output().expect("sh runs");
        if output.status.signal() == Some(libc::SIGKILL) {
            return true;
        }
        assert!(output.status.success(), "{output:?}");
        false
    }

    /// Asserts that some directory has the whole release, and that the control in place works.
    #[track_caller]
    fn assert_not_lost(&self, version: &str) {
        let places = [
            ".",
            ".new",
            ".ops-updater.old",
            ".ops-updater.kept",
            PREVIOUS,
        ];
        let mut found = places.iter().filter_map(|dir| self.site.version_in(dir));
        assert!(found.any(|found| found == version), "{version} is lost");
        self.site.succeed("[ ! -e control ] || ./control status");
    }
}

/// Kills the first line of shell before each of its steps, and then runs the other one, with a check of what came of it.
#[track_caller]
fn at_each_step(prepare: impl Fn(&Site), first: &str, check: impl FnMut(&Site, usize)) {
    keeping("1.0.0", prepare, first, check);
}

/// Does the same with another release that must not be lost.
#[track_caller]
fn keeping(
    version: &str,
    prepare: impl Fn(&Site),
    first: &str,
    mut check: impl FnMut(&Site, usize),
) {
    let killed = Killed::new();
    // 0 leaves the moments to another run, which does not have these.
    let asked = trial::asked_share().filter(|share| *share > 0);
    let share = asked.map_or(3, |share| share.min(10));
    for step in (1..STEPS).skip(share / 2).step_by(share) {
        killed.begin();
        prepare(&killed.site);
        if !killed.kill(first, step) {
            assert!(step > 10, "only {step} steps were seen");
            return;
        }
        killed.assert_not_lost(version);
        check(&killed.site, step);
    }
    panic!("it does not end");
}

const UPGRADE: &str = "sh .new/control upgrade";

fn unpack(site: &Site) {
    site.unpack("2.0.0", ".new");
}

fn upgrade(site: &Site) {
    unpack(site);
    site.succeed(UPGRADE);
}

/// Asserts that one release runs, whole and alone, and that the other is kept.
#[track_caller]
fn assert_ends_with(site: &Site, version: &str, kept: &str, step: usize) {
    site.assert_runs(version);
    let previous = site.version_in(PREVIOUS);
    assert_eq!(previous.as_deref(), Some(kept), "step {step}");
}

#[test]
fn an_upgrade_that_was_killed_ends_well_when_it_is_run_again() {
    at_each_step(unpack, UPGRADE, |site, step| {
        // At the last step, .new would be removed.
        site.succeed(UPGRADE);
        assert_ends_with(site, "2.0.0", "1.0.0", step);
    });
}

#[test]
fn another_upgrade_after_one_that_was_killed_keeps_the_last_good_release() {
    at_each_step(unpack, UPGRADE, |site, step| {
        let _ = fs::remove_dir_all(site.host.own.join(".new"));
        site.unpack("3.0.0", ".new");
        site.succeed(UPGRADE);
        assert_ends_with(site, "3.0.0", "1.0.0", step);
    });
}

#[test]
fn an_upgrade_that_was_killed_can_be_undone() {
    at_each_step(unpack, UPGRADE, |site, step| {
        let begun = [".ops-updater.old", ".ops-updater.kept"]
            .iter()
            .any(|dir| site.host.own.join(dir).exists());
        let ended = site.version_in(".").as_deref() == Some("2.0.0");
        site.succeed("./control revert");
        let _ = fs::remove_dir_all(site.host.own.join(".new"));
        let version = if begun || ended { "1.0.0" } else { "0.9.0" };
        assert_eq!(
            site.version_in(".").as_deref(),
            Some(version),
            "step {step}"
        );
        site.assert_runs(version);
    });
}

#[test]
fn a_refused_release_after_an_upgrade_that_was_killed_brings_the_old_one_back() {
    at_each_step(unpack, UPGRADE, |site, step| {
        let config = site.host.own.join(".new/cfg.json");
        fs::write(config, "{").expect("a configuration");
        site.fail(UPGRADE);
        let _ = fs::remove_dir_all(site.host.own.join(".new"));
        let now = site.version_in(".").expect("one release");
        let ended = site.version_in(PREVIOUS).as_deref() == Some("1.0.0");
        assert_eq!(now, if ended { "2.0.0" } else { "1.0.0" }, "step {step}");
    });
}

#[test]
fn a_revert_that_was_killed_ends_well_when_it_is_run_again() {
    at_each_step(upgrade, "./control revert", |site, step| {
        site.succeed("./control revert");
        assert_ends_with(site, "1.0.0", "2.0.0", step);
    });
}

#[test]
fn an_upgrade_after_a_revert_that_was_killed_keeps_the_last_good_release() {
    at_each_step(upgrade, "./control revert", |site, step| {
        site.unpack("3.0.0", ".new");
        site.succeed(UPGRADE);
        assert_ends_with(site, "3.0.0", "1.0.0", step);
    });
}

#[test]
fn the_first_installation_of_a_host_ends_well_when_it_is_run_again_after_a_kill_and_a_refusal() {
    let prepare = |site: &Site| {
        let own = &site.host.own;
        for dir in [PREVIOUS, "docs"] {
            fs::remove_dir_all(own.join(dir)).expect("it is there");
        }
        for file in ["README.md", "control", "ops-updater"] {
            fs::remove_file(own.join(file)).expect("it is there");
        }
        site.unpack("2.0.0", ".new");
    };
    keeping("2.0.0", prepare, UPGRADE, |site, step| {
        let config = site.host.own.join(".new/cfg.json");
        fs::write(&config, "{").expect("a configuration");
        site.fail(UPGRADE);
        fs::remove_file(config).expect("it is there");
        site.succeed(UPGRADE);
        site.assert_runs("2.0.0");
        let previous = site.version_in(PREVIOUS);
        assert!(previous.is_none_or(|old| old == "2.0.0"), "step {step}");
    });
}

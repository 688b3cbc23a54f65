//! `control upgrade` of what would harm: one line says why, and the updater that runs is not touched.

use crate::operator::releases::{PREVIOUS, Site};
use crate::support::names::can_mount;
use crate::support::platform::skipped;
use crate::support::users;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

impl Site {
    /// Asserts that this is refused in one line with these words.
    #[track_caller]
    fn refuse(&self, line: &str, code: i32, words: &str) {
        let pid = self.pid();
        let error = refusal(&mut self.command(line), code);
        assert!(error.contains(words), "{error}");
        let _ = fs::remove_dir_all(self.host.own.join(".new"));
        assert_eq!(self.pid(), pid);
        self.assert_runs("1.0.0");
    }

    /// Returns the line with which this is refused when an ordinary user runs it.
    #[track_caller]
    fn refuse_nobody(&self, line: &str) -> String {
        refusal(self.command(line).uid(65534).gid(65534), 1)
    }
}

/// Asserts that the command fails with one line, and returns it.
#[track_caller]
fn refusal(command: &mut Command, code: i32) -> String {
    let output = command.output().expect("sh runs");
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    error
}

#[test]
fn a_call_that_names_no_release_prints_how_to_call_it() {
    let site = Site::new();
    site.refuse("./control upgrade", 2, "usage: ./control upgrade TARBALL");
    site.refuse("./control upgrade a b", 2, "usage: ");
    site.refuse("./control upgrade none.tar.gz", 1, "cannot read ");
    site.refuse("./control upgrade var", 1, "cannot read ");
}

#[test]
fn a_tarball_that_is_cut_or_not_the_one_of_its_sum_is_refused() {
    let site = Site::new();
    let name = site.pack("2.0.0");
    let tarball = site.host.dir.join(&name);
    let whole = fs::read(&tarball).expect("a tarball");
    fs::write(&tarball, &whole[..whole.len() / 2]).expect("a file");
    let upgrade = format!("./control upgrade ../{name}");
    site.refuse(&upgrade, 1, "is not the file whose sum is in ");
    fs::remove_file(format!("{}.sha256", tarball.display())).expect("it is there");
    site.refuse(&upgrade, 1, "cannot unpack ");
    fs::write(&tarball, "no tarball").expect("a file");
    site.refuse(&upgrade, 1, "cannot unpack ");
}

#[test]
fn a_tarball_of_something_else_or_for_another_arch_is_refused() {
    let site = Site::new();
    let dir = site.release("2.0.0");
    let name = site.pack("2.0.0");
    let upgrade = format!("./control upgrade ../{name}");
    let binary = dir.join("ops-updater");
    fs::remove_file(&binary).expect("it is there");
    site.pack("2.0.0");
    site.refuse(&upgrade, 1, "is not a release of ops-updater");
    fs::copy(dir.join("control"), &binary).expect("a file that can be run");
    fs::write(&binary, b"\x7fELF\x02\x01\x01 of another arch\n(\n").expect("a file");
    site.pack("2.0.0");
    site.refuse(&upgrade, 1, "made for another arch");
    // The kernel of an amd64 runs it, but each agent would then be that for 386.
    site.release_that("3.0.0", "");
    let script = fs::read_to_string(site.release("3.0.0").join("ops-updater")).expect("a file");
    let odd = "[ \"$1\" != --version ] || { echo ops-updater 3.0.0 linux_odd; exit; }\n";
    let script = script.replacen('\n', &format!("\n{odd}"), 1);
    fs::write(site.release("3.0.0").join("ops-updater"), script).expect("a file");
    let name = site.pack("3.0.0");
    site.refuse(&format!("./control upgrade ../{name}"), 1, "another arch");
}

#[test]
fn a_release_that_would_replace_var_or_refuses_the_configuration_is_refused() {
    let site = Site::new();
    site.unpack("2.0.0", ".new");
    fs::create_dir(site.host.own.join(".new/var")).expect("a directory");
    site.refuse("sh .new/control upgrade", 1, "it would replace var");
    site.unpack("2.0.0", ".new");
    fs::write(site.host.own.join(".new/cfg.json"), "{").expect("a file");
    site.refuse("sh .new/control upgrade", 1, "2.0.0 cannot run with ");
}

#[test]
fn the_updater_of_another_user_is_refused() {
    let site = Site::new();
    if users::uid_of(&site.host.own) != Some(0) {
        return skipped("needs root");
    }
    let name = site.pack("2.0.0");
    for line in [&format!("./control upgrade ../{name}"), "./control revert"] {
        site.refuse_nobody(line);
    }
    site.assert_runs("1.0.0");
}

/// It could not be removed, neither from here nor from where the release before is kept.
#[test]
fn a_release_that_replaces_a_directory_of_another_user_is_refused() {
    let site = Site::new();
    if users::uid_of(&site.host.own) != Some(0) {
        return skipped("needs root");
    }
    let pid = site.pid();
    for (owned, of_root) in [("var", "docs"), ("docs", PREVIOUS)] {
        site.unpack("2.0.0", ".new");
        site.succeed(&format!(
            "mkdir -p {PREVIOUS} && chown 65534 . {owned} && chown -R 65534 .new"
        ));
        let error = site.refuse_nobody("sh .new/control upgrade");
        let cause = format!("/{of_root}: {of_root} belongs to another user\n");
        assert!(error.ends_with(&cause), "{error}");
        fs::remove_dir_all(site.host.own.join(".new")).expect("it is kept");
        site.assert_runs("1.0.0");
        assert_eq!(site.pid(), pid);
    }
}

#[test]
fn a_release_for_which_there_is_no_space_is_refused() {
    if !can_mount() {
        return;
    }
    let site = Site::without_updater();
    site.release("1.0.0");
    let name = site.pack("2.0.0");
    let output = site.run(&format!(
        r#"exec unshare -m sh -c '
        mount --make-rprivate / && config=$(cat cfg.json) && size=$(wc -c <../releases/1.0.0/ops-updater) &&
            mount -t tmpfs -o mode=755,size=$((size * 3 / 2)) none "$PWD" && cd "$PWD" && echo "$config" >cfg.json &&
            cp -R ../releases/1.0.0/. . && ./control start >/dev/null && ./control pid || exit
        ./control upgrade ../{name}; echo "$?"
        ls -A | grep -vx var; ./control pid; ./control stop >/dev/null'"#
    ));
    let (out, error) = (text(&output.stdout), text(&output.stderr));
    let lines: Vec<_> = out.lines().collect();
    let (first, rest) = lines.split_first().expect("a pid");
    let files = ["README.md", "cfg.json", "control", "docs", "ops-updater"];
    assert_eq!(rest, [&["1"], &files[..], &[*first]].concat(), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(error.contains("is there space? tar: "), "{error}");
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_tarball_in_the_directory_that_is_replaced_is_refused_and_stays() {
    let site = Site::new();
    let tarball = site.pack("2.0.0");
    site.succeed(&format!("mkdir .new && mv ../{tarball} .new/"));
    let error = site.fail(&format!("./control upgrade .new/{tarball}"));
    assert!(error.contains("move it out of"), "{error}");
    assert!(site.host.own.join(".new").join(tarball).exists());
}

//! Tests the log that `control start` creates. It stays within its limit, keeps one old file, and copes with every
//! obstacle.

use crate::crash::full_disk::Mount;
use crate::operator::control::{command, pid, succeed, unpacked};
use crate::support::host::Host;
use crate::support::procs;
use std::fmt::Write as _;
use std::fs;
use std::ops::Range;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The limit that `log_max_size` sets.
const LIMIT: u64 = 1_000_000;
/// The number of lines that make a flood of about 1.2 MB.
const FLOOD_LINES: usize = 400;

/// Returns a host that is not started. Its log is limited to 1 MB, and no heartbeat disturbs it.
fn quiet() -> Host {
    let mut host = unpacked();
    host.set("interval", "86400");
    host.set("log_max_size", "1");
    fs::create_dir(host.own.join("var")).expect("var");
    host
}

fn started() -> Host {
    let host = quiet();
    succeed(&host, "start");
    host
}

fn log(host: &Host) -> PathBuf {
    host.own.join("var/app.log")
}

fn old(host: &Host) -> PathBuf {
    host.own.join("var/app.log.1")
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |meta| meta.len())
}

/// Makes the daemon log these numbers in lines of 3 KB each: they are unknown keys in a cfg.json that it reads again.
fn pour(host: &Host, pid: u32, numbers: Range<usize>) {
    let settings = text(&host.config_file());
    let mut flood = settings.trim_end_matches(['\n', '}']).to_owned();
    for number in numbers {
        let _ = write!(flood, ",\n\"key-{number:06}-{}\": 1", "x".repeat(3_000));
    }
    fs::write(host.config_file(), flood + "\n}\n").expect("cfg.json");
    procs::signal(pid, libc::SIGHUP);
}

/// Logs these numbers, as many at a time as a cfg.json holds, and waits for the last one.
#[track_caller]
fn flood(host: &Host, pid: u32, numbers: Range<usize>) {
    let settings = text(&host.config_file());
    for from in numbers.clone().step_by(250) {
        let end = numbers.end.min(from + 250);
        fs::write(host.config_file(), &settings).expect("cfg.json");
        pour(host, pid, from..end);
        let last = format!("key-{:06}", end - 1);
        host.wait_for(&format!("the line of {last}"), || {
            for path in [log(host), old(host)] {
                assert!(size(&path) <= LIMIT, "{} B", size(&path));
            }
            assert!(procs::alive(pid), "{}", text(&log(host)));
            text(&log(host)).contains(&last) || text(&old(host)).contains(&last)
        });
    }
    fs::write(host.config_file(), settings).expect("cfg.json");
}

/// Returns the numbers in this part of a log. Asserts that every line is complete.
#[track_caller]
fn numbers(text: &str) -> Vec<usize> {
    let number = |line: &str| line.split_once("key-")?.1.get(..6)?.parse().ok();
    for line in text.lines() {
        assert!(line.get(19..21) == Some("Z "), "{line}");
    }
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines().filter_map(number).collect()
}

#[test]
fn a_flood_fills_the_log_and_one_old_file_and_no_line_is_lost_between_them() {
    let host = started();
    let pid = pid(&host);
    fs::set_permissions(
        log(&host),
        std::os::unix::fs::PermissionsExt::from_mode(0o640),
    )
    .expect("our file");
    flood(&host, pid, 0..4 * FLOOD_LINES);
    let mut seen = numbers(&text(&old(&host)));
    assert!(seen.len() > 300, "{} lines in the old file", seen.len());
    seen.extend(numbers(&text(&log(&host))));
    let expected: Vec<_> = (seen[0]..4 * FLOOD_LINES).collect();
    assert_eq!(seen, expected);
    let mode = fs::metadata(log(&host)).expect("a log").mode();
    assert_eq!(
        mode & 0o777,
        0o640,
        "others may not read what they could not"
    );
    let names = crate::support::watch::names(&host.own.join("var"));
    assert!(!names.contains(&"app.log.new".to_owned()), "{names:?}");
}

#[test]
fn where_the_log_cannot_be_moved_it_is_cut_and_says_so() {
    for obstacle in ["app.log.1", "app.log.new"] {
        let host = quiet();
        let obstacle = host.own.join("var").join(obstacle);
        fs::create_dir(&obstacle).expect("an obstacle");
        fs::write(obstacle.join("file"), "").expect("an obstacle");
        succeed(&host, "start");
        let pid = pid(&host);
        flood(&host, pid, 0..2 * FLOOD_LINES);
        let text = text(&log(&host));
        assert!(numbers(&text).ends_with(&[2 * FLOOD_LINES - 2, 2 * FLOOD_LINES - 1]));
        let first = text.lines().next().unwrap_or_default();
        assert!(first.contains("WARN the log was emptied"), "{first}");
        assert!(obstacle.join("file").exists());
        let new = host.own.join("var/app.log.new");
        assert!(!new.is_file(), "a file that was not moved is left");
    }
}

#[test]
fn a_log_opened_without_append_gets_no_hole_when_it_is_cut() {
    let mut host = quiet();
    fs::create_dir(host.own.join("var/app.log.1")).expect("an obstacle");
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "exec ./ops-updater -c cfg.json >var/app.log 2>&1"])
        .current_dir(&host.own);
    host.start_as_is(&mut shell);
    let pid = host.daemon_pid();
    host.wait_for("the first line", || size(&log(&host)) > 0);
    flood(&host, pid, 0..FLOOD_LINES);
    assert!(!text(&log(&host)).contains('\0'));
}

#[test]
fn of_a_log_that_is_too_large_at_the_start_the_end_is_kept() {
    let host = quiet();
    let line = |number| format!("2026-11-22T17:31:33Z INFO key-{number:06}\n");
    let before: String = (0..100_000).map(line).collect();
    fs::write(log(&host), before).expect("a log");
    succeed(&host, "start");
    host.wait_for("the first line", || {
        text(&log(&host)).contains("ops-updater")
    });
    let kept = numbers(&text(&old(&host)));
    assert_eq!(kept.last(), Some(&99_999));
    assert!(size(&old(&host)) <= LIMIT && size(&old(&host)) > LIMIT - 100);
    assert!(size(&log(&host)) < 1_000);
}

#[test]
fn a_log_that_somebody_moved_removed_or_cut_is_written_on_under_its_name() {
    let host = started();
    let pid = pid(&host);
    let aside = host.own.join("var/app.log-20261122");
    fs::rename(log(&host), &aside).expect("a log");
    flood(&host, pid, 0..2);
    assert_eq!(numbers(&text(&aside)), []);
    fs::remove_file(log(&host)).expect("a log");
    flood(&host, pid, 2..4);
    assert_eq!(numbers(&text(&log(&host))), [2, 3]);
    fs::write(log(&host), "").expect("cut");
    flood(&host, pid, 4..6);
    assert_eq!(numbers(&text(&log(&host))), [4, 5]);
    let open = fs::read_dir(format!("/proc/{pid}/fd")).expect("ours");
    let open: Vec<_> = open.flatten().map(|fd| fs::read_link(fd.path())).collect();
    let of_log = |fd: &&std::io::Result<PathBuf>| fd.as_ref().is_ok_and(|fd| *fd == log(&host));
    assert_eq!(
        open.iter().filter(of_log).count(),
        2,
        "stdout and stderr: {open:?}"
    );
}

#[test]
fn a_fifo_or_a_directory_in_the_place_of_the_log_hangs_nothing() {
    for make in ["mkfifo", "mkdir"] {
        let mut host = started();
        let pid = pid(&host);
        let aside = host.dir.join("aside");
        // The daemon may write a line in between, which makes a new log.
        host.wait_for("the obstacle", || {
            fs::rename(log(&host), &aside).expect("a log");
            let made = Command::new(make).arg(log(&host)).output();
            made.expect("it runs").status.success()
        });
        host.set("no-such-key", "1");
        procs::signal(pid, libc::SIGHUP);
        host.wait_for("the line where the log is now", || {
            text(&aside).contains("no-such-key")
        });
        assert!(procs::alive(pid));
    }
}

#[test]
fn a_log_behind_a_link_is_kept_within_its_limit_too() {
    let host = quiet();
    let target = host.dir.join("elsewhere.log");
    fs::write(&target, "").expect("a log");
    symlink(&target, log(&host)).expect("a link");
    succeed(&host, "start");
    let pid = pid(&host);
    flood(&host, pid, 0..2 * FLOOD_LINES);
    let mut seen = numbers(&text(&old(&host)));
    seen.extend(numbers(&text(&target)));
    let expected: Vec<_> = (seen[0]..2 * FLOOD_LINES).collect();
    assert_eq!(seen, expected);
    assert_eq!(fs::read_link(log(&host)).ok(), Some(target));
}

#[test]
fn a_reload_sets_another_limit() {
    let mut host = quiet();
    host.set("log_max_size", "3");
    succeed(&host, "start");
    let pid = pid(&host);
    let before = "an old line\n".repeat(170_000);
    fs::write(log(&host), &before).expect("a log");
    host.set("log_max_size", "1");
    assert!(size(&log(&host)) > 2 * LIMIT && !old(&host).exists());
    procs::signal(pid, libc::SIGHUP);
    host.wait_for("the end of the log to be kept", || old(&host).exists());
    flood(&host, pid, 0..2);
    assert!(size(&log(&host)) < LIMIT && size(&old(&host)) <= LIMIT);
}

#[test]
fn control_tail_follows_the_log_into_the_new_file() {
    let host = started();
    let pid = pid(&host);
    let followed = host.dir.join("followed");
    let out = fs::File::create(&followed).expect("a file");
    let mut tail = command(&host, &["sh"], "tail")
        .stdout(out)
        .stderr(Stdio::null())
        .spawn()
        .expect("sh runs");
    host.wait_for("the tail", || text(&followed).contains("ops-updater"));
    flood(&host, pid, 0..2 * FLOOD_LINES);
    host.wait_for("its last line", || {
        text(&followed).contains(&format!("key-{:06}", 2 * FLOOD_LINES - 1))
    });
    tail.kill().expect("ours");
    tail.wait().expect("ours");
}

#[test]
fn on_a_full_disk_lines_are_dropped_whole_and_the_log_goes_on_when_there_is_room() {
    let mut host = quiet();
    let Some(_mount) = Mount::tmpfs(&host.own.join("var"), "3m") else {
        return;
    };
    succeed(&host, "start");
    let pid = pid(&host);
    flood(&host, pid, 0..10);
    let ballast = host.own.join("var/ballast");
    assert!(fs::write(&ballast, vec![b'x'; 4 << 20]).is_err());
    host.set("hostname", "\"renamed\"");
    pour(&host, pid, 10..20);
    host.wait_for("the reload", || {
        succeed(&host, "sync");
        host.last_beat()
            .is_some_and(|heartbeat| heartbeat.body.contains("\"renamed\""))
    });
    fs::remove_file(&ballast).expect("ours");
    host.unset("hostname");
    flood(&host, pid, 20..30);
    let expected: Vec<_> = (0..10).chain(20..30).collect();
    assert_eq!(numbers(&text(&log(&host))), expected);
}

#[test]
fn a_log_that_is_not_the_updaters_own_is_never_cut() {
    let mut host = Host::new();
    host.set("interval", "86400");
    host.set("log_max_size", "1");
    fs::write(host.log_file(), "an old line\n".repeat(100_000)).expect("a log");
    fs::create_dir(host.own.join("var")).expect("var");
    fs::write(log(&host), "").expect("a log of another time");
    host.start();
    host.wait_for("the first line", || host.log().contains("ops-updater"));
    assert!(host.log().starts_with("an old line\n"));
    assert!(host.log().len() > 1_200_000);
    assert_eq!(text(&log(&host)), "");
}

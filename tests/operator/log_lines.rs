//! Checks that the log states each fact once, and how often it was repeated.

use crate::operator::control::{pid, succeed, unpacked};
use crate::support::host::Host;
use crate::support::procs;
use crate::support::wire::Answer;
use std::fs;
use std::time::Duration;

fn log(host: &Host) -> String {
    fs::read_to_string(host.own.join("var/app.log")).unwrap_or_default()
}

/// Returns the counts in the log, in their order.
fn counts(log: &str) -> Vec<u32> {
    let count = |line: &str| {
        let (_, count) = line.split_once(" ERROR last line repeated ")?;
        count.strip_suffix(" times")?.parse().ok()
    };
    log.lines().filter_map(count).collect()
}

#[test]
fn a_line_that_comes_again_and_again_is_written_once_and_counted() {
    let mut host = unpacked();
    host.set("interval", "86400");
    succeed(&host, "start");
    let pid = pid(&host);
    host.set("interval", "0");
    host.wait_for("a count of ten repetitions", || {
        procs::signal(pid, libc::SIGHUP);
        counts(&log(&host)) == [10]
    });
    for _ in 0..20 {
        procs::signal(pid, libc::SIGHUP);
        std::thread::sleep(Duration::from_millis(2));
    }
    succeed(&host, "stop");
    let log = log(&host);
    let times = |part| log.lines().filter(|line| line.contains(part)).count();
    assert_eq!(times("interval is 0"), 1, "{log}");
    let counted = counts(&log);
    assert!(counted.len() == 2 && counted[1] > 10, "{log}");
    assert!(
        log.lines()
            .last()
            .is_some_and(|line| line.ends_with("the agents run on"))
    );
}

#[test]
fn a_count_is_told_at_the_end_too_where_the_last_word_is_not_to_be_logged() {
    let mut host = unpacked();
    host.set("log_level", "\"error\"");
    succeed(&host, "start");
    host.set("interval", "0");
    let pid = pid(&host);
    let mut left = 5;
    host.wait_for("five reloads", || {
        procs::signal(pid, libc::SIGHUP);
        left -= 1;
        left == 0
    });
    succeed(&host, "stop");
    let log = log(&host);
    assert!(counts(&log).len() == 1, "{log}");
}

#[test]
fn a_fault_that_lasted_is_told_with_its_count_when_it_ends() {
    let mut host = Host::new();
    host.meta.answer(Answer::new(500, "no"));
    host.start();
    host.wait_beats(1);
    host.wait_for("five heartbeats", || {
        host.signal_daemon(libc::SIGUSR1);
        host.meta.count_beats() >= 5
    });
    host.meta.answer_normally();
    host.wait_for("the first success", || {
        host.signal_daemon(libc::SIGUSR1);
        host.log().contains("answers again")
    });
    let log = host.log();
    let lines_with = |part| {
        log.lines()
            .filter(|line| line.contains(part))
            .collect::<Vec<_>>()
    };
    assert_eq!(lines_with(" WARN ").len(), 1, "{log}");
    let end = lines_with(" times in all since ");
    assert_eq!(end.len(), 1, "{log}");
    assert!(end[0].contains("INFO ") && end[0].contains("500"), "{log}");
}

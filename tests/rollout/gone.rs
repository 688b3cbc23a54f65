//! Stopped means gone: no version runs beside what another one left, whatever its `control` says.

use crate::support::falcon::{Falcon, Program};
use crate::support::host::{Host, MARK};
use crate::support::procs;
use std::process::{Command, Stdio};
use std::time::Duration;

/// A stop waits 10 s, then TERM takes 5 s, and a start is watched for 5 s.
const LONG: Duration = Duration::from_secs(90);

fn upgrade(host: &Host, falcon: &Falcon) {
    host.desire(&[host.want("demo", "1.0.1")]);
    falcon.wait_up(host, "1.0.1");
}

/// Returns the warnings of the log that name this process.
fn warnings(host: &Host, pid: u32) -> Vec<String> {
    let words = format!("pid {pid} ");
    let log = host.log();
    let lines = log.lines().filter(|line| line.contains(" WARN "));
    let about = lines.filter(|line| line.contains(&words));
    about.map(str::to_owned).collect()
}

const UPGRADED: [&str; 3] = ["1.0.0 start", "1.0.0 stop", "1.0.1 start"];

#[test]
fn a_version_is_started_when_the_one_before_has_left_its_port() {
    for program in [Program::Own, Program::Interpreter] {
        let Some(mut falcon) = Falcon::new(3) else {
            return;
        };
        falcon.program = program;
        let host = falcon.run(&[falcon.agent("1.0.0"), falcon.agent("1.0.1")]);
        upgrade(&host, &falcon);
        assert_eq!(host.calls("demo"), UPGRADED);
        assert!(!host.log().contains(" WARN "), "{}", host.log());
    }
}

#[test]
fn an_agent_that_was_started_twice_is_upgraded_and_none_is_left() {
    let Some(falcon) = Falcon::new(0) else {
        return;
    };
    let host = falcon.run(&[falcon.agent("1.0.0"), falcon.agent("1.0.1")]);
    let first = falcon.processes()[0];
    let second = falcon.start_twice(&host, "1.0.0");
    upgrade(&host, &falcon);
    assert_eq!(second.processes(), []);
    assert_eq!(host.calls("demo"), UPGRADED);
    let warnings = warnings(&host, first);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("(app)") && warnings[0].contains("TERM"));
}

#[test]
fn a_process_that_obeys_no_term_is_killed_before_the_next_version_starts() {
    let Some(falcon) = Falcon::new(86400) else {
        return;
    };
    let host = falcon.run(&[falcon.agent("1.0.0"), falcon.agent("1.0.1")]);
    let first = falcon.processes()[0];
    upgrade(&host, &falcon);
    assert_eq!(host.calls("demo"), UPGRADED);
    let warnings = warnings(&host, first);
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[1].contains("KILL"), "{warnings:?}");
}

#[test]
fn an_agent_that_lost_its_pid_file_is_not_started_beside_itself() {
    let Some(falcon) = Falcon::new(0) else {
        return;
    };
    let host = falcon.run(&[falcon.agent("1.0.0")]);
    let first = falcon.processes()[0];
    Falcon::lose_pid_file(&host, "1.0.0");
    host.wait_within(LONG, "the restart", || !procs::alive(first));
    falcon.wait_up(&host, "1.0.0");
    assert_eq!(host.calls("demo"), ["1.0.0 start", "1.0.0 start"]);
    let warnings = warnings(&host, first);
    assert!(warnings.iter().any(|line| line.contains("it gets TERM")));
}

#[test]
fn an_agent_that_is_back_before_it_is_started_again_is_left_alone() {
    let Some(falcon) = Falcon::new(0) else {
        return;
    };
    let host = falcon.run(&[falcon.agent("1.0.0")]);
    let first = falcon.processes()[0];
    Falcon::lose_pid_file(&host, "1.0.0");
    host.wait_for("the start to begin", || {
        host.log().contains("INFO demo: start 1.0.0\n") && host.log().contains("next start now")
    });
    let pid_file = host.agent_dir("demo").join("1.0.0/app.pid");
    std::fs::write(pid_file, first.to_string()).expect("a pid file");
    falcon.wait_up(&host, "1.0.0");
    host.wait_within(LONG, "the end of the start", || {
        host.log().matches("demo: start 1.0.0: done").count() == 2
    });
    assert_eq!(falcon.processes(), [first]);
    assert_eq!(host.calls("demo"), ["1.0.0 start"]);
}

#[test]
fn an_agent_is_reported_as_stopped_when_it_is_gone() {
    let Some(falcon) = Falcon::new(3) else {
        return;
    };
    let host = falcon.run(&[falcon.agent("1.0.0")]);
    host.desire(&[host.want("demo", "1.0.0").cmd("stop")]);
    host.wait_within(LONG, "the report of the stop", || {
        let status = host.reported("demo").1;
        let is_gone = falcon.processes().is_empty();
        assert!(is_gone || status != "stoped");
        status == "stoped"
    });
    assert_eq!(host.calls("demo"), ["1.0.0 start", "1.0.0 stop"]);
}

#[test]
fn an_agent_that_was_started_twice_is_stopped_twice() {
    let Some(falcon) = Falcon::new(0) else {
        return;
    };
    let host = falcon.run(&[falcon.agent("1.0.0")]);
    let second = falcon.start_twice(&host, "1.0.0");
    host.desire(&[host.want("demo", "1.0.0").cmd("stop")]);
    host.wait_within(LONG, "the report of the stop", || {
        host.reported("demo").1 == "stoped"
    });
    assert_eq!([falcon.processes(), second.processes()], [[]; 2]);
}

#[test]
fn an_agent_that_lost_its_pid_file_and_is_to_stop_is_stopped() {
    let Some(falcon) = Falcon::new(0) else {
        return;
    };
    let mut host = falcon.run(&[falcon.agent("1.0.0")]);
    let first = falcon.processes()[0];
    host.stop();
    Falcon::lose_pid_file(&host, "1.0.0");
    host.desire(&[host.want("demo", "1.0.0").cmd("stop")]);
    host.start();
    host.wait_within(LONG, "the report of what runs", || {
        let status = host.reported("demo").1;
        assert_ne!(status, "stoped");
        status == format!("stoped, but pid {first} (app) still runs")
    });
    host.wait_within(LONG, "the report of the stop", || {
        host.reported("demo").1 == "stoped"
    });
    assert!(!procs::alive(first));
    // To its `control` there is nothing to stop.
    assert_eq!(host.calls("demo"), ["1.0.0 start"]);
}

#[test]
fn a_version_that_fails_leaves_its_port_to_the_one_before() {
    let Some(falcon) = Falcon::new(2) else {
        return;
    };
    // It has no pid file, so its `stop` stops nothing.
    let bad = falcon.agent_after("1.0.1", "rm app.pid; exit 1");
    let host = falcon.run(&[falcon.agent("1.0.0"), bad]);
    host.desire(&[host.want("demo", "1.0.1")]);
    host.wait_within(LONG, "the failure of 1.0.1", || {
        host.error("demo").contains("1.0.1 did not start")
    });
    falcon.wait_up(&host, "1.0.0");
}

#[test]
fn an_agent_that_moves_has_left_its_port_when_it_starts_elsewhere() {
    let Some(falcon) = Falcon::new(3) else {
        return;
    };
    let host = falcon.run(&[falcon.agent("1.0.0")]);
    let elsewhere = host.dir.join("elsewhere");
    host.desire(&[host.want("demo", "1.0.0").work_dir(&elsewhere)]);
    host.wait_within(LONG, "the move", || {
        elsewhere.join("demo/.version").exists()
    });
    falcon.wait_up(&host, "1.0.0");
    assert_eq!(
        host.calls("demo"),
        ["1.0.0 start", "1.0.0 stop", "1.0.0 start"]
    );
}

#[test]
fn a_process_that_only_stands_in_the_directory_is_left() {
    let Some(falcon) = Falcon::new(0) else {
        return;
    };
    let host = falcon.run(&[falcon.agent("1.0.0"), falcon.agent("1.0.1")]);
    let mut shell = Command::new("sleep")
        .arg("86400")
        .current_dir(host.agent_dir("demo").join("1.0.0"))
        .env(MARK, &host.dir)
        .stdin(Stdio::null())
        .spawn()
        .expect("it runs");
    upgrade(&host, &falcon);
    assert_eq!(host.calls("demo"), UPGRADED);
    assert!(shell.try_wait().expect("a child").is_none());
    let warnings = warnings(&host, shell.id());
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("is left"), "{warnings:?}");
    shell.kill().and_then(|()| shell.wait()).expect("a child");
}

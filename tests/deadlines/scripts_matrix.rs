//! Tests every verb of a control script with every way to misbehave. `scripts_table` has the rows and what each of them
//! must lead to. `Matrix::check` checks all the time for what no script may ever cause.

use crate::deadlines::scripts_table::{Fails, Matrix, Row, Works};
use crate::support::agent::Agent;

/// The kinds that misbehave only briefly. A host switches one agent at a time, so each slow kind gets its own
/// host.
const BRIEF: [&str; 6] = [
    "fail",
    "double-fork",
    "keep-stdout",
    "print-binary",
    "delete-itself",
    "kill-parent",
];

#[test]
fn a_start_that_misbehaves_costs_nobody_else_and_is_tried_again() {
    let mut matrix = Matrix::of("start", &[]);
    for row in &matrix.rows {
        matrix.host.publish(&row.agent("1.0.0"));
    }
    matrix.set_all_bad_once();
    matrix.desire("1.0.0", "start", "1.0.0");
    matrix.host.start();
    matrix.demo_recovers("1.0.0");
    matrix.desire("1.0.0", "start", "1.0.1");
    matrix.wait("demo to be upgraded", || matrix.is_well("demo", "1.0.1"));
    let is_kept = |row: &Row| match row.promise {
        Works => matrix.is_well(&row.name(), "1.0.0"),
        Fails(_) => matrix.is_reported(row),
    };
    matrix.wait_each("the promise", is_kept, |_| ());
    matrix.all_run("1.0.0");
    matrix.ends_cleanly();
}

/// Returns a matrix whose agents run 1.0.0, and whose desired version is 1.0.1, which misbehaves.
fn upgraded(verb: &'static str, kinds: &[&str]) -> Matrix {
    let mut matrix = Matrix::of(verb, kinds);
    for row in &matrix.rows {
        matrix.host.publish(&Agent::new(&row.name(), "1.0.0"));
        matrix.host.publish(&row.agent("1.0.1"));
    }
    matrix.desire("1.0.0", "start", "1.0.0");
    matrix.host.start();
    matrix.all_run("1.0.0");
    matrix.set_all_bad();
    matrix.desire("1.0.1", "start", "1.0.0");
    matrix
}

/// Upgrades to a 1.0.1 that misbehaves at its start, and asserts the promise of each row.
fn upgrades(kinds: &[&str]) {
    let matrix = upgraded("start", kinds);
    let is_kept = |row: &Row| match row.promise {
        Works => matrix.is_well(&row.name(), "1.0.1"),
        Fails(_) => matrix.is_reported(row) && matrix.runs(&row.name(), "1.0.0"),
    };
    matrix.demo_recovers("1.0.0");
    matrix.wait_each("the promise", is_kept, |_| ());
    matrix.ends_cleanly();
}

#[test]
fn a_new_version_that_misbehaves_briefly_at_its_start_is_rolled_back() {
    upgrades(&BRIEF);
}

#[test]
fn a_new_version_that_hangs_at_its_start_is_rolled_back() {
    upgrades(&["hang"]);
}

#[test]
fn a_new_version_that_floods_at_its_start_is_rolled_back() {
    upgrades(&["flood"]);
}

#[test]
fn a_new_version_that_ignores_term_at_its_start_is_rolled_back() {
    upgrades(&["ignore-term"]);
}

#[test]
fn a_new_version_whose_status_kills_who_asks_it_is_rolled_back() {
    let matrix = upgraded("status", &["kill-parent"]);
    matrix.demo_recovers("1.0.0");
    let is_back = |row: &Row| {
        matrix.heartbeat_has(&row.name(), "error", "ended by signal 9")
            && matrix.is_well(&row.name(), "1.0.0")
    };
    matrix.wait_each("the rollback", is_back, |_| ());
    matrix.ends_cleanly();
}

/// Returns a matrix whose agents run 1.0.0, whose stop misbehaves from now on.
fn running_stops(kinds: &[&str]) -> Matrix {
    let mut matrix = Matrix::of("stop", kinds);
    for row in &matrix.rows {
        matrix.host.publish(&row.agent("1.0.0"));
        matrix.host.publish(&row.agent("1.0.1"));
    }
    matrix.desire("1.0.0", "start", "1.0.0");
    matrix.host.start();
    matrix.all_run("1.0.0");
    matrix.set_all_bad();
    matrix
}

#[test]
fn a_stop_that_misbehaves_is_told_and_tried_until_it_stops() {
    let matrix = running_stops(&[]);
    matrix.desire("1.0.0", "stop", "1.0.0");
    matrix.demo_recovers("1.0.0");
    matrix.desire("1.0.0", "stop", "1.0.1");
    let is_down = |row: &Row| matrix.host.running(&row.name()).is_empty();
    let is_kept = |row: &Row| match row.promise {
        Works => is_down(row),
        Fails(_) => matrix.is_reported(row) && matrix.runs(&row.name(), "1.0.0"),
    };
    matrix.wait_each("the promise", is_kept, |row| matrix.set_bad(row, false));
    matrix.wait("demo to be upgraded", || matrix.is_well("demo", "1.0.1"));
    matrix.wait_each("each to be down", is_down, |_| ());
    matrix.desire("1.0.0", "start", "1.0.1");
    matrix.all_run("1.0.0");
    matrix.ends_cleanly();
}

/// Upgrades from a 1.0.0 whose stop misbehaves, and asserts the promise of each row.
fn upgrades_past_stop(kinds: &[&str]) {
    let matrix = running_stops(kinds);
    matrix.desire("1.0.1", "start", "1.0.0");
    let is_kept = |row: &Row| match row.promise {
        Works => matrix.is_well(&row.name(), "1.0.1"),
        Fails(_) => matrix.is_reported(row) && matrix.runs(&row.name(), "1.0.0"),
    };
    matrix.demo_recovers("1.0.0");
    matrix.wait_each("the promise", is_kept, |row| matrix.set_bad(row, false));
    matrix.all_run("1.0.1");
    matrix.ends_cleanly();
}

#[test]
fn an_old_version_that_misbehaves_briefly_at_its_stop_gives_way_in_the_end() {
    upgrades_past_stop(&BRIEF);
}

#[test]
fn an_old_version_that_hangs_at_its_stop_gives_way_in_the_end() {
    upgrades_past_stop(&["hang"]);
}

#[test]
fn an_old_version_that_floods_at_its_stop_gives_way_in_the_end() {
    upgrades_past_stop(&["flood"]);
}

#[test]
fn an_old_version_that_ignores_term_at_its_stop_gives_way_in_the_end() {
    upgrades_past_stop(&["ignore-term"]);
}

#[test]
fn a_status_that_misbehaves_is_reported_and_no_agent_is_harmed() {
    let mut matrix = Matrix::of("status", &[]);
    for row in &matrix.rows {
        matrix.host.publish(&row.agent("1.0.0"));
    }
    matrix.desire("1.0.0", "start", "1.0.0");
    matrix.host.start();
    matrix.all_run("1.0.0");
    let pids = || {
        let names = matrix.rows.iter().map(|row| row.name());
        let pid = |name: String| matrix.host.running(&name).first().map(|one| one.pid);
        names.map(pid).collect::<Vec<_>>()
    };
    let before = pids();
    matrix.set_all_bad();
    matrix.demo_recovers("1.0.0");
    matrix.desire("1.0.0", "start", "1.0.1");
    let is_kept = |row: &Row| match row.promise {
        Works => matrix.is_well(&row.name(), "1.0.0"),
        Fails(words) => matrix.heartbeat_has(&row.name(), "status", words),
    };
    matrix.wait_each("the promise", is_kept, |_| ());
    matrix.wait("demo to be upgraded", || matrix.is_well("demo", "1.0.1"));
    for row in &matrix.rows {
        matrix.set_bad(row, false);
    }
    matrix.all_run("1.0.0");
    assert_eq!(pids(), before);
    matrix.ends_cleanly();
}

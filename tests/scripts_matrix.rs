//! Every verb of a control script × every way to misbehave; the rows, and what is promised of each, are in
//! `scripts_table`. What no script may ever bring about is looked for all the while: see `Matrix::check`.

use crate::scripts_table::{Fails, Matrix, Row, Works};
use crate::support::agent::Agent;

/// Of a host only one agent at a time is between two versions, so those that take their time get a host each.
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
    matrix.all_bad_once();
    matrix.desire("1.0.0", "start", "1.0.0");
    matrix.host.start();
    matrix.demo_lives_on("1.0.0");
    matrix.desire("1.0.0", "start", "1.0.1");
    matrix.wait("demo to be upgraded", || matrix.is_well("demo", "1.0.1"));
    let is_so = |row: &Row| match row.promise {
        Works => matrix.is_well(&row.name(), "1.0.0"),
        Fails(_) => matrix.is_told(row),
    };
    matrix.wait_each("what is promised", is_so, |_| ());
    matrix.all_run("1.0.0");
    matrix.ends_clean();
}

/// All ran as 1.0.0, and are wished as 1.0.1, which misbehaves.
fn upgraded(verb: &'static str, kinds: &[&str]) -> Matrix {
    let mut matrix = Matrix::of(verb, kinds);
    for row in &matrix.rows {
        matrix.host.publish(&Agent::new(&row.name(), "1.0.0"));
        matrix.host.publish(&row.agent("1.0.1"));
    }
    matrix.desire("1.0.0", "start", "1.0.0");
    matrix.host.start();
    matrix.all_run("1.0.0");
    matrix.all_bad();
    matrix.desire("1.0.1", "start", "1.0.0");
    matrix
}

/// 1.0.1 misbehaves at its start.
fn upgrades(kinds: &[&str]) {
    let matrix = upgraded("start", kinds);
    let is_so = |row: &Row| match row.promise {
        Works => matrix.is_well(&row.name(), "1.0.1"),
        Fails(_) => matrix.is_told(row) && matrix.runs(&row.name(), "1.0.0"),
    };
    matrix.demo_lives_on("1.0.0");
    matrix.wait_each("what is promised", is_so, |_| ());
    matrix.ends_clean();
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
    matrix.demo_lives_on("1.0.0");
    let is_back = |row: &Row| {
        matrix.beat_says(&row.name(), "error", "ended by signal 9")
            && matrix.is_well(&row.name(), "1.0.0")
    };
    matrix.wait_each("the way back", is_back, |_| ());
    matrix.ends_clean();
}

fn running_stops(kinds: &[&str]) -> Matrix {
    let mut matrix = Matrix::of("stop", kinds);
    for row in &matrix.rows {
        matrix.host.publish(&row.agent("1.0.0"));
        matrix.host.publish(&row.agent("1.0.1"));
    }
    matrix.desire("1.0.0", "start", "1.0.0");
    matrix.host.start();
    matrix.all_run("1.0.0");
    matrix.all_bad();
    matrix
}

#[test]
fn a_stop_that_misbehaves_is_told_and_tried_until_it_stops() {
    let matrix = running_stops(&[]);
    matrix.desire("1.0.0", "stop", "1.0.0");
    matrix.demo_lives_on("1.0.0");
    matrix.desire("1.0.0", "stop", "1.0.1");
    let is_down = |row: &Row| matrix.host.running(&row.name()).is_empty();
    let is_so = |row: &Row| match row.promise {
        Works => is_down(row),
        Fails(_) => matrix.is_told(row) && matrix.runs(&row.name(), "1.0.0"),
    };
    matrix.wait_each("what is promised", is_so, |row| matrix.is_bad(row, false));
    matrix.wait("demo to be upgraded", || matrix.is_well("demo", "1.0.1"));
    matrix.wait_each("each to be down", is_down, |_| ());
    matrix.desire("1.0.0", "start", "1.0.1");
    matrix.all_run("1.0.0");
    matrix.ends_clean();
}

/// All run as 1.0.0, whose stop misbehaves when 1.0.1 is to take its place.
fn gives_way(kinds: &[&str]) {
    let matrix = running_stops(kinds);
    matrix.desire("1.0.1", "start", "1.0.0");
    let is_so = |row: &Row| match row.promise {
        Works => matrix.is_well(&row.name(), "1.0.1"),
        Fails(_) => matrix.is_told(row) && matrix.runs(&row.name(), "1.0.0"),
    };
    matrix.demo_lives_on("1.0.0");
    matrix.wait_each("what is promised", is_so, |row| matrix.is_bad(row, false));
    matrix.all_run("1.0.1");
    matrix.ends_clean();
}

#[test]
fn an_old_version_that_misbehaves_briefly_at_its_stop_gives_way_in_the_end() {
    gives_way(&BRIEF);
}

#[test]
fn an_old_version_that_hangs_at_its_stop_gives_way_in_the_end() {
    gives_way(&["hang"]);
}

#[test]
fn an_old_version_that_floods_at_its_stop_gives_way_in_the_end() {
    gives_way(&["flood"]);
}

#[test]
fn an_old_version_that_ignores_term_at_its_stop_gives_way_in_the_end() {
    gives_way(&["ignore-term"]);
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
    matrix.all_bad();
    matrix.demo_lives_on("1.0.0");
    matrix.desire("1.0.0", "start", "1.0.1");
    let is_so = |row: &Row| match row.promise {
        Works => matrix.is_well(&row.name(), "1.0.0"),
        Fails(words) => matrix.beat_says(&row.name(), "status", words),
    };
    matrix.wait_each("what is promised", is_so, |_| ());
    matrix.wait("demo to be upgraded", || matrix.is_well("demo", "1.0.1"));
    for row in &matrix.rows {
        matrix.is_bad(row, false);
    }
    matrix.all_run("1.0.0");
    assert_eq!(pids(), before);
    matrix.ends_clean();
}

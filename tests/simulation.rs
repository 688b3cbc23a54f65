//! `cargo run --release --example simulation` runs a million hosts for hours of virtual time with the updater's own schedule, and
//! with that of the original. It prints the table of `docs/SCALE.md` and draws its plots into the directory that is named.
#![allow(
    clippy::disallowed_methods,
    reason = "it writes plots and measures itself"
)]

/// Hosts in virtual time.
#[path = "simulation/fleet.rs"]
mod fleet;
/// Peaks and means.
#[path = "simulation/measure.rs"]
mod measure;
/// Pictures.
#[path = "simulation/plot.rs"]
mod plot;
/// What happens to the fleets.
#[path = "simulation/scenarios.rs"]
mod scenarios;

use fleet::{Arrivals, Scenario, Schedule};
use measure::Measured;
use plot::Line;
use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

const HOSTS: u32 = 1_000_000;
/// The size of the release, in megabytes.
const MEGABYTES: f64 = 50.0;

fn main() -> io::Result<()> {
    let began = Instant::now();
    let plots = env::args_os().nth(1).map(PathBuf::from);
    println!("| scenario | schedule | steady | in trouble | afterwards | downloads | GB/s |");
    println!("|---|---|---|---|---|---|---|");
    for scenario in scenarios::all(HOSTS) {
        let ours = scenario.run(Schedule::Ours);
        print_row(&scenario, "ours", &ours);
        // The original has no spread.
        if scenario.download_spread > 0 {
            continue;
        }
        let original = scenario.run(Schedule::Original);
        print_row(&scenario, "original's", &original);
        if let Some(dir) = &plots {
            draw_heartbeats(dir, &scenario, [&ours, &original])?;
        }
    }
    if let Some(dir) = &plots {
        draw_downloads(dir)?;
    }
    println!("\n{:.0} s of real time", began.elapsed().as_secs_f64());
    Ok(())
}

fn draw_heartbeats(dir: &Path, scenario: &Scenario, fleets: [&Arrivals; 2]) -> io::Result<()> {
    let lines = [("this updater", fleets[0]), ("the original", fleets[1])];
    let lines = lines.map(|(name, fleet)| Line {
        name,
        seconds: &fleet.heartbeats,
    });
    let file = dir.join(format!("{}.svg", scenario.file));
    plot::draw(&file, scenario, "heartbeats", lines)
}

/// Draws the downloads of a release with and without a spread.
fn draw_downloads(dir: &Path) -> io::Result<()> {
    let fleets = [
        scenarios::release_spread(HOSTS),
        scenarios::release_at_once(HOSTS),
    ];
    let arrivals = fleets.each_ref().map(|fleet| fleet.run(Schedule::Ours));
    let lines = [
        ("spread over an hour", &arrivals[0]),
        ("no spread", &arrivals[1]),
    ];
    let lines = lines.map(|(name, arrivals)| Line {
        name,
        seconds: &arrivals.downloads,
    });
    plot::draw(&dir.join("downloads.svg"), &fleets[0], "downloads", lines)
}

fn print_row(scenario: &Scenario, schedule: &str, arrivals: &Arrivals) {
    let measured = Measured::of(scenario, arrivals);
    let number = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.2}"));
    let downloads = measured.downloads.map_or(String::new(), |(least, most)| {
        format!("{least:.2} to {most:.2}")
    });
    let rate = measured
        .downloads_a_second
        .map(|rate| rate * MEGABYTES / 1000.0);
    println!(
        "| {} | {schedule} | {:.2} | {} | {} | {downloads} | {} |",
        scenario.name,
        measured.steady,
        number(measured.in_trouble),
        number(measured.after),
        number(rate)
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bins of so few hosts are long, so that chance moves them no more than those of a million.
    const SMALL: u32 = 20_000;

    fn measured(scenario: &Scenario) -> Measured {
        Measured::of(scenario, &scenario.run(Schedule::Ours))
    }

    #[test]
    fn a_fleet_that_boots_within_a_minute_sends_evenly() {
        let steady = measured(&scenarios::booted(SMALL)).steady;
        assert!(steady <= 1.1, "{steady}");
    }

    #[test]
    fn a_server_that_comes_back_meets_no_herd() {
        for (scenario, most) in [
            (scenarios::down(SMALL), 1.15),
            (scenarios::busy_minute(SMALL), 1.2),
            (scenarios::busy_hour(SMALL), 1.2),
        ] {
            let after = measured(&scenario).after.expect("it comes back");
            assert!(after <= most, "{}: {after}", scenario.name);
        }
    }

    #[test]
    fn downloads_are_flat_over_their_spread_whatever_the_clocks_show() {
        for scenario in [scenarios::release_spread(SMALL), scenarios::skewed(SMALL)] {
            let (least, most) = measured(&scenario).downloads.expect("a release");
            // A bin has 1,600 downloads, which chance alone moves by up to 8 %.
            assert!(least >= 0.88 && most <= 1.12, "{least} to {most}");
        }
    }
}

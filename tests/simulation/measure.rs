//! Peaks and means of what arrives.

use super::fleet::{Arrivals, INTERVAL, Scenario};
use std::ops::Range;

/// The arrivals that a bin should have, so that chance moves none of thousands of them by more than about 7 %: as many as a second
/// of a million hosts has.
const IN_A_BIN: u32 = 3000;
/// The same for downloads, whose peaks and lows are compared with 10 %: as many as a minute of an hour has.
const DOWNLOADS_IN_A_BIN: u32 = 15_000;
/// In seconds. Smaller fleets have fewer arrivals in a bin.
const LONGEST_BIN: u32 = 300;
/// The first heartbeats are over after this time, in seconds.
const STEADY: u32 = 600;

/// What was measured in one run. All but the last are parts of the mean that a fleet of this size has at its interval.
pub struct Measured {
    /// The largest bin before anything happens.
    pub steady: f64,
    /// The mean while the server is in trouble.
    pub in_trouble: Option<f64>,
    /// The largest bin after the trouble, or after the release.
    pub after: Option<f64>,
    /// The least and the largest bin of downloads within the spread, as parts of their mean.
    pub downloads: Option<(f64, f64)>,
    /// The most downloads that are begun in a second, over a bin.
    pub downloads_a_second: Option<f64>,
}

impl Measured {
    pub fn of(scenario: &Scenario, arrivals: &Arrivals) -> Self {
        let mean = f64::from(scenario.hosts) / INTERVAL.as_secs_f64();
        let width = bin_width(IN_A_BIN, mean);
        let peak = |when: Range<u32>| {
            let (_, most) = extremes(&arrivals.heartbeats, when, width);
            most / mean
        };
        let trouble = scenario.trouble.as_ref().map(|(_, when)| when.clone());
        let event = trouble.clone().map(|when| when.start).or(scenario.released);
        let end = trouble.clone().map(|when| when.end).or(scenario.released);
        let bins = scenario
            .released
            .map(|at| downloads(scenario, at, arrivals));
        Self {
            steady: peak(STEADY..event.unwrap_or(scenario.length)),
            in_trouble: trouble.map(|when| {
                let seconds = f64::from(when.end - when.start);
                f64::from(total(&arrivals.heartbeats, when)) / seconds / mean
            }),
            after: end.map(|end| peak(end..scenario.length)),
            downloads: bins.map(|(least, most, mean)| (least / mean, most / mean)),
            downloads_a_second: bins.map(|(_, most, _)| most),
        }
    }
}

/// Returns the least and the most downloads a second in a bin while the release spreads, and their mean.
fn downloads(scenario: &Scenario, released: u32, arrivals: &Arrivals) -> (f64, f64, f64) {
    let spread = u32::try_from(scenario.download_spread.max(INTERVAL.as_secs()));
    let spread = spread.expect("a week at most");
    let when = released..released + spread;
    let mean = f64::from(total(&arrivals.downloads, when.clone())) / f64::from(spread);
    let width = bin_width(DOWNLOADS_IN_A_BIN, mean);
    let (least, most) = extremes(&arrivals.downloads, when, width);
    (least, most, mean)
}

/// Returns the seconds in which this many arrive.
fn bin_width(wanted: u32, a_second: f64) -> u32 {
    let mut widths = 1..LONGEST_BIN;
    let width = widths.find(|width| f64::from(*width) * a_second >= wanted.into());
    width.unwrap_or(LONGEST_BIN)
}

fn total(seconds: &[u32], when: Range<u32>) -> u32 {
    seconds[when.start as usize..when.end as usize].iter().sum()
}

/// Returns the least and the most arrivals a second in whole bins of this many seconds.
fn extremes(seconds: &[u32], when: Range<u32>, width: u32) -> (f64, f64) {
    let bins = seconds[when.start as usize..when.end as usize].chunks_exact(width as usize);
    let rates = bins.map(|bin| f64::from(bin.iter().sum::<u32>()) / f64::from(width));
    rates.fold((f64::MAX, 0.0), |(least, most), rate| {
        (least.min(rate), most.max(rate))
    })
}

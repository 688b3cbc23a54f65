//! A fleet in virtual time. Its waits are those of the library: the functions that the daemon calls, with random numbers of its
//! kind. Hosts meet at the server alone, whose answers depend on the time only, so each host is run to the end by itself.

use nanorand::{Rng, WyRand};
use ops_updater::model::{Desired, Own, WireAgent};
use ops_updater::plan::history::AgentHistory;
use ops_updater::plan::schedule;
use ops_updater::plan::turn::Turns;
use std::ops::Range;
use std::time::Duration;

pub const INTERVAL: Duration = Duration::from_secs(300);
/// All hosts are booted within this time.
const BOOT: Duration = Duration::from_secs(60);
/// A host has downloaded the release and switched to it after this time, and reports that.
const UPGRADE: Duration = Duration::from_secs(30);
/// What the clock of the first host shows at the beginning, in seconds since 1970.
const BEGIN: u64 = 1_800_000_000;
/// Skewed clocks are wrong by up to this, in seconds.
const SKEW: u64 = 86_400;

/// What the server does for some time.
#[derive(Clone, Copy)]
pub enum Trouble {
    Down,
    /// It answers 503 with this Retry-After, in seconds.
    Busy(u64),
}

/// Whose schedule a fleet follows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    Ours,
    /// A random part of the interval after the start, then an interval after each heartbeat, whatever the answer was.
    Original,
}

/// What happens to a fleet. Times are in seconds from the boot of the first host.
#[derive(Clone)]
pub struct Scenario {
    /// The name of its plot.
    pub file: &'static str,
    pub name: &'static str,
    pub hosts: u32,
    pub length: u32,
    pub trouble: Option<(Trouble, Range<u32>)>,
    /// When the server names a new release.
    pub released: Option<u32>,
    pub download_spread: u64,
    /// Half the clocks are wrong by up to a day, and set right at this time.
    pub skewed_until: Option<u32>,
}

/// What arrived in each second.
pub struct Arrivals {
    pub heartbeats: Vec<u32>,
    /// Downloads that were begun.
    pub downloads: Vec<u32>,
}

impl Scenario {
    pub fn run(&self, schedule: Schedule) -> Arrivals {
        let seconds = vec![0; self.length as usize];
        let mut arrivals = Arrivals {
            heartbeats: seconds.clone(),
            downloads: seconds,
        };
        let mut random = WyRand::new_seed(7);
        let release = release();
        for number in 0..self.hosts {
            let mut host = Host::boot(number, &mut random);
            while let Some(at) = host.next_heartbeat(self.length) {
                count(&mut arrivals.heartbeats, at);
                match schedule {
                    Schedule::Ours => host.heartbeat(at, self, &release, &mut random),
                    Schedule::Original => host.heartbeat_of_the_original(at, self),
                }
            }
            if let Some(at) = host.download {
                count(&mut arrivals.downloads, at);
            }
        }
        arrivals
    }

    fn trouble_at(&self, at: Duration) -> Option<Trouble> {
        let (trouble, when) = self.trouble.as_ref()?;
        let second = u32::try_from(at.as_secs()).ok()?;
        when.contains(&second).then_some(*trouble)
    }

    fn is_released(&self, at: Duration) -> bool {
        self.released
            .is_some_and(|released| at >= Duration::from_secs(released.into()))
    }
}

fn count(seconds: &mut [u32], at: Duration) {
    let second = usize::try_from(at.as_secs()).unwrap_or(usize::MAX);
    if let Some(arrived) = seconds.get_mut(second) {
        *arrived += 1;
    }
}

fn release() -> Desired {
    let wire = WireAgent {
        name: "demo".to_owned(),
        version: "1.0.1".to_owned(),
        tarball: "http://store".to_owned(),
        cmd: "start".to_owned(),
        ..WireAgent::default()
    };
    Desired::check(&wire, &Own::default()).expect("a good entry")
}

/// One host. Times are from the boot of the first one.
struct Host {
    number: u32,
    next: Duration,
    /// The end of its upgrade is reported then.
    report: Option<Duration>,
    failures: u32,
    answered: Option<Duration>,
    /// When it began to download the release.
    download: Option<Duration>,
    /// By how many seconds its clock is ahead of that of the first host.
    ahead: i64,
}

impl Host {
    fn boot(number: u32, random: &mut WyRand) -> Self {
        // A part of another whole is what the first wait is.
        let boot = schedule::first_heartbeat(BOOT, random.generate());
        let first = schedule::first_heartbeat(INTERVAL, random.generate());
        let skew = random.generate_range(0..=2 * SKEW).cast_signed() - SKEW.cast_signed();
        Self {
            number,
            next: boot + first,
            report: None,
            failures: 0,
            answered: None,
            download: None,
            ahead: if number.is_multiple_of(2) { 0 } else { skew },
        }
    }

    /// Returns when it sends its next heartbeat, if that is before the end.
    fn next_heartbeat(&mut self, length: u32) -> Option<Duration> {
        let report = self.report.take_if(|report| *report < self.next);
        let at = report.unwrap_or(self.next);
        (at.as_secs() < length.into()).then_some(at)
    }

    fn heartbeat(
        &mut self,
        at: Duration,
        scenario: &Scenario,
        release: &Desired,
        random: &mut WyRand,
    ) {
        let retry_after = match scenario.trouble_at(at) {
            None => {
                self.failures = 0;
                if scenario.is_released(at) && self.download.is_none() {
                    self.download_in_turn(at, scenario, release);
                }
                self.answered = Some(at);
                self.next = at + schedule::next_heartbeat(INTERVAL, random.generate());
                return;
            }
            Some(Trouble::Down) => None,
            Some(Trouble::Busy(seconds)) => Some(seconds),
        };
        self.failures += 1;
        // A server in trouble is told nothing early.
        self.report = None;
        let random = || random.generate();
        self.next = at + schedule::heartbeat_backoff(INTERVAL, self.failures, retry_after, random);
    }

    /// Notes the turn by its own clock, as the daemon does in its ledger, and downloads when it has come.
    fn download_in_turn(&mut self, at: Duration, scenario: &Scenario, release: &Desired) {
        let ahead = scenario.skewed_until.map_or(0, |_| self.ahead);
        let clock = |at: u64, ahead| (BEGIN + at).saturating_add_signed(ahead);
        let gap = self
            .answered
            .map_or(INTERVAL, |since| at.saturating_sub(since));
        let turns = Turns {
            host: format!("host-{}", self.number),
            spread: scenario.download_spread,
            heard: clock(at.as_secs(), ahead),
            gap: schedule::even_gap(INTERVAL, gap.as_secs()),
        };
        let mut history = AgentHistory {
            turn_at: Some(turns.of(release)),
            ..AgentHistory::default()
        };
        let mut shown = ahead;
        if let Some(set) = scenario.skewed_until.map(u64::from)
            && history.turn_at > Some(clock(set, ahead))
        {
            history.date_anew(clock(set, ahead), -ahead);
            shown = 0;
        }
        let wait = history.turn_at.unwrap_or(0) - clock(0, shown);
        let begin = at.max(Duration::from_secs(wait));
        self.download = Some(begin);
        self.report = Some(begin + UPGRADE);
    }

    fn heartbeat_of_the_original(&mut self, at: Duration, scenario: &Scenario) {
        self.next = at + INTERVAL;
        if scenario.trouble_at(at).is_none() && scenario.is_released(at) {
            self.download.get_or_insert(at);
        }
    }
}

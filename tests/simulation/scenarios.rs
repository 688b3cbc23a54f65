//! What happens to the simulated fleets.

use super::fleet::{Scenario, Trouble};

pub const HOUR: u32 = 3600;
/// In seconds, as in the settings of a server that names a wait.
const RETRY_AFTER: u64 = 600;

fn scenario(file: &'static str, name: &'static str, hosts: u32) -> Scenario {
    Scenario {
        file,
        name,
        hosts,
        length: 4 * HOUR,
        trouble: None,
        released: None,
        download_spread: 0,
        skewed_until: None,
    }
}

fn in_trouble(trouble: Trouble, seconds: u32, mut fleet: Scenario) -> Scenario {
    fleet.trouble = Some((trouble, HOUR..HOUR + seconds));
    fleet
}

fn released(download_spread: u32, mut fleet: Scenario) -> Scenario {
    fleet.released = Some(HOUR);
    fleet.download_spread = download_spread.into();
    fleet
}

pub fn booted(hosts: u32) -> Scenario {
    scenario("booted", "all booted within a minute", hosts)
}

pub fn down(hosts: u32) -> Scenario {
    let calm = scenario("down", "server down for an hour", hosts);
    in_trouble(Trouble::Down, HOUR, calm)
}

pub fn busy_minute(hosts: u32) -> Scenario {
    let name = "503 with Retry-After 600 for a minute";
    let calm = scenario("busy-minute", name, hosts);
    in_trouble(Trouble::Busy(RETRY_AFTER), 60, calm)
}

pub fn busy_hour(hosts: u32) -> Scenario {
    let name = "503 with Retry-After 600 for an hour";
    let calm = scenario("busy-hour", name, hosts);
    in_trouble(Trouble::Busy(RETRY_AFTER), HOUR, calm)
}

pub fn release_at_once(hosts: u32) -> Scenario {
    released(0, scenario("release", "new version, no spread", hosts))
}

pub fn release_spread(hosts: u32) -> Scenario {
    let name = "new version, spread over an hour";
    released(HOUR, scenario("spread", name, hosts))
}

/// The clocks are set right in the middle of the spread.
pub fn skewed(hosts: u32) -> Scenario {
    let name = "the same, half the clocks wrong";
    Scenario {
        skewed_until: Some(HOUR + HOUR / 2),
        ..released(HOUR, scenario("skewed", name, hosts))
    }
}

fn site() -> Scenario {
    let name = "a site of 10,000, spread over an hour";
    released(HOUR, scenario("site", name, 10_000))
}

/// All of them, for a fleet of this size.
pub fn all(hosts: u32) -> [Scenario; 8] {
    [
        booted(hosts),
        down(hosts),
        busy_minute(hosts),
        busy_hour(hosts),
        release_at_once(hosts),
        release_spread(hosts),
        skewed(hosts),
        site(),
    ]
}

//! The checks of `doctor` for the server: its name, a connection, an answer, its clock. Sends no heartbeat, so only the
//! updater knows whether the server takes them.
//! It has no deadline of its own: it runs in a forked process that has one.
#![expect(clippy::disallowed_methods, reason = "it measures how long they take")]

use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::time::Instant;

use super::findings::{fail, next, ok, warn};
use crate::error::At;
use crate::net::MEMORY_LIMIT;
use crate::net::address::host_and_port;
use crate::net::{http, network};
use crate::os::clock;
use crate::os::limits::MemoryLimit;
use crate::protocol::status::HeartbeatStatus;
use crate::store::config::Config;
use crate::store::{reach, status};
use crate::text::span;

/// From this many seconds on, the server's page shows heartbeats as late or as from the future.
const SKEW_ODD: u64 = 60;
/// The seconds of the first wait after a version has failed. If a clock that is wrong by more is corrected, the wait becomes
/// much longer, or is skipped.
const SKEW_BAD: u64 = 600;

const SYNCHRONIZE: &str = "synchronize the clock (chrony, ntpd)";
const NOT_CONNECTED: &str = "does the server run there? does a firewall block it?";

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// Returns what the updater has written of its heartbeats to this server. None: it has sent none to it. Prints the entries
/// of the last answer that it refuses.
pub(super) fn heartbeat(own_dir: &Path, server: &str) -> Option<HeartbeatStatus> {
    let status = status::load(own_dir)?;
    for refusal in &status.refused {
        warn(format_args!("refused: {refusal}"));
    }
    (status.server == server).then_some(status.heartbeat)
}

/// `heartbeat` is what the running updater knows of this server.
pub(super) fn check(config: &Config, heartbeat: Option<&HeartbeatStatus>) {
    let _limit = MemoryLimit::set(MEMORY_LIMIT);
    let url = config.url.as_str();
    if let Err(error) = reach::check(config) {
        return fail(format_args!("{error}"));
    }
    network::set(config.network.clone());
    let Some((host, port)) = host_and_port(config.network.next_hop(url)) else {
        return;
    };
    next(format_args!("look up {host} (see /etc/resolv.conf)"));
    let start = Instant::now();
    let found = match (host, port).to_socket_addrs().at("look up", host) {
        Ok(found) => found,
        Err(error) => return fail(format_args!("{error}: see /etc/resolv.conf")),
    };
    let took = millis(start);
    ok(format_args!("{host} looked up in {took} ms"));
    let mut last_error = None;
    for address in found.as_slice() {
        let location = format!("{}:{port}", address.ip());
        next(format_args!("connect to {location} ({NOT_CONNECTED})"));
        let start = Instant::now();
        match TcpStream::connect(*address).at("connect to", &location) {
            Ok(_) => {
                let took = millis(start);
                ok(format_args!("{location} connected in {took} ms"));
                return ask(url, heartbeat);
            }
            Err(error) => last_error = Some(error),
        }
    }
    if let Some(error) = last_error {
        fail(format_args!("{error}: {NOT_CONNECTED}"));
    }
}

fn ask(url: &str, heartbeat: Option<&HeartbeatStatus>) {
    let is_verified = heartbeat.is_some_and(|known| known.answered > 0 && known.failures == 0);
    next(format_args!("ask {url} (is it an ops-meta?)"));
    let start = Instant::now();
    match http::status_and_date(url) {
        Ok((status, date)) => {
            let found = format!("{url} answers {status} in {} ms", millis(start));
            if status >= 500 {
                warn(format_args!("{found}: see the server's log"));
            } else if is_verified || status == 405 {
                ok(format_args!("{found}"));
            } else {
                // A stock server serves no GET here and answers 404 or 405. Every other web server answers 404 too.
                warn(format_args!(
                    "{found}, which is not verified to be an ops-meta: ops-updater plan sends it a heartbeat"
                ));
            }
            compare_clocks(&date);
        }
        Err(error) => fail(format_args!("{error}: is it an ops-meta?")),
    }
    if let Some(heartbeat) = heartbeat {
        report_heartbeat(heartbeat);
    }
}

/// Prints what the running updater knows of the server's answers to heartbeats.
fn report_heartbeat(heartbeat: &HeartbeatStatus) {
    if heartbeat.failures > 0 {
        let error = &heartbeat.error;
        fail(format_args!("the updater's last heartbeat failed: {error}"));
    } else if heartbeat.answered > 0 {
        let ago = span(clock::unix_now().saturating_sub(heartbeat.answered));
        ok(format_args!(
            "the server answered the updater's heartbeat {ago} ago"
        ));
    }
}

fn compare_clocks(date: &str) {
    let Some(theirs) = unix(date) else {
        return warn(format_args!(
            "the server sends no date, so the clocks cannot be compared"
        ));
    };
    let off = clock::unix_now().abs_diff(theirs);
    let found = format!("this host's clock and the server's differ by {off} s");
    match off {
        0..SKEW_ODD => ok(format_args!("{found}")),
        SKEW_ODD..SKEW_BAD => warn(format_args!("{found}: {SYNCHRONIZE}")),
        SKEW_BAD.. => fail(format_args!("{found}: {SYNCHRONIZE}")),
    }
}

fn millis(start: Instant) -> u64 {
    let took = start.elapsed();
    took.as_secs() * 1000 + u64::from(took.subsec_millis())
}

/// Parses a date of HTTP, `Sun, 06 Nov 1994 08:49:37 GMT`, to seconds since 1970. After 2099 it may be a day off.
fn unix(date: &str) -> Option<u64> {
    let month = MONTHS
        .iter()
        .position(|name| date.get(8..11) == Some(name))?;
    let mut numbers = [0; 5];
    let ranges = [5..7, 12..16, 17..19, 20..22, 23..25];
    for (number, range) in numbers.iter_mut().zip(ranges) {
        *number = date.get(range)?.parse::<u32>().ok()?;
    }
    let [day, year, hour, minute, second] = numbers.map(u64::from);
    // A year is counted from March, so that the leap day is its last day. This is the inverse of `text::timestamp`.
    let year = year.checked_sub(u64::from(month < 2))?;
    let month = (month as u64 + 10) % 12;
    let days = year * 365 + year / 4 + (month * 153 + 2) / 5 + day;
    Some(((days.checked_sub(719_484)? * 24 + hour) * 60 + minute) * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_of_http_is_parsed_by_the_calendar() {
        for (date, seconds) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Tue, 29 Feb 2000 00:00:00 GMT", Some(951_782_400)),
            ("Sun, 22 Nov 2026 17:12:01 GMT", Some(1_795_367_521)),
            ("Thu, 31 Dec 2099 23:59:59 GMT", Some(4_102_444_799)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", None),
            ("Sun Nov  6 08:49:37 1994", None),
            ("Thu, 01 Jan 1900 00:00:00 GMT", None),
            ("Sat, 01 Jan 0000 00:00:00 GMT", None),
            ("Thu, 01 Jan 99999 00:00:00 GMT", None),
            ("Thu, 01 Jän 2026 00:00:00 GMT", None),
            ("", None),
        ] {
            assert_eq!(unix(date), seconds, "{date}");
        }
    }
}

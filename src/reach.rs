//! How far the server is, for `doctor`: its name, a connection, an answer, its clock. Sends nothing that the server could
//! take for a heartbeat. Keeps no deadline: it runs in a copy of the process that has one.
#![expect(clippy::disallowed_methods, reason = "it measures how long they take")]

use std::mem;
use std::net::TcpStream;
use std::time::Instant;

use crate::beat::{host_and_port, look_up, written};
use crate::doctor::{Told, failed, line};
use crate::error::At;
use crate::fetch;
use crate::install::MEMORY_LIMIT;
use crate::log;
use crate::sys::{self, MemoryLimit};

/// Seconds beyond which the server's page shows heartbeats as late or from the future.
const SKEW_ODD: u64 = 60;
/// The first pause after a version failed. A clock that is further off stretches it or skips it when it is set right.
const SKEW_BAD: u64 = 600;

const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";

pub fn look(url: &str) {
    // A limit for minreq in it would start a thread.
    let _ = sys::replace_environment(&[]);
    mem::forget(MemoryLimit::set(MEMORY_LIMIT));
    let Some((host, port)) = host_and_port(url) else {
        return;
    };
    line(Told::NextLookUp, host);
    let begun = Instant::now();
    let found = match look_up(host, port).at("look up", host) {
        Ok(found) => found,
        Err(error) => return failed(Told::NotFound, error),
    };
    let took = millis(begun);
    line(Told::Took, &format!("{host} looked up in {took}"));
    let mut last = None;
    for address in found.as_slice() {
        let place = format!("{}:{port}", written(address.ip()));
        line(Told::NextConnect, &place);
        let begun = Instant::now();
        match TcpStream::connect(*address).at("connect to", &place) {
            Ok(_) => {
                let took = millis(begun);
                line(Told::Took, &format!("{place} connected in {took}"));
                return ask(url);
            }
            Err(error) => last = Some(error),
        }
    }
    // Of several addresses that do not answer.
    if let Some(error) = last {
        failed(Told::NotConnected, error);
    }
}

fn ask(url: &str) {
    line(Told::NextAsk, url);
    let begun = Instant::now();
    match fetch::greet(url) {
        Ok((status, date)) => {
            // A stock server answers no GET of this URL, so that 404 and 405 are as good as 200.
            let told = if status < 500 {
                Told::Took
            } else {
                Told::AnsweredBadly
            };
            let took = millis(begun);
            line(told, &format!("{url} answers {status} in {took}"));
            compare_clocks(&date);
        }
        Err(error) => failed(Told::NotAnswered, error),
    }
}

fn compare_clocks(date: &str) {
    let Some(theirs) = unix(date) else {
        return line(Told::NoDate, "");
    };
    let off = sys::unix_now().abs_diff(theirs);
    let told = match off {
        0..SKEW_ODD => Told::Clock,
        SKEW_ODD..SKEW_BAD => Told::ClockOdd,
        SKEW_BAD.. => Told::ClockBad,
    };
    line(told, &off.to_string());
}

fn millis(begun: Instant) -> u64 {
    let took = begun.elapsed();
    took.as_secs() * 1000 + u64::from(took.subsec_millis())
}

/// Seconds since 1970 of a date as HTTP has it: `Sun, 06 Nov 1994 08:49:37 GMT`. Beyond 2099 a day may be missing.
fn unix(date: &str) -> Option<u64> {
    let month = log::find_last(MONTHS, date.get(8..11)?)? / 3;
    let mut numbers = [0; 5];
    for (number, place) in numbers
        .iter_mut()
        .zip([5..7, 12..16, 17..19, 20..22, 23..25])
    {
        *number = date.get(place)?.parse::<u32>().ok()?;
    }
    let [day, year, hour, minute, second] = numbers.map(u64::from);
    // Counted from March on, so that the day that leap years have comes last: the inverse of `log::timestamp`.
    let year = year.checked_sub(u64::from(month < 2))?;
    let month = (month as u64 + 10) % 12;
    let days = year * 365 + year / 4 + (month * 153 + 2) / 5 + day;
    Some(((days.checked_sub(719_484)? * 24 + hour) * 60 + minute) * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_of_http_is_read_as_the_calendar_has_it() {
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

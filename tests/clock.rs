//! The wall clock jumps, by hours and by years, back and forth: no timer of ours notices.

use crate::support::agent::Agent;
use crate::support::host::Host;
use crate::support::json::Json as _;
use crate::support::platform;
use crate::support::trace::{self, Call, Verdict, Watch};
use crate::support::tracee;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const HOUR: i64 = 3600;
const YEAR: i64 = 365 * 24 * HOUR;

/// Adds so many seconds to what every process of the updater reads off the wall clock.
struct Jump(Arc<AtomicI64>);

impl Watch for Jump {
    fn enter(&mut self, _call: &Call) -> Verdict {
        Verdict::Go
    }

    fn leave(&mut self, call: &Call, _result: i64) -> Verdict {
        let is_wall = [libc::CLOCK_REALTIME, libc::CLOCK_REALTIME_COARSE]
            .iter()
            .any(|clock| i64::from(*clock) == call.args[0].cast_signed());
        if call.nr == libc::SYS_clock_gettime && is_wall {
            let bytes = tracee::read(call.pid, call.args[1], 8);
            let seconds = i64::from_ne_bytes(bytes.try_into().expect("a timespec"));
            let jumped = seconds + self.0.load(Ordering::Relaxed);
            tracee::write(call.pid, call.args[1], &jumped.to_ne_bytes());
        }
        Verdict::Go
    }
}

/// What the newest heartbeat says the time is, against ours.
fn told_offset(host: &Host) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = i64::try_from(now.expect("after 1970").as_secs()).expect("not yet");
    let told = host.last_beat().map(|beat| beat.agent("demo"));
    let told = told.and_then(|agent| agent.field("timestamp").number());
    told.map_or(0, |told| i64::try_from(told).expect("a time") - now)
}

/// Beats come at their interval of a second, neither in a heap nor with a hole.
fn assert_beats_are_regular(host: &Host, jump: i64) {
    let before = host.meta.beats().len();
    let began = Instant::now();
    host.wait_beats(5);
    let took = began.elapsed();
    let beats = host.meta.beats();
    let gaps = beats[before - 1..]
        .windows(2)
        .map(|pair| pair[1].at - pair[0].at);
    let longest = gaps.max().expect("beats came");
    assert!(
        longest < Duration::from_secs(8),
        "a hole of {longest:?} after a jump of {jump} s"
    );
    assert!(
        took > Duration::from_secs(3),
        "five beats in {took:?} after a jump of {jump} s"
    );
}

fn jumps(jump: i64) {
    let host = Host::new();
    host.publish(&Agent::new("demo", "1.0.0"));
    host.publish(&Agent::new("demo", "1.0.1").on_start("exit 1"));
    host.desire(&[host.want("demo", "1.0.0")]);
    let offset = Arc::new(AtomicI64::new(0));
    let traced = host.start_traced(true, Jump(offset.clone()));
    host.wait_running("demo", "1.0.0");
    host.desire(&[host.want("demo", "1.0.1")]);
    host.wait_for("the bad version to be rolled back", || {
        let error = |beat: crate::support::wire::Seen| {
            !beat.agent("demo").field("error").text().is_empty()
                && beat.agent("demo").field("phase").text().is_empty()
        };
        host.calls("demo").len() >= 5 && host.last_beat().is_some_and(error)
    });
    let calls = host.calls("demo");
    offset.store(jump, Ordering::Relaxed);
    host.wait_for("the jump to be seen in a heartbeat", || {
        (told_offset(&host) - jump).abs() < 60
    });
    assert_beats_are_regular(&host, jump);
    // The bad version waits for its ten minutes, not for the time of day.
    assert_eq!(host.calls("demo"), calls, "after a jump of {jump} s");
    host.kill_agent("demo");
    let patience = platform::patience(Duration::from_secs(12));
    host.wait_within(patience, "the dead agent to run again", || {
        host.running("demo").len() == 1
    });
    traced.end();
}

#[test]
fn jumps_of_the_wall_clock_change_no_timer() {
    if !trace::is_possible(&platform::binary()) {
        return;
    }
    std::thread::scope(|scope| {
        for jump in [2 * HOUR, -2 * HOUR, 10 * YEAR, -10 * YEAR] {
            scope.spawn(move || jumps(jump));
        }
    });
}

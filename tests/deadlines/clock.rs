//! The wall clock jumps by hours and by years, back and forth, and neither a timer of the updater nor an age that it shows changes.
//! Also a host that sleeps: time has passed for it when it wakes.

use crate::support::agent::Agent;
use crate::support::host::Host;
use crate::support::json::{self, Json as _};
use crate::support::trace::{self, Call, Verdict, Watch};
use crate::support::tracee;
use crate::support::{platform, prepared, procs};
use miniserde::json::Value;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const HOUR: i64 = 3600;
const YEAR: i64 = 365 * 24 * HOUR;

/// How long a traced updater may take until its clock jumps. Several run at once, and each reading of a clock stops them.
const SET_UP: Duration = Duration::from_secs(120);

const WALL: &[i32] = &[libc::CLOCK_REALTIME, libc::CLOCK_REALTIME_COARSE];

/// Adds this number of seconds to a clock that processes of the updater read.
pub struct Jump {
    seconds: Arc<AtomicI64>,
    clocks: &'static [i32],
    is_meant: fn(&str) -> bool,
}

impl Jump {
    /// Adds them to these clocks, for processes of a role that this function accepts.
    pub fn new(
        seconds: &Arc<AtomicI64>,
        clocks: &'static [i32],
        is_meant: fn(&str) -> bool,
    ) -> Self {
        Self {
            seconds: seconds.clone(),
            clocks,
            is_meant,
        }
    }
}

impl Watch for Jump {
    fn enter(&mut self, _call: &Call) -> Verdict {
        Verdict::Go
    }

    fn leave(&mut self, call: &Call, _result: i64) -> Verdict {
        let clock = call.args[0].cast_signed();
        let is_read = call.nr == libc::SYS_clock_gettime
            && self.clocks.iter().any(|meant| i64::from(*meant) == clock);
        if is_read && (self.is_meant)(&call.role) {
            let bytes = tracee::read(call.pid, call.args[1], 8);
            let seconds = i64::from_ne_bytes(bytes.try_into().expect("a timespec"));
            let jumped = seconds + self.seconds.load(Ordering::Relaxed);
            tracee::write(call.pid, call.args[1], &jumped.to_ne_bytes());
        }
        Verdict::Go
    }
}

/// Returns how far the time in the newest heartbeat is ahead of the clock, in seconds.
fn reported_offset(host: &Host) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = i64::try_from(now.expect("after 1970").as_secs()).expect("a time");
    let reported = host.last_beat().map(|heartbeat| heartbeat.agent("demo"));
    let reported = reported.and_then(|agent| agent.field("timestamp").number());
    reported.map_or(0, |reported| i64::try_from(reported).expect("a time") - now)
}

/// Returns a time in the status file, in seconds from now.
fn published(host: &Host, find: impl Fn(&Value) -> Value) -> i64 {
    let text = fs::read_to_string(host.own.join("var/status.json")).unwrap_or_default();
    let at = find(&json::parse(&text)).number().unwrap_or(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.expect("after 1970").as_secs();
    at.cast_signed() - now.cast_signed()
}

/// Asserts that the status file has the times of a clock that has jumped, with the same ages and waits as before.
fn assert_ages_are_kept(host: &Host, jump: i64) {
    let of_demo = |key: &'static str| {
        move |status: &Value| status.field("agents").items()[0].field(key).clone()
    };
    let heartbeat = |status: &Value| status.field("heartbeat").field("answered").clone();
    host.wait_for("the status file to follow the jump", || {
        (published(host, heartbeat) - jump).abs() < 60
    });
    for key in ["errorAt", "since"] {
        let at = published(host, of_demo(key)) - jump;
        assert!((-120..=2).contains(&at), "{key} in {at} s after {jump} s");
    }
    let wait = published(host, of_demo("retryAt")) - jump;
    assert!((400..=602).contains(&wait), "{wait} s after {jump} s");
}

/// Asserts that heartbeats arrive at their interval of one second, without a burst and without a gap.
fn assert_heartbeats_are_regular(host: &Host, jump: i64) {
    let before = host.meta.count_beats();
    let began = Instant::now();
    host.wait_beats(5);
    let took = began.elapsed();
    let heartbeats = host.meta.beats();
    let gaps = heartbeats[before - 1..]
        .windows(2)
        .map(|pair| pair[1].at - pair[0].at);
    let longest = gaps.max().expect("heartbeats came");
    assert!(
        longest < Duration::from_secs(8),
        "a gap of {longest:?} after a jump of {jump} s"
    );
    assert!(
        took > Duration::from_secs(3),
        "five heartbeats in {took:?} after a jump of {jump} s"
    );
}

fn jumps(jump: i64) {
    let host = Host::new();
    host.publish(&Agent::new("demo", "1.0.0"));
    host.publish(&Agent::new("demo", "1.0.1").on_start("exit 1"));
    host.desire(&[host.want("demo", "1.0.0")]);
    let offset = Arc::new(AtomicI64::new(0));
    let traced = host.start_traced(true, Jump::new(&offset, WALL, |_| true));
    host.wait_running_within(SET_UP, "demo", "1.0.0");
    host.desire(&[host.want("demo", "1.0.1")]);
    host.wait_within(SET_UP, "the bad version to be rolled back", || {
        let error = |heartbeat: crate::support::wire::Seen| {
            !heartbeat.agent("demo").field("error").text().is_empty()
                && heartbeat.agent("demo").field("phase").text().is_empty()
        };
        host.calls("demo").len() >= 5 && host.last_beat().is_some_and(error)
    });
    let calls = host.calls("demo");
    offset.store(jump, Ordering::Relaxed);
    host.wait_for("the jump to be seen in a heartbeat", || {
        (reported_offset(&host) - jump).abs() < 60
    });
    assert_ages_are_kept(&host, jump);
    assert_heartbeats_are_regular(&host, jump);
    // The bad version is retried after ten minutes, which do not depend on the wall clock.
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

/// The clocks that go on while a host sleeps.
const ASLEEP: &[i32] = &[
    libc::CLOCK_REALTIME,
    libc::CLOCK_REALTIME_COARSE,
    libc::CLOCK_BOOTTIME,
];

#[test]
fn a_host_that_slept_heartbeats_soon_and_has_waited_meanwhile() {
    if !trace::is_possible(&platform::binary()) {
        return;
    }
    let mut host = Host::new();
    prepared::settle(&host, &[Agent::new("demo", "1.0.0")]);
    host.publish(&Agent::new("demo", "1.0.1").on_start("exit 1"));
    host.desire(&[host.want("demo", "1.0.1")]);
    host.set("interval", "60");
    let offset = Arc::new(AtomicI64::new(0));
    let traced = host.start_traced(true, Jump::new(&offset, ASLEEP, |_| true));
    host.wait_for("the daemon to be ready", || {
        host.run("pid").status.success()
    });
    procs::signal(traced.pid, libc::SIGUSR1);
    let tries = || {
        let calls = host.calls("demo");
        calls.iter().filter(|call| *call == "1.0.1 start").count()
    };
    host.wait_within(SET_UP, "the bad version to be reported", || {
        !host.error("demo").is_empty()
    });
    let (before, heartbeats) = (tries(), host.meta.count_beats());
    offset.store(HOUR, Ordering::Relaxed);
    // Any event wakes the daemon, as the end of a check does between heartbeats.
    procs::signal(traced.pid, libc::SIGCHLD);
    host.wait_for("a heartbeat, and the try that was due", || {
        host.meta.count_beats() > heartbeats && tries() > before
    });
    traced.end();
}

#[test]
fn an_answer_in_the_future_is_not_called_a_recent_one() {
    let mut host = Host::with_demo("1.0.0");
    host.stop();
    let file = host.own.join("var/status.json");
    let text = fs::read_to_string(&file).expect("a status");
    let answered = json::parse(&text)
        .field("heartbeat")
        .field("answered")
        .number();
    let answered = format!(r#""answered":{}"#, answered.expect("it has answered"));
    fs::write(&file, text.replace(&answered, r#""answered":4102444799"#)).expect("it is ours");
    let shown = String::from_utf8_lossy(&host.run("status").stdout).into_owned();
    let words = "answered at 2099-12-31T23:59:59Z, in the future: the clock was set back";
    let joined = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(joined.contains(words), "{shown}");
}

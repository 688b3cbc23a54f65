//! A directory that cannot be read to its end, as on a failing disk: what is not listed is unknown, not absent.

use crate::support::agent::Agent;
use crate::support::host::Host;
use crate::support::json::Json as _;
use crate::support::md5_hex;
use crate::support::platform;
use crate::support::trace::{self, Call, Verdict, Watch};
use crate::support::watch::names;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Lets every listing of one directory fail with EIO after it was opened, until the disk is healed.
struct Unreadable {
    dir: PathBuf,
    failed: Arc<AtomicUsize>,
    healed: Arc<AtomicBool>,
}

impl Unreadable {
    fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            failed: Arc::default(),
            healed: Arc::default(),
        }
    }
}

impl Watch for Unreadable {
    fn enter(&mut self, call: &Call) -> Verdict {
        if call.nr != libc::SYS_getdents64 || self.healed.load(Ordering::Relaxed) {
            return Verdict::Go;
        }
        let listed = fs::read_link(format!("/proc/{}/fd/{}", call.pid, call.args[0]));
        if !listed.is_ok_and(|dir| dir == self.dir) {
            return Verdict::Go;
        }
        self.failed.fetch_add(1, Ordering::Relaxed);
        Verdict::Fail(libc::EIO)
    }

    fn leave(&mut self, _: &Call, _: i64) -> Verdict {
        Verdict::Go
    }
}

#[test]
fn an_agent_whose_directory_cannot_be_read_is_unknown_and_nothing_is_installed_over_it() {
    if !trace::is_possible(&platform::binary()) {
        return;
    }
    let mut host = Host::new();
    let agent = Agent::new("demo", "1.0.0");
    let tarball = agent.tarball(&host.dir);
    let desired = host.want("demo", "1.0.0").md5(md5_hex(&tarball));
    host.meta.publish("demo", "1.0.0", tarball);
    host.desire(&[desired]);
    host.start();
    host.wait_running("demo", "1.0.0");
    assert!(host.stop().success());
    let (running, calls) = (host.running("demo"), host.calls("demo"));
    let downloads = host.meta.downloads().len();
    let watch = Unreadable::new(host.agent_dir("demo"));
    let (failed, healed) = (watch.failed.clone(), watch.healed.clone());
    let traced = host.start_traced(false, watch);
    host.wait_for("some checks to fail", || {
        failed.load(Ordering::Relaxed) >= 3 && host.reported("demo").1.starts_with("unknown")
    });
    host.wait_beats(3);
    // The words for EIO of glibc, and those of musl.
    let (_, status) = host.reported("demo");
    let is_named = |words: &&str| status.contains(*words);
    let words = ["Input/output error", "I/O error"];
    assert!(words.iter().any(is_named), "{status}");
    assert_eq!(host.meta.downloads().len(), downloads);
    assert_eq!(
        names(&host.agent_dir("demo")),
        [".updater", ".version", "1.0.0"]
    );
    healed.store(true, Ordering::Relaxed);
    host.wait_for("the agent to be known again", || {
        host.reported("demo") == ("1.0.0".into(), "started".into())
    });
    assert_eq!(host.meta.downloads().len(), downloads);
    assert_eq!((host.running("demo"), host.calls("demo")), (running, calls));
    traced.end();
}

#[test]
fn pins_that_cannot_be_read_hold_the_host_and_unpin_no_agent() {
    if !trace::is_possible(&platform::binary()) {
        return;
    }
    let mut host = Host::with_demo("1.0.0");
    assert!(host.run_with(&["pin", "demo", "1.0.0"]).status.success());
    assert!(host.stop().success());
    host.publish(&Agent::new("demo", "1.0.1"));
    host.desire(&[host.want("demo", "1.0.1")]);
    let watch = Unreadable::new(host.own.join("var/pins"));
    let (failed, healed) = (watch.failed.clone(), watch.healed.clone());
    let traced = host.start_traced(false, watch);
    host.wait_for("the pins to be unreadable", || {
        failed.load(Ordering::Relaxed) >= 2
    });
    host.wait_beats(5);
    assert_eq!(host.version("demo"), "1.0.0");
    assert!(host.meta.downloads().is_empty());
    let heartbeat = host.last_beat().expect("a heartbeat").json();
    let held = heartbeat.field("hold").text().to_owned();
    assert!(held.contains("var/pins"), "{held}");
    healed.store(true, Ordering::Relaxed);
    host.wait_for("the pin to count again", || {
        let beat = host.last_beat().expect("a heartbeat");
        beat.json().field("hold").text().is_empty()
            && beat.agent("demo").field("pinned").text() == "1.0.0"
    });
    assert_eq!(host.version("demo"), "1.0.0");
    traced.end();
}

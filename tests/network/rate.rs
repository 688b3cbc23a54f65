//! The download rate of a host.

use crate::support::agent::Agent;
use crate::support::archive::noise;
use crate::support::host::Host;
use std::time::{Duration, Instant};

fn publish(host: &Host, names: &[&str], bytes: usize) {
    for (name, seed) in names.iter().zip(1..) {
        host.publish(&Agent::new(name, "1.0.0").file("data", noise(bytes, seed)));
    }
    let entries: Vec<_> = names.iter().map(|name| host.want(name, "1.0.0")).collect();
    host.desire(&entries);
}

#[test]
fn all_downloads_together_keep_to_the_rate_and_each_gets_the_same_part_of_it() {
    let mut host = Host::new();
    publish(&host, &["a", "b"], 300_000);
    host.set("download_rate", "100000");
    host.start();
    host.wait_beats(1);
    let began = Instant::now();
    let has = |name: &str| host.agent_dir(name).join("1.0.0/data").exists();
    host.wait_for("the first agent", || has("a") || has("b"));
    let first = began.elapsed();
    host.wait_for("both agents", || has("a") && has("b"));
    let both = began.elapsed();
    // Each takes 6 s at half of the rate. A download that began alone, or ended alone, had more of it for a moment.
    assert!(first > Duration::from_secs(4), "{first:?}");
    assert!(both > Duration::from_secs(5), "{both:?}");
}

#[test]
fn a_new_rate_counts_for_a_download_that_is_under_way() {
    let mut host = Host::new();
    publish(&host, &["demo"], 4_000_000);
    host.set("download_rate", "20000");
    host.start();
    host.wait_for("the download", || host.downloaded() > 0);
    // It would take 200 s more.
    host.set("download_rate", "0");
    host.signal_daemon(libc::SIGHUP);
    host.wait_running("demo", "1.0.0");
    let downloads = host.meta.downloads();
    let tarballs = downloads.iter().filter(|seen| !seen.path.contains(".md5"));
    assert_eq!(tarballs.count(), 1);
}

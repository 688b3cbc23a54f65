//! Every byte that comes from a release store is counted, also that of a download that fails.

use crate::network::downloads::{install, store, tarball};
use crate::support::agent::Agent;
use crate::support::fault::Faults;
use crate::support::host::Host;
use crate::support::md5_hex;

#[test]
fn a_small_tarball_its_digest_and_its_configuration_are_counted() {
    let mut host = Host::new();
    let agent = Agent::new("demo", "1.0.0");
    host.publish(&agent);
    host.meta.put("/demo.json", "{}");
    let tarball = agent.tarball(&host.dir).len() as u64;
    let digest = "0123456789abcdef0123456789abcdef  demo-1.0.0.tar.gz\n".len() as u64;
    let entry = host.want("demo", "1.0.0");
    host.desire(&[entry.config("cfg.json", host.meta.url("/demo.json"))]);
    host.start();
    host.wait_running("demo", "1.0.0");
    assert_eq!(host.downloaded(), digest + tarball + 2);
}

#[test]
fn a_download_that_is_cut_and_resumed_is_counted_once() {
    let mut host = Host::new();
    let bytes = tarball(&host);
    let store = store(&bytes, |exchange, bytes| match exchange.count {
        0 => exchange.begin(bytes, 50_000),
        _ => exchange.serve(bytes),
    });
    install(&mut host, &store, &bytes);
    assert_eq!(host.downloaded(), bytes.len() as u64);
}

#[test]
fn what_turns_out_to_be_no_release_is_counted_too() {
    let mut host = Host::new();
    let bytes = Agent::new("demo", "1.0.0").tarball(&host.dir);
    let wrong = Agent::new("demo", "1.0.1").tarball(&host.dir);
    let served = wrong.clone();
    let store = Faults::serve(move |mut exchange| {
        if exchange.path.contains("text") {
            exchange.reply("200 OK", &[], b"not a gzip archive");
        } else {
            exchange.serve(&served);
        }
    });
    // The interval is so long that each is tried once.
    host.set("interval", "60");
    let entry = |name: &str| {
        host.want(name, "1.0.0")
            .tarball(store.url(&format!("/{name}")))
    };
    let entries = ["text", "wrong"].map(|name| entry(name).md5(md5_hex(&bytes)));
    host.desire(&entries);
    host.start();
    host.prompt();
    host.wait_for("both to fail", || {
        !host.error("text").is_empty() && !host.error("wrong").is_empty()
    });
    let all = b"not a gzip archive".len() + wrong.len();
    host.wait_for("both to be counted", || host.downloaded() == all as u64);
}

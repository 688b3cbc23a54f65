//! Tests how a tarball is fetched: redirects, forms of md5 files, and heartbeats during a download.

use crate::support::agent::Agent;
use crate::support::fault::{Exchange, Faults};
use crate::support::host::Host;
use crate::support::json::Json as _;
use crate::support::{archive, md5_hex, release_path};
use std::fs;
use std::time::{Duration, Instant};

/// Returns the tarball of a version with 200 KB of data.
pub fn tarball(host: &Host) -> Vec<u8> {
    let agent = Agent::new("demo", "1.0.0");
    agent
        .archive(&host.dir)
        .file("data", 0o644, archive::noise(200_000, 3))
        .stored()
}

/// Returns a store that answers requests for this tarball as the test decides. The entry holds the digest itself.
pub fn store(
    bytes: &[u8],
    answer: impl Fn(&mut Exchange, &[u8]) + Send + Sync + 'static,
) -> Faults {
    let bytes = bytes.to_vec();
    Faults::serve(move |mut exchange| answer(&mut exchange, &bytes))
}

/// Installs demo from the store and waits until it runs.
pub fn install(host: &mut Host, store: &Faults, bytes: &[u8]) {
    host.desire(&[host
        .want("demo", "1.0.0")
        .tarball(store.releases())
        .md5(md5_hex(bytes))]);
    host.start();
    host.wait_running("demo", "1.0.0");
    let data = fs::read(host.agent_dir("demo").join("1.0.0/data")).expect("its data");
    assert!(
        data == archive::noise(200_000, 3),
        "the data is not what was published"
    );
}

#[test]
fn redirects_are_followed_up_to_five() {
    let mut host = Host::new();
    let bytes = tarball(&host);
    let hops = [
        "301 Moved",
        "302 Found",
        "303 See Other",
        "307 Temporary Redirect",
        "308 Permanent Redirect",
    ];
    let store = store(&bytes, move |exchange, bytes| {
        let hop: usize = exchange
            .path
            .strip_prefix("/hop/")
            .map_or(0, |n| n.parse().expect("a number"));
        match hops.get(hop) {
            Some(status) if hop.is_multiple_of(2) => {
                exchange.reply(status, &[&format!("Location: /hop/{}", hop + 1)], b"");
            }
            Some(status) => {
                let host = exchange.head.lines().find_map(|line| {
                    line.to_lowercase()
                        .strip_prefix("host: ")
                        .map(str::to_owned)
                });
                let target = format!(
                    "Location: http://{}/hop/{}",
                    host.expect("a Host header"),
                    hop + 1
                );
                exchange.reply(status, &[&target], b"");
            }
            None => exchange.serve(bytes),
        }
    });
    install(&mut host, &store, &bytes);
}

#[test]
fn redirects_without_end_or_to_files_are_refused() {
    let mut host = Host::new();
    let bytes = tarball(&host);
    let digest = md5_hex(&bytes);
    let secret = host.dir.join("secret");
    fs::write(&secret, &bytes).expect("a file");
    let file = format!("Location: file://{}", secret.display());
    let to_file = store(&bytes, move |exchange, _| {
        exchange.reply("302 Found", &[&file], b"");
    });
    let round = store(&bytes, |exchange, _| {
        exchange.reply("302 Found", &["Location: /round"], b"");
    });
    let nowhere = store(&bytes, |exchange, _| exchange.reply("302 Found", &[], b""));
    let entries = [("file", &to_file), ("round", &round), ("nowhere", &nowhere)];
    host.desire(&entries.map(|(name, store)| {
        host.want(name, "1.0.0")
            .tarball(store.releases())
            .md5(&digest)
    }));
    host.start();
    host.wait_for("all three to fail", || {
        let heartbeat = host.last_beat();
        heartbeat.is_some_and(|heartbeat| {
            entries
                .iter()
                .all(|(name, _)| !heartbeat.agent(name).field("error").text().is_empty())
        })
    });
    let first_try = round.heads().len();
    assert!((2..=12).contains(&first_try), "{first_try} requests");
    assert!(
        entries
            .iter()
            .all(|(name, _)| host.version(name).is_empty())
    );
}

#[test]
fn md5_files_are_understood_in_the_forms_of_each_tool() {
    let mut host = Host::new();
    let forms = [
        "DIGEST  FILE\n",
        "DIGEST *FILE\n",
        "DIGEST\n",
        "DIGEST",
        "DIGEST  /build/out/FILE\r\n",
        "UPPER  FILE\n",
        "MD5 (FILE) = DIGEST\n",
        "MD5(dist/FILE)= UPPER\n",
        "00000000000000000000000000000000  other.tar.gz\nDIGEST *./FILE\n",
        "WIDE DIGEST  FILE\r\n",
    ];
    let mut entries = Vec::new();
    for (i, form) in forms.iter().enumerate() {
        let name = format!("agent-{i}");
        let bytes = Agent::new(&name, "1.0.0").tarball(&host.dir);
        let digest = md5_hex(&bytes);
        let text = form
            .replace("DIGEST", &digest)
            .replace("UPPER", &digest.to_uppercase());
        let text = text.replace("FILE", &format!("{name}-1.0.0.tar.gz"));
        let sums = match text.strip_prefix("WIDE ") {
            Some(text) => format!("\u{feff}{text}")
                .encode_utf16()
                .flat_map(u16::to_le_bytes)
                .collect(),
            None => text.into_bytes(),
        };
        let path = release_path(&name, "1.0.0");
        host.meta.put(&path, bytes);
        host.meta.put(&(path + ".md5"), sums);
        entries.push(host.want(&name, "1.0.0"));
    }
    host.desire(&entries);
    host.start();
    host.wait_for("every form to be installed", || {
        entries
            .iter()
            .all(|entry| host.version(&entry.name) == "1.0.0")
    });
}

#[test]
fn an_md5_that_is_a_url_is_where_the_md5_files_are() {
    let mut host = Host::new();
    let bytes = Agent::new("demo", "1.0.0").tarball(&host.dir);
    let path = release_path("demo", "1.0.0");
    let sums = path.replace("/releases/", "/sums/v1/") + ".md5";
    host.meta.put(&sums, md5_hex(&bytes));
    host.meta.put(&path, bytes);
    let base = host.meta.url("/sums/v1");
    host.desire(&[host.want("demo", "1.0.0").md5(base)]);
    host.start();
    host.wait_running("demo", "1.0.0");
    assert!(host.meta.downloads().iter().any(|seen| seen.path == sums));
}

#[test]
fn heartbeats_leave_at_their_interval_while_a_download_goes_on() {
    let mut host = Host::new();
    let bytes = tarball(&host);
    let store = store(&bytes, |exchange, bytes| {
        exchange.head("200 OK", &[], Some(bytes.len()));
        exchange.send_slowly(bytes, 25_000);
    });
    host.set("interval", "1");
    host.desire(&[host
        .want("demo", "1.0.0")
        .tarball(store.releases())
        .md5(md5_hex(&bytes))]);
    host.start();
    host.wait_for("the download to begin", || store.heads().len() == 1);
    let (heartbeats, began) = (host.meta.count_beats(), Instant::now());
    host.wait_beats(4);
    assert!(began.elapsed() < Duration::from_secs(7));
    assert!(
        host.version("demo").is_empty(),
        "the download was over before four heartbeats"
    );
    let phases: Vec<_> = host.meta.beats()[heartbeats..]
        .iter()
        .map(|heartbeat| heartbeat.agent("demo").field("phase").text().to_owned())
        .collect();
    assert!(
        phases.iter().any(|phase| phase == "downloading"),
        "{phases:?}"
    );
}

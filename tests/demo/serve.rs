//! `--serve` runs an ops-meta with a directory as its release store, so that a person can try an updater.

use crate::support::agent::Agent;
use crate::support::json::{Json as _, quote};
use crate::support::md5_hex;
use crate::support::meta::Meta;
use crate::support::platform::arch;
use crate::support::wire::{Desired, Seen, stock_answer};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Runs until it is interrupted. Prints the report of a host when it differs from the host's last one. `fate` says what becomes
/// of the directory at the end.
pub fn serve(listen: &str, dir: &Path, fate: &str) -> Result<(), String> {
    // A first attempt, so that a port in use is one line of error and not a panic.
    TcpListener::bind(listen).map_err(|e| format!("cannot listen on {listen}: {e}"))?;
    let meta = Meta::start_at(listen, Some(dir.to_owned()));
    fill(dir, &meta).map_err(|e| format!("cannot fill {}: {e}", dir.display()))?;
    instruct(dir, fate, &meta.addr());
    let mut known = BTreeMap::new();
    loop {
        for beat in meta.take_seen() {
            let Some((host, report)) = report(&beat) else {
                continue;
            };
            if known.get(&host) != Some(&report) {
                println!("{host}: {report}");
                known.insert(host, report);
            }
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Writes two versions of a sample agent and a desired state with the first. Existing files stay.
fn fill(dir: &Path, meta: &Meta) -> io::Result<()> {
    let store = dir.join(arch());
    fs::create_dir_all(&store)?;
    for version in ["1.0.0", "1.0.1"] {
        // The agent logs the calls of its script in its own directory, so that nothing is left elsewhere on the host.
        let tarball = Agent::new("demo", version).tarball(Path::new("."));
        let file = format!("demo-{version}.tar.gz");
        let digest = format!("{}  {file}\n", md5_hex(&tarball));
        put(store.join(format!("{file}.md5")), digest.as_bytes())?;
        put(store.join(file), &tarball)?;
    }
    let wish = Desired {
        name: "demo".to_owned(),
        version: "1.0.0".to_owned(),
        tarball: meta.releases(),
        cmd: "start".to_owned(),
        ..Desired::default()
    };
    let answer = stock_answer(&[wish]) + "\n";
    put(dir.join("desired.json"), answer.as_bytes())
}

fn put(path: PathBuf, content: &[u8]) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    fs::write(path, content)
}

fn instruct(dir: &Path, fate: &str, addr: &str) {
    let (dir, arch) = (dir.display(), arch());
    println!(
        "ops-meta and release store on http://{addr}, from {dir}. Ctrl-C ends it; the directory {fate}.

cfg.json beside ops-updater and control, then ./control start:
{{
    \"server\": {},
    \"interval\": 5
}}

The answer to every heartbeat is {dir}/desired.json: set \"version\" to 1.0.1, or \"cmd\" to stop, and watch.
Your own agent NAME, version VERSION, with control at the root of its tarball:
    cp NAME-VERSION.tar.gz {dir}/{arch}/
    cd {dir}/{arch} && md5sum NAME-VERSION.tar.gz >NAME-VERSION.tar.gz.md5
and an entry in desired.json with \"tarball\": \"http://{addr}/releases\" and \"md5\": \"\".

What hosts report:",
        quote(addr)
    );
}

/// Returns the host that sent a heartbeat and a summary of its agents, or `None` for other requests.
fn report(seen: &Seen) -> Option<(String, String)> {
    if seen.method != "POST" {
        return None;
    }
    let beat = seen.json();
    let agents: Vec<_> = beat
        .field("realAgents")
        .items()
        .iter()
        .map(|agent| {
            let [name, version, status] =
                ["name", "version", "status"].map(|key| agent.field(key).text().trim());
            let error = agent.field("error").text();
            let error = if error.is_empty() {
                String::new()
            } else {
                format!(" ({error})")
            };
            format!("{name} {version} {status}{error}")
        })
        .collect();
    let report = if agents.is_empty() {
        "no agents".to_owned()
    } else {
        agents.join(", ")
    };
    Some((beat.field("hostname").text().to_owned(), report))
}

//! Agents that are installed before a test begins: unpacked, with a receipt, started by their own script.

use super::agent::Agent;
use super::host::Host;
use super::procs::unless_busy;
use super::wire::Desired;
use super::{md5_hex, release_path};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Shell lines that write to `<sandbox>/twice` if another instance of the agent runs when this one starts.
pub const TELLS_A_SECOND: &str = r#"for other in "$sandbox"/*/demo/[0-9]*/app.pid "$sandbox"/*/demo/.updater/*/app.pid; do
    [ "$other" != "$PWD/app.pid" ] && [ -f "$other" ] && read -r pid <"$other" || continue
    { read -r _ _ state _ <"/proc/$pid/stat"; } 2>/dev/null && [ "$state" != Z ] || continue
    echo "$PWD beside $other" >>"$sandbox/twice"
done"#;

/// Writes the files of a version, without a receipt. Returns its directory.
fn lay(host: &Host, work: &Path, agent: &Agent) -> PathBuf {
    let dir = work.join(&agent.name).join(&agent.version);
    fs::create_dir_all(&dir).expect("a version's directory");
    let control = dir.join("control");
    fs::write(&control, agent.control(&host.dir)).expect("a control script");
    fs::set_permissions(&control, fs::Permissions::from_mode(0o755)).expect("it is ours");
    for (path, content) in agent.files() {
        let file = dir.join(path);
        fs::create_dir_all(
            file.parent()
                .expect("the file is in the version's directory"),
        )
        .expect("a directory");
        fs::write(file, content).expect("a file");
    }
    dir
}

/// Writes a version as an installation of ours leaves it. Returns its directory.
pub fn unpack(host: &Host, work: &Path, agent: &Agent) -> PathBuf {
    let dir = lay(host, work, agent);
    fs::create_dir_all(work.join(&agent.name).join(".updater")).expect("our directory");
    let tarball = agent.tarball(&host.dir);
    let receipt = format!(
        r#"{{"name":"{}","version":"{}","md5":"{}","size":{},"url":"http://x{}","time":1477380651}}"#,
        agent.name,
        agent.version,
        md5_hex(&tarball),
        tarball.len(),
        release_path(&agent.name, &agent.version),
    );
    fs::write(dir.join(".receipt.json"), receipt).expect("a receipt");
    dir
}

/// Does the same, puts the version in force and starts it.
pub fn run(host: &Host, work: &Path, agent: &Agent) {
    let dir = unpack(host, work, agent);
    put_in_force(work, agent);
    start(host, &dir);
}

/// Writes a version and puts it in force as the original updater does, without a receipt. Returns its directory.
pub fn left_by_the_original(host: &Host, agent: &Agent) -> PathBuf {
    let dir = lay(host, &host.work, agent);
    put_in_force(&host.work, agent);
    dir
}

fn put_in_force(work: &Path, agent: &Agent) {
    let file = work.join(&agent.name).join(".version");
    fs::write(file, &agent.version).expect("a .version");
}

/// Starts the version in this directory by its own script.
pub fn start(host: &Host, dir: &Path) {
    let started = unless_busy(|| {
        Command::new(dir.join("control"))
            .arg("start")
            .current_dir(dir)
            .env(super::host::MARK, &host.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
    });
    assert!(started.is_ok_and(|status| status.success()));
}

/// Publishes, desires and starts all of these agents, as an earlier daemon would have left them.
pub fn settle(host: &Host, agents: &[Agent]) {
    let mut wanted = Vec::new();
    for agent in agents {
        host.publish(agent);
        run(host, &host.work, agent);
        wanted.push(host.want(&agent.name, &agent.version));
    }
    keep(host, &wanted);
    host.desire(&wanted);
}

/// Writes the desired state that an earlier daemon has kept.
pub fn keep(host: &Host, entries: &[Desired]) {
    let entries: Vec<_> = entries.iter().map(Desired::json).collect();
    let list = format!("[{}]", entries.join(","));
    fs::write(host.own.join("desired_agent.json"), list).expect("the kept list");
}

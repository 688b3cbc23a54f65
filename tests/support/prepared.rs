//! Agents that are there already when a test begins: unpacked, with a receipt as ours, started by their own script.

use super::agent::Agent;
use super::host::Host;
use super::procs::unless_busy;
use super::{md5_hex, release_path};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Says so in `<sandbox>/twice` when another instance of the agent runs at the moment of its start.
pub const TELLS_A_SECOND: &str = r#"for other in "$sandbox"/*/demo/[0-9]*/app.pid "$sandbox"/*/demo/.updater/*/app.pid; do
    [ "$other" != "$PWD/app.pid" ] && [ -f "$other" ] && read -r pid <"$other" || continue
    { read -r _ _ state _ <"/proc/$pid/stat"; } 2>/dev/null && [ "$state" != Z ] || continue
    echo "$PWD beside $other" >>"$sandbox/twice"
done"#;

/// A whole version as an install of ours leaves it. Its directory.
pub fn unpack(host: &Host, work: &Path, agent: &Agent) -> PathBuf {
    let dir = work.join(&agent.name).join(&agent.version);
    fs::create_dir_all(&dir).expect("a version's directory");
    fs::create_dir_all(work.join(&agent.name).join(".updater")).expect("our directory");
    let control = dir.join("control");
    fs::write(&control, agent.control(&host.dir)).expect("a control script");
    fs::set_permissions(&control, fs::Permissions::from_mode(0o755)).expect("it is ours");
    for (path, content) in agent.files() {
        let file = dir.join(path);
        fs::create_dir_all(file.parent().expect("it is in the version's")).expect("a directory");
        fs::write(file, content).expect("a file");
    }
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

/// The same, in force and running.
pub fn run(host: &Host, work: &Path, agent: &Agent) {
    let dir = unpack(host, work, agent);
    fs::write(work.join(&agent.name).join(".version"), &agent.version).expect("a .version");
    let started = unless_busy(|| {
        Command::new(dir.join("control"))
            .arg("start")
            .current_dir(&dir)
            .env(super::host::MARK, &host.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
    });
    assert!(started.is_ok_and(|status| status.success()));
}

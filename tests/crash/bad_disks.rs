//! File systems that accept no writes: read-only, owned by another user, full to the last page or out of inodes. Agents
//! run on and are still restarted, no partial file remains, and the updater recovers by itself once it can write.

use crate::support::agent::Agent;
use crate::support::archive::noise;
use crate::support::host::{Host, PATIENCE};
use crate::support::json::Json as _;
use crate::support::users::{User, can_make_users, mode};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// A small file system that is unmounted when dropped.
struct Mount(PathBuf);

impl Mount {
    /// Mounts a tmpfs. Returns `None` and prints a notice where this user may not mount.
    fn tmpfs(at: &Path, options: &str) -> Option<Self> {
        can_make_users().then(|| {
            let mount = Self(at.to_path_buf());
            mount.run(&["-t", "tmpfs", "-o", options, "tmpfs"]);
            mount
        })
    }

    fn run(&self, args: &[&str]) {
        assert!(self.can_run(args), "cannot mount {args:?}");
    }

    fn can_run(&self, args: &[&str]) -> bool {
        let mounted = Command::new("mount").args(args).arg(&self.0).output();
        mounted.expect("mount runs").status.success()
    }

    /// Changes the size of the file system. Returns false if it already holds more.
    fn resize(&self, megabytes: u64) -> bool {
        self.can_run(&["-o", &format!("remount,size={megabytes}m")])
    }

    /// Mounts the file system read-only over itself. Open files stay writable, as after a disk error.
    fn freeze(&self) -> Self {
        let frozen = Self(self.0.clone());
        frozen.run(&["--bind", &self.0.display().to_string()]);
        frozen.run(&["-o", "remount,bind,ro"]);
        frozen
    }

    /// Fills the free space with one file, and returns its path.
    fn fill(&self) -> PathBuf {
        let filler = self.0.join("filler");
        let file = fs::File::options().create(true).append(true).open(&filler);
        let mut file = file.expect("a file");
        for size in [1 << 20, 4096, 1] {
            let bytes = vec![b'x'; size];
            while file.write_all(&bytes).is_ok() {}
        }
        filler
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

/// Returns a host that runs demo 1.0.0. The updater's directory (`own`), or else the agents' one, is a file system of its
/// own.
fn host_on(own: bool, options: &str) -> Option<(Host, Mount)> {
    let mut host = Host::new();
    let dir = if own { &host.own } else { &host.work };
    let mount = Mount::tmpfs(dir, options)?;
    // The mount hides the configuration that was written before it, so this writes it again.
    host.set("interval", "1");
    host.publish(&Agent::new("demo", "1.0.0"));
    host.desire(&[host.want("demo", "1.0.0")]);
    host.start();
    host.wait_running("demo", "1.0.0");
    Some((host, mount))
}

fn error_of_demo(host: &Host) -> String {
    let heartbeat = host.last_beat();
    let agent = heartbeat.map(|heartbeat| heartbeat.agent("demo"));
    agent.map_or(String::new(), |agent| {
        agent.field("error").text().to_owned()
    })
}

fn upgrade(host: &Host) {
    host.publish(&Agent::new("demo", "1.0.1"));
    host.desire(&[host.want("demo", "1.0.1")]);
}

/// Waits longer than the pause between two tries can grow in a test.
fn wait_upgraded(host: &Host) {
    host.wait_within(Duration::from_secs(90), "1.0.1 to run alone", || {
        host.version("demo") == "1.0.1" && host.running("demo").len() == 1
    });
}

fn is_saved(host: &Host) -> bool {
    let own = |file| fs::read_to_string(host.own.join(file)).unwrap_or_default();
    own("desired_agent.json").contains("1.0.1") && own("var/ledger.json").contains("1.0.1")
}

/// Asserts that the agent is upgraded, and restarted after its death, while the updater cannot save its state.
/// Asserts that the state is saved once there is room.
fn goes_on_without_saving(host: &Host, make_room: impl FnOnce()) {
    upgrade(host);
    host.wait_running("demo", "1.0.1");
    host.kill_agent("demo");
    host.wait_running("demo", "1.0.1");
    host.wait_beats(2);
    assert!(!is_saved(host));
    make_room();
    host.wait_for("the state to be saved", || is_saved(host));
}

#[test]
fn with_its_own_directory_read_only_agents_are_looked_after() {
    let Some((mut host, mount)) = host_on(true, "size=4m") else {
        return;
    };
    let frozen = mount.freeze();
    goes_on_without_saving(&host, move || drop(frozen));
    host.stop();
    let _frozen = mount.freeze();
    host.start();
    assert_eq!(host.wait_exit().code(), Some(1));
    let log = host.log();
    let last = log.lines().last().unwrap_or_default();
    let file = host.own.join("var/lock").display().to_string();
    assert!(last.contains(&file) && last.contains("Read-only"), "{last}");
    assert_eq!(host.running("demo").len(), 1);
}

#[test]
fn with_its_own_directory_full_to_the_last_page_agents_are_looked_after() {
    let Some((host, mount)) = host_on(true, "size=4m") else {
        return;
    };
    let filler = mount.fill();
    goes_on_without_saving(&host, || fs::remove_file(&filler).expect("the filler"));
}

#[test]
fn with_its_own_directory_out_of_inodes_agents_are_looked_after() {
    let Some((host, mount)) = host_on(true, "size=4m,nr_inodes=40") else {
        return;
    };
    let many = mount.0.join("many");
    fs::create_dir(&many).expect("a directory");
    let mut count = 0..;
    while fs::File::create(many.join(format!("{:?}", count.next()))).is_ok() {}
    goes_on_without_saving(&host, || fs::remove_dir_all(&many).expect("the files"));
}

#[test]
fn an_agent_on_a_read_only_disk_runs_on_and_is_upgraded_once_it_can_be_written() {
    let Some((host, mount)) = host_on(false, "size=200m") else {
        return;
    };
    let before = host.running("demo");
    let frozen = mount.freeze();
    upgrade(&host);
    host.wait_for("an error", || error_of_demo(&host).contains("Read-only"));
    host.wait_beats(2);
    assert_eq!(host.running("demo"), before);
    drop(frozen);
    wait_upgraded(&host);
}

#[test]
fn an_agent_on_a_disk_out_of_inodes_runs_on_and_is_upgraded_once_there_are_some() {
    let Some((host, mount)) = host_on(false, "size=200m,nr_inodes=60") else {
        return;
    };
    let before = host.running("demo");
    let many = mount.0.join("many");
    fs::create_dir(&many).expect("a directory");
    let mut count = 0..;
    while fs::File::create(many.join(format!("{:?}", count.next()))).is_ok() {}
    upgrade(&host);
    host.wait_for("an error", || error_of_demo(&host).contains("No space"));
    assert_eq!(host.running("demo"), before);
    host.wait_without_partials("demo", "1.0.1");
    fs::remove_dir_all(&many).expect("the files");
    wait_upgraded(&host);
}

/// Fills the disk as soon as the file `sign` appears in the agent's `.updater`, during the install of a large version.
/// Asserts that the old agent runs on, and that it is upgraded once there is room.
fn fills_up_at(sign: &str) {
    let Some((host, mount)) = host_on(false, "size=180m") else {
        return;
    };
    let before = host.running("demo");
    let large = Agent::new("demo", "1.0.1").file("data", noise(20 << 20, 5));
    let stored = large.archive(&host.dir).stored();
    host.meta.publish("demo", "1.0.1", stored);
    host.desire(&[host.want("demo", "1.0.1")]);
    let updater_dir = host.agent_dir("demo").join(".updater");
    let held = |file: &str| fs::metadata(updater_dir.join(file)).map_or(0, |meta| meta.len() >> 20);
    let began = Instant::now();
    while !(updater_dir.join(sign).exists()
        && mount.resize(held("1.0.1.part") + held("1.0.1.new/data") + 2))
    {
        assert!(began.elapsed() < PATIENCE, "no {sign}");
        std::thread::sleep(Duration::from_millis(1));
    }
    host.wait_for("an error", || !error_of_demo(&host).is_empty());
    assert_eq!(host.running("demo"), before);
    assert_eq!(host.version("demo"), "1.0.0");
    host.wait_without_partials("demo", "1.0.1");
    host.kill_agent("demo");
    host.wait_for("the agent to be started again", || {
        host.running("demo").len() == 1
    });
    assert!(mount.resize(180));
    wait_upgraded(&host);
    assert!(large.is_whole_in(&host.agent_dir("demo").join("1.0.1"), &host.dir));
}

#[test]
fn a_disk_that_fills_up_during_a_download_leaves_no_partials_and_the_old_agent_up() {
    fills_up_at("1.0.1.part");
}

#[test]
fn a_disk_that_fills_up_during_unpacking_leaves_no_partials_and_the_old_agent_up() {
    fills_up_at("1.0.1.new");
}

#[test]
fn what_a_plain_user_may_not_write_is_said_and_goes_on_once_it_may() {
    if !can_make_users() {
        return;
    }
    let user = User::new();
    let mut host = Host::of(&user);
    mode(&host.own, 0o555);
    host.start();
    let status = host.wait_exit();
    assert_eq!(status.code(), Some(1), "{}", host.log());
    let own = host.own.display().to_string();
    let log = host.log();
    assert!(
        log.contains(&own) && log.contains("Permission denied"),
        "{log}"
    );
    assert_eq!(log.lines().count(), 1, "{log}");
    mode(&host.own, 0o755);
    // Root owns the directory of the agents, and nobody else may write to it.
    mode(&host.work, 0o755);
    host.offer(&Agent::new("demo", "1.0.0"));
    host.desire(&[host.want("demo", "1.0.0")]);
    host.start();
    let error = host.wait_error("demo");
    assert!(error.contains("Permission denied"), "{error}");
    user.take(&host.work);
    host.wait_running("demo", "1.0.0");
}

//! File systems that take no writes: read-only, of another user, full to the last page or out of inodes. Agents run on
//! and are looked after, nothing is left half done, and all goes on by itself once there is room.

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

/// A small file system of its own, gone at the end.
struct Mount(PathBuf);

impl Mount {
    /// None, said loudly, where this user may not mount.
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

    /// Makes it so large, if it does not hold more already.
    fn resize(&self, megabytes: u64) -> bool {
        self.can_run(&["-o", &format!("remount,size={megabytes}m")])
    }

    /// The same once more, above itself, and read-only: as after an error of the disk, what is open for writing stays so.
    fn freeze(&self) -> Self {
        let frozen = Self(self.0.clone());
        frozen.run(&["--bind", &self.0.display().to_string()]);
        frozen.run(&["-o", "remount,bind,ro"]);
        frozen
    }

    /// Takes what room is left, and tells in which file.
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

/// A host whose own directory, or whose agents' one, is a file system of its own; demo 1.0.0 runs.
fn host_on(own: bool, options: &str) -> Option<(Host, Mount)> {
    let mut host = Host::new();
    let dir = if own { &host.own } else { &host.work };
    let mount = Mount::tmpfs(dir, options)?;
    // What was written before it was mounted.
    host.set("interval", "1");
    host.publish(&Agent::new("demo", "1.0.0"));
    host.desire(&[host.want("demo", "1.0.0")]);
    host.start();
    host.wait_running("demo", "1.0.0");
    Some((host, mount))
}

fn error_of_demo(host: &Host) -> String {
    let beat = host.last_beat();
    let agent = beat.map(|beat| beat.agent("demo"));
    agent.map_or(String::new(), |agent| {
        agent.field("error").text().to_owned()
    })
}

fn upgrade(host: &Host) {
    host.publish(&Agent::new("demo", "1.0.1"));
    host.desire(&[host.want("demo", "1.0.1")]);
}

/// Longer than the pause between two tries has grown in a test.
fn wait_upgraded(host: &Host) {
    host.wait_within(Duration::from_secs(90), "1.0.1 to run alone", || {
        host.version("demo") == "1.0.1" && host.running("demo").len() == 1
    });
}

fn is_saved(host: &Host) -> bool {
    let own = |file| fs::read_to_string(host.own.join(file)).unwrap_or_default();
    own("desired_agent.json").contains("1.0.1") && own("var/ledger.json").contains("1.0.1")
}

/// The agent is upgraded, dies and is started again, while nothing of ours can be saved; then all is saved.
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

/// The disk is full at once when this appears in the agent's `.updater`, while a large version is on its way.
fn fills_up_at(sign: &str) {
    let Some((host, mount)) = host_on(false, "size=180m") else {
        return;
    };
    let before = host.running("demo");
    let large = Agent::new("demo", "1.0.1").file("data", noise(20 << 20, 5));
    let stored = large.archive(&host.dir).stored();
    host.meta.publish("demo", "1.0.1", stored);
    host.desire(&[host.want("demo", "1.0.1")]);
    let ours = host.agent_dir("demo").join(".updater");
    let held = |file: &str| fs::metadata(ours.join(file)).map_or(0, |meta| meta.len() >> 20);
    let began = Instant::now();
    while !(ours.join(sign).exists()
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
    host.wait_for("it to be started again", || host.running("demo").len() == 1);
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
    // The directory of the agents is root's, and closed to all others.
    mode(&host.work, 0o755);
    host.offer(&Agent::new("demo", "1.0.0"));
    host.desire(&[host.want("demo", "1.0.0")]);
    host.start();
    let error = host.wait_error("demo");
    assert!(error.contains("Permission denied"), "{error}");
    user.take(&host.work);
    host.wait_running("demo", "1.0.0");
}

//! Checks that a run user who sets traps in its own directories gets nothing that belongs to root.

use crate::support::canary::Canary;
use crate::support::host::Host;
use crate::support::json::Json as _;
use crate::support::procs;
use crate::support::trial::each;
use crate::support::users::{User, can_make_users, mode, noting};
use crate::support::wire::Desired;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

/// The paths that a user may replace by a link, and the target of the link in the canary.
const TRAPS: [(&str, &str); 16] = [
    ("", "dir"),
    ("", "empty"),
    ("", "file"),
    (".updater", "dir/.updater"),
    (".updater", "empty"),
    ("1.0.0", "dir/1.0.0"),
    ("1.0.0", "empty"),
    (".version", "file"),
    (".version", "nowhere"),
    (".updater/control.out", "big"),
    (".updater/control.pid", "file"),
    (".updater/lock", "file"),
    (".updater/lock", "nowhere"),
    (".updater/1.0.0.part", "file"),
    (".updater/1.0.0.new", "empty"),
    (".updater/1.0.0.other", "dir"),
];

/// Returns one agent for each trap, all of one user and in one workDir.
fn trapped(host: &Host, user: &User, version: &str) -> Vec<Desired> {
    let traps = 0..TRAPS.len();
    traps
        .map(|count| {
            let name = format!("agent{count}");
            host.offer(&noting(&name, version));
            host.want(&name, version).run_user(&user.name)
        })
        .collect()
}

/// Runs as the user: moves the existing file away and puts the link there.
fn lay(user: &User, work: &Path, canary: &Canary) {
    let lay = TRAPS.iter().enumerate().map(|(count, (place, target))| {
        let place = work.join(format!("agent{count}")).join(place);
        let place = place.display().to_string();
        let place = place.trim_end_matches('/');
        let target = canary.dir.join(target).display().to_string();
        format!(
            "mkdir -p \"$(dirname {place})\"; mv -T {place} {place}.away; ln -sT {target} {place}"
        )
    });
    user.sh(&lay.collect::<Vec<_>>().join("\n"));
    for (count, (place, _)) in TRAPS.iter().enumerate() {
        let place = work.join(format!("agent{count}")).join(place);
        let path = place.display().to_string();
        assert!(Path::new(path.trim_end_matches('/')).is_symlink(), "{path}");
    }
}

/// Creates a workDir of the user's own, one that is writable by all, and one like /tmp.
fn work_dirs(host: &Host, user: &User) -> Vec<PathBuf> {
    let (open, sticky) = (host.dir.join("open"), host.dir.join("sticky"));
    for (dir, bits) in [(&open, 0o777), (&sticky, 0o1777)] {
        fs::create_dir(dir).expect("a directory");
        mode(dir, bits);
    }
    vec![user.closed_dir("agents"), open, sticky]
}

/// Returns a user, a host whose agents live in one of these directories, and the canary that the traps are aimed at.
fn trapper(work_dir: usize) -> (User, Host, Canary) {
    let user = User::new();
    let mut host = Host::new();
    let canary = Canary::in_sandbox(&host);
    host.work = work_dirs(&host, &user).remove(work_dir);
    (user, host, canary)
}

fn settled(host: &Host, name: &str, version: &str) -> bool {
    host.last_beat().is_some_and(|heartbeat| {
        let agent = heartbeat.agent(name);
        let runs =
            agent.field("version").text() == version && agent.field("status").text() == "started";
        runs || !agent.field("error").text().is_empty()
    })
}

#[test]
fn links_laid_before_the_first_install_lead_nothing_into_a_place_of_roots() {
    if !can_make_users() {
        return;
    }
    each(&[0, 1, 2], |count| {
        let (user, mut host, canary) = trapper(count);
        lay(&user, &host.work, &canary);
        let entries = trapped(&host, &user, "1.0.0");
        host.desire(&entries);
        host.start();
        for entry in &entries {
            host.wait_for(&format!("{} to run or fail", entry.name), || {
                settled(&host, &entry.name, "1.0.0")
            });
        }
        let stopped: Vec<_> = entries.into_iter().map(|entry| entry.cmd("stop")).collect();
        host.desire(&stopped);
        host.wait_beats(5);
        canary.assert_unharmed(&format!("installs in {}", host.work.display()));
        assert!(!canary.dir.join("nowhere").exists());
    });
}

#[test]
fn links_laid_under_running_agents_lead_no_upgrade_into_a_place_of_roots() {
    if !can_make_users() {
        return;
    }
    each(&[0, 2], |count| {
        let (user, mut host, canary) = trapper(count);
        host.desire(&trapped(&host, &user, "1.0.0"));
        host.start();
        let many: Vec<String> = (0..TRAPS.len())
            .map(|count| format!("agent{count}"))
            .collect();
        for name in &many {
            host.wait_running(name, "1.0.0");
        }
        // The updater is stopped here, because it would repair missing files.
        host.stop();
        lay(&user, &host.work, &canary);
        host.start();
        host.wait_beats(3);
        host.desire(&trapped(&host, &user, "1.0.1"));
        let patience = Duration::from_secs(150);
        for name in &many {
            host.wait_within(patience, &format!("{name} to be upgraded or fail"), || {
                settled(&host, name, "1.0.1")
            });
        }
        for pid in procs::in_sandbox(&host.dir) {
            if crate::support::watch::is_agent(pid) {
                procs::signal(pid, libc::SIGKILL);
            }
        }
        host.wait_beats(5);
        canary.assert_unharmed(&format!("upgrades in {}", host.work.display()));
        assert!(!canary.dir.join("nowhere").exists());
    });
}

/// Starts a process that runs as the user and swaps directories and links under these names as fast as it can, until
/// it is killed.
fn racing(user: &User, work: &Path, many: &[String], target: &Path) -> Child {
    let script = r#"my ($work, $target, @names) = @ARGV;
chdir $work or die;
for my $n (@names) { mkdir ".d.$n"; }
while (1) {
  for my $n (@names) {
    symlink $target, $n; unlink $n;
    symlink $target, ".l.$n"; rename $n, ".d.$n"; rename ".l.$n", $n;
    unlink $n; rename ".d.$n", $n;
    symlink $target, ".l.$n"; rename "$n/.updater", "$n/.u"; rename ".l.$n", "$n/.updater";
    unlink "$n/.updater"; rename "$n/.u", "$n/.updater";
    symlink "$target", "$n/1.0.0"; unlink "$n/1.0.0";
    rename $n, ".d.$n" if rand() < 0.3;
  }
}"#;
    let mut command = user.command("perl");
    command
        .args(["-e", script])
        .arg(work)
        .arg(target)
        .args(many);
    command.spawn().expect("perl runs")
}

#[test]
fn a_user_who_races_the_updater_gets_nothing_of_roots() {
    if !can_make_users() {
        return;
    }
    // The races run one after the other, because each takes the whole machine.
    for count in 0..3 {
        let (user, mut host, canary) = trapper(count);
        let many: Vec<String> = (0..20).map(|count| format!("agent{count}")).collect();
        let mut racer = racing(&user, &host.work, &many, &canary.dir.join("empty"));
        let mut other = racing(&user, &host.work, &many, &canary.dir.join("dir"));
        let entries = many.iter().map(|name| {
            host.offer(&noting(name, "1.0.0"));
            host.want(name, "1.0.0").run_user(&user.name)
        });
        host.desire(&entries.collect::<Vec<_>>());
        host.start();
        host.wait_beats(8);
        for racer in [&mut racer, &mut other] {
            assert!(racer.try_wait().expect("a child").is_none(), "perl races");
            racer
                .kill()
                .and_then(|()| racer.wait())
                .expect("a child of ours");
        }
        canary.assert_unharmed(&format!("a race in {}", host.work.display()));
        for (path, owner) in crate::support::users::not_of(user.uid(), &host.work) {
            assert_eq!(owner, 0, "{}", path.display());
        }
    }
}

//! Moves to another user where the agent's directory cannot be renamed, as a mount point or a directory of an image. That is
//! found out before the agent is stopped.

use crate::crash::full_disk::Mount;
use crate::support::agent::Agent;
use crate::support::host::Host;
use crate::support::md5_hex;
use crate::support::prepared;
use crate::support::users::{User, can_make_users, mode, noting};
use crate::users::moves::{demo, wait_running_as};
use std::fs;
use std::time::Duration;

/// Returns a host on which demo 1.0.0 runs as this user, in a directory that is a mount point.
fn mounted(user: &User) -> Option<(Host, Mount)> {
    let mut host = Host::new();
    let dir = host.agent_dir("demo");
    fs::create_dir(&dir).expect("a directory");
    let mount = Mount::tmpfs(&dir, "99m")?;
    mode(&dir, 0o755);
    user.take(&dir);
    host.offer(&noting("demo", "1.0.0"));
    host.desire(&[demo(&host, "1.0.0", &user.name)]);
    host.start();
    host.wait_running("demo", "1.0.0");
    Some((host, mount))
}

#[test]
fn an_agent_whose_directory_is_a_mount_point_is_not_stopped_for_another_user() {
    if !can_make_users() {
        return;
    }
    let (one, two) = (User::new(), User::new());
    let Some((host, _mount)) = mounted(&one) else {
        return;
    };
    let before = host.running("demo");
    host.desire(&[demo(&host, "1.0.0", &two.name)]);
    let error = host.wait_error("demo");
    assert!(error.contains("mount point"), "{error}");
    host.stays(Duration::from_secs(12), "it runs on", || {
        host.running("demo") == before
    });
    assert_eq!(host.ids("demo"), [format!("1.0.0 start {}", one.uid())]);
}

/// Mounts an overlay over the work directory, in which demo belongs to the image.
fn in_an_image(host: &Host) -> Option<(Mount, Mount)> {
    let changes = host.dir.join("changes");
    fs::create_dir(&changes).expect("a directory");
    let changes = Mount::tmpfs(&changes, "199m")?;
    let overlay = Mount::overlay(&host.work, &changes)?;
    Some((overlay, changes))
}

#[test]
fn an_agent_whose_directory_belongs_to_an_image_is_not_stopped_for_another_user() {
    if !can_make_users() {
        return;
    }
    let (one, two) = (User::new(), User::new());
    let mut host = Host::new();
    host.offer(&noting("demo", "1.0.0"));
    host.desire(&[demo(&host, "1.0.0", &one.name)]);
    host.start();
    host.wait_running("demo", "1.0.0");
    // In this order: the updater would start the agent again.
    host.kill_updater_and_scripts();
    host.kill_agent("demo");
    let Some(_mounts) = in_an_image(&host) else {
        return;
    };
    host.start();
    let before = [host.wait_running("demo", "1.0.0")];
    host.desire(&[demo(&host, "1.0.0", &two.name)]);
    let error = host.wait_error("demo");
    assert!(error.contains("directory of an image"), "{error}");
    host.stays(Duration::from_secs(12), "it runs on", || {
        host.running("demo") == before
    });
    // Another workDir needs no rename.
    host.work = two.closed_dir("agents");
    host.desire(&[demo(&host, "1.0.0", &two.name)]);
    wait_running_as(&host, two.uid(), "1.0.0");
}

#[test]
fn another_build_of_a_version_of_an_image_stops_nothing_and_says_what_to_do() {
    if !can_make_users() {
        return;
    }
    let mut host = Host::new();
    let old = Agent::new("demo", "1.0.0");
    let new = old.clone().file("more", "of it");
    prepared::unpack(&host, &host.work, &old);
    fs::write(host.agent_dir("demo").join(".version"), "1.0.0").expect("a .version");
    let Some(_mounts) = in_an_image(&host) else {
        return;
    };
    host.publish(&old);
    host.desire(&[host.want("demo", "1.0.0")]);
    host.start();
    let before = [host.wait_running("demo", "1.0.0")];
    host.publish(&new);
    let digest = md5_hex(&new.tarball(&host.dir));
    host.desire(&[host.want("demo", "1.0.0").md5(digest)]);
    let error = host.wait_error("demo");
    assert!(error.contains("another version"), "{error}");
    host.stays(Duration::from_secs(8), "it runs on", || {
        host.running("demo") == before
    });
    // Another version needs no rename of what belongs to the image.
    host.publish(&Agent::new("demo", "1.0.1"));
    host.desire(&[host.want("demo", "1.0.1")]);
    host.wait_running("demo", "1.0.1");
}

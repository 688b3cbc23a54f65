//! The step `Install`: fetch → verify → unpack → configure → publish by rename. Touches nothing that runs. If it fails,
//! only a download that can be resumed stays behind.
#![expect(
    clippy::disallowed_methods,
    reason = "an install reads and writes files"
)]

/// The entries of a tar archive.
mod entries;
/// Checks of the names and links in an archive.
mod entry_path;
/// The fields of a tar header.
mod header;
/// Extended headers.
mod pax;
/// Signs of life.
mod progress;
/// Limits of what a tarball unpacks to.
mod size;
/// Maps of sparse files.
mod sparse;
/// Unpacks a verified tarball.
pub mod unpack;

use std::fs::{self, File};
use std::path::Path;

use self::progress::Progress;
use crate::agent::foreign;
use crate::agent::lifecycle::Agent;
use crate::agent::paths::Paths;
use crate::agent::receipt::Receipt;
use crate::build_info::ARCH;
use crate::error::{At, Error, Kind, Result};
use crate::model::{AgentName, Release, Step};
use crate::net::MEMORY_LIMIT;
use crate::net::download::{self, Verified};
use crate::net::signature::{self, Keys};
use crate::net::{digest, http};
use crate::os::limits::MemoryLimit;
use crate::os::{clock, disk, files, process, space};
use crate::protocol::event::{Event, SYNC_PATIENCE, SYNCING, UNPACKING};
use crate::protocol::job::StepJob;

/// Installs the release beside what runs. Does nothing if it is installed already.
///
/// `md5` is the digest of the tarball, if it is known already. `keys` are those in force.
pub(super) fn install(
    agent: &Agent,
    release: &Release,
    md5: Option<String>,
    keys: &Keys,
) -> Result<()> {
    if agent.look()?.has(&release.build()) {
        return Ok(());
    }
    let installed = fetch_and_publish(agent, release, md5, keys).and_then(|()| {
        // Without this check it would be fetched again and again.
        let is_there = agent.look()?.has(&release.build());
        let cause = "it is not there after it was put in place; is the filesystem damaged?";
        is_there
            .then_some(())
            .ok_or_else(|| Error::new("install", release.version.as_str(), cause))
    });
    process::alarm(0);
    if let Err(error) = &installed {
        clear_up(agent, release, error.is_disk_full());
    }
    installed
}

/// Returns the digest of the tarball of an agent for which nothing has been made on this host yet, for the step `Install`.
///
/// A server that names agents without a release leaves no users and directories behind. Root fetches it, because the user
/// may not exist yet: it is one line, and it is checked to be a digest.
///
/// `is_forgeable`: curl would run as root with what the caller of sudo wrote into the job. Then the user fetches the digest.
pub(super) fn digest_of_new(job: &StepJob, is_forgeable: bool) -> Result<Option<String>> {
    let Some(Step::Install(release)) = &job.step else {
        return Ok(None);
    };
    let ours = Paths::new(&job.name, &job.location).ours();
    if !job.role.moving && fs::symlink_metadata(&ours).is_ok() {
        return Ok(None);
    }
    if is_forgeable && job.network.has_proxy() {
        return Ok(None);
    }
    let _limit = MemoryLimit::set(MEMORY_LIMIT);
    let mut progress = Progress::start(ours)?;
    let md5 = wanted_md5(&job.name, release, &mut progress);
    process::alarm(0);
    match md5 {
        Err(error) if error.kind() == Kind::NeedsCurl => Ok(None),
        md5 => md5.map(Some),
    }
}

fn fetch_and_publish(
    agent: &Agent,
    release: &Release,
    md5: Option<String>,
    keys: &Keys,
) -> Result<()> {
    let limit = MemoryLimit::set(MEMORY_LIMIT);
    let mut progress = Progress::start(agent.paths().ours())?;
    let fresh = agent.paths().staging(&release.version, ".new");
    let part = agent.paths().staging(&release.version, ".part");
    disk::remove_tree(&fresh)?;
    if fs::symlink_metadata(&part).is_ok_and(|meta| !meta.is_file()) {
        // The updater has not created it, and reading a fifo would never end.
        disk::remove_tree(&part)?;
    }
    let (tarball, url) = fetch(agent, release, md5, keys, &part, &mut progress)?;
    let receipt = receipt(agent.name(), release, &tarball, url);
    let file_system = unpack_into(&fresh, tarball, &part, &mut progress)?;
    configure(agent.name(), release, keys, &fresh, &mut progress)?;
    drop(limit);
    if let Some(file_system) = file_system {
        sync(&file_system, &fresh)?;
    }
    receipt.write(&fresh)?;
    publish(agent, release, &fresh)?;
    disk::remove_tree(&part)
}

/// Waits until the disk has all that was unpacked. On a busy disk of others this takes long.
fn sync(file_system: &File, fresh: &Path) -> Result<()> {
    Event::phase(SYNCING)?;
    process::alarm(u32::try_from(SYNC_PATIENCE.as_secs()).unwrap_or(u32::MAX));
    files::sync_file_system(file_system).at("sync", fresh)
}

/// Downloads and verifies the tarball. Returns its URL too.
fn fetch(
    agent: &Agent,
    release: &Release,
    md5: Option<String>,
    keys: &Keys,
    part: &Path,
    progress: &mut Progress,
) -> Result<(Verified, String)> {
    let url = release.tarball_url(agent.name(), ARCH);
    let md5 = match md5 {
        Some(md5) => md5,
        None => wanted_md5(agent.name(), release, progress)?,
    };
    let words = [
        ("name", agent.name().as_str()),
        ("version", release.version.as_str()),
        ("arch", ARCH),
    ];
    let mut report = |received| progress.received("downloading", &received);
    let seal = keys.fetch(&url, &format!("{url}.minisig"), &words, &mut report)?;
    let tarball = download::tarball(&url, &md5, &seal, part, &mut report);
    let tarball = tarball.map_err(|error| mixed_fleet_hint(error, release))?;
    Ok((tarball, url))
}

/// Unpacks the tarball, which lies in `part`, into the new directory `fresh`. Returns its file system, if that must be synced.
fn unpack_into(
    fresh: &Path,
    tarball: Verified,
    part: &Path,
    progress: &mut Progress,
) -> Result<Option<File>> {
    Event::phase(UNPACKING)?;
    fs::create_dir(fresh).at("create", fresh)?;
    let file_system = disk::open_to_sync(fresh)?;
    unpack::check_space(&tarball, fresh)?;
    let is_synced_later = file_system.is_some();
    let mut report = || progress.report(UNPACKING, None);
    let unpacked = unpack::unpack(tarball, fresh, is_synced_later, &mut report);
    if unpacked.is_err() {
        // Its digest is right, so its content is bad: it is of no use to resume.
        disk::remove_tree(part)?;
    }
    unpacked.map(|()| file_system)
}

/// Clears up after a failed install. The download stays to be resumed, unless the disk is full.
fn clear_up(agent: &Agent, release: &Release, lacked_space: bool) {
    let fresh = agent.paths().staging(&release.version, ".new");
    let part = agent.paths().staging(&release.version, ".part");
    let free = files::free_bytes(&agent.paths().agent);
    // The free bytes do not show a quota that is used up, but the error does.
    let is_full = lacked_space || free.is_some_and(|free| free < space::RESERVE);
    let is_empty = fs::metadata(&part).is_ok_and(|meta| meta.len() == 0);
    // The install has reported its error already. The next prune removes what cannot be removed now.
    if is_full || is_empty {
        let _ = disk::remove_tree(&part);
    }
    let _ = disk::remove_tree(&fresh);
}

/// Returns the digest that the tarball must have. The desired state names it, or the `.md5` file beside the tarball.
fn wanted_md5(name: &AgentName, release: &Release, progress: &mut Progress) -> Result<String> {
    if let Some(md5) = release.inline_md5() {
        return Ok(md5);
    }
    let base = if release.md5.is_empty() {
        &release.tarball
    } else {
        &release.md5
    };
    let base = base.trim_end_matches('/');
    let url = format!("{base}/{ARCH}/{}.md5", release.file_name(name));
    digest::fetch(&url, &mut |received| {
        progress.received("downloading", &received)
    })
}

/// Adds a hint to a wrong digest that the desired state names itself.
fn mixed_fleet_hint(error: Error, release: &Release) -> Error {
    if release.inline_md5().is_none() || error.kind() != Kind::WrongDigest {
        return error;
    }
    error.with_hint(
        "one md5 in the desired state cannot match the tarballs of every arch; for a mixed fleet \
         leave it empty and put an .md5 file beside each tarball",
    )
}

/// Fetches the remote configuration, which replaces the one in the archive.
fn configure(
    name: &AgentName,
    release: &Release,
    keys: &Keys,
    fresh: &Path,
    progress: &mut Progress,
) -> Result<()> {
    let (url, file) = (&release.config_remote_url, &release.config_file_name);
    if url.is_empty() || file.is_empty() {
        return Ok(());
    }
    Event::phase("configuring")?;
    let path = fresh.join(file);
    disk::make_dir(disk::parent(&path))?;
    disk::remove_tree(&path)?;
    let mut report = |received| progress.received("configuring", &received);
    let words = [("name", name.as_str()), ("config", file)];
    let seal = keys.fetch(url, &signature::url_of(url), &words, &mut report)?;
    let check = |mut bytes: &[u8]| seal.verify(&mut bytes, &mut || Ok(())).map(drop);
    http::small_file(url, &path, &check, &mut report)?;
    disk::sync_parent(&path)
}

/// Renames the finished directory to the name of its version. If this version is in force, the new build waits in
/// `.updater` for the switch.
fn publish(agent: &Agent, release: &Release, fresh: &Path) -> Result<()> {
    let version_dir = agent.paths().version(&release.version);
    let in_force = agent.paths().in_force()?;
    let is_in_force = in_force.as_ref() == Some(&release.version);
    if disk::is_real_dir(&version_dir) {
        // This is found out now, and not when the agent is stopped already.
        disk::check_movable(&version_dir, fresh).map_err(|error| {
            error.with_hint(
                "a mount point or a directory of an image cannot be replaced; release this build under another version",
            )
        })?;
    }
    if is_in_force && disk::is_program(&version_dir.join("control")) {
        let spare = agent.paths().staging(&release.version, ".other");
        disk::remove_tree(&spare)?;
        return disk::rename(fresh, &spare);
    }
    foreign::clear_way(agent.name(), &release.version, agent.paths())?;
    if fs::symlink_metadata(&version_dir).is_err() {
        return disk::rename(fresh, &version_dir);
    }
    // An older build of a version that is not in force, with a receipt of ours.
    disk::exchange(fresh, &version_dir)?;
    disk::remove_tree(fresh)
}

fn receipt(name: &AgentName, release: &Release, tarball: &Verified, url: String) -> Receipt {
    Receipt {
        name: name.to_string(),
        version: release.version.clone(),
        md5: tarball.md5.clone(),
        size: tarball.size,
        url,
        time: clock::unix_now(),
        signer: tarball.signer.key().map(str::to_owned),
    }
}

//! The step `Install`: fetch → verify → unpack → configure → publish by rename. Touches nothing that runs, and leaves
//! after a failure at most a download that can be resumed.
#![expect(
    clippy::disallowed_methods,
    reason = "an install writes files and tells its time"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::agent::Agent;
use crate::disk;
use crate::error::{At, Error, Result};
use crate::fetch;
use crate::fields;
use crate::job::Event;
use crate::model::{AgentName, Release};
use crate::observe::Receipt;
use crate::sys::{self, MemoryLimit};
use crate::unpack;

/// The compiled-in arch of release stores: `linux_386`, `linux_amd64`, … (Go's `GOOS_GOARCH`).
pub const ARCH: &str = arch();
/// What a hostile body or archive may take before it ends this child; the host never notices.
pub const MEMORY_LIMIT: u64 = 64 << 20;
/// A sign of life at least this often while there is progress.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);
/// Without progress for this long an orphaned download ends itself; a living daemon ends it after 60 s.
const ORPHAN_SECONDS: u32 = 90;

const fn arch() -> &'static str {
    match (
        cfg!(target_os = "macos"),
        cfg!(target_arch = "x86"),
        cfg!(target_arch = "x86_64"),
        cfg!(target_arch = "aarch64"),
    ) {
        (false, true, _, _) => "linux_386",
        (false, _, true, _) => "linux_amd64",
        (false, _, _, true) => "linux_arm64",
        (true, _, true, _) => "darwin_amd64",
        (true, _, _, true) => "darwin_arm64",
        _ => "linux_unknown",
    }
}

/// Brings the release to this place, beside what runs. Nothing to do if it is here already.
pub fn install(agent: &Agent, release: &Release) -> Result<()> {
    if agent.on_disk().has(&release.build()) {
        return Ok(());
    }
    let installed = fetch_and_unpack(agent, release).and_then(|()| {
        let is_there = agent.on_disk().has(&release.build());
        // Otherwise it would be fetched again and again.
        let cause = "it is not seen where it was put; is the filesystem sound?";
        is_there
            .then_some(())
            .ok_or_else(|| Error::new("install", release.version.as_str(), cause))
    });
    sys::alarm(0);
    if let Err(error) = &installed {
        clear_up(agent, release, error.is_about_space());
    }
    installed
}

fn fetch_and_unpack(agent: &Agent, release: &Release) -> Result<()> {
    let limit = MemoryLimit::set(MEMORY_LIMIT);
    let mut pulse = Pulse::start(agent)?;
    let file_name = format!("{}-{}.tar.gz", agent.name(), release.version);
    let url = format!("{}/{ARCH}/{file_name}", release.tarball);
    let md5 = wanted_md5(release, &file_name, &mut pulse)?;
    let part = agent.paths().staging(&release.version, ".part");
    let fresh = agent.paths().staging(&release.version, ".new");
    disk::remove_tree(&fresh)?;
    if fs::symlink_metadata(&part).is_ok_and(|meta| !meta.is_file()) {
        // No download of ours; a fifo would not even end.
        disk::remove_tree(&part)?;
    }
    let tarball = fetch::tarball(&url, &md5, &part, &mut |have, total| {
        pulse.beat("downloading", Some(have), total)
    });
    let tarball = tarball.map_err(|error| mixed_fleet_hint(error, release))?;
    let receipt = receipt(agent.name(), release, &tarball, url);
    Event::phase("unpacking", None, None)?;
    sys::create_dir(&fresh).at("create", &fresh)?;
    unpack::check_space(&tarball, &fresh)?;
    let unpacked = unpack::unpack(tarball, &fresh, &mut || pulse.beat("unpacking", None, None));
    if unpacked.is_err() {
        // It is as published, and no good: there is nothing to resume.
        disk::remove_tree(&part)?;
    }
    unpacked?;
    configure(release, &fresh, &mut pulse)?;
    drop(limit);
    write_receipt(&fresh, receipt)?;
    publish(agent, release, &fresh)?;
    disk::remove_tree(&part)
}

/// After a failed install. What was downloaded so far stays to be resumed, unless the disk is full.
fn clear_up(agent: &Agent, release: &Release, lacked_space: bool) {
    let fresh = agent.paths().staging(&release.version, ".new");
    let part = agent.paths().staging(&release.version, ".part");
    let free = sys::free_bytes(&agent.paths().agent);
    // A full share of the disk is not seen in what is free of it.
    let is_full = lacked_space || free.is_some_and(|free| free < fetch::SPACE_RESERVE);
    let is_empty = fs::metadata(&part).is_ok_and(|meta| meta.len() == 0);
    if is_full || is_empty {
        // The error is told; a leftover that resists is litter for the next prune.
        let _ = disk::remove_tree(&part);
    }
    let _ = disk::remove_tree(&fresh);
}

/// The digest that the tarball must have: named in the desired state, or in the `.md5` file beside it.
fn wanted_md5(release: &Release, file_name: &str, pulse: &mut Pulse) -> Result<String> {
    if let Some(md5) = release.inline_md5() {
        return Ok(md5);
    }
    let base = if release.md5.is_empty() {
        &release.tarball
    } else {
        &release.md5
    };
    let base = base.trim_end_matches('/');
    let url = format!("{base}/{ARCH}/{file_name}.md5");
    fetch::md5_file(&url, &mut |have, total| {
        pulse.beat("downloading", Some(have), total)
    })
}

fn mixed_fleet_hint(error: Error, release: &Release) -> Error {
    if release.inline_md5().is_none() || !error.is_about("verify") {
        return error;
    }
    error.with_hint(
        "one md5 in the desired state cannot match the tarballs of every arch; for a mixed fleet \
         leave it empty and put an .md5 file beside each tarball",
    )
}

/// The remote configuration wins over the archive's, which is taken out of its way.
fn configure(release: &Release, fresh: &Path, pulse: &mut Pulse) -> Result<()> {
    if release.config_remote_url.is_empty() || release.config_file_name.is_empty() {
        return Ok(());
    }
    Event::phase("configuring", None, None)?;
    let path = fresh.join(&release.config_file_name);
    disk::make_dir(disk::parent(&path))?;
    disk::remove_tree(&path)?;
    fetch::small_file(&release.config_remote_url, &path, &mut |have, total| {
        pulse.beat("configuring", Some(have), total)
    })?;
    disk::sync_parent(&path)
}

/// Renames the finished directory into view. What runs is never touched: another build of the version in force waits
/// beside it for the switch.
fn publish(agent: &Agent, release: &Release, fresh: &Path) -> Result<()> {
    let place = agent.paths().version(&release.version);
    let in_force = agent.paths().in_force()?;
    if in_force.as_ref() == Some(&release.version) && disk::is_program(&place.join("control")) {
        let spare = agent.paths().staging(&release.version, ".other");
        disk::remove_tree(&spare)?;
        return disk::rename(fresh, &spare);
    }
    if fs::symlink_metadata(&place).is_err() {
        return disk::rename(fresh, &place);
    }
    // Half a version that somebody else left, or an older build of one that is not in force.
    disk::exchange(fresh, &place)?;
    disk::remove_tree(fresh)
}

fn receipt(name: &AgentName, release: &Release, tarball: &fetch::Verified, url: String) -> Receipt {
    Receipt {
        name: name.to_string(),
        version: release.version.clone(),
        md5: tarball.md5.clone(),
        size: tarball.size,
        url,
        time: sys::unix_now(),
    }
}

pub fn write_receipt(dir: &Path, mut receipt: Receipt) -> Result<()> {
    let text = fields::write(&mut receipt);
    disk::write_atomic(&dir.join(".receipt.json"), text.as_bytes())
}

/// Signs of life, at most one a second, each of which puts off the alarm for orphans and looks at the free space.
struct Pulse {
    next: Instant,
    /// On the filesystem whose reserve must not be used up, whatever a server announced.
    dir: PathBuf,
}

impl Pulse {
    fn start(agent: &Agent) -> Result<Self> {
        let mut pulse = Self {
            next: Instant::now(),
            dir: agent.paths().ours(),
        };
        pulse.beat("downloading", None, None)?;
        Ok(pulse)
    }

    fn beat(&mut self, name: &str, bytes: Option<u64>, total: Option<u64>) -> Result<()> {
        let now = Instant::now();
        if now < self.next {
            return Ok(());
        }
        self.next = now + SIGN_OF_LIFE;
        sys::alarm(ORPHAN_SECONDS);
        fetch::check_space(&self.dir, fetch::SPACE_RESERVE)?;
        Event::phase(name, bytes, total)
    }
}

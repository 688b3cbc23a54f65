//! Signs of life of an install, at most one a second. Each postpones the alarm that ends an orphan, and checks the free
//! space.
#![expect(clippy::disallowed_methods, reason = "it keeps a pace")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::net::http::Received;
use crate::os::{process, space};
use crate::protocol::event::{Event, What};

/// While there is progress, it is reported at least this often.
const INTERVAL: Duration = Duration::from_secs(1);
/// Without progress for this long an orphan ends itself. A living daemon ends it after 60 s.
const ORPHAN_SECONDS: u32 = 90;

pub(super) struct Progress {
    next: Instant,
    /// A directory on the filesystem whose reserve must not be used up, whatever size a server announced.
    dir: PathBuf,
    phase: &'static str,
    /// Bytes from the network that were not reported yet.
    fetched: u64,
}

impl Progress {
    /// Sets the alarm, which the caller clears in the end, and reports the first sign of life.
    pub fn start(dir: PathBuf) -> Result<Self> {
        let mut progress = Self {
            next: Instant::now(),
            dir,
            phase: "",
            fetched: 0,
        };
        progress.report("downloading", None)?;
        Ok(progress)
    }

    /// Counts bytes from the network, and reports them if it is time.
    pub fn received(&mut self, phase: &'static str, received: &Received) -> Result<()> {
        self.fetched += received.fresh;
        self.report(phase, Some(received))
    }

    /// Reports the phase if it is time. Fails if the daemon is gone or the free space has run out.
    pub fn report(&mut self, phase: &'static str, received: Option<&Received>) -> Result<()> {
        self.phase = phase;
        let now = Instant::now();
        if now < self.next {
            return Ok(());
        }
        self.next = now + INTERVAL;
        process::alarm(ORPHAN_SECONDS);
        space::check(&self.dir, space::RESERVE)?;
        self.send(received)
    }

    fn send(&mut self, received: Option<&Received>) -> Result<()> {
        let mut event = Event::new(What::Phase);
        self.phase.clone_into(&mut event.phase);
        event.bytes = received.map(|received| received.have);
        event.total = received.and_then(|received| received.total);
        event.fetched = std::mem::take(&mut self.fetched);
        event.send()
    }
}

impl Drop for Progress {
    /// Reports the last bytes, also of an install that has failed.
    fn drop(&mut self) {
        if self.fetched > 0 {
            // An error means that the daemon is gone, and the next report of the worker will say so.
            let _ = self.send(None);
        }
    }
}

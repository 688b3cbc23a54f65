//! The progress of downloads, as it is shown.
#![expect(clippy::disallowed_methods, reason = "progress is timed")]

use std::time::Instant;

use crate::protocol::event::Event;

/// The progress of a download.
#[derive(Default)]
pub(super) struct Progress {
    pub(super) bytes: u64,
    pub(super) total: u64,
    /// The first report with a total: its time and its bytes.
    began: Option<(Instant, u64)>,
}

impl Progress {
    pub(super) fn note(&mut self, event: &Event) {
        (self.bytes, self.total) = (event.bytes.unwrap_or(0), event.total.unwrap_or(0));
        // The bytes that an earlier attempt left are reported without a total, and are no part of the rate.
        if self.total == 0 || self.began.is_none() {
            self.began = event.total.map(|_| (Instant::now(), self.bytes));
        }
    }

    /// Returns the bytes per second.
    pub(super) fn rate(&self) -> u64 {
        self.began.map_or(0, |(at, bytes)| {
            let seconds = at.elapsed().as_secs().max(1);
            self.bytes.saturating_sub(bytes) / seconds
        })
    }
}

//! How much a tarball may unpack to, and the stream that fails past it.

use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use crate::net::download::Verified;

/// Bytes.
pub(super) const UNPACKED_LIMIT: u64 = 4 << 30;
/// Real archives reach 30:1. Deflate can reach 1032:1.
const RATIO_LIMIT: u64 = 200;
/// Bytes. Below this the ratio means nothing: a script and a page of zeros are harmless.
const RATIO_FLOOR: u64 = 1 << 20;
pub(super) const TOO_LARGE: &str = "it unpacks to more than 200 times its size or 4 GiB";

/// Returns how many bytes the tar archive inside this tarball may have. Holes of sparse files are not in it.
pub(super) fn limit(tarball: &Verified) -> u64 {
    UNPACKED_LIMIT.min((tarball.size * RATIO_LIMIT).max(RATIO_FLOOR))
}

/// Returns the number of bytes as the length of a buffer, at most `limit`.
pub(super) fn at_most(bytes: u64, limit: usize) -> usize {
    usize::try_from(bytes).map_or(limit, |bytes| bytes.min(limit))
}

/// Returns the unpacked size that the last gzip member states, in bytes modulo 2³² (RFC 1952), or 0 if it cannot be read.
pub(super) fn of_last_member(tarball: &Verified) -> u64 {
    let mut size = [0; 4];
    match tarball
        .file
        .read_at(&mut size, tarball.size.saturating_sub(4))
    {
        Ok(4) => u64::from(u32::from_le_bytes(size)),
        _ => 0,
    }
}

/// A stream that fails past its limit. It bounds everything in the archive, headers and padding included.
pub(super) struct Bounded<R> {
    inner: R,
    pub left: u64,
}

impl<R: Read> Bounded<R> {
    pub fn new(inner: R, left: u64) -> Self {
        Self { inner, left }
    }

    /// Fills the buffer. Returns how many bytes there were: fewer only at the end.
    pub fn fill(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read(&mut buffer[filled..])? {
                0 => break,
                got => filled += got,
            }
        }
        Ok(filled)
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        self.left = self
            .left
            .checked_sub(got as u64)
            .ok_or_else(|| io::Error::other(TOO_LARGE))?;
        Ok(got)
    }
}

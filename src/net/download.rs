//! Downloads one tarball in constant memory. It continues an earlier attempt and verifies the digest on the way.
//! A download that drips ends here; the daemon ends one that is silent or takes too long.
#![expect(
    clippy::disallowed_methods,
    reason = "a file for what the network sends, and the pauses between connections"
)]

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use super::answer::{self, Answer};
use super::http::{self, CHUNK, Progress, Received};
use super::pace::Pace;
use super::rate::Throttle;
use super::signature::{Seal, Signer};
use crate::error::{At, Error, Kind, Result};
use crate::md5::Digest;
use crate::os::{disk, space};
use crate::text::brief;

/// The largest tarball, in bytes. The largest known ones have a tenth of it.
const TARBALL_LIMIT: u64 = 2 << 30;
/// A tarball of binaries unpacks to three or four times its size. This is an estimate before the download; the exact
/// size is checked before unpacking.
const UNPACKED_ESTIMATE: u64 = 4;
/// A download fails after this many connections in a row that brought less than `FRUITFUL` bytes each.
const BARREN_TRIES: u32 = 3;
/// Bytes that a connection must bring to start the count of `BARREN_TRIES` again.
const FRUITFUL: u64 = 16 << 10;
/// Time between the beginnings of two connections, and longer after one that brought little: a store in trouble
/// serves many hosts.
const RECONNECT_PAUSE: Duration = Duration::from_secs(1);
/// How often one attempt may begin again from nothing.
const FRESH_STARTS: u32 = 2;
const IS_TAR: &str = "the body is a tar archive without gzip; does the store decompress it?";

/// A tarball whose bytes have the desired digest, and the signature that the keys in force want. Only a `Seal` gives the
/// signer, so nothing else can be unpacked.
pub struct Verified {
    pub file: File,
    pub md5: String,
    pub size: u64,
    pub signer: Signer,
}

/// Downloads to `part`, from where an earlier attempt ended, and verifies the digest and then the signature. `part` is
/// removed if one of them is wrong, and kept for the next attempt after other errors.
pub fn tarball(
    url: &str,
    md5: &str,
    seal: &Seal,
    part: &Path,
    progress: Progress,
) -> Result<Verified> {
    let mut download = Download::resume(url, part, progress)?;
    download.complete(md5, progress)?;
    if download.received == 0 {
        return Err(Error::new("use", url, "the body is empty"));
    }
    if !download.matches(md5) && download.is_pieced {
        // The pieces may be of two files of that name.
        download.begin_again()?;
        download.complete(md5, progress)?;
    }
    if download.matches(md5) {
        return verify(md5, download.received, seal, part, progress);
    }
    let got = download.digest();
    // The next attempt must not resume from wrong bytes.
    let _ = fs::remove_file(part);
    let cause = format!("its md5 is {got}, wanted {md5}");
    let error = Error::new("verify", url, cause).with_kind(Kind::WrongDigest);
    Err(download.with_encoding_hint(error))
}

/// Verifies the signature of a whole download.
fn verify(md5: &str, size: u64, seal: &Seal, part: &Path, progress: Progress) -> Result<Verified> {
    let mut file = File::open(part).at("open", part)?;
    let verified = seal.verify(&mut file, &mut || {
        progress(Received {
            fresh: 0,
            have: size,
            total: Some(size),
        })
    });
    file.rewind().at("rewind", part)?;
    if let Err(error) = &verified
        && error.kind() == Kind::WrongSignature
    {
        // The next attempt must fetch another one.
        let _ = fs::remove_file(part);
    }
    Ok(Verified {
        file,
        md5: md5.to_owned(),
        size,
        signer: verified?,
    })
}

/// Why one connection ended.
enum End {
    /// The body is complete.
    Complete,
    /// Another connection may continue.
    Broken(Error),
    /// Another connection now would fail too.
    Fatal(Error),
}

struct Download<'a> {
    url: &'a str,
    part: &'a Path,
    file: File,
    /// The digest of the `received` bytes in the file.
    sum: Digest,
    received: u64,
    /// The announced size in bytes.
    total: Option<u64>,
    /// The bytes in the file came in several answers.
    is_pieced: bool,
    /// What identifies the file that the first answer began to send. Empty: nothing does.
    validator: String,
    /// The Content-Encoding of the last answer. The bytes are taken as they are: many stores call an archive encoded.
    encoding: String,
    fresh_starts: u32,
    pace: Pace,
    throttle: Throttle,
}

impl<'a> Download<'a> {
    /// Opens the part and digests the bytes in it.
    fn resume(url: &'a str, part: &'a Path, progress: Progress) -> Result<Self> {
        let mut file = disk::open_or_create(part, 0o644).at("open", part)?;
        let mut sum = Digest::new();
        let mut received = 0;
        let mut chunk = vec![0; CHUNK];
        loop {
            let got = file.read(&mut chunk).at("read", part)?;
            if got == 0 {
                break;
            }
            sum.add(&chunk[..got]);
            received += got as u64;
            progress(Received {
                fresh: 0,
                have: received,
                total: None,
            })?;
        }
        Ok(Self {
            url,
            part,
            file,
            sum,
            received,
            total: None,
            is_pieced: received > 0,
            validator: String::new(),
            encoding: String::new(),
            fresh_starts: 0,
            pace: Pace::new(Instant::now()),
            throttle: Throttle::new(Instant::now()),
        })
    }

    fn begin_again(&mut self) -> Result<()> {
        self.fresh_starts += 1;
        self.file.set_len(0).at("empty", self.part)?;
        self.file.seek(SeekFrom::Start(0)).at("rewind", self.part)?;
        self.sum = Digest::new();
        self.received = 0;
        self.is_pieced = false;
        self.validator.clear();
        Ok(())
    }

    fn digest(&self) -> String {
        self.sum.clone().hex()
    }

    fn matches(&self, md5: &str) -> bool {
        self.digest() == md5
    }

    /// Opens one connection after the other until the body is complete.
    fn complete(&mut self, md5: &str, progress: Progress) -> Result<()> {
        let mut barren = 0;
        let mut last_digest = String::new();
        loop {
            let (before, began) = (self.received, Instant::now());
            let error = match self.connection(progress) {
                End::Complete => return Ok(()),
                End::Fatal(error) => return Err(error),
                End::Broken(error) => error,
            };
            if self.total.is_none() && self.received > 0 {
                // Without a length, a body that was cut looks complete. It is complete if it has the desired digest, or
                // if a second body is the same.
                let digest = self.digest();
                if digest == md5 || digest == last_digest {
                    return Ok(());
                }
                last_digest = digest;
            }
            let is_fruitful = self.received >= before + FRUITFUL;
            barren = if is_fruitful { 0 } else { barren + 1 };
            if barren >= BARREN_TRIES || self.fresh_starts > FRESH_STARTS {
                return Err(error);
            }
            let pause = match barren {
                0 => RECONNECT_PAUSE.saturating_sub(began.elapsed()),
                _ => RECONNECT_PAUSE * barren,
            };
            std::thread::sleep(pause);
        }
    }

    fn connection(&mut self, progress: Progress) -> End {
        let answer = match http::open(self.url, self.received, &self.validator) {
            Ok(answer) => answer,
            Err(error) if self.received > 0 => return End::Broken(error),
            Err(error) => return End::Fatal(error),
        };
        match self.accept(&answer) {
            Ok(true) => self.receive(answer, progress),
            Ok(false) => End::Complete,
            Err(end) => end,
        }
    }

    /// Decides from the status and the headers where the body belongs. Returns false if nothing is left to fetch.
    fn accept(&mut self, answer: &Answer) -> std::result::Result<bool, End> {
        match answer.status {
            200 => self.accept_whole(answer).map_err(End::Fatal)?,
            206 => self.accept_range(answer)?,
            416 if self.received > 0 => {
                let total = answer::header(answer, "content-range")
                    .and_then(|range| range.strip_prefix("bytes */"));
                if total.and_then(|total| total.parse().ok()) == Some(self.received) {
                    return Ok(false);
                }
                self.begin_again().map_err(End::Fatal)?;
                return Err(End::Broken(answer::refusal(self.url, answer)));
            }
            _ => return Err(End::Fatal(answer::refusal(self.url, answer))),
        }
        if self.validator.is_empty() {
            answer::validator(answer).clone_into(&mut self.validator);
        }
        let encoding = answer::header(answer, "content-encoding").unwrap_or_default();
        self.encoding = brief(encoding, 40);
        self.check_size().map_err(End::Fatal)?;
        Ok(true)
    }

    fn accept_whole(&mut self, answer: &Answer) -> Result<()> {
        if self.received > 0 {
            self.begin_again()?;
        }
        self.total = answer::content_length(answer);
        Ok(())
    }

    /// Accepts a 206 only if it continues exactly at `received`, in a file as long as before.
    fn accept_range(&mut self, answer: &Answer) -> std::result::Result<(), End> {
        let range = answer::header(answer, "content-range").unwrap_or_default();
        let total = range
            .strip_prefix(&format!("bytes {}-", self.received))
            .and_then(|rest| rest.split_once('/'))
            .and_then(|(_, total)| total.parse::<u64>().ok());
        let agrees = self.total.is_none() || self.total == total;
        if let Some(total) = total.filter(|total| agrees && *total > self.received) {
            self.total = Some(total);
            self.is_pieced = true;
            return Ok(());
        }
        let cause = format!(
            "asked for bytes from {}, the server sent {range:?}",
            self.received
        );
        self.begin_again().map_err(End::Fatal)?;
        self.total = None;
        Err(End::Broken(Error::new("resume", self.url, cause)))
    }

    fn check_size(&self) -> Result<()> {
        let total = self.total.unwrap_or(0);
        if total > TARBALL_LIMIT {
            let cause = format!("it is {total} bytes, the limit is {TARBALL_LIMIT}");
            return Err(Error::new("fetch", self.url, cause));
        }
        let missing = total - self.received.min(total);
        space::check(
            self.part,
            missing + total * UNPACKED_ESTIMATE + space::RESERVE,
        )
    }

    fn receive(&mut self, mut answer: Answer, progress: Progress) -> End {
        let mut chunk = vec![0; CHUNK];
        loop {
            let got = match answer.read(self.throttle.part(&mut chunk)) {
                Ok(0) => return self.ended(),
                Ok(got) => got,
                Err(error) => return End::Broken(Error::new("fetch", self.url, error)),
            };
            let taken = self.take(&chunk[..got]);
            // Bytes that are of no use have come all the same.
            let told = progress(Received {
                fresh: got as u64,
                have: self.received,
                total: self.total,
            });
            if let Err(error) = taken.and(told) {
                return End::Fatal(error);
            }
            self.throttle.count(got as u64);
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        if self.received == 0 {
            self.check_beginning(bytes)?;
        }
        let got = bytes.len() as u64;
        if self.received + got > self.total.unwrap_or(TARBALL_LIMIT) {
            // A body that is too long is useless from its first byte on.
            self.begin_again()?;
            let cause = match self.total {
                Some(total) => format!("the server sent more than the announced {total} bytes"),
                None => format!("the server sent more than {TARBALL_LIMIT} bytes"),
            };
            return Err(Error::new("fetch", self.url, cause));
        }
        self.file.write_all(bytes).at("write", self.part)?;
        self.sum.add(bytes);
        self.received += got;
        let pace = self.pace.count(Instant::now(), got);
        pace.map_err(|cause| Error::new("fetch", self.url, cause))
    }

    /// Checks that a gzip archive begins, and names what stores commonly serve instead. The Content-Type does not count: PHP
    /// and Flask label an archive as HTML too.
    fn check_beginning(&self, bytes: &[u8]) -> Result<()> {
        if gzip::MAGIC.starts_with(&bytes[..bytes.len().min(gzip::MAGIC.len())]) {
            return Ok(());
        }
        let is_html = bytes.trim_ascii_start().first() == Some(&b'<');
        let cause = match gzip::compression(bytes) {
            Some(other) => format!("the body is {other}, not a gzip archive"),
            None if is_html => http::IS_HTML.to_owned(),
            None if bytes.get(257..262) == Some(b"ustar") => IS_TAR.to_owned(),
            None => "the body is not a gzip archive".to_owned(),
        };
        Err(self.with_encoding_hint(Error::new("use", self.url, cause)))
    }

    fn with_encoding_hint(&self, error: Error) -> Error {
        match self.encoding.as_str() {
            "" => error,
            encoding => error.with_hint(&format!("sent with Content-Encoding {encoding}")),
        }
    }

    fn ended(&self) -> End {
        let received = self.received;
        let cause = match self.total {
            Some(total) if received == total => return End::Complete,
            Some(total) => format!("the connection ended after {received} of {total} bytes"),
            None => format!("the body ended after {received} bytes, and had no length"),
        };
        End::Broken(Error::new("fetch", self.url, cause))
    }
}

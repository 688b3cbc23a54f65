//! Makes tarballs: well-formed ones by name, hostile ones by raw header.

use libflate::gzip::{EncodeOptions, Encoder, Header as GzipHeader, HeaderBuilder};
use std::io::Write as _;
use tar::{EntryType, Header};

pub const BLOCK: usize = 512;

/// A tar archive that grows entry by entry. No entry is checked.
#[derive(Default)]
pub struct Tarball {
    bytes: Vec<u8>,
}

impl Tarball {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a regular file.
    pub fn file(self, path: &str, mode: u32, content: impl AsRef<[u8]>) -> Self {
        self.entry(EntryType::Regular, path, "", mode, content.as_ref())
    }

    pub fn dir(self, path: &str) -> Self {
        self.entry(EntryType::Directory, path, "", 0o755, b"")
    }

    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, path, target, 0o777, b"")
    }

    pub fn hardlink(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Link, path, target, 0o644, b"")
    }

    /// Adds an entry of any kind. Its name and link, up to 100 bytes, are written as they are: absolute, or with `..`.
    pub fn entry(self, kind: EntryType, path: &str, link: &str, mode: u32, data: &[u8]) -> Self {
        let mut header = header(kind, path, link, mode, data.len() as u64);
        header.set_cksum();
        self.raw(&header, data)
    }

    /// Adds a header and its data, padded to whole blocks.
    pub fn raw(mut self, header: &Header, data: &[u8]) -> Self {
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(data);
        self.bytes
            .resize(self.bytes.len().next_multiple_of(BLOCK), 0);
        self
    }

    /// Adds an entry whose header is changed before its checksum is made.
    pub fn edited(self, kind: u8, path: &str, data: &[u8], edit: impl FnOnce(&mut Header)) -> Self {
        let mut header = header(EntryType::Regular, path, "", 0o644, data.len() as u64);
        header.as_old_mut().linkflag = [kind];
        edit(&mut header);
        header.set_cksum();
        self.raw(&header, data)
    }

    /// Adds an extended header of this kind.
    pub fn records(self, kind: u8, records: &[(&str, &str)]) -> Self {
        let body: String = records
            .iter()
            .map(|(key, value)| pax_record(key, value))
            .collect();
        self.entry(
            EntryType::new(kind),
            "PaxHeaders/x",
            "",
            0o644,
            body.as_bytes(),
        )
    }

    /// Adds a file whose name is in a GNU long-name entry before it.
    pub fn gnu_long_name(self, path: &str, mode: u32, content: &[u8]) -> Self {
        let name = [path.as_bytes(), b"\0"].concat();
        self.entry(EntryType::GNULongName, "././@LongLink", "", 0o644, &name)
            .entry(
                EntryType::Regular,
                &path[..90.min(path.len())],
                "",
                mode,
                content,
            )
    }

    /// Adds a file whose name is in a PAX header before it.
    pub fn pax_name(self, path: &str, mode: u32, content: &[u8]) -> Self {
        let record = pax_record("path", path);
        self.entry(
            EntryType::XHeader,
            "PaxHeaders.0/x",
            "",
            0o644,
            record.as_bytes(),
        )
        .entry(EntryType::Regular, "shortened", "", mode, content)
    }

    /// Returns the bytes of the tar file with its two closing blocks.
    pub fn tar(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 2 * BLOCK, 0);
        self.bytes
    }

    /// Returns the bytes without the closing blocks, as the beginning of a longer file.
    pub fn unfinished(self) -> Vec<u8> {
        self.bytes
    }

    /// Returns the tarball, compressed.
    pub fn gzip(self) -> Vec<u8> {
        gzip(&self.tar())
    }

    /// Returns the tarball with one more file, which repeats `part` so many times. Each repetition is a gzip member of
    /// its own, so hundreds of megabytes are made quickly.
    pub fn stored_with(self, path: &str, part: &[u8], times: usize) -> Vec<u8> {
        assert!(part.len().is_multiple_of(BLOCK));
        let size = part.len() * times;
        let mut header = header(EntryType::Regular, path, "", 0o644, size as u64);
        header.set_cksum();
        let begin = stored(&self.raw(&header, b"").unfinished());
        [begin, stored(part).repeat(times), stored(&[0; 2 * BLOCK])].concat()
    }

    /// Returns the tarball as a gzip of stored blocks. It is as large as its content, and quick to make and to read.
    pub fn stored(self) -> Vec<u8> {
        stored(&self.tar())
    }
}

fn stored(bytes: &[u8]) -> Vec<u8> {
    let options = EncodeOptions::new().no_compression().header(undated());
    let encoder = Encoder::with_options(Vec::new(), options);
    finish(encoder.expect("a gzip header"), bytes)
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let options = EncodeOptions::new().header(undated());
    let encoder = Encoder::with_options(Vec::new(), options);
    finish(encoder.expect("a gzip header"), bytes)
}

/// Makes a gzip header without a date, because tests compare digests: the same content must give the same bytes.
fn undated() -> GzipHeader {
    HeaderBuilder::new().modification_time(0).finish()
}

fn finish<E: libflate::lz77::Lz77Encode>(
    mut encoder: Encoder<Vec<u8>, E>,
    bytes: &[u8],
) -> Vec<u8> {
    // libflate moves all that it was given and has not encoded, block by block: for 100 MB at once, that takes many seconds.
    for part in bytes.chunks(1 << 16) {
        encoder
            .write_all(part)
            .expect("writing to memory does not fail");
    }
    encoder
        .finish()
        .into_result()
        .expect("writing to memory does not fail")
}

/// Makes a header without checksum. Its name and link are written as raw bytes.
pub fn header(kind: EntryType, path: &str, link: &str, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_477_380_651);
    let old = header.as_old_mut();
    old.name[..path.len()].copy_from_slice(path.as_bytes());
    old.linkname[..link.len()].copy_from_slice(link.as_bytes());
    header
}

/// Makes one record of a PAX header: its own length, key and value.
pub fn pax_record(key: &str, value: &str) -> String {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    format!("{length} {key}={value}\n")
}

/// Returns bytes that do not compress. The same seed gives the same bytes.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

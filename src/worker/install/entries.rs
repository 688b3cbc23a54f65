//! Walks the blocks of a tar archive and puts each entry together from its header, long names, pax records and map of holes.
//! Nothing else reads these, so no two readings can disagree. Accepts what GNU tar accepts, and refuses what it would lose.

use std::io::{self, Read};
use std::mem;

use tar::Header;

use crate::worker::install::entry_path::NAME_LIMIT;
use crate::worker::install::header::{self, BLOCK, is_sound, number, text};
use crate::worker::install::pax::{self, Records};
use crate::worker::install::size::{Bounded, TOO_LARGE, at_most};
use crate::worker::install::sparse::{BAD_MAP, Map};

type Block = [u8; BLOCK];
const EMPTY: Block = [0; BLOCK];

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
    Symlink,
    HardLink,
}

/// An entry as it is to be made. Its name and link are not checked yet.
pub(super) struct Entry {
    pub name: Vec<u8>,
    pub kind: Kind,
    pub link: Vec<u8>,
    pub mode: u32,
    /// Bytes of a file with its holes.
    pub size: u64,
    /// The pieces of a file. `Entries::fill` returns their bytes, one piece behind the other.
    pub map: Map,
}

/// The result of `Entries::next`, which reads one header or skips one block, so that its caller can show signs of life.
pub(super) enum Next {
    Entry(Entry),
    /// A header that describes an entry after it, or data that nobody reads.
    More,
    End,
}

/// The headers that describe the entry after them. The last one of each kind counts, as in GNU tar.
#[derive(Default)]
struct Prelude {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    records: Option<Vec<u8>>,
}

pub(super) struct Entries<R> {
    stream: Bounded<R>,
    /// Bytes of the current entry's data that are not read yet, with the padding to whole blocks.
    unread: u64,
    /// The name of the current entry.
    name: Vec<u8>,
    is_begun: bool,
    prelude: Prelude,
    /// The records of the last global header, which apply to all entries after it.
    globals: Records,
}

impl<R: Read> Entries<R> {
    pub fn new(stream: Bounded<R>) -> Self {
        Self {
            stream,
            unread: 0,
            name: b"the tarball".to_vec(),
            is_begun: false,
            prelude: Prelude::default(),
            globals: Records::default(),
        }
    }

    /// Returns the name of what was read last, for messages.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Returns what comes after the archive.
    pub fn into_rest(self) -> impl Read {
        self.stream
    }

    /// Reads the next header, or skips a block of data that was not read.
    pub fn next(&mut self) -> io::Result<Next> {
        if self.unread > 0 {
            let mut block = EMPTY;
            let length = at_most(self.unread, BLOCK);
            self.fill(&mut block[..length])?;
            return Ok(Next::More);
        }
        let block = self.header()?;
        let prelude = &mut self.prelude;
        let Some(block) = block else {
            if prelude.name.is_some() || prelude.link.is_some() || prelude.records.is_some() {
                return Err(io::Error::other(
                    "the archive ends before the entry that this belongs to",
                ));
            }
            return Ok(Next::End);
        };
        let header = Header::from_byte_slice(&block);
        self.name = header::name(header);
        let size = number(&header.as_old().size)
            .ok_or_else(|| io::Error::other("its size field is not a number"))?;
        match kind_byte(header) {
            b'L' => self.prelude.name = Some(self.long_name(size)?),
            b'K' => self.prelude.link = Some(self.long_name(size)?),
            // X is that of Solaris.
            b'x' | b'X' => self.prelude.records = Some(self.records(size)?),
            b'g' => {
                let records = self.records(size)?;
                self.globals = Records::default();
                self.globals.add(&records).map_err(io::Error::other)?;
            }
            // The label of the archive is an entry that nothing is made of.
            b'V' => {
                self.begin_data(size)?;
                self.prelude = Prelude::default();
            }
            _ => return self.entry(header, size).map(Next::Entry),
        }
        Ok(Next::More)
    }

    /// Fills the buffer with data of the current entry.
    pub fn fill(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        // Only a map of holes can be longer than the data.
        let left = self.unread.checked_sub(buffer.len() as u64);
        self.unread = left.ok_or_else(|| io::Error::other(BAD_MAP))?;
        if self.stream.fill(buffer)? < buffer.len() {
            return Err(io::Error::other("the archive ends in the middle of it"));
        }
        Ok(())
    }

    /// Returns the next header, or None at the end: two blocks of zeros. GNU tar does without one of them or both.
    fn header(&mut self) -> io::Result<Option<Block>> {
        let mut block = EMPTY;
        let got = self.stream.fill(&mut block)?;
        let is_begun = mem::replace(&mut self.is_begun, true);
        if got == 0 && is_begun {
            return Ok(None);
        }
        if got == BLOCK && block == EMPTY {
            return self.end();
        }
        if got == BLOCK && is_sound(Header::from_byte_slice(&block)) {
            return Ok(Some(block));
        }
        if is_begun {
            return Err(io::Error::other(match got {
                BLOCK => "what follows it is not a tar header (its checksum is wrong)",
                _ => "the archive ends in the middle of the header after it",
            }));
        }
        let cause = "there is no tar archive inside";
        Err(match gzip::compression(&block) {
            None => io::Error::other(cause),
            Some(other) => {
                io::Error::other(format!("{cause} but {other}; is it compressed twice?"))
            }
        })
    }

    /// Fails if an entry follows after the first block of zeros: GNU tar would ignore it.
    fn end(&mut self) -> io::Result<Option<Block>> {
        let mut next = EMPTY;
        self.stream.fill(&mut next)?;
        if next != EMPTY && is_sound(Header::from_byte_slice(&next)) {
            return Err(io::Error::other(
                "a block of zeros and more entries follow it",
            ));
        }
        Ok(None)
    }

    /// Announces the data of an entry, which follows.
    fn begin_data(&mut self, size: u64) -> io::Result<()> {
        if size > self.stream.left {
            return Err(io::Error::other(TOO_LARGE));
        }
        self.unread = size.next_multiple_of(BLOCK as u64);
        Ok(())
    }

    fn take(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// Reads the name of the next entry. The rest of one that is too long anyway is skipped, for it may have megabytes.
    fn long_name(&mut self, size: u64) -> io::Result<Vec<u8>> {
        self.begin_data(size)?;
        let name = self.take(at_most(size, NAME_LIMIT + 1))?;
        Ok(text(&name).to_vec())
    }

    fn records(&mut self, size: u64) -> io::Result<Vec<u8>> {
        let length = at_most(size, pax::LIMIT + 1);
        if length > pax::LIMIT {
            return Err(io::Error::other("its extended header is larger than 1 MiB"));
        }
        self.begin_data(size)?;
        self.take(length)
    }

    fn entry(&mut self, header: &Header, size: u64) -> io::Result<Entry> {
        let prelude = mem::take(&mut self.prelude);
        let mut records = self.globals.clone();
        let own = prelude.records.unwrap_or_default();
        records.add(&own).map_err(io::Error::other)?;
        let name = records.sparse_name.or(records.path).or(prelude.name);
        self.name = name.unwrap_or_else(|| header::name(header));
        let fields = header.as_old();
        let link = records.link.or(prelude.link);
        let mode = number(&fields.mode)
            .ok_or_else(|| io::Error::other("its mode field is not a number"))?;
        let mut entry = Entry {
            name: self.name.clone(),
            kind: kind(header, &self.name)?,
            link: link.unwrap_or_else(|| text(&fields.linkname).to_vec()),
            mode: u32::try_from(mode & 0o755).unwrap_or(0),
            size: 0,
            map: Map::default(),
        };
        let size = records.size.unwrap_or(size);
        if entry.kind == Kind::File {
            self.begin_data(size)?;
            (entry.size, entry.map) = self.map(header, records.map, size)?;
        } else if kind_byte(header) == b'D' {
            // The names in a directory, which GNU tar writes into incremental archives.
            self.begin_data(size)?;
        }
        Ok(entry)
    }

    /// Returns the size of a file with its holes, and its pieces. Reads the map that stands before the content, if any.
    fn map(&mut self, header: &Header, mut map: Map, size: u64) -> io::Result<(u64, Map)> {
        let mut data = size;
        if let (b'S', Some(gnu)) = (kind_byte(header), header.as_gnu()) {
            map = Map::of_old_gnu(gnu, &mut || self.map_block())?;
        } else if map == Map::default() {
            map = Map::without_holes(size);
        }
        if map.major > Some(0) {
            let unread = self.unread;
            map.read_lines(&mut || self.take(BLOCK))?;
            data = size
                .checked_sub(unread - self.unread)
                .ok_or_else(|| io::Error::other(BAD_MAP))?;
        }
        let size = map
            .checked_size(data)
            .ok_or_else(|| io::Error::other(BAD_MAP))?;
        Ok((size, map))
    }

    /// Reads a block that the size of an old GNU sparse file does not count.
    fn map_block(&mut self) -> io::Result<Vec<u8>> {
        self.unread += BLOCK as u64;
        self.take(BLOCK)
    }
}

fn kind_byte(header: &Header) -> u8 {
    header.as_old().linkflag[0]
}

fn kind(header: &Header, name: &[u8]) -> io::Result<Kind> {
    Ok(match kind_byte(header) {
        // Old tar programs write a directory like this.
        0 | b'0' | b'7' if name.ends_with(b"/") => Kind::Directory,
        0 | b'0' | b'7' => Kind::File,
        b'S' if header.as_gnu().is_some() => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'5' | b'D' => Kind::Directory,
        other => {
            let cause = "only files, directories and links are allowed, not an entry of type";
            return Err(io::Error::other(format!("{cause} {:?}", char::from(other))));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MUCH: usize = 3 << 20;

    fn entry(kind: u8, size: usize) -> Vec<u8> {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..5].copy_from_slice(b"name/");
        header.as_old_mut().linkflag = [kind];
        header.set_mode(0o755);
        header.set_size(size as u64);
        header.set_cksum();
        [header.as_bytes(), &vec![b'x'; size][..]].concat()
    }

    #[test]
    fn whatever_is_skipped_the_caller_gets_a_turn_after_one_mebibyte() {
        for kind in [b'L', b'K', b'V', b'D'] {
            let archive = [entry(kind, MUCH), entry(b'5', 0)].concat();
            let all = archive.len() as u64;
            let mut entries = Entries::new(Bounded::new(&archive[..], all));
            let mut left = all;
            while !matches!(entries.next().expect("a good archive"), Next::End) {
                let now = entries.stream.left;
                assert!(left - now <= 1 << 20, "{}", char::from(kind));
                left = now;
            }
            assert_eq!(left, 0);
        }
    }
}

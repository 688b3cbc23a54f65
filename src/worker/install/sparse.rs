//! Reads the maps of sparse files: which pieces of a file are in the archive. Between them are holes, which are in no archive.

use std::io;
use std::vec::IntoIter;

use tar::{GnuExtSparseHeader, GnuHeader, GnuSparseHeader};

use crate::worker::install::header::{BLOCK, decimal, number};

/// Twice the pieces of a file of 4 GiB with a hole after each 64 KB.
const NUMBER_LIMIT: usize = 131_072;
pub(super) const BAD_MAP: &str = "the map of its holes is bad or does not fit its size";

/// A part of a file that the archive holds. Bytes.
pub(super) struct Piece {
    pub offset: u64,
    pub length: u64,
}

/// The pieces of a file. Records of pax have the rest, and in the forms before 1.0 also the pieces.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub(super) struct Map {
    pub major: Option<u64>,
    pub minor: Option<u64>,
    /// Bytes of the file with its holes.
    pub size: Option<u64>,
    /// Offset and length of each piece in turn.
    numbers: Vec<u64>,
}

/// Reads the next block of the archive.
type NextBlock<'a> = &'a mut dyn FnMut() -> io::Result<Vec<u8>>;

impl Map {
    pub fn without_holes(size: u64) -> Self {
        Self {
            size: Some(size),
            numbers: vec![0, size],
            ..Self::default()
        }
    }

    /// Reads the map of an old GNU sparse file: four pieces in its header, and 21 in each block after it.
    pub fn of_old_gnu(header: &GnuHeader, next: NextBlock) -> io::Result<Self> {
        let mut map = Self {
            size: number(&header.realsize),
            ..Self::default()
        };
        map.add_fields(&header.sparse)
            .ok_or_else(|| io::Error::other(BAD_MAP))?;
        let mut has_more = header.isextended != [0];
        while has_more {
            let mut block = GnuExtSparseHeader::new();
            block.as_mut_bytes().copy_from_slice(&next()?);
            map.add_fields(&block.sparse)
                .ok_or_else(|| io::Error::other(BAD_MAP))?;
            has_more = block.isextended != [0];
        }
        Ok(map)
    }

    fn add_fields(&mut self, fields: &[GnuSparseHeader]) -> Option<()> {
        for field in fields.iter().take_while(|field| !field.is_empty()) {
            self.add(number(&field.offset)?)?;
            self.add(number(&field.numbytes)?)?;
        }
        Some(())
    }

    /// Reads the map of form 1.0, which fills whole blocks: the number of pieces, then offset and length of each, a line each.
    pub fn read_lines(&mut self, next: NextBlock) -> io::Result<()> {
        if (self.major, self.minor) != (Some(1), Some(0)) {
            return Err(io::Error::other(
                "sparse files of pax are supported in the forms 0.0, 0.1 and 1.0",
            ));
        }
        let mut block = Vec::new().into_iter();
        for _ in 0..line(&mut block, next)? {
            for _ in ["offset", "length"] {
                self.add(line(&mut block, next)?)
                    .ok_or_else(|| io::Error::other(BAD_MAP))?;
            }
        }
        Ok(())
    }

    /// Adds offsets and lengths with commas between them.
    pub fn add_list(&mut self, list: &[u8]) -> Option<()> {
        for number in list.split(|byte| *byte == b',') {
            self.add(decimal(number)?)?;
        }
        Some(())
    }

    /// Adds an offset or a length. Returns None if the file has too many pieces.
    fn add(&mut self, number: u64) -> Option<()> {
        let has_room = self.numbers.len() < NUMBER_LIMIT;
        has_room.then(|| self.numbers.push(number))
    }

    pub fn pieces(&self) -> impl Iterator<Item = Piece> {
        self.numbers.chunks_exact(2).map(|pair| Piece {
            offset: pair[0],
            length: pair[1],
        })
    }

    /// Returns the size of the file with its holes, if the pieces lie one behind the other in it and are `data` bytes.
    ///
    /// A piece that ends inside of a block must be the last: programs disagree where the next one begins.
    pub fn checked_size(&self, data: u64) -> Option<u64> {
        let (mut end, mut sum) = (0, 0);
        for piece in self.pieces() {
            if piece.offset < end || piece.length > 0 && sum % BLOCK as u64 != 0 {
                return None;
            }
            end = piece.offset.checked_add(piece.length)?;
            sum += piece.length;
        }
        // A file that is one hole has an empty piece at its end.
        let is_whole = !self.numbers.is_empty() && self.numbers.len().is_multiple_of(2);
        self.size
            .filter(|size| is_whole && end <= *size && sum == data)
    }
}

/// Returns the number in the next line, which may begin in this block and end in the next one.
fn line(block: &mut IntoIter<u8>, next: NextBlock) -> io::Result<u64> {
    let mut digits = Vec::new();
    loop {
        match block.next() {
            Some(b'\n') => return decimal(&digits).ok_or_else(|| io::Error::other(BAD_MAP)),
            Some(byte) => digits.push(byte),
            None if digits.len() > BLOCK => return Err(io::Error::other(BAD_MAP)),
            None => *block = next()?.into_iter(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_lie_inside_the_file_and_in_order() {
        for (pieces, data, is_good) in [
            (&[][..], 0_u64, false),
            (&[(4096, 0)], 0, true),
            (&[(0, 4096)], 4096, true),
            (&[(512, 512), (4000, 96)], 608, true),
            (&[(512, 512), (4096, 0)], 512, true),
            (&[(512, 512), (512, 512)], 1024, false),
            (&[(1024, 512), (0, 512)], 1024, false),
            (&[(0, 100), (512, 100)], 200, false),
            (&[(0, 100), (4096, 0)], 100, true),
            (&[(4000, 97)], 97, false),
            (&[(4096, 0)], 1, false),
            (&[(5000, 0)], 0, false),
            (&[(u64::MAX, 512)], 512, false),
        ] {
            let mut map = Map {
                size: Some(4096),
                ..Map::default()
            };
            for (offset, length) in pieces {
                map.add(*offset).expect("few pieces");
                map.add(*length).expect("few pieces");
            }
            let size = is_good.then_some(4096);
            assert_eq!(map.checked_size(data), size, "{pieces:?} {data}");
        }
    }
}

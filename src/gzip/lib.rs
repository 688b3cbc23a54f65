//! Reads the members of a gzip file (RFC 1952) as one stream; libflate inflates them. There is no natural way: libflate's own
//! gzip reader takes a member header that is cut short for the end of the file, rejects zeros after the last member, which
//! some stores append, and brings 21 KB of checksum code.

use std::io::{self, Read};

use libflate::deflate::Decoder;

/// The first two bytes of a gzip file (RFC 1952).
pub const MAGIC: [u8; 2] = [0x1f, 0x8b];
const COMPRESSIONS: [(&[u8], &str); 5] = [
    (&MAGIC, "gzip"),
    (b"\xfd7zXZ", "xz"),
    (b"BZh", "bzip2"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"PK\x03\x04", "zip"),
];
/// The only compression method that RFC 1952 defines.
const DEFLATE: u8 = 8;
const HAS_HEADER_CRC: u8 = 1 << 1;
const HAS_EXTRA: u8 = 1 << 2;
const HAS_NAME: u8 = 1 << 3;
const HAS_COMMENT: u8 = 1 << 4;
/// Bytes per read of the source; libflate's window has the same size.
const CHUNK: usize = 64 << 10;

/// The content of all members. Errors complete the sentence "cannot unpack …:".
pub struct Gzip<'a> {
    /// None after the last member.
    member: Option<Member<'a>>,
    checksum: Checksum,
}

struct Member<'a> {
    inflate: Decoder<Source<'a>>,
    crc: u32,
    /// Modulo 2³², as in the trailer.
    size: u32,
}

impl<'a> Gzip<'a> {
    /// Reads the header of the first member.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or is not that of a gzip file.
    pub fn new(inner: impl Read + 'a) -> io::Result<Self> {
        Ok(Self {
            member: Some(Member::open(Source::new(inner))?),
            checksum: Checksum::new(),
        })
    }
}

/// Returns which program compressed a file that begins like this.
#[must_use]
pub fn compression(head: &[u8]) -> Option<&'static str> {
    let found = COMPRESSIONS
        .iter()
        .find(|(magic, _)| head.starts_with(magic));
    found.map(|(_, name)| *name)
}

impl Read for Gzip<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let got = member.inflate.read(buffer)?;
            if got > 0 || buffer.is_empty() {
                member.crc = self.checksum.add(member.crc, &buffer[..got]);
                // Wraps like the size in the trailer.
                #[expect(clippy::cast_possible_truncation)]
                {
                    member.size = member.size.wrapping_add(got as u32);
                }
                return Ok(got);
            }
            self.member = match self.member.take() {
                Some(ended) => ended.next()?,
                None => None,
            };
        }
        Ok(0)
    }
}

impl<'a> Member<'a> {
    #[cold]
    fn open(mut source: Source<'a>) -> io::Result<Self> {
        let mut head = [0; 10];
        source.fill(&mut head)?;
        let [m0, m1, method, flags, ..] = head;
        if [m0, m1] != MAGIC || method != DEFLATE {
            return Err(io::Error::other("it is not gzip"));
        }
        if flags & HAS_EXTRA != 0 {
            let length = u16::from_le_bytes([source.byte()?, source.byte()?]);
            for _ in 0..length {
                source.byte()?;
            }
        }
        for text in [HAS_NAME, HAS_COMMENT] {
            while flags & text != 0 && source.byte()? != 0 {}
        }
        if flags & HAS_HEADER_CRC != 0 {
            source.byte()?;
            source.byte()?;
        }
        Ok(Self {
            inflate: Decoder::new(source),
            crc: 0,
            size: 0,
        })
    }

    /// Checks the trailer and opens the next member, if there is one.
    #[cold]
    fn next(self) -> io::Result<Option<Self>> {
        let mut source = self.inflate.into_inner();
        let mut trailer = [0; 8];
        source.fill(&mut trailer)?;
        if trailer[..4] != self.crc.to_le_bytes() || trailer[4..] != self.size.to_le_bytes() {
            return Err(io::Error::other("its checksum does not match"));
        }
        loop {
            match source.ahead()?.first() {
                None => return Ok(None),
                Some(0) => source.at += 1,
                Some(first) if *first == MAGIC[0] => return Self::open(source).map(Some),
                Some(_) => return Err(source.not_gzip()),
            }
        }
    }
}

/// Reads into the buffer, as `Read::read` does; 0 bytes mean the end.
type Fill<'a> = Box<dyn FnMut(&mut [u8]) -> io::Result<usize> + 'a>;

/// A buffered file. libflate reads single bytes from it, hence the inlined fast path in `read_exact`, which halves the time.
/// It is not generic, so that the binary has one copy of libflate; a `dyn Read` would add 3 KB that nothing calls.
struct Source<'a> {
    more: Fill<'a>,
    chunk: Vec<u8>,
    /// `chunk[at..]` is not read yet.
    at: usize,
}

impl<'a> Source<'a> {
    fn new(mut inner: impl Read + 'a) -> Self {
        Self {
            more: Box::new(move |chunk| inner.read(chunk)),
            chunk: Vec::new(),
            at: 0,
        }
    }

    /// Returns the next bytes; none at the end.
    fn ahead(&mut self) -> io::Result<&[u8]> {
        if self.at == self.chunk.len() {
            self.at = 0;
            self.chunk.resize(CHUNK, 0);
            let got = (self.more)(&mut self.chunk);
            self.chunk.truncate(*got.as_ref().unwrap_or(&0));
            got?;
        }
        Ok(&self.chunk[self.at..])
    }

    /// Counts the bytes that are left, for an error.
    fn not_gzip(&mut self) -> io::Error {
        let mut count = 0;
        loop {
            match self.ahead().map(<[u8]>::len) {
                Ok(0) => break,
                Ok(length) => {
                    count += length;
                    self.at += length;
                }
                Err(error) => return error,
            }
        }
        let cause = format!("{count} bytes after the end of the gzip file are not gzip");
        io::Error::other(cause)
    }

    #[cold]
    fn fill(&mut self, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            let got = self.read(buffer)?;
            if got == 0 {
                let cause = "the gzip file is cut short";
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, cause));
            }
            buffer = &mut buffer[got..];
        }
        Ok(())
    }

    #[cold]
    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.fill(&mut byte)?;
        Ok(byte[0])
    }
}

impl Read for Source<'_> {
    #[cold]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let ahead = self.ahead()?;
        let got = ahead.len().min(buffer.len());
        buffer[..got].copy_from_slice(&ahead[..got]);
        self.at += got;
        Ok(got)
    }

    #[inline]
    fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        if let ([only], Some(next)) = (&mut *buffer, self.chunk.get(self.at)) {
            *only = *next;
            self.at += 1;
            return Ok(());
        }
        self.fill(buffer)
    }
}

/// Bytes that the checksum takes at once.
const AT_ONCE: usize = 8;

/// Computes the CRC-32 of section 8 of RFC 1952.
struct Checksum {
    /// The first table has the remainder of each byte, the one after it that of the byte and a zero, and so on.
    tables: Vec<[u32; 256]>,
}

impl Checksum {
    fn new() -> Self {
        let mut tables = vec![[0_u32; 256]; AT_ONCE];
        for (byte, entry) in (0..).zip(&mut tables[0]) {
            *entry = byte;
            for _ in 0..8 {
                *entry = (*entry >> 1) ^ (if *entry & 1 == 1 { 0xedb8_8320 } else { 0 });
            }
        }
        for zeros in 1..AT_ONCE {
            for byte in 0..256 {
                let crc = tables[zeros - 1][byte];
                tables[zeros][byte] = tables[0][usize::from(crc.to_le_bytes()[0])] ^ (crc >> 8);
            }
        }
        Self { tables }
    }

    /// Continues the checksum of the bytes before; 0 at the start.
    fn add(&self, before: u32, bytes: &[u8]) -> u32 {
        let (mut crc, mut chunks) = (!before, bytes.chunks_exact(AT_ONCE));
        for chunk in &mut chunks {
            let mut sum = 0;
            for ((byte, old), table) in chunk
                .iter()
                .zip(u64::from(crc).to_le_bytes())
                .zip(self.tables.iter().rev())
            {
                sum ^= table[usize::from(byte ^ old)];
            }
            crc = sum;
        }
        for byte in chunks.remainder() {
            crc = self.tables[0][usize::from(crc.to_le_bytes()[0] ^ byte)] ^ (crc >> 8);
        }
        !crc
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A member with one stored block, and the header fields of these flags.
    fn member(flags: u8, extras: &[u8], text: &[u8]) -> Vec<u8> {
        let length = u16::try_from(text.len()).expect("a short text");
        let mut bytes = vec![0x1f, 0x8b, 8, flags, 1, 2, 3, 4, 0, 255];
        bytes.extend(extras);
        bytes.push(1);
        bytes.extend(length.to_le_bytes());
        bytes.extend((!length).to_le_bytes());
        bytes.extend(text);
        bytes.extend(Checksum::new().add(0, text).to_le_bytes());
        bytes.extend(u32::from(length).to_le_bytes());
        bytes
    }

    fn read(bytes: &[u8]) -> std::result::Result<String, String> {
        let mut text = String::new();
        let read = Gzip::new(bytes).and_then(|mut gzip| gzip.read_to_string(&mut text));
        read.map(|_| text).map_err(|error| error.to_string())
    }

    #[test]
    fn the_checksum_is_the_one_of_the_rfc() {
        // The check value of CRC-32/ISO-HDLC.
        let checksum = Checksum::new();
        assert_eq!(checksum.add(0, b"123456789"), 0xcbf4_3926);
        assert_eq!(
            checksum.add(checksum.add(0, b"1234"), b"56789"),
            0xcbf4_3926
        );
    }

    #[test]
    fn members_are_read_as_one_and_zeros_after_them_are_ignored() {
        let all = [
            member(0, b"", b"one "),
            member(0, b"", b""),
            member(0, b"", b"two"),
            vec![0; 100],
        ];
        assert_eq!(read(&all.concat()), Ok("one two".to_owned()));
    }

    #[test]
    fn all_fields_of_a_header_are_skipped() {
        let extras = b"\x03\x00abcname\0comment\0\x12\x34";
        assert_eq!(read(&member(0x1e, extras, b"text")), Ok("text".to_owned()));
    }

    #[test]
    fn a_file_that_is_cut_short_is_an_error() {
        let whole = [
            member(0x1e, b"\0\0n\0c\0\0\0", b"one"),
            member(0, b"", b"two"),
        ]
        .concat();
        let first = member(0x1e, b"\0\0n\0c\0\0\0", b"one").len();
        for length in (0..whole.len()).filter(|length| *length != first) {
            read(&whole[..length]).expect_err(&format!("the first {length} bytes"));
        }
    }

    #[test]
    fn a_wrong_byte_anywhere_in_the_checksum_or_the_size_is_found() {
        let good = member(0, b"", b"text");
        for place in good.len() - 8..good.len() {
            let mut bad = good.clone();
            bad[place] ^= 1;
            assert_eq!(read(&bad), Err("its checksum does not match".to_owned()));
        }
    }

    #[test]
    fn bytes_that_are_not_gzip_are_an_error() {
        let trailing = [member(0, b"", b"text"), b"<html>, and more".to_vec()].concat();
        let cause = "16 bytes after the end of the gzip file are not gzip";
        assert_eq!(read(&trailing), Err(cause.to_owned()));
        let zeros = [member(0, b"", b"text"), vec![0; 99], b"x".to_vec()].concat();
        let cause = "1 bytes after the end of the gzip file are not gzip";
        assert_eq!(read(&zeros), Err(cause.to_owned()));
    }

    #[test]
    fn a_bad_header_is_named() {
        for (bytes, cause) in [
            (&b""[..], "the gzip file is cut short"),
            (b"\x1f\x8b\x08\0", "the gzip file is cut short"),
            (b"\x1f\x8b\x07\0\0\0\0\0\0\0\0", "it is not gzip"),
            (b"<html></html>", "it is not gzip"),
        ] {
            let error = read(bytes);
            assert_eq!(error, Err(cause.to_owned()), "{}", bytes.escape_ascii());
        }
    }
}

//! Another gzip reader to compare gzip.rs with: headers by RFC 1952, deflate by zlib. Also makes trailers of mutated files right
//! again, so that fuzzing gets past the checksum.

use flate2::{Crc, Decompress, FlushDecompress, Status};

/// Larger outputs are not compared: several windows of deflate show as much as megabytes, in less time.
pub const OUTPUT_LIMIT: usize = 256 << 10;

/// One member of the file.
pub struct Member {
    /// The offset of its trailer, which may be wrong.
    pub trailer: usize,
    pub text: Vec<u8>,
}

impl Member {
    pub fn right_trailer(&self) -> [u8; 8] {
        let mut crc = Crc::new();
        crc.update(&self.text);
        let mut trailer = [0; 8];
        trailer[..4].copy_from_slice(&crc.sum().to_le_bytes());
        trailer[4..].copy_from_slice(&crc.amount().to_le_bytes());
        trailer
    }
}

/// Why a file is refused.
#[derive(PartialEq, Eq)]
pub enum Fault {
    /// A set of Huffman codes is incomplete or is for too many symbols.
    Codes,
    Other,
}

/// Returns the member at this offset, up to its trailer.
///
/// # Errors
/// Its header or its data is bad, or it has no end.
pub fn member(bytes: &[u8], from: usize) -> Result<Member, Fault> {
    let rest = bytes.get(from..).and_then(header);
    let start = from + rest.ok_or(Fault::Other)?;
    let offset = |inflate: &Decompress| {
        let read = usize::try_from(inflate.total_in());
        read.map(|read| start + read).map_err(|_| Fault::Other)
    };
    let mut inflate = Decompress::new(false);
    let mut text = Vec::with_capacity(64 << 10);
    loop {
        let before = (inflate.total_in(), inflate.total_out());
        let input = bytes.get(offset(&inflate)?..).ok_or(Fault::Other)?;
        let status = inflate
            .decompress_vec(input, &mut text, FlushDecompress::None)
            .map_err(|error| match error.message() {
                // zlib has no other sign of it: "invalid distances set", "too many length or distance symbols".
                Some(text) if text.ends_with(" set") || text.ends_with(" symbols") => Fault::Codes,
                _ => Fault::Other,
            })?;
        if status == Status::StreamEnd {
            let trailer = offset(&inflate)?;
            return Ok(Member { trailer, text });
        }
        let is_full = text.len() == text.capacity();
        if text.len() > OUTPUT_LIMIT
            || !is_full && before == (inflate.total_in(), inflate.total_out())
        {
            return Err(Fault::Other);
        }
        if is_full {
            text.reserve(text.len().max(1));
        }
    }
}

fn header(bytes: &[u8]) -> Option<usize> {
    let [0x1f, 0x8b, 8, flags, _, _, _, _, _, _, ..] = bytes else {
        return None;
    };
    let mut at = 10;
    if flags & 4 != 0 {
        at += 2 + usize::from(*bytes.get(at)?) + (usize::from(*bytes.get(at + 1)?) << 8);
    }
    for text in [8, 16] {
        if flags & text != 0 {
            at += 1 + bytes.get(at..)?.iter().position(|byte| *byte == 0)?;
        }
    }
    at += usize::from(flags & 2);
    (at <= bytes.len()).then_some(at)
}

/// Returns the content of all members.
///
/// # Errors
/// The file is not gzip, has a wrong trailer or is cut short.
pub fn read(bytes: &[u8]) -> Result<Vec<u8>, Fault> {
    let (mut text, mut at) = (Vec::new(), 0);
    loop {
        let member = member(bytes, at)?;
        let trailer = bytes.get(member.trailer..member.trailer + 8);
        if trailer != Some(&member.right_trailer()) {
            return Err(Fault::Other);
        }
        text.extend(&member.text);
        at = member.trailer + 8;
        at += bytes[at..].iter().take_while(|byte| **byte == 0).count();
        if at == bytes.len() {
            return Ok(text);
        }
    }
}

/// Corrects checksum and size of each member, up to the first bad member.
pub fn mend(bytes: &mut [u8]) {
    let mut at = 0;
    while let Ok(member) = member(bytes, at) {
        let Some(trailer) = bytes.get_mut(member.trailer..member.trailer + 8) else {
            return;
        };
        trailer.copy_from_slice(&member.right_trailer());
        at = member.trailer + 8;
        at += bytes[at..].iter().take_while(|byte| **byte == 0).count();
    }
}

/// Returns a gzip file with one stored member.
pub fn stored(text: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let mut blocks = text.chunks(0xffff).peekable();
    if blocks.peek().is_none() {
        bytes.extend([1, 0, 0, 0xff, 0xff]);
    }
    while let Some(block) = blocks.next() {
        let length = u16::try_from(block.len()).expect("a chunk");
        bytes.push(u8::from(blocks.peek().is_none()));
        bytes.extend(length.to_le_bytes());
        bytes.extend((!length).to_le_bytes());
        bytes.extend(block);
    }
    let member = Member {
        trailer: 0,
        text: text.to_owned(),
    };
    bytes.extend(member.right_trailer());
    bytes
}

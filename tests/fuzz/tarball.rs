//! Mutates tar archives as archives: changes one field of an entry, repeats, moves or drops entries, and makes the checksums
//! right again. Input that is not an archive becomes one.

use std::ops::Range;

const BLOCK: usize = 512;

const NAME: Range<usize> = 0..100;
const MODE: Range<usize> = 100..108;
const SIZE: Range<usize> = 124..136;
const SUM: Range<usize> = 148..156;
const KIND: Range<usize> = 156..157;
const LINK: Range<usize> = 157..257;
const MAGIC: Range<usize> = 257..265;
const PREFIX: Range<usize> = 345..500;
/// The header of an old GNU sparse file: four pieces, whether more follow, and the size with the holes.
const SPARSE: Range<usize> = 386..495;
const FIELDS: [Range<usize>; 8] = [NAME, MODE, SIZE, KIND, LINK, MAGIC, PREFIX, SPARSE];

const NAMES: [&[u8]; 27] = [
    b"control",
    b"a",
    b"d/",
    b"d",
    b"d/a",
    b"d/../a",
    b"../canary",
    b"/etc/passwd",
    b"./",
    b".",
    b"",
    b"./control",
    b"..",
    b"d/../../canary",
    b"../../canary",
    b"a/b/c/d",
    b"d//a",
    b"l",
    b"l/a",
    b"l/../a",
    b"d/../d/l/..",
    b"d/l/../../a",
    b"d/l",
    b"../d",
    b"\xff\xfe",
    b"a\nb",
    b".receipt.json",
];
const KINDS: &[u8] = b"\x000125671346gxxLKLSKDMNVX";
const MODES: [&[u8]; 6] = [
    b"0000755\0",
    b"0000644\0",
    b"0007777\0",
    b"0000000\0",
    b"7777777\0",
    b"\x80\0\0\0\0\0\x0f\xff",
];
const SIZES: [&[u8]; 8] = [
    b"00000000000\0",
    b"00000000001\0",
    b"00000001000\0",
    b"00004000001\0",
    b"77777777777\0",
    b"\x80\0\0\0\0\0\0\0\x7f\xff\xff\xff",
    b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
];
const RECORDS: [(&[u8], &[u8]); 21] = [
    (b"path", b"../canary"),
    (b"path", b"d/a"),
    (b"path", b""),
    (b"linkpath", b"../canary"),
    (b"linkpath", b"control"),
    (b"size", b"1"),
    (b"size", b"99999999999"),
    (b"mode", b"7777"),
    (b"GNU.sparse.major", b"1"),
    (b"GNU.sparse.minor", b"0"),
    (b"GNU.sparse.name", b"../canary"),
    (b"GNU.sparse.name", b"a"),
    (b"GNU.sparse.size", b"4096"),
    (b"GNU.sparse.realsize", b"9999999999"),
    (b"GNU.sparse.realsize", b"4096"),
    (b"GNU.sparse.offset", b"512"),
    (b"GNU.sparse.numbytes", b"4"),
    (b"GNU.sparse.map", b"0,4,4096,0"),
    (b"SCHILY.xattr.user.x", b"\n14 path=../canary\n"),
    (b"uid", b"0"),
    (b"SCHILY.xattr.user.x", b"y"),
];

/// A small random generator: the same seed gives the same archive.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u32) -> Self {
        Self(u64::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }

    /// Returns a number below `sides`, which must not be 0.
    fn roll(&mut self, sides: usize) -> usize {
        usize::try_from(self.next() % sides as u64).unwrap_or(0)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.roll(from.len())]
    }
}

#[derive(Clone)]
struct Entry {
    header: [u8; BLOCK],
    content: Vec<u8>,
}

impl Entry {
    fn new(name: &[u8], kind: u8, content: &[u8]) -> Self {
        let mut entry = Self {
            header: [0; BLOCK],
            content: content.to_owned(),
        };
        entry.set(NAME, name);
        entry.set(MODE, MODES[0]);
        entry.set(KIND, &[kind]);
        entry.set(
            MAGIC,
            if kind == b'S' {
                b"ustar  \0"
            } else {
                b"ustar\x0000"
            },
        );
        entry.fit();
        entry
    }

    fn set(&mut self, field: Range<usize>, value: &[u8]) {
        let field = &mut self.header[field];
        let length = value.len().min(field.len());
        field.fill(0);
        field[..length].copy_from_slice(&value[..length]);
    }

    /// Sets the size to the length of the content.
    fn fit(&mut self) {
        let size = format!("{:011o}\0", self.content.len());
        self.set(SIZE, size.as_bytes());
    }

    /// Returns the size in the header if it is an octal number.
    fn told(&self) -> Option<usize> {
        let digits = std::str::from_utf8(&self.header[SIZE]).ok()?;
        usize::from_str_radix(digits.trim_matches(['\0', ' ']), 8).ok()
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut header = self.header;
        header[SUM].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[SUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        out.extend(header);
        out.extend(&self.content);
        out.resize(out.len().next_multiple_of(BLOCK), 0);
    }
}

fn take_apart(mut bytes: &[u8]) -> Vec<Entry> {
    let mut entries = Vec::new();
    while let Some((header, rest)) = bytes.split_first_chunk::<BLOCK>() {
        if header.iter().all(|byte| *byte == 0) {
            break;
        }
        let mut entry = Entry {
            header: *header,
            content: Vec::new(),
        };
        let size = entry.told().unwrap_or(0).min(rest.len());
        entry.content.extend(&rest[..size]);
        entries.push(entry);
        bytes = &rest[size.next_multiple_of(BLOCK).min(rest.len())..];
    }
    entries
}

fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = 3 + key.len() + value.len();
    // The length includes its own digits.
    let length = (rest..rest + 9).find(|all| all.to_string().len() + rest == *all);
    let mut record = format!("{} ", length.unwrap_or(rest)).into_bytes();
    record.extend(key);
    record.push(b'=');
    record.extend(value);
    record.push(b'\n');
    record
}

fn any_entry(dice: &mut Dice) -> Entry {
    match dice.roll(6) {
        0 => Entry::new(b"control", b'0', b"#!/bin/sh\n"),
        1 => {
            let (key, value) = dice.pick(&RECORDS);
            Entry::new(b"pax", dice.pick(b"xxxg"), &record(key, value))
        }
        2 => {
            let mut name = dice.pick(&NAMES).to_vec();
            name.push(0);
            Entry::new(b"././@LongLink", dice.pick(b"LK"), &name)
        }
        3 => {
            let mut link = Entry::new(dice.pick(&NAMES), dice.pick(b"12"), b"");
            link.set(LINK, dice.pick(&NAMES));
            link
        }
        4 => sparse(dice),
        _ => Entry::new(dice.pick(&NAMES), dice.pick(KINDS), b"text"),
    }
}

/// One piece of content at a random offset, with a size that may not fit.
fn sparse(dice: &mut Dice) -> Entry {
    let mut entry = Entry::new(dice.pick(&NAMES), b'S', &[b'x'; BLOCK]);
    let offset = BLOCK << dice.roll(24);
    let size = offset + dice.pick(&[0, 1, BLOCK, BLOCK + 1]);
    entry.set(386..398, format!("{offset:011o}\0").as_bytes());
    entry.set(
        398..410,
        format!("{:011o}\0", dice.pick(&[BLOCK, 0, 1])).as_bytes(),
    );
    entry.set(483..495, format!("{size:011o}\0").as_bytes());
    entry
}

fn change(entry: &mut Entry, dice: &mut Dice, mutate: &mut dyn FnMut(&mut [u8])) {
    match dice.roll(9) {
        0 => entry.set(NAME, dice.pick(&NAMES)),
        1 => entry.set(LINK, dice.pick(&NAMES)),
        2 => entry.set(KIND, &[dice.pick(KINDS)]),
        3 => entry.set(MODE, dice.pick(&MODES)),
        4 => entry.set(SIZE, dice.pick(&SIZES)),
        5 => {
            let (key, value) = dice.pick(&RECORDS);
            entry.content.extend(record(key, value));
            entry.fit();
        }
        6 => {
            entry.content.resize(dice.roll(2 * BLOCK), b'x');
            entry.fit();
        }
        7 if !entry.content.is_empty() => mutate(&mut entry.content),
        _ => mutate(&mut entry.header[FIELDS[dice.roll(FIELDS.len())].clone()]),
    }
}

/// Returns the archive with one or a few changes, at most `most` bytes.
pub fn mutate(bytes: &[u8], most: usize, seed: u32, mutate: &mut dyn FnMut(&mut [u8])) -> Vec<u8> {
    let dice = &mut Dice::new(seed);
    let mut entries = take_apart(bytes);
    for _ in 0..=dice.roll(3) {
        let at = dice.roll(entries.len().max(1));
        match dice.roll(8) {
            0 if !entries.is_empty() => drop(entries.remove(at)),
            1 if !entries.is_empty() => entries.insert(at, entries[at].clone()),
            2 if entries.len() > 1 => {
                let other = dice.roll(entries.len());
                entries.swap(at, other);
            }
            3 | 4 => {
                let at = dice.roll(entries.len() + 1);
                entries.insert(at, any_entry(dice));
            }
            _ => match entries.get_mut(at) {
                Some(entry) => change(entry, dice, mutate),
                None => entries.push(any_entry(dice)),
            },
        }
    }
    let mut out = Vec::new();
    for entry in &entries {
        entry.write(&mut out);
    }
    // Some archives end with two empty blocks, as they should; others do not.
    out.resize(out.len() + 2 * BLOCK * dice.roll(2), 0);
    out.truncate(most);
    out
}

//! Drops the unwind tables, which nothing reads in a program that aborts, and the gaps between functions from what is
//! released. Tests keep theirs: a failing one unwinds. Not in .cargo/config.toml, since flags there do not know one
//! profile from another.
//! Compresses the texts that the binary shows to people: to a third, and libflate is in it anyway.
#![expect(
    clippy::disallowed_methods,
    reason = "how cargo talks to a build script"
)]

use std::collections::HashMap;
use std::env::var;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use libflate::deflate::{EncodeOptions, Encoder};
use libflate::lz77::{Code, Lz77Encode, MAX_LENGTH, Sink};

/// Of what DEFLATE can point back to.
const SHORTEST: usize = 3;

fn main() {
    drop_unwind_tables();
    let texts = [
        // Its lines end as HTTP wants it.
        read("src/head.txt").replace('\n', "\r\n"),
        read("src/help.txt"),
        read("src/page.html"),
        read("src/metrics.txt"),
        read("src/doctor.txt"),
    ];
    compress(&texts.join("\0"), "texts.deflate");
}

fn drop_unwind_tables() {
    const SCRIPT: &str = ".cargo/release.ld";
    println!("cargo::rerun-if-changed={SCRIPT}");
    let is = |name: &str, value: &str| var(name).is_ok_and(|found| found == value);
    if is("PROFILE", "release") && is("CARGO_CFG_TARGET_ENV", "musl") {
        let root = var("CARGO_MANIFEST_DIR").unwrap_or_default();
        let is_x86 = ["x86", "x86_64"].map(|arch| is("CARGO_CFG_TARGET_ARCH", arch));
        let alignment = if is_x86.contains(&true) { 1 } else { 4 };
        for kind in ["bins", "examples"] {
            println!("cargo::rustc-link-arg-{kind}=-T{root}/{SCRIPT}");
            println!("cargo::rustc-link-arg-{kind}=--defsym=code_alignment={alignment}");
        }
    }
}

fn read(path: &str) -> String {
    println!("cargo::rerun-if-changed={path}");
    fs::read_to_string(path).unwrap_or_else(|error| panic!("cannot read {path}: {error}"))
}

/// A text → raw DEFLATE in `OUT_DIR`, for `texts.rs`; all in one, since each stream begins with its own tables. Nothing but
/// the text's bytes may count: releases are the same wherever they are built.
fn compress(text: &str, to: &str) {
    let out = var("OUT_DIR").expect("cargo sets it");
    let options = EncodeOptions::with_lz77(Shortest(Vec::new())).block_size(usize::MAX);
    let mut encoder = Encoder::with_options(Vec::new(), options);
    encoder.write_all(text.as_bytes()).expect("memory takes it");
    let deflated = encoder.finish().into_result().expect("memory takes it");
    let to = Path::new(&out).join(to);
    fs::write(&to, deflated)
        .unwrap_or_else(|error| panic!("cannot write {}: {error}", to.display()));
}

/// Looks for the cheapest of all ways to write a text; libflate's own way takes the first match, and a tenth more bytes.
#[derive(Debug)]
struct Shortest(Vec<u8>);

impl Lz77Encode for Shortest {
    fn encode<S: Sink>(&mut self, text: &[u8], _: S) {
        self.0.extend(text);
    }

    fn flush<S: Sink>(&mut self, mut sink: S) {
        let mut codes = Vec::new();
        let ways = ways(&self.0);
        let mut at = self.0.len();
        while at > 0 {
            let code = ways[at].1;
            codes.push(code);
            at -= length(code);
        }
        for code in codes.into_iter().rev() {
            sink.consume(code);
        }
    }
}

fn length(code: Code) -> usize {
    match code {
        Code::Literal(_) => 1,
        Code::Pointer { length, .. } => length.into(),
    }
}

/// Up to each place of the text: the bits of the cheapest way there, and the last code on it.
fn ways(text: &[u8]) -> Vec<(u32, Code)> {
    let mut ways = vec![(u32::MAX, Code::Literal(0)); text.len() + 1];
    ways[0].0 = 0;
    // Where each three bytes were seen.
    let mut seen: HashMap<&[u8], Vec<usize>> = HashMap::new();
    for at in 0..text.len() {
        let mut reach = |code: Code| {
            let bits = ways[at].0 + bits(code);
            let way = &mut ways[at + length(code)];
            if bits < way.0 {
                *way = (bits, code);
            }
        };
        reach(Code::Literal(text[at]));
        let Some(start) = text.get(at..at + SHORTEST) else {
            continue;
        };
        let before = seen.entry(start).or_default();
        let mut longest = SHORTEST - 1;
        for from in before.iter().rev() {
            let same = text[*from..].iter().zip(&text[at..]);
            let same = same.take(MAX_LENGTH.into()).take_while(|(a, b)| a == b);
            let found = same.count();
            // What is as long and nearer is cheaper.
            for length in longest + 1..=found {
                reach(Code::Pointer {
                    length: u16::try_from(length).expect("at most 258"),
                    backward_distance: u16::try_from(at - from).expect("a short text"),
                });
            }
            longest = longest.max(found);
        }
        before.push(at);
    }
    ways
}

/// About what a code takes: its extra bits are certain, what Huffman makes of the rest is not yet known.
fn bits(code: Code) -> u32 {
    match code {
        Code::Literal(_) => 6,
        Code::Pointer {
            length,
            backward_distance,
        } => {
            let length = (u32::from(length) - 3).checked_ilog2().unwrap_or_default();
            let distance = u32::from(backward_distance).ilog2();
            11 + length.saturating_sub(2) + distance.saturating_sub(1)
        }
    }
}

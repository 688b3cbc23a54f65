//! gzip from a release store, against another decoder: both accept the same files, with the same content. One exception:
//! libflate also decodes sets of Huffman codes that are incomplete or for too many symbols, which zlib refuses and no program
//! writes (RFC 1951, 3.2.7). There the checksum decides alone.
#![no_main]

use std::io::Read;

use gzip::Gzip;
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use ops_updater_fuzz::members::{self, Fault};

fuzz_target!(|bytes: &[u8]| {
    let mut ours = Vec::new();
    let read = Gzip::new(bytes)
        .map(|gzip| gzip.take(members::OUTPUT_LIMIT as u64))
        .and_then(|mut gzip| gzip.read_to_end(&mut ours));
    if ours.len() >= members::OUTPUT_LIMIT {
        return;
    }
    let theirs = members::read(bytes);
    match (read, theirs) {
        (Ok(_), Ok(theirs)) => assert!(ours == theirs, "the two differ"),
        (Ok(_), Err(Fault::Other)) => panic!("only we take it, {} bytes", ours.len()),
        (Err(error), Ok(theirs)) => panic!("only we refuse it: {error}; {} bytes", theirs.len()),
        (Ok(_), Err(Fault::Codes)) | (Err(_), Err(_)) => {}
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let size = fuzzer_mutate(data, size, max_size);
    if !seed.is_multiple_of(8) {
        members::mend(&mut data[..size]);
    }
    size
});

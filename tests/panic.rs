//! Panics with the entry and the stand-ins of the real program, so that what a release leaves out (unwinder, tables,
//! std's start) is shown to leave message and place alone. Without an argument by `panic!`, with one by an index.
#![no_main]

#[cfg(panic = "abort")]
#[path = "../src/absent.rs"]
mod absent;
#[allow(dead_code)]
#[path = "../src/start.rs"]
mod start;

use std::ffi::OsString;

fn run(arguments: &[OsString]) -> u8 {
    match arguments.first() {
        None => panic!("on purpose"),
        Some(_) => arguments[arguments.len()].len().try_into().unwrap_or(0),
    }
}

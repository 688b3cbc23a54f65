//! Panics with the stubs of the real program. `.ci/run` checks that the message and its place are complete although a
//! release has no unwinder and no unwind tables. Without arguments `panic!` panics; with one, an index does.

#[cfg(panic = "abort")]
#[path = "../src/stubs.rs"]
mod stubs;

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.first() {
        None => panic!("on purpose"),
        Some(_) => println!("{}", arguments[arguments.len()]),
    }
}

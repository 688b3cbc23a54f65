//! The program: the entry, and two modules of symbols that replace others when the binary is linked.

mod socket;
#[cfg(all(panic = "abort", not(test)))]
mod stubs;

use std::process::ExitCode;

fn main() -> ExitCode {
    ops_updater::run()
}

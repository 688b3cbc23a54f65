//! The program: the entry, and three modules of symbols that replace others when the binary is linked.

#[cfg(not(test))]
mod one_thread;
mod socket;
#[cfg(all(panic = "abort", not(test)))]
mod stubs;

use std::process::ExitCode;

fn main() -> ExitCode {
    ops_updater::run()
}

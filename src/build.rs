//! Removes the unwind tables from release binaries: with panic = "abort" nothing reads them. Tests need theirs, so this cannot
//! be a flag in .cargo/config.toml, which applies to all profiles.
#![expect(
    clippy::disallowed_methods,
    reason = "cargo talks to a build script through the environment"
)]

use std::env::var;

const SCRIPT: &str = ".cargo/release.ld";

fn main() {
    println!("cargo::rerun-if-changed={SCRIPT}");
    let is = |name: &str, value: &str| var(name).is_ok_and(|found| found == value);
    // RUSTFLAGS in the environment replaces the flags of .cargo/config.toml, and with them the linker that the script is for.
    let flags = var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let is_lld = flags.contains("-Clinker=rust-lld");
    if is("PROFILE", "release") && is("CARGO_CFG_TARGET_ENV", "musl") && is_lld {
        let root = var("CARGO_MANIFEST_DIR").unwrap_or_default();
        for kind in ["bins", "examples"] {
            println!("cargo::rustc-link-arg-{kind}=-T{root}/{SCRIPT}");
        }
    }
}

//! Drops the unwind tables, which nothing reads in a program that aborts, from what is released. Tests keep theirs: a
//! failing one unwinds. Not in .cargo/config.toml, since flags there do not know one profile from another.
#![expect(
    clippy::disallowed_methods,
    reason = "how cargo talks to a build script"
)]

use std::env::var;

fn main() {
    const SCRIPT: &str = ".cargo/no-unwind-tables.ld";
    println!("cargo::rerun-if-changed={SCRIPT}");
    let is = |name: &str, value: &str| var(name).is_ok_and(|found| found == value);
    if is("PROFILE", "release") && is("CARGO_CFG_TARGET_ENV", "musl") {
        let root = var("CARGO_MANIFEST_DIR").unwrap_or_default();
        for kind in ["bins", "examples"] {
            println!("cargo::rustc-link-arg-{kind}=-T{root}/{SCRIPT}");
        }
    }
}

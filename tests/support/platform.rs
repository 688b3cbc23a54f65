//! The binary under test: where it is, what it is made for, and how it runs on this machine.
//!
//! `OPS_UPDATER_BIN` names it; without it, it is the one that cargo built. It may be made for another arch than the
//! tests: the store then has releases for that one. The updater runs itself, and `control` scripts run it, so the
//! kernel must know who runs a foreign one (`binfmt_misc`; `.ci/run cross` sees to it). `OPS_UPDATER_RUNNER` are words to
//! put before it where a test itself starts it, as `qemu-aarch64-static -cpu cortex-a53` or `valgrind`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The binary under test.
pub fn binary() -> PathBuf {
    let built = option_env!("CARGO_BIN_EXE_ops-updater").map(PathBuf::from);
    let path = given().or(built).expect("OPS_UPDATER_BIN names the binary");
    path.canonicalize()
        .unwrap_or_else(|e| panic!("no binary at {}: {e}", path.display()))
}

fn given() -> Option<PathBuf> {
    std::env::var_os("OPS_UPDATER_BIN").map(PathBuf::from)
}

/// A command that runs this binary, by the runner if one is given.
pub fn command(binary: &Path) -> Command {
    let runner = std::env::var("OPS_UPDATER_RUNNER").unwrap_or_default();
    let mut words = runner.split_whitespace();
    let Some(first) = words.next() else {
        return Command::new(binary);
    };
    let mut command = Command::new(first);
    command.args(words).arg(binary);
    command
}

/// The directory of a release store that the releases for the binary under test are in.
pub fn arch() -> String {
    let os = match std::env::consts::OS {
        "macos" => "darwin",
        other => other,
    };
    format!("{os}_{}", given().as_deref().map_or(own_cpu(), cpu_of))
}

fn own_cpu() -> &'static str {
    match std::env::consts::ARCH {
        "x86" => "386",
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// What the ELF header says, so that the binary's own words can be held against it. Else what runs the tests.
fn cpu_of(binary: &Path) -> &'static str {
    let bytes = std::fs::read(binary).unwrap_or_default();
    match (bytes.get(..4), bytes.get(18)) {
        (Some(b"\x7fELF"), Some(3)) => "386",
        (Some(b"\x7fELF"), Some(62)) => "amd64",
        (Some(b"\x7fELF"), Some(183)) => "arm64",
        _ => own_cpu(),
    }
}

fn is_emulated() -> bool {
    let cpu = given().as_deref().map_or(own_cpu(), cpu_of);
    cpu != own_cpu() && (own_cpu(), cpu) != ("amd64", "386")
}

/// Not in an emulator, where this would be the emulator's own and the test that looks at it prove nothing. False is said
/// where no test harness swallows it.
pub fn has_own(what: &str) -> bool {
    if is_emulated() {
        let thread = std::thread::current();
        let test = thread.name().unwrap_or("a test");
        let words = format!("SKIPPED: {what} would be the emulator's: {test}");
        let _ = writeln!(std::io::stderr(), "{words}");
    }
    !is_emulated()
}

/// Whether the kernel loads it without a dynamic linker, which counts as memory too.
pub fn is_static() -> bool {
    let bytes = std::fs::read(binary()).expect("the binary");
    !bytes
        .windows(8)
        .any(|window| window == b"/ld-linu" || window == b"ld-musl-")
}

/// What takes so long on a processor may take this long here.
pub fn patience(time: Duration) -> Duration {
    if is_emulated() { time * 3 } else { time }
}

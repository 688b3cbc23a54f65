//! The binary under test: its path, its architecture, and how it runs on this machine.
//!
//! `OPS_UPDATER_BIN` names the binary. Without the variable it is the one that cargo built. It may be built for another
//! arch than the tests; the store then has releases for that arch. The updater starts itself, and `control` scripts start
//! it, so the kernel must know the emulator (`binfmt_misc`, which `.ci/run cross` sets up). `OPS_UPDATER_RUNNER` has the
//! words before the binary where a test starts it, such as `qemu-aarch64-static -cpu cortex-a53` or `valgrind`.

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

/// Returns the path of the binary under test. Root gets a copy if the source tree belongs to somebody else, as with
/// `sudo cargo test`: the updater refuses to run as root from there.
pub fn binary() -> PathBuf {
    static SAFE: OnceLock<PathBuf> = OnceLock::new();
    SAFE.get_or_init(|| {
        let binary = built();
        if uid_and_mode("/proc/self".as_ref()).0 != 0 || binary.ancestors().all(is_of_root) {
            return binary;
        }
        copy_for_root(&binary)
    })
    .clone()
}

fn uid_and_mode(path: &Path) -> (u32, u32) {
    let meta = std::fs::metadata(path).expect("it is there");
    (meta.uid(), meta.mode())
}

fn is_of_root(path: &Path) -> bool {
    let (uid, mode) = uid_and_mode(path);
    uid == 0 && (mode & 0o022 == 0 || mode & 0o1000 != 0)
}

/// Copies the binary into a directory of root's. Its name tells builds apart, so that later runs use the copy again.
fn copy_for_root(binary: &Path) -> PathBuf {
    let dir = std::env::temp_dir().join("ops-updater-test-binary");
    let _ = std::fs::create_dir(&dir);
    assert_eq!(uid_and_mode(&dir).0, 0, "{} is root's", dir.display());
    let meta = std::fs::metadata(binary).expect("the binary");
    let copy = dir.join(format!("{}-{}", meta.ino(), meta.mtime_nsec()));
    if !copy.exists() {
        let fresh = copy.with_extension(std::process::id().to_string());
        std::fs::copy(binary, &fresh).expect("a copy of the binary");
        std::fs::rename(&fresh, &copy).expect("a copy of the binary");
    }
    copy
}

fn built() -> PathBuf {
    let built = option_env!("CARGO_BIN_EXE_ops-updater").map(PathBuf::from);
    let path = given().or(built).expect("OPS_UPDATER_BIN names the binary");
    path.canonicalize()
        .unwrap_or_else(|e| panic!("no binary at {}: {e}", path.display()))
}

fn given() -> Option<PathBuf> {
    std::env::var_os("OPS_UPDATER_BIN").map(PathBuf::from)
}

/// Makes a command that runs this binary, through the runner if there is one.
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

/// Returns the arch of the binary under test, which is the name of its directory in a release store.
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

/// Reads the architecture from the ELF header, so that tests can compare it with what the binary prints. Without such a
/// header it is the architecture of the tests.
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

/// Prints why a test, or a part of one, is skipped. It writes where the test harness does not capture it.
pub fn skipped(why: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}: {test}");
}

/// Returns false in an emulator and prints that the test is skipped: the test would examine the emulator instead of the
/// binary.
pub fn has_own(what: &str) -> bool {
    if is_emulated() {
        skipped(&format!("{what} would be the emulator's"));
    }
    !is_emulated()
}

/// Whether the kernel loads the binary without a dynamic linker. A dynamic linker needs memory too.
pub fn is_static() -> bool {
    let bytes = std::fs::read(binary()).expect("the binary");
    !bytes
        .windows(8)
        .any(|window| window == b"/ld-linu" || window == b"ld-musl-")
}

/// Returns the interval of tests in seconds. In an emulator a heartbeat every second takes most of a processor: it starts programs,
/// which have to be translated each time.
pub fn shortest_interval() -> u64 {
    if is_emulated() { 3 } else { 1 }
}

/// Returns how long a test waits on this machine for what takes `time` on a real processor.
pub fn patience(time: Duration) -> Duration {
    if is_emulated() { time * 3 } else { time }
}

//! Version and architecture, as compiled in.

pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The architecture as release stores spell it: `linux_386`, `linux_amd64`, … (Go's `GOOS_GOARCH`).
pub const ARCH: &str = arch();

const fn arch() -> &'static str {
    match (
        cfg!(target_os = "macos"),
        cfg!(target_arch = "x86"),
        cfg!(target_arch = "x86_64"),
        cfg!(target_arch = "aarch64"),
    ) {
        (false, true, _, _) => "linux_386",
        (false, _, true, _) => "linux_amd64",
        (false, _, _, true) => "linux_arm64",
        (true, _, true, _) => "darwin_amd64",
        (true, _, _, true) => "darwin_arm64",
        _ => "linux_unknown",
    }
}

//! The `connect` that std finds before the C library's: a TCP connection that is not there within some seconds is given
//! up, so that the next address of the name gets its turn. The kernel's own patience is two minutes, longer than any
//! deadline of ours, and minreq sets a limit only where it may start a thread.
#![allow(unsafe_code)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "C's types are of other widths on some of our targets"
)]

use std::ffi::c_int;

use libc::{sockaddr, socklen_t};

/// Two repetitions: SYNs leave at once and after 1 and 3 s, and 4 s later the kernel gives up.
#[cfg(target_os = "linux")]
const LIMIT: (c_int, c_int) = (libc::TCP_SYNCNT, 2);
/// `TCP_CONNECTIONTIMEOUT` of netinet/tcp.h, in seconds.
#[cfg(target_os = "macos")]
const LIMIT: (c_int, c_int) = (0x20, 8);

// SAFETY: the signature and the effect are those of connect(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn connect(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int {
    let (option, value) = LIMIT;
    let size = size_of_val(&value) as socklen_t;
    // SAFETY: the kernel reads the value, which lives until it has; a socket that is not TCP has no such option and is
    // left as it is. The caller's address is handed on.
    unsafe {
        libc::setsockopt(
            fd,
            libc::IPPROTO_TCP,
            option,
            (&raw const value).cast(),
            size,
        );
        system_connect(fd, address, length)
    }
}

/// On this arch it has a number of its own only since Linux 4.3.
#[cfg(all(target_os = "linux", target_arch = "x86"))]
unsafe fn system_connect(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int {
    /// `SYS_CONNECT` of linux/net.h.
    const CALL: c_int = 3;
    let arguments = [fd as usize, address as usize, length as usize];
    // SAFETY: the kernel reads as many arguments as connect has.
    unsafe { libc::syscall(libc::SYS_socketcall, CALL, arguments.as_ptr()) as c_int }
}

#[cfg(all(target_os = "linux", not(target_arch = "x86")))]
unsafe fn system_connect(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int {
    // SAFETY: the arguments are those of our caller.
    unsafe { libc::syscall(libc::SYS_connect, fd, address, length) as c_int }
}

#[cfg(target_os = "macos")]
unsafe extern "C" {
    /// The system's under its other name.
    #[link_name = "connect$NOCANCEL"]
    fn system_connect(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int;
}

//! A `connect` and a `recv` that the linker finds before the C library's. `connect` gives up after 7 s, so that the next address
//! of a name is tried in time; the kernel's two minutes exceed every deadline. It also refuses addresses that a redirect must
//! not lead to. `recv` filters the head of an answer. There is no natural way: minreq resolves names itself, gives no access
//! to its socket, and its own timeout starts a thread and also ends slow downloads.
#![allow(unsafe_code)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "C's types are of other widths on some of our targets"
)]

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ptr::null_mut;

use libc::{size_t, sockaddr, sockaddr_in, sockaddr_in6, socklen_t, ssize_t};
use ops_updater::net::head::AnswerHead;

/// Two repetitions: the kernel sends a SYN at 0, 1 and 3 s, and gives up 4 s after the last.
#[cfg(target_os = "linux")]
const LIMIT: (c_int, c_int) = (libc::TCP_SYNCNT, 2);
/// `TCP_CONNECTIONTIMEOUT` of netinet/tcp.h, in seconds.
#[cfg(target_os = "macos")]
const LIMIT: (c_int, c_int) = (0x20, 8);

thread_local! {
    /// The TCP socket that was connected last, and how far the answer on it is. Only one is used at a time.
    static ANSWER: Cell<(c_int, AnswerHead)> = const { Cell::new((-1, AnswerHead::new())) };
}

// SAFETY: the signature and the effect are those of connect(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn connect(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int {
    // SAFETY: the caller passes an address of this length, as connect(2) wants it.
    if unsafe { ip(address, length) }.is_some_and(|ip| !ops_updater::net::reach::permits(ip)) {
        // As a connection that a firewall forbids.
        return fail(libc::EACCES) as c_int;
    }
    let (option, value) = LIMIT;
    let size = size_of_val(&value) as socklen_t;
    // SAFETY: setsockopt reads the value, which outlives the call, and fails without effect if the socket is not TCP. The
    // address is the caller's.
    unsafe {
        let value = (&raw const value).cast();
        let is_tcp = libc::setsockopt(fd, libc::IPPROTO_TCP, option, value, size) == 0;
        // Whatever used this descriptor before is closed.
        ANSWER.set((if is_tcp { fd } else { -1 }, AnswerHead::new()));
        system_connect(fd, address, length)
    }
}

// SAFETY: the signature and the effect are those of recv(2), but for the bytes that the filter replaces or leaves out.
#[unsafe(no_mangle)]
unsafe extern "C" fn recv(fd: c_int, buffer: *mut c_void, size: size_t, flags: c_int) -> ssize_t {
    let buffer = buffer.cast::<u8>();
    let (connected, mut head) = ANSWER.get();
    let is_filtered = fd == connected && !head.is_over() && flags == 0;
    loop {
        let kept = if is_filtered { head.kept() } else { &[] };
        if kept.len() >= size && !kept.is_empty() {
            // std reads with 8 KB and more.
            return fail(libc::EINVAL);
        }
        // SAFETY: the caller's buffer has `size` bytes, and `kept` is shorter.
        let got = unsafe {
            let free = buffer.add(kept.len());
            buffer.copy_from_nonoverlapping(kept.as_ptr(), kept.len());
            libc::recvfrom(
                fd,
                free.cast(),
                size - kept.len(),
                flags,
                null_mut(),
                null_mut(),
            )
        };
        if !is_filtered || got < 0 {
            return got;
        }
        // SAFETY: so many bytes at the beginning of the buffer have just been written.
        let bytes =
            unsafe { std::slice::from_raw_parts_mut(buffer, kept.len() + got.cast_unsigned()) };
        let passed = head.pass(bytes, got == 0);
        ANSWER.set((fd, head));
        let length = passed.len();
        bytes.copy_within(passed, 0);
        if length > 0 || got == 0 {
            return length.cast_signed();
        }
    }
}

/// Returns the address of an IP socket.
unsafe fn ip(address: *const sockaddr, length: socklen_t) -> Option<IpAddr> {
    let length = length as usize;
    // SAFETY: each struct is read only if the address has its family and is as long; read_unaligned needs no alignment.
    unsafe {
        if length < size_of::<sockaddr>() {
            return None;
        }
        match c_int::from(address.read_unaligned().sa_family) {
            libc::AF_INET if length >= size_of::<sockaddr_in>() => {
                let address = address.cast::<sockaddr_in>().read_unaligned();
                Some(Ipv4Addr::from_bits(u32::from_be(address.sin_addr.s_addr)).into())
            }
            libc::AF_INET6 if length >= size_of::<sockaddr_in6>() => {
                let address = address.cast::<sockaddr_in6>().read_unaligned();
                Some(Ipv6Addr::from(address.sin6_addr.s6_addr).into())
            }
            _ => None,
        }
    }
}

/// Returns what a failing call returns, with this errno.
fn fail(errno: c_int) -> ssize_t {
    // SAFETY: the function returns a valid pointer to the errno of this thread.
    unsafe { *ops_updater::os::call::errno_location() = errno };
    -1
}

/// On this arch the call has its own number only since Linux 4.3.
#[cfg(all(target_os = "linux", target_arch = "x86"))]
unsafe fn system_connect(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int {
    /// `SYS_CONNECT` of linux/net.h.
    const CALL: c_int = 3;
    let arguments = [fd as usize, address as usize, length as usize];
    // SAFETY: the kernel reads the three arguments of connect.
    unsafe { libc::syscall(libc::SYS_socketcall, CALL, arguments.as_ptr()) as c_int }
}

#[cfg(all(target_os = "linux", not(target_arch = "x86")))]
unsafe fn system_connect(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int {
    // SAFETY: the arguments are those of our caller.
    unsafe { libc::syscall(libc::SYS_connect, fd, address, length) as c_int }
}

#[cfg(target_os = "macos")]
unsafe extern "C" {
    /// The system's function under its other name.
    #[link_name = "connect$NOCANCEL"]
    fn system_connect(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int;
}

//! What this program does without, replaced by stand-ins that the linker finds first. The unwinder: with
//! `panic = "abort"` nothing is ever unwound, but std's panic message asks for a backtrace and drags in DWARF parsers
//! and libunwind, 275 KB on every host; the panic's message and place still print. Threads: minreq holds a way to
//! start one that we never take; with it goes what a thread needs, and "one thread" is a fact, not a habit. Parts of
//! musl that are made for more than this program asks of them.
#![allow(unsafe_code)]
#![allow(non_snake_case, reason = "the names are those of the Itanium C++ ABI")]

use std::ffi::{c_int, c_void};

/// `_URC_END_OF_STACK` of the Itanium C++ ABI, exception handling, 1.2.
const END_OF_STACK: c_int = 5;

macro_rules! stand_ins {
    ($($name:ident -> $type:ty = $value:expr;)*) => {
        $(
            // SAFETY: of the symbols that std links against, only the backtrace's are ever called when a panic
            // aborts; all of them ignore their arguments, which the C calling convention allows.
            #[unsafe(no_mangle)]
            extern "C" fn $name() -> $type {
                $value
            }
        )*
    };
}

// A new `_Unwind_*` in std is a link error, never a silent change.
stand_ins! {
    _Unwind_Backtrace -> c_int = END_OF_STACK;
    _Unwind_RaiseException -> c_int = END_OF_STACK;
    _Unwind_DeleteException -> () = ();
    _Unwind_Resume -> () = std::process::abort();
    _Unwind_GetCFA -> usize = 0;
    _Unwind_GetIP -> usize = 0;
    _Unwind_GetIPInfo -> usize = 0;
    _Unwind_GetRegionStart -> usize = 0;
    _Unwind_GetTextRelBase -> usize = 0;
    _Unwind_GetDataRelBase -> usize = 0;
    _Unwind_GetLanguageSpecificData -> *const c_void = std::ptr::null();
    _Unwind_FindEnclosingFunction -> *const c_void = std::ptr::null();
    _Unwind_SetGR -> () = ();
    _Unwind_SetIP -> () = ();
}

/// The first call that std makes for a thread is the last: what follows, the channel through which minreq would hear of
/// its thread and the code to wait for it, is then dead code, and vanishes. 11 KB.
// SAFETY: the signature is the one that std declares, and it never returns.
#[unsafe(no_mangle)]
extern "C" fn pthread_attr_init(_attributes: *mut libc::pthread_attr_t) -> c_int {
    unreachable!("there is one thread only")
}

/// "The system lacked the necessary resources to create another thread", as POSIX has it.
// SAFETY: the signature is the one that std declares, and a caller must be ready for this answer.
#[unsafe(no_mangle)]
extern "C" fn pthread_create(
    _thread: *mut libc::pthread_t,
    _attributes: *const libc::pthread_attr_t,
    _start: extern "C" fn(*mut c_void) -> *mut c_void,
    _argument: *mut c_void,
) -> c_int {
    libc::EAGAIN
}

/// A new musl or std that calls none of these leaves them unused; each keeps what POSIX says of it, and those
/// that begin with `__` what musl 1.2 does. 9 KB in all.
#[cfg(target_env = "musl")]
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::useless_conversion,
    reason = "C's types are of other widths on some of our targets"
)]
mod in_place_of_musl {
    use std::ffi::{CStr, c_char, c_int, c_long, c_ulong, c_void};
    use std::net::IpAddr;
    use std::ptr;

    /// What musl's malloc aligns everything to.
    const MALLOC_ALIGNS_TO: usize = 16;

    /// No type of this program is aligned to more than malloc does; std aborts with a message if one ever is.
    // SAFETY: the memory is malloc's, as the caller expects who frees it, and on failure nothing is written.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn posix_memalign(
        memory: *mut *mut c_void,
        align: usize,
        size: usize,
    ) -> c_int {
        if align > MALLOC_ALIGNS_TO {
            return libc::ENOMEM;
        }
        // SAFETY: the place for the answer is the caller's.
        unsafe {
            let allocated = libc::malloc(size);
            if allocated.is_null() {
                return libc::ENOMEM;
            }
            *memory = allocated;
        }
        0
    }

    /// What is to run when a thread ends: the only one ends with the process, where musl would run nothing of it.
    // SAFETY: the signature is the one that std declares, and nothing is kept of the arguments.
    #[unsafe(no_mangle)]
    extern "C" fn __cxa_thread_atexit_impl(
        _destructor: unsafe extern "C" fn(*mut c_void),
        _object: *mut c_void,
        _library: *mut c_void,
    ) -> c_int {
        0
    }

    /// std asks for the size of a page only. -1 is the answer to a name that is not known.
    #[unsafe(no_mangle)]
    extern "C" fn sysconf(name: c_int) -> c_long {
        match name {
            // SAFETY: it reads what the kernel gives to each process.
            libc::_SC_PAGESIZE => unsafe { libc::getauxval(libc::AT_PAGESZ).cast_signed() },
            _ => -1,
        }
    }

    // musl reads texts by the word, which here are a line or a name.
    // SAFETY: where C says so, the texts end with NUL, behind which nothing is read, and the places are large enough.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memchr(text: *const u8, byte: c_int, length: usize) -> *const u8 {
        for at in 0..length {
            unsafe {
                if c_int::from(*text.add(at)) == byte & 0xff {
                    return text.add(at);
                }
            }
        }
        ptr::null()
    }

    // SAFETY: as above.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn __strchrnul(mut text: *const u8, byte: c_int) -> *const u8 {
        unsafe {
            while *text != 0 && c_int::from(*text) != byte & 0xff {
                text = text.add(1);
            }
        }
        text
    }

    // SAFETY: as above.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn strcpy(to: *mut u8, from: *const u8) -> *mut u8 {
        let mut at = 0;
        loop {
            unsafe {
                *to.add(at) = *from.add(at);
                if *from.add(at) == 0 {
                    return to;
                }
            }
            at += 1;
        }
    }

    // SAFETY: as above.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn strncpy(to: *mut u8, mut from: *const u8, length: usize) -> *mut u8 {
        for at in 0..length {
            unsafe {
                *to.add(at) = *from;
                if *from != 0 {
                    from = from.add(1);
                }
            }
        }
        to
    }

    macro_rules! system_calls {
        ($($name:ident($($argument:ident: $type:ty),*) = $number:expr;)*) => {
            $(
                // SAFETY: the signature is the one in C, and the kernel reads of the arguments what C promises it.
                #[unsafe(no_mangle)]
                unsafe extern "C" fn $name($($argument: $type),*) -> c_int {
                    unsafe { libc::syscall($number, $($argument),*) as c_int }
                }
            )*
        };
    }

    // Where musl has another way for kernels that std does not run on.
    system_calls! {
        pipe2(ends: *mut c_int, flags: c_int) = libc::SYS_pipe2;
        fchmod(fd: c_int, mode: libc::mode_t) = libc::SYS_fchmod;
    }

    // On x86 these have other numbers, or structs.
    #[cfg(not(target_arch = "x86"))]
    system_calls! {
        accept4(fd: c_int, from: *mut c_void, length: *mut c_void, flags: c_int) = libc::SYS_accept4;
        socket(family: c_int, kind: c_int, protocol: c_int) = libc::SYS_socket;
        fchown(fd: c_int, owner: libc::uid_t, group: libc::gid_t) = libc::SYS_fchown;
        // From the kernel itself: who asks for the time here, does it some times a second.
        clock_gettime(clock: c_int, time: *mut libc::timespec) = libc::SYS_clock_gettime;
        // The name by which musl itself calls it.
        __clock_gettime(clock: c_int, time: *mut libc::timespec) = libc::SYS_clock_gettime;
    }

    #[cfg(target_arch = "x86")]
    const FCNTL: c_long = libc::SYS_fcntl64;
    #[cfg(not(target_arch = "x86"))]
    const FCNTL: c_long = libc::SYS_fcntl;

    // In C the last argument is a variadic one, which comes where a plain one would; where there is none, the kernel looks
    // at none. Those that musl makes something else of, F_SETOWN and F_GETOWN, are not asked for here.
    system_calls! {
        fcntl(fd: c_int, command: c_int, argument: c_long) = FCNTL;
    }

    /// A port, as musl's getaddrinfo has it (lookup.h).
    #[repr(C)]
    struct Service {
        port: u16,
        protocol: u8,
        kind: u8,
    }

    /// Names of services are never asked for: std puts its port, a number, into the addresses itself. It wants streams.
    // SAFETY: the caller has room for two of them.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn __lookup_serv(
        services: *mut Service,
        name: *const c_char,
        _protocol: c_int,
        _kind: c_int,
        _flags: c_int,
    ) -> c_int {
        if !name.is_null() {
            return libc::EAI_SERVICE;
        }
        let stream = Service {
            port: 0,
            protocol: libc::IPPROTO_TCP as u8,
            kind: libc::SOCK_STREAM as u8,
        };
        unsafe { *services = stream };
        1
    }

    /// Addresses in text: std has a reader for them anyway.
    // SAFETY: the text ends with NUL, and the caller has room for an address of that family.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn inet_pton(
        family: c_int,
        text: *const c_char,
        address: *mut c_void,
    ) -> c_int {
        let text = unsafe { CStr::from_ptr(text) };
        let parsed = text.to_str().ok().and_then(|text| text.parse().ok());
        unsafe {
            match parsed {
                Some(IpAddr::V4(parsed)) if family == libc::AF_INET => {
                    *address.cast() = parsed.octets();
                }
                Some(IpAddr::V6(parsed)) if family == libc::AF_INET6 => {
                    *address.cast() = parsed.octets();
                }
                _ => return 0,
            }
        }
        1
    }

    unsafe extern "C" {
        fn _Fork() -> libc::pid_t;
    }

    /// What else musl's does is for other threads, and for what asked to be told of forks.
    // SAFETY: with one thread the two are the same.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn fork() -> libc::pid_t {
        unsafe { _Fork() }
    }

    /// Of numbers musl reads those in a line of a file or in an address; its own way is made for streams.
    // SAFETY: the text ends with NUL, behind which nothing is read; a place for the end that is not null is the caller's.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn strtoull(text: *const u8, end: *mut *const u8, base: c_int) -> u64 {
        unsafe { number(text, end, base, u64::MAX) }
    }

    // SAFETY: as above.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn strtoul(text: *const u8, end: *mut *const u8, base: c_int) -> c_ulong {
        unsafe { number(text, end, base, c_ulong::MAX.into()) as c_ulong }
    }

    /// As C has it: spaces, a sign, with base 16 or 0 perhaps `0x`, with base 0 perhaps `0` for base 8, and digits.
    unsafe fn number(text: *const u8, end: *mut *const u8, base: c_int, most: u64) -> u64 {
        let mut base = u64::from(base.unsigned_abs());
        let mut at = text;
        let (mut value, mut is_over, mut stop) = (0_u64, false, text);
        unsafe {
            while matches!(*at, b' ' | 9..=13) {
                at = at.add(1);
            }
            let is_negative = *at == b'-';
            if is_negative || *at == b'+' {
                at = at.add(1);
            }
            if *at == b'0' {
                let is_hex = *at.add(1) | 32 == b'x' && (*at.add(2)).is_ascii_hexdigit();
                if base | 16 == 16 && is_hex {
                    base = 16;
                    at = at.add(2);
                } else if base == 0 {
                    base = 8;
                }
            }
            if base == 0 {
                base = 10;
            }
            while let Some(digit) = (*at as char).to_digit(36)
                && u64::from(digit) < base
            {
                let longer = value
                    .checked_mul(base)
                    .and_then(|value| value.checked_add(digit.into()));
                value = longer.unwrap_or(0);
                is_over |= longer.is_none();
                at = at.add(1);
                stop = at;
            }
            if !end.is_null() {
                *end = stop;
            }
            if is_over || value > most {
                *libc::__errno_location() = libc::ERANGE;
                return most;
            }
            if is_negative {
                value.wrapping_neg()
            } else {
                value
            }
        }
    }

    /// The resolver's only question is how long a name is. A character is a byte, since nothing sets a locale.
    // SAFETY: the caller's text ends with NUL; a place for the answer that is not null is never given, nor written to.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn mbstowcs(_wide: *mut c_void, text: *const c_char, _most: usize) -> usize {
        unsafe { libc::strlen(text) }
    }

    /// The resolver sorts 48 addresses at most, where musl's smoothsort gains nothing.
    // SAFETY: the caller has `count` entries of `size` bytes at `list`, which do not overlap.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn qsort(
        list: *mut u8,
        count: usize,
        size: usize,
        order: unsafe extern "C" fn(*const u8, *const u8) -> c_int,
    ) {
        for sorted in 1..count {
            for at in (1..=sorted).rev() {
                unsafe {
                    let entry = list.add(at * size);
                    let before = entry.sub(size);
                    if order(before, entry) <= 0 {
                        break;
                    }
                    for byte in 0..size {
                        ptr::swap(before.add(byte), entry.add(byte));
                    }
                }
            }
        }
    }

    /// The resolver looks for a word in a short line, where musl's tables gain nothing.
    // SAFETY: both texts end with NUL, behind which nothing is read.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn strstr(mut text: *const c_char, word: *const c_char) -> *const c_char {
        unsafe {
            let length = libc::strlen(word);
            while libc::strncmp(text, word, length) != 0 {
                if *text == 0 {
                    return ptr::null();
                }
                text = text.add(1);
            }
            text
        }
    }
}

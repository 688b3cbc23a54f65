//! What this program does without, replaced by stand-ins that the linker finds first. The unwinder: with
//! `panic = "abort"` nothing is ever unwound, but std's panic message asks for a backtrace and drags in DWARF parsers
//! and libunwind, 275 KB on every host; the panic's message and place still print. Threads: minreq holds a way to
//! start one that we never take; with it goes what a thread needs, and "one thread" is a fact, not a habit.
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

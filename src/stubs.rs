//! Stubs of the unwinder's functions, which the linker finds before those of libunwind. There is no natural way: std's panic
//! handler links libunwind and readers of DWARF for a backtrace, 275 KB, and no option of cargo or rustc leaves them out.
//! A panic aborts and still prints its message and location.
#![allow(unsafe_code)]
#![allow(non_snake_case, reason = "the names are those of the Itanium C++ ABI")]

use std::ffi::{c_int, c_void};

/// `_URC_END_OF_STACK` in section 1.2 of the exception handling of the Itanium C++ ABI.
const END_OF_STACK: c_int = 5;

macro_rules! stubs {
    ($($name:ident -> $type:ty = $value:expr;)*) => {
        $(
            // SAFETY: when a panic aborts, std calls only those for a backtrace. All ignore their arguments, which the C
            // calling convention allows.
            #[unsafe(no_mangle)]
            extern "C" fn $name() -> $type {
                $value
            }
        )*
    };
}

// If std needs another `_Unwind_*`, linking fails; nothing changes silently.
stubs! {
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

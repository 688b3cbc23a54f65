//! The unwinder, absent. With `panic = "abort"` nothing is ever unwound, but std's panic message asks for a backtrace
//! and drags in DWARF parsers and libunwind: 275 KB on every host. These stand-ins end the backtrace at once; the
//! panic's message and place still print. A new `_Unwind_*` in std is a link error, never a silent change.
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

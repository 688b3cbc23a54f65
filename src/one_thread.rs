//! A `pthread_create` that the linker finds before the C library's, and that starts no thread. The copies that `fork` makes, the
//! changes of the environment and the set-id calls of this program are sound only because no other thread exists. None of its
//! code starts one, but minreq would for a timeout. There is no natural way: std has no switch for it. With this, std's
//! threads are left out of the binary, 17 KB.
#![allow(unsafe_code)]

use std::ffi::c_int;

// SAFETY: it fails as pthread_create(3) may: the arguments are ignored, which the C calling convention allows, and no thread
// exists afterwards.
#[unsafe(no_mangle)]
extern "C" fn pthread_create() -> c_int {
    libc::EAGAIN
}

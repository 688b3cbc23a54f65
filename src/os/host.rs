//! The name of this host.
#![allow(unsafe_code)]

/// Returns none if the host has no name.
pub fn hostname() -> Option<String> {
    let mut name = [0_u8; 256];
    // SAFETY: pointer and length are those of a live array; its last byte stays NUL.
    let done = unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len() - 1) };
    let end = name.iter().position(|byte| *byte == 0)?;
    (done == 0 && end > 0).then(|| String::from_utf8_lossy(&name[..end]).into_owned())
}

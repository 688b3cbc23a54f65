//! A process that a tracer has stopped: its registers and its memory. For the 64-bit x86.
#![expect(unsafe_code, reason = "ptrace has no safe word in std")]

use std::fs;
use std::os::unix::fs::FileExt as _;

/// What libc's headers have as `PTRACE_*`, and its crate for some C libraries only.
const GET_REGS: libc::c_uint = 12;
const SET_REGS: libc::c_uint = 13;
/// auxv: where the kernel's clock for user space is, and an entry to be passed over.
const AT_SYSINFO_EHDR: u64 = 33;
const AT_IGNORE: u64 = 1;

pub fn registers(pid: i32) -> Option<libc::user_regs_struct> {
    // SAFETY: a zeroed struct of integers is valid, and the kernel fills it.
    unsafe {
        let mut regs: libc::user_regs_struct = std::mem::zeroed();
        let done = libc::ptrace(GET_REGS, pid, 0, &raw mut regs);
        (done == 0).then_some(regs)
    }
}

pub fn set_registers(pid: i32, regs: &libc::user_regs_struct) {
    // SAFETY: the kernel reads the struct.
    unsafe {
        libc::ptrace(SET_REGS, pid, 0, std::ptr::from_ref(regs));
    }
}

/// Takes the kernel's own clock code out of the sight of a program that has just begun, by its auxiliary vector.
pub fn hide_vdso(pid: i32) {
    let Some(regs) = registers(pid) else { return };
    let word = |at: u64| u64::from_ne_bytes(read(pid, at, 8).try_into().unwrap_or_default());
    // argc, its words and a null, the environment and a null, then pairs.
    let mut at = regs.rsp + 8 * (word(regs.rsp) + 2);
    while word(at) != 0 {
        at += 8;
    }
    at += 8;
    while word(at) != 0 {
        if word(at) == AT_SYSINFO_EHDR {
            write(pid, at, &AT_IGNORE.to_ne_bytes());
        }
        at += 16;
    }
}

/// What stands in the memory of a stopped process; less, or nothing, where it ends.
pub fn read(pid: i32, at: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let file = fs::File::open(format!("/proc/{pid}/mem"));
    let got = file
        .and_then(|file| file.read_at(&mut bytes, at))
        .unwrap_or(0);
    bytes.truncate(got);
    bytes
}

pub fn write(pid: i32, at: u64, bytes: &[u8]) {
    let file = fs::File::options()
        .write(true)
        .open(format!("/proc/{pid}/mem"));
    let done = file.and_then(|file| file.write_all_at(bytes, at));
    done.expect("the memory of a stopped process");
}

/// The C string at this address.
pub fn text(pid: i32, at: u64) -> Vec<u8> {
    // Up to the end of its page first: the next one may not be there.
    let mut bytes = Vec::new();
    let mut from = at;
    while bytes.len() < 4096 {
        let length = 4096 - usize::try_from(from % 4096).unwrap_or(0);
        let piece = read(pid, from, length);
        if let Some(end) = piece.iter().position(|byte| *byte == 0) {
            bytes.extend_from_slice(&piece[..end]);
            break;
        }
        if piece.is_empty() {
            break;
        }
        from += piece.len() as u64;
        bytes.extend_from_slice(&piece);
    }
    bytes
}

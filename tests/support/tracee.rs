//! The registers and the memory of a process that a tracer has stopped. For 64-bit x86.
#![expect(unsafe_code, reason = "std has no ptrace(2)")]

use std::fs;
use std::os::unix::fs::FileExt as _;

/// Constants of `PTRACE_*`. The libc crate has them for some C libraries only.
const GET_REGS: libc::c_uint = 12;
const SET_REGS: libc::c_uint = 13;
/// Keys of the auxiliary vector: the address of the vDSO, and an entry that is ignored.
const AT_SYSINFO_EHDR: u64 = 33;
const AT_IGNORE: u64 = 1;

pub fn registers(pid: i32) -> Option<libc::user_regs_struct> {
    // SAFETY: a zeroed struct of integers is valid, and the kernel only fills it.
    unsafe {
        let mut regs: libc::user_regs_struct = std::mem::zeroed();
        let done = libc::ptrace(GET_REGS, pid, 0, &raw mut regs);
        (done == 0).then_some(regs)
    }
}

pub fn set_registers(pid: i32, regs: &libc::user_regs_struct) {
    // SAFETY: the kernel only reads the struct.
    unsafe {
        libc::ptrace(SET_REGS, pid, 0, std::ptr::from_ref(regs));
    }
}

/// Hides the vDSO from a program that has just started, so that it asks for the time by system calls. Changes its
/// auxiliary vector.
pub fn hide_vdso(pid: i32) {
    let Some(regs) = registers(pid) else { return };
    let word = |at: u64| u64::from_ne_bytes(read(pid, at, 8).try_into().unwrap_or_default());
    // The stack has argc, the arguments and a null, the environment and a null, then the pairs of the vector.
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

/// Reads the memory of a stopped process. Returns fewer bytes, or none, where the memory ends.
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

/// Returns the C string at this address.
pub fn text(pid: i32, at: u64) -> Vec<u8> {
    // It reads to the end of one page at a time, because the next page may not be mapped.
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

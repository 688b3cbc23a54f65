//! Why a `control` that is there cannot be run, in words. The kernel has the same error for a script that is missing and for
//! one whose interpreter is.
#![expect(clippy::disallowed_methods, reason = "it reads the script")]

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::os::disk;
use crate::text::brief;

/// Bytes of a script that the kernel looks at: `BINPRM_BUF_SIZE` of Linux.
const FIRST_BYTES: usize = 256;
/// Characters of an interpreter's name that are shown.
const NAME_SHOWN: usize = 80;

/// Returns what to add to the error of the exec. None: the error says enough.
pub(super) fn hint(error: &io::Error, program: &Path) -> Option<String> {
    match error.raw_os_error()? {
        libc::ENOENT => interpreter_fault(&first_line(program)),
        libc::EACCES if disk::is_program(program) => Some(
            "its file system is mounted noexec, or its interpreter is not executable".to_owned(),
        ),
        libc::ENOEXEC => {
            let fault = if first_line(program).starts_with('\u{feff}') {
                "a byte order mark stands before its #! line"
            } else {
                "it has no #! line, and is no program of this host's arch"
            };
            Some(fault.to_owned())
        }
        _ => None,
    }
}

/// Returns the script up to its first line end; nothing if it cannot be read.
fn first_line(program: &Path) -> String {
    let mut bytes = [0; FIRST_BYTES];
    let got = File::open(program).and_then(|mut file| file.read(&mut bytes));
    let text = String::from_utf8_lossy(&bytes[..got.unwrap_or(0)]);
    text.split('\n').next().unwrap_or_default().to_owned()
}

fn interpreter_fault(first_line: &str) -> Option<String> {
    if first_line.starts_with("\u{7f}ELF") {
        return Some("its loader is missing: it is built for another libc".to_owned());
    }
    let line = first_line.strip_prefix("#!")?;
    if line.ends_with('\r') {
        return Some("its lines end with CR LF, as on Windows: save it with LF alone".to_owned());
    }
    let interpreter = line.split_whitespace().next()?;
    Some(format!(
        "its interpreter {} is missing",
        brief(interpreter, NAME_SHOWN)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_neither_script_nor_program_is_told_as_such() {
        let hint = |errno| hint(&io::Error::from_raw_os_error(errno), Path::new("/nowhere"));
        assert!(hint(libc::ENOEXEC).is_some_and(|hint| hint.contains("no #! line")));
        for errno in [libc::ENOENT, libc::EACCES, libc::EAGAIN] {
            assert_eq!(hint(errno), None, "{errno}");
        }
    }

    #[test]
    fn the_first_line_says_which_interpreter_is_missing() {
        for (line, words) in [
            ("#!/bin/sh\r", "CR LF"),
            ("#! /usr/bin/python2 -u", "interpreter /usr/bin/python2 is"),
            ("\u{7f}ELF\u{2}\u{1}", "built for another libc"),
        ] {
            let fault = interpreter_fault(line).expect("a fault");
            assert!(fault.contains(words), "{fault}");
        }
        for line in ["", "#!", "echo started"] {
            assert_eq!(interpreter_fault(line), None, "{line}");
        }
    }
}

//! Checks the names and links of an archive's entries: nothing may lead out of the directory that it is unpacked into.
//! Pure. Every error is the reason why the archive is refused.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

type Checked<T> = Result<T, &'static str>;

/// Bytes.
const NAME_LIMIT: usize = 1024;
/// Parts of a path.
const DEPTH_LIMIT: usize = 64;

/// Returns the parts of an entry's path without `.`, so none for the root itself.
pub(super) fn inner_path(raw: &[u8]) -> Checked<Vec<&OsStr>> {
    if raw.len() > NAME_LIMIT {
        return Err("its name is longer than 1024 bytes");
    }
    if raw.iter().any(|byte| *byte < 0x20 || *byte == 0x7f) {
        return Err("its name has control characters");
    }
    if raw.starts_with(b"/") {
        return Err("its path is absolute");
    }
    let path = parts(raw);
    if path.contains(&OsStr::new("..")) {
        return Err("its path has ..");
    }
    Ok(path)
}

pub(super) fn check_depth(path: &[&OsStr]) -> Checked<()> {
    if path.len() > DEPTH_LIMIT {
        return Err("it lies more than 64 directories deep");
    }
    Ok(())
}

/// Checks that the target of a symbolic link stays inside: it is relative, has `..` only at its beginning, and no more
/// of them than the link has directories above it (`depth`).
///
/// No entry is written through a link, so the parents of a link are real directories, and a link to another link stays
/// inside for the same reason.
pub(super) fn check_link(target: &[u8], depth: usize) -> Checked<()> {
    if target.is_empty() || target.len() > NAME_LIMIT || target.contains(&0) {
        return Err("it links to nothing");
    }
    let mut ups = 0;
    let mut downs = 0;
    for part in parts(target) {
        if part != ".." {
            downs += 1;
        } else if downs > 0 {
            return Err("it links through ..");
        } else {
            ups += 1;
        }
    }
    if ups > depth || target.starts_with(b"/") {
        return Err("it links to the outside");
    }
    Ok(())
}

fn parts(path: &[u8]) -> Vec<&OsStr> {
    let mut parts = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        if !matches!(part, b"" | b".") {
            parts.push(OsStr::from_bytes(part));
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_leads_outside_is_refused() {
        for (target, depth, is_inside) in [
            ("program", 0, true),
            ("./lib/a", 0, true),
            ("../a", 1, true),
            ("../a", 0, false),
            ("../../a", 1, false),
            ("lib/../a", 1, false),
            ("/etc/passwd", 3, false),
            ("", 0, false),
        ] {
            let checked = check_link(target.as_bytes(), depth);
            assert_eq!(checked.is_ok(), is_inside, "{target} at {depth}");
        }
    }

    #[test]
    fn a_path_that_leads_outside_is_refused() {
        assert_eq!(inner_path(b"./"), Ok(Vec::new()));
        let path = vec![OsStr::new("bin"), OsStr::new("program")];
        assert_eq!(inner_path(b"./bin//program"), Ok(path));
        for raw in ["/bin", "a/../b", "..", "a\nb"] {
            assert!(inner_path(raw.as_bytes()).is_err(), "{raw:?}");
        }
    }
}

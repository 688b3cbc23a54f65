//! Checks the names and links of an archive's entries: nothing may lead out of the directory that it is unpacked into.
//! Every error is the reason why the archive is refused.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

type Checked<T> = Result<T, &'static str>;

/// Bytes.
pub(super) const NAME_LIMIT: usize = 1024;
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

/// Checks that the target of a symbolic link in the directory `dir`, below the root, stays inside: it is relative, and no
/// `..` in it leads above the root. `is_dir` returns whether a path below the root is a real directory.
///
/// Behind a name, `..` is allowed only if the name is a real directory: behind a link it would lead to another place than the
/// path says. No entry is written through a link, so the parents of a link are real, and a link to another link stays inside
/// for the same reason.
pub(super) fn check_link(
    target: &[u8],
    dir: &[&OsStr],
    is_dir: &mut dyn FnMut(&[&OsStr]) -> bool,
) -> Checked<()> {
    if target.is_empty() || target.len() > NAME_LIMIT || target.contains(&0) {
        return Err("it links to nothing");
    }
    if target.starts_with(b"/") {
        return Err("it links to the outside");
    }
    let mut at = dir.to_vec();
    let mut is_named = false;
    for part in parts(target) {
        if part != ".." {
            at.push(part);
            is_named = true;
        } else if is_named && !is_dir(&at) {
            return Err(
                "it links through .. behind something else than a directory of the archive",
            );
        } else if at.pop().is_none() {
            return Err("it links to the outside");
        }
    }
    Ok(())
}

/// Returns the parts of a path without `.`.
pub(super) fn parts(path: &[u8]) -> Vec<&OsStr> {
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
        for (target, dir, is_inside) in [
            ("program", "", true),
            ("./lib/a", "", true),
            ("../a", "d", true),
            ("../a", "", false),
            ("../../a", "d", false),
            ("lib/../a", "", true),
            ("lib/../../d/a", "d", true),
            ("lib/../../../d/a", "d", false),
            ("link/../a", "", false),
            ("../link/../a", "d", false),
            ("../lib/deep/../../d/a", "d", true),
            ("../lib/deep/../../../d/a", "d", false),
            ("lib/a/..", "", false),
            ("/etc/passwd", "a/b/c", false),
            ("", "", false),
        ] {
            let names = ["d", "lib", "deep"].map(OsStr::new);
            let mut is_dir = |path: &[&OsStr]| path.iter().all(|part| names.contains(part));
            let dir = parts(dir.as_bytes());
            let checked = check_link(target.as_bytes(), &dir, &mut is_dir);
            assert_eq!(checked.is_ok(), is_inside, "{target} in {dir:?}");
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

//! Archives that no tool at hand makes, but old and rare ones do: unpacked as GNU tar does, or refused with the reason.

use crate::archives::hostile::spoiled;
use crate::archives::trees::{Case, check};
use crate::support::archive::{BLOCK, Tarball, gzip, pax_record};
use crate::support::host::Host;
use tar::Header;

fn set_magic(header: &mut Header, magic: &[u8]) {
    header.as_mut_bytes()[257..265].copy_from_slice(magic);
}

fn v7(header: &mut Header) {
    set_magic(header, &[0; 8]);
}

fn ustar(header: &mut Header) {
    set_magic(header, b"ustar\x0000");
}

fn set_link(header: &mut Header, target: &str) {
    header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
}

fn set_size(header: &mut Header, size: &[u8]) {
    header.as_old_mut().size.fill(0);
    header.as_old_mut().size[..size.len()].copy_from_slice(size);
}

fn same(name: &str, tarball: Tarball) -> Case {
    Case::same_as_gnu(name, tarball.gzip())
}

fn refused(name: &str, tarball: Tarball, reason: &'static str) -> Case {
    Case::refused(name, tarball.gzip(), reason)
}

fn check_all(cases: impl Into<Vec<Case>>) {
    check(Host::new(), &cases.into());
}

/// Adds a file to show that nothing is lost before it.
fn then_file(tarball: Tarball) -> Tarball {
    tarball.file("d/after", 0o644, "after")
}

#[test]
fn a_size_that_no_data_follows_loses_no_file() {
    let sized = |kind, path, edit: fn(&mut Header)| {
        then_file(spoiled().edited(kind, path, b"", |header| {
            set_size(header, b"00000001000");
            edit(header);
        }))
    };
    let with_data = |kind, path| {
        then_file(spoiled().edited(kind, path, &[b'y'; 600], |header| {
            set_link(header, "control");
        }))
    };
    let lost = "what follows it is not a tar header";
    check_all([
        same("v7-directory", sized(b'\0', "d/", v7)),
        same("directory", sized(b'5', "d", ustar)),
        same(
            "hard-link",
            sized(b'1', "link", |header| set_link(header, "control")),
        ),
        same(
            "symbolic-link",
            sized(b'2', "link", |header| set_link(header, "control")),
        ),
        refused("directory-data", with_data(b'5', "d"), lost),
        refused("hard-link-data", with_data(b'1', "link"), lost),
        refused("symbolic-link-data", with_data(b'2', "link"), lost),
        same(
            "dump",
            then_file(spoiled().edited(b'D', "d", b"Yafter\0\0", |_| {})),
        ),
    ]);
}

#[test]
fn an_entry_that_cannot_be_unpacked_is_refused() {
    check_all([
        refused(
            "file-dot",
            spoiled().file(".", 0o644, "x"),
            "its name is that of a directory",
        ),
        refused(
            "file-dir-dot",
            spoiled().file("d/.", 0o644, "x"),
            "its name is that of a directory",
        ),
        refused(
            "link-dir-dot",
            spoiled().symlink("d/./", "../control"),
            "its name is that of a directory",
        ),
        refused(
            "file-empty",
            spoiled().file("", 0o644, "x"),
            "its name is that of a directory",
        ),
        refused(
            "link-dot",
            spoiled().symlink("./", "control"),
            "its name is that of a directory",
        ),
        refused(
            "hard-dot",
            spoiled().hardlink(".", "control"),
            "its name is that of a directory",
        ),
        refused(
            "fifo-dot",
            spoiled().edited(b'6', ".", b"", |_| {}),
            "not an entry of type '6'",
        ),
        refused(
            "volume",
            spoiled().edited(b'M', "x", b"x", |_| {}),
            "not an entry of type 'M'",
        ),
        refused(
            "acl",
            spoiled().edited(b'A', "x", b"x", |_| {}),
            "not an entry of type 'A'",
        ),
        refused(
            "hard-dir",
            spoiled().dir("d").hardlink("x", "d"),
            "it links to a directory",
        ),
        refused(
            "zeros-between",
            then_file(spoiled().raw(Header::from_byte_slice(&[0; BLOCK]), b"")),
            "a block of zeros and more entries follow it",
        ),
        refused(
            "header-alone",
            spoiled().records(b'x', &[("path", "x")]),
            "the archive ends before the entry that this belongs to",
        ),
        same("root", spoiled().dir(".").dir("./").dir("")),
    ]);
}

#[test]
fn empty_numbers_are_zero_and_bad_ones_are_named() {
    let sized = |size: &'static [u8]| {
        let content: &[u8] = if size.contains(&5) { b"bytes" } else { b"" };
        then_file(spoiled().edited(b'0', "x", content, |header| set_size(header, size)))
    };
    let mode = |mode: &'static [u8; 8]| {
        then_file(spoiled().edited(b'0', "x", b"x", |header| header.as_old_mut().mode = *mode))
    };
    check_all([
        same("size-nuls", sized(b"")),
        same("size-256", sized(b"\x80\0\0\0\0\0\0\0\0\0\0\x05")),
        refused(
            "size-word",
            sized(b"hello"),
            "its size field is not a number",
        ),
        refused(
            "size-junk",
            sized(b"7junk"),
            "its size field is not a number",
        ),
        refused(
            "size-negative",
            sized(&[0xff; 12]),
            "its size field is not a number",
        ),
        same("mode-nuls", mode(&[0; 8])),
        same("mode-with-kind", mode(b"0100755\0")),
        refused(
            "mode-word",
            mode(b"rw-r--r-"),
            "its mode field is not a number",
        ),
        same(
            "label",
            then_file(spoiled().edited(b'V', "label", b"", |header| {
                set_size(header, b"");
                header.as_old_mut().mode = [0; 8];
            })),
        ),
        same("signed-sum", then_file(signed_sum(spoiled()))),
    ]);
}

/// Adds an entry with the checksum of an old tar program, for which bytes have a sign.
fn signed_sum(tarball: Tarball) -> Tarball {
    let mut header =
        crate::support::archive::header(tar::EntryType::Regular, "\u{e9}", "", 0o644, 0);
    header.set_cksum();
    let sum = header.cksum().expect("a sum") - 2 * 256;
    header
        .as_old_mut()
        .cksum
        .copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    tarball.raw(&header, b"")
}

#[test]
fn long_names_and_records_work_under_any_magic() {
    let long = format!("{}/x", "n".repeat(150));
    let with_long = |magic: &'static [u8; 8]| {
        let name = format!("{long}\0");
        let target = format!("./{long}\0");
        let tarball = spoiled()
            .edited(b'L', "././@LongLink", name.as_bytes(), |header| {
                set_magic(header, magic);
            })
            .edited(b'0', "n", b"x", |header| set_magic(header, magic))
            .edited(b'K', "././@LongLink", target.as_bytes(), |header| {
                set_magic(header, magic);
            })
            .edited(b'2', "link", b"", |header| set_magic(header, magic));
        then_file(tarball)
    };
    let prefix = |magic: &'static [u8; 8]| {
        spoiled().edited(b'0', "x", b"x", |header| {
            set_magic(header, magic);
            header.as_mut_bytes()[345..348].copy_from_slice(b"dir");
        })
    };
    let in_the_way = |header: &mut Header| set_link(header, "control");
    check_all([
        same("long-gnu", with_long(b"ustar  \0")),
        same("long-ustar", with_long(b"ustar\x0000")),
        same("long-v7", with_long(&[0; 8])),
        same("prefix-ustar", prefix(b"ustar\x0000")),
        same("prefix-no-version", prefix(b"ustar\0\0\0")),
        same("prefix-gnu", prefix(b"ustar  \0")),
        same(
            "hard-to-link",
            spoiled()
                .edited(b'2', "a", b"", in_the_way)
                .hardlink("b", "a"),
        ),
    ]);
}

/// Returns an archive with these records before a file, and a file after it.
fn recorded(kind: u8, records: &[(&str, &str)]) -> Tarball {
    let tarball = spoiled().records(kind, records);
    then_file(tarball.file("named", 0o644, "text"))
}

#[test]
fn records_count_as_gnu_tar_counts_them() {
    let newline = "note\n16 path=elsewhere\n9 path=x\n";
    let xattr = ("SCHILY.xattr.user.note", newline);
    let capability = ("SCHILY.xattr.security.capability", "\x01\n\x02=\n");
    let times = [("mtime", "1477380651.5"), ("uid", "0"), ("comment", "")];
    let twice = spoiled()
        .records(b'x', &[("path", "lost")])
        .records(b'x', &[("comment", "this one counts")])
        .file("x", 0o644, "x");
    let long_name = spoiled()
        .edited(b'L', "././@LongLink", b"by-long-name\0", |_| {})
        .records(b'x', &[("path", "by-record")])
        .file("x", 0o644, "x");
    let size = spoiled()
        .records(b'x', &[("size", "3")])
        .edited(b'0', "x", b"abc", |header| set_size(header, b"0"));
    // The name goes to the label and not to the file after it.
    let label = spoiled()
        .records(b'x', &[("path", "label")])
        .edited(b'V', "x", b"", |_| {})
        .file("x", 0o644, "x");
    check_all([
        same("newline", recorded(b'x', &[xattr, ("path", "d/other")])),
        same(
            "newline-last",
            recorded(b'x', &[("path", "d/other"), xattr]),
        ),
        same("capability", recorded(b'x', &[capability])),
        same("twice", recorded(b'x', &[("path", "d/1"), ("path", "d/2")])),
        same("no-names", recorded(b'x', &times)),
        same("padded", raw(&(pax_record("path", "padded") + "\0\0\0"))),
        same("solaris", recorded(b'X', &[("path", "d/solaris")])),
        same("two-headers", then_file(twice)),
        same("after-long-name", then_file(long_name)),
        same("size", then_file(size)),
        same("label", then_file(label)),
    ]);
}

/// Returns an archive with an extended header of these bytes.
fn raw(body: &str) -> Tarball {
    let header = spoiled().edited(b'x', "PaxHeaders/x", body.as_bytes(), |_| {});
    header.file("x", 0o644, "x")
}

#[test]
fn global_records_count_for_all_that_follow() {
    let global = |key, value| spoiled().records(b'g', &[(key, value)]);
    let replaced = global("path", "by-global").records(b'g', &[("comment", "no path")]);
    let own = global("path", "by-global").records(b'x', &[("path", "own")]);
    let links = global("linkpath", "control").symlink("x", "y");
    let sizes = global("size", "3").file("x", 0o644, "abc");
    let outside = global("path", "../x").file("x", 0o644, "x");
    check_all([
        same("path", global("path", "by-global").file("x", 0o644, "x")),
        same("own", own.file("x", 0o644, "x").file("y", 0o644, "y")),
        same("replaced", replaced.file("x", 0o644, "x")),
        same("link", links.symlink("z", "y")),
        same("size", sizes.file("y", 0o644, "xyz")),
        refused("outside", outside, "its path has .."),
    ]);
}

#[test]
fn bad_records_are_named() {
    let malformed = "a record of its extended header is malformed";
    let size = "a number in its extended header is wrong";
    let large = [("comment", &*"x".repeat(1 << 20))];
    check_all([
        refused("no-length", raw("path=x\n"), malformed),
        refused("too-short", raw("8 path=x\n"), malformed),
        refused("beyond", raw("99 path=x\n"), malformed),
        refused("no-equals", raw("8 pathx\n\n"), malformed),
        refused("bad-size", raw("12 size=0x5\n"), size),
        refused(
            "holes",
            recorded(b'x', &[("SUN.holesdata", " 0 5")]),
            "sparse files of Solaris",
        ),
        refused("too-large", recorded(b'x', &large), "larger than 1 MiB"),
    ]);
}

#[test]
fn links_may_go_up_and_come_back() {
    let tree = || {
        spoiled()
            .file("lib/v1/x", 0o755, "x")
            .file("lib/v1/deep/y", 0o644, "y")
            .symlink("lib/now", "v1")
            .symlink("far", "lib/v1/deep")
    };
    let through = "behind something else than a directory";
    check_all([
        same(
            "inside",
            tree()
                .symlink("lib/cur", "../lib/v1/../v1/x")
                .symlink("back", "lib/v1/deep/../../now")
                .symlink("early", "late/../control")
                .file("late/z", 0o644, "z")
                .symlink("up", "lib/.."),
        ),
        refused(
            "outside",
            tree().symlink("x", "lib/../../x"),
            "it links to the outside",
        ),
        refused(
            "outside-below",
            tree().symlink("lib/v1/l", "../../lib/../../x"),
            "it links to the outside",
        ),
        refused("through-link", tree().symlink("x", "lib/now/../y"), through),
        // far/.. is lib/v1 and not the root, so that one more .. stays inside, but no path shows it.
        refused(
            "through-far-link",
            tree().symlink("x", "far/../deep"),
            through,
        ),
        refused(
            "near-link",
            tree()
                .symlink("lib/v1/deep/top", "../../..")
                .symlink("x", "lib/v1/deep/top/../y"),
            through,
        ),
        refused(
            "missing",
            tree().symlink("x", "nothing/../control"),
            through,
        ),
        refused(
            "through-file",
            tree().symlink("x", "control/../lib"),
            through,
        ),
        // The target is inside where the link is, and outside where its second name is.
        refused(
            "moved-up",
            tree()
                .symlink("lib/v1/l", "../../control")
                .hardlink("l", "lib/v1/l"),
            "it links to the outside",
        ),
    ]);
}

/// Adds an old GNU sparse file: pieces as offset and length, the size, and the data.
fn old_sparse(pieces: &[(usize, usize)], size: usize, data: &[u8]) -> Tarball {
    let tarball = spoiled().edited(b'S', "sparse", data, |header| {
        let gnu = header.as_gnu_mut().expect("a GNU header");
        gnu.realsize[..11].copy_from_slice(format!("{size:011o}").as_bytes());
        for (field, (offset, length)) in gnu.sparse.iter_mut().zip(pieces) {
            field.offset[..11].copy_from_slice(format!("{offset:011o}").as_bytes());
            field.numbytes[..11].copy_from_slice(format!("{length:011o}").as_bytes());
        }
    });
    then_file(tarball)
}

fn pax_sparse(records: &[(&str, &str)], data: &str) -> Tarball {
    then_file(spoiled().records(b'x', records).edited(
        b'0',
        "GNUSparseFile.0/s",
        data.as_bytes(),
        ustar,
    ))
}

#[test]
fn the_maps_of_sparse_files_are_checked() {
    let block = "x".repeat(BLOCK);
    let text = |map: &str| format!("{map:\0<512}{block}");
    let one = |data: &str| {
        pax_sparse(
            &[
                ("GNU.sparse.major", "1"),
                ("GNU.sparse.minor", "0"),
                ("GNU.sparse.name", "s"),
                ("GNU.sparse.realsize", "2048"),
            ],
            data,
        )
    };
    let map = |map: &str| {
        let pieces = map.split(',').count() / 2;
        pax_sparse(
            &[
                ("GNU.sparse.size", "2048"),
                ("GNU.sparse.numblocks", &pieces.to_string()),
                ("GNU.sparse.name", "s"),
                ("GNU.sparse.map", map),
            ],
            &block,
        )
    };
    let bad = "the map of its holes is bad";
    let data = [b'x'; 2 * BLOCK];
    check_all([
        same("old", old_sparse(&[(1024, 512), (4096, 512)], 4608, &data)),
        same(
            "old-tail",
            old_sparse(&[(1024, 512), (5000, 0)], 5000, &data[..512]),
        ),
        same("old-hole", old_sparse(&[(5000, 0)], 5000, b"")),
        refused(
            "old-order",
            old_sparse(&[(4096, 512), (0, 512)], 5000, &data),
            bad,
        ),
        refused(
            "old-odd",
            old_sparse(&[(0, 100), (512, 100)], 5000, &data[..200]),
            bad,
        ),
        refused(
            "old-beyond",
            old_sparse(&[(4600, 512)], 5000, &data[..512]),
            bad,
        ),
        refused("old-less", old_sparse(&[(512, 512)], 5000, &data), bad),
        refused(
            "old-more",
            old_sparse(&[(512, 1024)], 5000, &data[..512]),
            bad,
        ),
        refused(
            "star",
            spoiled().edited(b'S', "sparse", &data, ustar),
            "not an entry of type 'S'",
        ),
        same("map", map("1536,512")),
        same("map-tail", map("512,512,2048,0")),
        refused("map-odd", map("512"), bad),
        refused("map-beyond", map("1600,512"), bad),
        same("one", one(&text("2\n1024\n512\n2048\n0\n"))),
        refused("one-more", one(&text("3\n1024\n512\n2048\n0\n")), bad),
        refused("one-huge", one(&text("99999999999\n0\n0\n")), bad),
        refused("one-word", one(&text("one\n")), bad),
        refused("one-endless", one(&"1".repeat(8 * BLOCK)), bad),
        refused("one-without", one(""), bad),
        refused(
            "two",
            pax_sparse(&[("GNU.sparse.major", "2")], ""),
            "in the forms 0.0, 0.1 and 1.0",
        ),
        refused(
            "no-size",
            pax_sparse(&[("GNU.sparse.map", "0,512")], &block),
            bad,
        ),
    ]);
}

#[test]
fn what_is_cut_short_or_no_archive_is_named() {
    let tar = spoiled().file("data", 0o644, [b'x'; 700]).tar();
    let member = spoiled().gzip();
    let cut = |length: usize| gzip(&tar[..length]);
    let compressed = |head: &[u8]| gzip(&[head, &[0; 600][..]].concat());
    let long = spoiled()
        .file("data", 0o644, crate::support::archive::noise(5000, 1))
        .gzip();
    check_all([
        Case::same_as_gnu("no-end", cut(5 * BLOCK)),
        Case::same_as_gnu("half-end", cut(6 * BLOCK)),
        Case::refused(
            "in-data",
            cut(3 * BLOCK + 100),
            "\"data\": the archive ends in the middle of it",
        ),
        Case::refused(
            "in-padding",
            cut(4 * BLOCK + 200),
            "\"data\": the archive ends in the middle of it",
        ),
        Case::refused(
            "in-header",
            cut(2 * BLOCK + 300),
            "\"control\": the archive ends in the middle of the header after it",
        ),
        Case::refused(
            "gzip-cut",
            long[..3000].to_vec(),
            "the gzip file is cut short",
        ),
        Case::refused(
            "gzip-head",
            member[..7].to_vec(),
            "the gzip file is cut short",
        ),
        Case::refused(
            "gzip-tail",
            member[..member.len() - 3].to_vec(),
            "the gzip file is cut short",
        ),
        Case::refused(
            "more-bytes",
            [&member[..], b"hello, world"].concat(),
            "12 bytes after the end of the gzip file are not gzip",
        ),
        Case::refused(
            "twice",
            gzip(&member),
            "there is no tar archive inside but gzip; is it compressed twice?",
        ),
        Case::refused("xz-inside", compressed(b"\xfd7zXZ\0"), "but xz"),
        Case::refused("zip-inside", compressed(b"PK\x03\x04"), "but zip"),
        Case::refused("text", gzip(b"hello"), "there is no tar archive inside"),
        Case::refused("nothing", gzip(b""), "there is no tar archive inside"),
        Case::refused(
            "xz",
            b"\xfd7zXZ\0".to_vec(),
            "the body is xz, not a gzip archive",
        ),
        Case::refused(
            "zip",
            b"PK\x03\x04 and more".to_vec(),
            "the body is zip, not a gzip archive",
        ),
        Case::refused("tar", tar.clone(), "a tar archive without gzip"),
    ]);
}

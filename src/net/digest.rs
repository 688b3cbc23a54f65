//! The `.md5` file beside a tarball, in the forms of the tools that make one: `md5sum`, `md5` of BSD, `openssl`, `certutil`.

use super::http::{self, Progress};
use crate::error::{Error, Result};
use crate::model::is_md5;
use crate::text::{before, brief};

/// The largest `.md5` file, in bytes. It may name all files of a release, or be an error page that a proxy sends instead.
const MD5_LIMIT: u64 = 64 << 10;
/// Bytes of a text that is no sum that are shown.
const SHOWN: usize = 60;

/// Fetches an `.md5` file and returns the digest in it, in lower case. The URL is that of the tarball and `.md5`.
pub fn fetch(url: &str, progress: Progress) -> Result<String> {
    let body = http::body(url, MD5_LIMIT, false, progress)?;
    if body.is_html {
        return Err(Error::new("use", url, http::IS_HTML));
    }
    let file = url.rsplit('/').next().unwrap_or_default();
    let file = file.strip_suffix(".md5").unwrap_or(file);
    parse(&body.bytes, file).map_err(|cause| Error::new("use", url, cause))
}

/// Returns the 32 hex digits for this file, in lower case: those beside its name, or the only ones, whatever name they have.
/// Lines without a sum are ignored. The error says what is there instead.
pub fn parse(body: &[u8], file: &str) -> std::result::Result<String, String> {
    let text = ascii(body);
    // The sum that counts, and whether it stands beside the name.
    let mut found: Option<(&str, bool)> = None;
    let mut has_several = false;
    for line in text.lines() {
        let Some(digest) = sum(line) else {
            continue;
        };
        let is_named = is_for(line, file);
        match found {
            Some((first, was_named)) if was_named || !is_named => {
                has_several |= was_named == is_named && !digest.eq_ignore_ascii_case(first);
            }
            _ => (found, has_several) = (Some((digest, is_named)), false),
        }
    }
    match found {
        Some((digest, _)) if !has_several => Ok(digest.to_ascii_lowercase()),
        Some(_) => Err(format!("it has several md5 sums, not one for {file}")),
        None => Err(format!(
            "it has no md5 sum, but \"{}\"",
            brief(&text, SHOWN)
        )),
    }
}

/// Returns the text with a `?` for each byte of another character. PowerShell writes UTF-16, which is ASCII with zeros.
fn ascii(body: &[u8]) -> String {
    let mut text = String::new();
    for byte in body {
        match byte {
            0 => {}
            1..=0x7f => text.push(char::from(*byte)),
            0x80.. => text.push('?'),
        }
    }
    text
}

/// Returns the digest in a line: `digest  name`, `digest *name`, `digest`, `MD5 (name) = digest`, `MD5(name)= digest` or
/// `MD5 digest name`.
fn sum(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    // A byte order mark, also in the middle where files were put together, or a sign of md5sum for odd names.
    let first = words
        .next()?
        .trim_start_matches('?')
        .trim_start_matches('\\');
    if first.starts_with("MD5") {
        return words.find(|word| is_md5(word));
    }
    is_md5(first).then_some(first)
}

/// Returns whether a line names this file, perhaps in a directory.
fn is_for(line: &str, file: &str) -> bool {
    let rest = before(line, b")")
        .trim_end()
        .strip_suffix(file)
        .unwrap_or_default();
    matches!(
        rest.bytes().last(),
        Some(b' ' | b'\t' | b'*' | b'/' | b'\\' | b'(')
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "490ac172dabecc867289079d48e84a66";
    const OTHER: &str = "d41d8cd98f00b204e9800998ecf8427e";
    const FILE: &str = "demo-1.0.1.tar.gz";

    fn filled(text: &str) -> String {
        let upper = DIGEST.to_uppercase();
        let text = text.replace("DIGEST", DIGEST).replace("UPPER", &upper);
        text.replace("OTHER", OTHER).replace("FILE", FILE)
    }

    const GOOD: &[&str] = &[
        "DIGEST  FILE\n",
        "DIGEST *FILE\r\n",
        "DIGEST",
        "UPPER",
        " \r\nDIGEST *demo\r\n",
        "\\DIGEST  odd\\nname\n",
        "\u{feff}DIGEST\nmore lines\n",
        "# comment\n\nDIGEST\tFILE\n",
        "DIGEST  another name of one sum\n",
        "MD5 (FILE) = DIGEST\n",
        "MD5(FILE)= DIGEST\n",
        "MD5 (a (b) c) = UPPER\n",
        "MD5   UPPER   C:\\dist\\FILE\r\n",
        "MD5 hash of FILE:\r\nDIGEST\r\nCertUtil: -hashfile command completed successfully.\r\n",
        // Of several sums, the one beside the name counts.
        "OTHER  demo-1.0.0.tar.gz\nDIGEST  FILE\nOTHER  xFILE\n",
        "OTHER  a\nDIGEST *./FILE\n",
        "OTHER  a\nDIGEST  dist/linux/FILE\n",
        "OTHER  a\r\nDIGEST  C:\\dist\\FILE\r\n",
        "OTHER\nMD5 (dist/FILE) = DIGEST\nSHA256 (FILE) = OTHEROTHER\n",
        "DIGEST  FILE\nDIGEST  dist/FILE\n",
        "DIGEST  a\nDIGEST  b\n",
        "\u{feff}OTHER  a\n\u{feff}DIGEST  FILE\n",
    ];

    #[test]
    fn a_sum_is_read_in_the_form_of_each_tool() {
        for text in GOOD.iter().map(|text| filled(text)) {
            let wide: Vec<u16> = "\u{feff}"
                .encode_utf16()
                .chain(text.encode_utf16())
                .collect();
            let little: Vec<u8> = wide.iter().flat_map(|unit| unit.to_le_bytes()).collect();
            let big: Vec<u8> = wide.iter().flat_map(|unit| unit.to_be_bytes()).collect();
            for body in [text.as_bytes(), &little, &big] {
                assert_eq!(parse(body, FILE).as_deref(), Ok(DIGEST), "{text}");
            }
        }
    }

    #[test]
    fn what_is_no_sum_for_the_file_is_refused_and_quoted() {
        let several = "it has several md5 sums";
        for (text, error) in [
            ("", "it has no md5 sum, but \"\""),
            (" \n\r\n", "it has no md5 sum, but \"\""),
            (
                "\n 404\tnot found\nmore",
                "it has no md5 sum, but \"404 not found",
            ),
            ("DIGEST0", "it has no md5 sum, but \"DIGEST0"),
            (
                "490ac172dabecc867289079d48e84a6g",
                "it has no md5 sum, but \"490ac",
            ),
            (
                "OTHERDIGEST  FILE",
                "it has no md5 sum, but \"OTHER490ac172dabecc867289079d48e8",
            ),
            (
                "SHA256 (FILE) = OTHERDIGEST",
                "it has no md5 sum, but \"SHA256 (FILE) = d41d8",
            ),
            ("\x1b[31m\u{202e}x", "it has no md5 sum, but \"?[31m???x"),
            ("DIGEST  a\nOTHER  b", several),
            ("DIGEST\nOTHER", several),
            ("DIGEST  a/FILE\nOTHER  b/FILE", several),
        ] {
            let found = parse(filled(text).as_bytes(), FILE).expect_err(text);
            assert!(found.starts_with(&filled(error)), "{text}: {found}");
        }
        let which = |text: &str| parse(filled(text).as_bytes(), FILE).expect_err(text);
        assert_eq!(
            which("DIGEST\nOTHER"),
            format!("{several}, not one for {FILE}")
        );
        assert_eq!(
            which("DIGEST  FILE\nOTHER  FILE"),
            format!("{several}, not one for {FILE}")
        );
        assert!(parse(b"\xff\xfe4\0", FILE).is_err());
    }
}

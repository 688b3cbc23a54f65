//! The `.md5` file beside a tarball: one line, as `md5sum` prints it.

use super::http::{self, Progress};
use crate::error::{Error, Result};
use crate::model::is_md5;

/// An `.md5` file is one line. The limit, in bytes, leaves room for an error page that a proxy sends instead, so that
/// the error says what is wrong with it.
const MD5_LIMIT: u64 = 64 << 10;

/// Fetches an `.md5` file and returns the digest in it, in lower case.
pub fn fetch(url: &str, progress: Progress) -> Result<String> {
    let body = http::body(url, MD5_LIMIT, progress)?.bytes;
    let cause = "it does not begin with 32 hex digits, as md5sum prints them";
    parse(&body).ok_or_else(|| Error::new("use", url, cause))
}

/// Returns the 32 hex digits that the text begins with, in lower case. md5sum puts a `\` before them if the name of the
/// file has odd characters.
pub fn parse(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    // Editors on Windows put a byte order mark at the beginning.
    let text = text.trim_start_matches('\u{feff}');
    let first = text.split_whitespace().next().unwrap_or_default();
    let digest = first.trim_start_matches('\\').to_ascii_lowercase();
    is_md5(&digest).then_some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_md5_file_is_valid_only_if_it_begins_with_a_digest() {
        let digest = "490ac172dabecc867289079d48e84a66";
        for text in [
            "490ac172dabecc867289079d48e84a66  demo-1.0.1.tar.gz\n",
            "490AC172DABECC867289079D48E84A66",
            " \r\n490ac172dabecc867289079d48e84a66 *demo\r\n",
            "\\490ac172dabecc867289079d48e84a66  odd\\nname\n",
            "\u{feff}490ac172dabecc867289079d48e84a66\nmore lines\n",
        ] {
            assert_eq!(parse(text.as_bytes()).as_deref(), Some(digest), "{text}");
        }
        for text in [
            "",
            "\n",
            "490ac172dabecc867289079d48e84a6",
            "490ac172dabecc867289079d48e84a660",
            "490ac172dabecc867289079d48e84a6g",
            "MD5 (demo) = 490ac172dabecc867289079d48e84a66",
            "<html>490ac172dabecc867289079d48e84a66</html>",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse(b"\xff490ac172dabecc867289079d48e84a66"), None);
    }
}

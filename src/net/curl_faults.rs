//! What a failure of curl means, in words. Nothing is decided by its text. Pure.

use crate::text::{brief, without_passwords};

/// Bytes of curl's own message that are shown.
const SHOWN: usize = 200;

/// The words for a certificate, and what curl prints of it with OpenSSL, and with other libraries.
const CERTIFICATES: [(&str, &str); 7] = [
    ("expired", "has expired"),
    (
        "not yet valid",
        "is not valid yet: is this host's clock right?",
    ),
    ("subject name", "is for another name"),
    ("host name", "is for another name"),
    ("issuer", UNKNOWN_CA),
    ("self-signed", UNKNOWN_CA),
    ("self signed", UNKNOWN_CA),
];
const UNKNOWN_CA: &str = "is signed by an unknown CA: see ca_file";

/// Returns the words for an exit code of curl and what it has printed. Mostly curl's own words are good.
pub(super) fn words(code: i32, printed: &str, host: &str) -> String {
    let detail = detail(printed);
    let what = match code {
        2 => "curl must be 7.61 or newer: ",
        35 => "TLS cannot be agreed on: ",
        51 | 60 => return certificate(&detail, host),
        52 => return "the connection was closed without an answer".to_owned(),
        58 => "client_cert and client_key cannot be used: ",
        77 => "ca_file cannot be used: ",
        _ if detail.is_empty() => return format!("curl ended with code {code}"),
        _ => "",
    };
    format!("{what}{detail}")
}

/// Returns what is wrong with the certificate of a server, or of a proxy.
fn certificate(detail: &str, host: &str) -> String {
    for (part, words) in CERTIFICATES {
        let mut parts = detail.as_bytes().windows(part.len());
        if parts.any(|found| found == part.as_bytes()) {
            return format!("the certificate of {host} {words}");
        }
    }
    format!("the certificate of {host} cannot be verified: {detail}")
}

/// Returns the message without the name of the program and the code, and without the advice that follows it.
fn detail(printed: &str) -> String {
    let line = printed.lines().next().unwrap_or_default();
    let is_coded = line.starts_with("curl: (");
    let message = line.split_once(')').filter(|_| is_coded);
    // curl shows a proxy that it cannot use.
    let message = without_passwords(message.map_or(line, |(_, message)| message));
    brief(&message, SHOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_in_words() {
        for (code, printed, expected) in [
            (
                60,
                "curl: (60) SSL certificate problem: certificate has expired\nMore details here: https://curl.se/docs",
                "the certificate of store has expired",
            ),
            (
                60,
                "curl: (60) SSL: no alternative certificate subject name matches target host name 'store'",
                "the certificate of store is for another name",
            ),
            (
                60,
                "curl: (60) SSL certificate problem: unable to get local issuer certificate",
                "the certificate of store is signed by an unknown CA: see ca_file",
            ),
            (
                60,
                "curl: (60) SSL certificate problem: certificate is not yet valid",
                "the certificate of store is not valid yet: is this host's clock right?",
            ),
            (
                51,
                "curl: (51) odd\u{1b}",
                "the certificate of store cannot be verified: odd?",
            ),
            (
                7,
                "curl: (7) Failed to connect to store port 1: Connection refused",
                "Failed to connect to store port 1: Connection refused",
            ),
            (18, "curl: (18) transfer closed", "transfer closed"),
            (
                58,
                "curl: (58) x",
                "client_cert and client_key cannot be used: x",
            ),
            (
                2,
                "curl: option --disallow-username-in-url: is unknown\ncurl: try 'curl --help'",
                "curl must be 7.61 or newer: curl: option --disallow-username-in-url: is unknown",
            ),
            (
                5,
                "curl: (5) Unsupported proxy syntax in 'http://u:canary@p:1'",
                "***@p:1'",
            ),
            (23, "", "curl ended with code 23"),
            (3, "Warning: x", "Warning: x"),
        ] {
            assert_eq!(words(code, printed, "store"), expected);
        }
    }
}

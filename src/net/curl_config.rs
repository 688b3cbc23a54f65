//! What curl is told on its stdin: nothing secret is on a command line, and nothing is on a disk. Pure.

use super::request::Request;
use crate::model::Network;

/// Options of every request. A name resolves, connects and shakes hands within 20 s, which its addresses share. curl ends
/// itself after 90 s without a byte, if the worker that started it is gone. It never follows a redirect.
const ALWAYS: &str = "silent\nshow-error\nno-buffer\ngloboff\npath-as-is\nhttp1.1\ntlsv1.2\n\
    suppress-connect-headers\nproto = \"=http,https\"\nconnect-timeout = 20\nspeed-limit = 1\nspeed-time = 90\n\
    header = \"Expect:\"\n";
/// A directory without certificates. curl would also trust those in the directory that it was built with.
const NO_CERTIFICATES: &str = "/";

/// Where curl finds what does not go over stdin and stdout.
pub(super) struct Files<'a> {
    /// The head of the answer is written to it. On stdout, what follows the last chunk of a body would be taken for the body.
    pub(super) head: &'a str,
    pub(super) body: Option<&'a str>,
    /// `host:port:address,address`. Empty: the proxy resolves the name.
    pub(super) addresses: &'a str,
}

/// Returns the text of a configuration file of curl.
pub(super) fn text(request: &Request, network: &Network, files: &Files) -> String {
    let mut text = ALWAYS.to_owned();
    let mut set = |option: &str, value: &str| {
        if !value.is_empty() {
            push(&mut text, option, "", value);
        }
    };
    set("url", request.url);
    set("dump-header", files.head);
    set("resolve", files.addresses);
    set("proxy", network.proxy_for(request.url).unwrap_or_default());
    set("cert", &network.client_cert);
    set("key", &network.client_key);
    if !network.ca_file.is_empty() {
        set("cacert", &network.ca_file);
        set("capath", NO_CERTIFICATES);
    }
    if let Some(body) = files.body {
        push(&mut text, "data-binary", "@", body);
    }
    for (name, value) in &request.headers {
        push(&mut text, "header", &format!("{name}: "), value);
    }
    text
}

/// Adds an option with its value in quotes.
fn push(text: &mut String, option: &str, before: &str, value: &str) {
    for part in [option, " = \"", before] {
        text.push_str(part);
    }
    for c in value.chars() {
        let (is_escaped, c) = match c {
            '"' | '\\' => (true, c),
            '\n' => (true, 'n'),
            '\r' => (true, 'r'),
            '\t' => (true, 't'),
            c => (false, c),
        };
        if is_escaped {
            text.push('\\');
        }
        text.push(c);
    }
    text.push_str("\"\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_of_a_request_is_quoted() {
        let mut request = Request::new("post to", "https://m/a?\"b\\", "");
        request.headers = vec![("X", "1\r\nurl = \"evil\"\t".to_owned())];
        let network = Network {
            ca_file: "/ca".into(),
            client_cert: "/cert".into(),
            client_key: "/key".into(),
            ..Network::default()
        };
        let files = Files {
            head: "/dev/fd/5",
            body: Some("/dev/fd/6"),
            addresses: "m:443:192.0.2.1,[2001:db8::1]",
        };
        let text = text(&request, &network, &files);
        let own = text.strip_prefix(ALWAYS).expect("it begins so");
        let expected = r#"url = "https://m/a?\"b\\"
dump-header = "/dev/fd/5"
resolve = "m:443:192.0.2.1,[2001:db8::1]"
cert = "/cert"
key = "/key"
cacert = "/ca"
capath = "/"
data-binary = "@/dev/fd/6"
header = "X: 1\r\nurl = \"evil\"\t"
"#;
        assert_eq!(own, expected);
    }

    #[test]
    fn a_proxy_is_used_unless_the_host_is_reached_directly() {
        let network = Network {
            proxy: "http://user:p%40ss@proxy:3128".into(),
            no_proxy: "m".into(),
            ..Network::default()
        };
        let files = Files {
            head: "/h",
            body: None,
            addresses: "",
        };
        for (url, is_used) in [("http://m/", false), ("http://x/", true)] {
            let text = text(&Request::new("fetch", url, url), &network, &files);
            let line = "\nproxy = \"http://user:p%40ss@proxy:3128\"\n";
            assert_eq!(text.contains(line), is_used, "{url}");
        }
    }
}

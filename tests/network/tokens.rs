//! Tokens that tell a server or a store who asks: where they are sent, and where they never appear.

use crate::network::downloads::{install, tarball};
use crate::support::fault::Faults;
use crate::support::host::Host;
use crate::support::http::free;
use crate::support::json::quote;
use crate::support::tls::{has, secret_file};
use crate::support::users::mode;
use std::fs;

const TOKEN: &str = "canary-of-the-server";
const STORE_TOKEN: &str = "canary-of-a-store";

fn with_token(host: &mut Host, key: &str, text: &str) {
    let file = host.dir.join(key);
    secret_file(&file, text);
    host.set(key, &quote(&file.display().to_string()));
}

fn assert_heartbeats_have_the_token(transport: &str) {
    let mut host = Host::new();
    host.set("transport", &quote(transport));
    host.set("log_level", &quote("debug"));
    with_token(&mut host, "token_file", &format!("{TOKEN}\n"));
    host.start();
    host.wait_beats(1);
    let bearer = |host: &Host| {
        let heartbeat = host.last_beat().expect("a heartbeat");
        heartbeat.header("Authorization").map(str::to_owned)
    };
    assert_eq!(bearer(&host), Some(format!("Bearer {TOKEN}")));
    // A new token needs no reload.
    secret_file(&host.dir.join("token_file"), "next");
    host.wait_for("the new token", || {
        bearer(&host) == Some("Bearer next".to_owned())
    });
    let status = fs::read_to_string(host.own.join("var/status.json")).expect("it is there");
    for text in [host.log(), status, host.last_beat().expect("one").body] {
        assert!(!text.contains(TOKEN), "{text}");
    }
}

#[test]
fn heartbeats_have_the_token_of_the_file() {
    assert_heartbeats_have_the_token("auto");
}

#[test]
fn heartbeats_by_curl_have_the_token_of_the_file() {
    if has(&["curl"]) {
        assert_heartbeats_have_the_token("curl");
    }
}

#[test]
fn a_token_that_others_can_read_or_that_is_none_is_not_sent() {
    for (text, bits, expected) in [
        (
            TOKEN,
            0o644,
            "it must be a regular file that others cannot read; chmod 600",
        ),
        (
            "two\nlines",
            0o600,
            "it is not one line of printable ASCII without spaces",
        ),
        ("", 0o600, "it is not one line of printable ASCII"),
        (TOKEN, 0o622, "everybody can write to it"),
    ] {
        let mut host = Host::new();
        with_token(&mut host, "token_file", text);
        let file = host.dir.join("token_file");
        mode(&file, bits);
        let expected = format!("cannot use {}: {expected}", file.display());
        let expected = match bits {
            0o622 => "can write to it".to_owned(),
            _ => expected,
        };
        let output = host.run("check");
        let found = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{found}");
        assert!(found.contains(&expected), "{found}");
        host.start();
        host.wait_for("the warning", || host.log().contains(&expected));
        host.wait_for("the heartbeat to fail", || {
            host.log().contains("the last desired state stays in force")
        });
        assert_eq!(host.meta.count_beats(), 0);
    }
}

/// A store, and what it redirects to.
fn assert_store_token(transport: &str) {
    let mut host = Host::new();
    host.set("transport", &quote(transport));
    let bytes = tarball(&host);
    let body = bytes.clone();
    let elsewhere = Faults::serve(move |mut exchange| exchange.serve(&body));
    let location = format!("Location: {}", elsewhere.url("/releases/x.tar.gz"));
    let store = Faults::serve(move |mut exchange| {
        if exchange.path.ends_with("/again") {
            return exchange.reply("302 Found", &[&location], b"");
        }
        exchange.reply("302 Found", &["Location: /releases/again"], b"");
    });
    // The other store has a token too, but only for who asks it directly.
    let lines = format!(
        "{} {STORE_TOKEN}\n{} other\n",
        store.releases(),
        elsewhere.releases()
    );
    with_token(&mut host, "store_token_file", &lines);
    install(&mut host, &store, &bytes);
    let heads = store.heads();
    assert_eq!(heads.len(), 2, "{heads:?}");
    for head in heads {
        let line = format!("Authorization: Bearer {STORE_TOKEN}\r\n");
        assert!(head.contains(&line), "{head}");
    }
    for head in elsewhere.heads() {
        assert!(!head.contains("Authorization"), "{head}");
    }
    for heartbeat in host.meta.beats() {
        assert_eq!(heartbeat.header("Authorization"), None);
    }
    assert!(!host.log().contains(STORE_TOKEN));
}

#[test]
fn a_store_gets_its_token_and_no_other_host_does() {
    assert_store_token("auto");
}

#[test]
fn a_store_gets_its_token_by_curl_and_no_other_host_does() {
    if has(&["curl"]) {
        assert_store_token("curl");
    }
}

#[test]
fn a_store_that_the_file_does_not_name_gets_no_token() {
    let mut host = Host::new();
    let bytes = tarball(&host);
    let body = bytes.clone();
    let store = Faults::serve(move |mut exchange| exchange.serve(&body));
    let lines = format!(
        "{} {STORE_TOKEN}\nhttp://{} {STORE_TOKEN}\n",
        store.url("/other"),
        free("127.0.0.1")
    );
    with_token(&mut host, "store_token_file", &lines);
    install(&mut host, &store, &bytes);
    for head in store.heads() {
        assert!(!head.contains("Authorization"), "{head}");
    }
}

#[test]
fn a_server_whose_path_could_mean_another_one_gets_no_token_and_check_says_so() {
    let mut host = Host::new();
    with_token(&mut host, "token_file", TOKEN);
    let server = format!("{}/a/../b", host.meta.addr());
    host.set("server", &quote(&server));
    let output = host.run("check");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("the path of server has"), "{text}");
}

//! Tests unusual answers of stores and servers of configurations, and the messages that the operator reads about them.

use crate::support::agent::Agent;
use crate::support::fault::{Exchange, Faults};
use crate::support::host::Host;
use crate::support::json::Json as _;
use crate::support::platform::skipped;
use crate::support::wire::Desired;
use crate::support::{archive, md5_hex, release_path};
use std::fs;
use std::time::Duration;

/// Returns a host that desires demo from this store. The interval is so long that there is only one attempt.
fn one_attempt(entry: impl FnOnce(&Host) -> Desired) -> Host {
    let mut host = Host::new();
    host.set("interval", "60");
    host.desire(&[entry(&host)]);
    host.start();
    host.prompt();
    host.wait_error("demo");
    host
}

/// Returns the tarball of demo that `one_attempt` offers.
fn bytes() -> Vec<u8> {
    Agent::new("demo", "1.0.0").tarball("/nowhere".as_ref())
}

/// Makes one attempt at a store that answers requests for the tarball like this.
fn attempt(answer: impl Fn(&mut Exchange) + Send + Sync + 'static) -> (Host, usize) {
    let store = Faults::serve(move |mut exchange| answer(&mut exchange));
    let host = one_attempt(|host| {
        host.want("demo", "1.0.0")
            .tarball(store.releases())
            .md5("0123456789abcdef0123456789abcdef")
    });
    (host, store.heads().len())
}

#[test]
fn a_wrong_md5_of_a_body_without_length_is_told_as_such() {
    let (host, requests) = attempt(|exchange| {
        exchange.head("200 OK", &[], None);
        exchange.send(&bytes());
    });
    let error = host.error("demo");
    assert!(
        error.contains("md5") && error.contains(&md5_hex(&bytes())),
        "{error}"
    );
    assert!(requests <= 3, "{requests} downloads");
}

#[test]
fn a_connection_closed_without_an_answer_is_told_as_such() {
    let (host, _) = attempt(|_| {});
    assert!(
        host.error("demo").contains("closed"),
        "{}",
        host.error("demo")
    );
    assert!(
        !host.error("demo").contains("503"),
        "{}",
        host.error("demo")
    );
}

#[test]
fn an_empty_body_is_told_as_such() {
    let (host, _) = attempt(|exchange| exchange.reply("200 OK", &[], b""));
    assert!(
        host.error("demo").contains("empty"),
        "{}",
        host.error("demo")
    );
}

#[test]
fn a_server_that_closes_without_an_answer_is_told_as_such() {
    let closing = Faults::serve(drop);
    let mut host = Host::new();
    host.set("server", &crate::support::json::quote(&closing.addr()));
    host.start();
    host.wait_for("the warning", || host.log().contains("WARN"));
    assert!(
        host.log().contains("closed without an answer"),
        "{}",
        host.log()
    );
}

#[test]
fn a_tarball_is_not_fetched_again_for_a_configuration_that_is_missing() {
    let mut host = Host::new();
    host.publish(&Agent::new("demo", "1.0.0"));
    let config = host.meta.url("/config");
    host.desire(&[host.want("demo", "1.0.0").config("demo.json", config)]);
    host.start();
    let asked = |path: &str| {
        let seen = host.meta.downloads();
        let seen = seen.into_iter().filter(|seen| seen.path == path);
        seen.filter(|seen| seen.header("Range").is_none()).count()
    };
    host.wait_for("three attempts", || asked("/config") >= 3);
    assert_eq!(asked(&release_path("demo", "1.0.0")), 1);
    host.meta.put("/config", "{}");
    host.wait_running("demo", "1.0.0");
}

/// Returns a host with demo from its own store, whose configuration is answered like this.
fn configured(answer: impl Fn(&mut Exchange) + Send + Sync + 'static) -> (Host, Faults) {
    let store = Faults::serve(move |mut exchange| answer(&mut exchange));
    let mut host = Host::new();
    host.publish(&Agent::new("demo", "1.0.0"));
    let entry = host.want("demo", "1.0.0");
    host.desire(&[entry.config("demo.json", store.url("/config"))]);
    host.start();
    (host, store)
}

#[test]
fn an_empty_configuration_without_length_is_refused() {
    let (host, _store) = configured(|exchange| exchange.head("200 OK", &[], None));
    host.wait_for("the refusal", || host.error("demo").contains("empty"));
    assert!(host.calls("demo").is_empty());
    assert!(!host.agent_dir("demo").join("1.0.0").exists());
}

#[test]
fn an_empty_configuration_that_says_so_is_installed() {
    let (host, _store) = configured(|exchange| exchange.reply("200 OK", &[], b""));
    let running = host.wait_running("demo", "1.0.0");
    assert_eq!(
        fs::read(running.dir.join("demo.json")).expect("a file"),
        b""
    );
}

#[test]
fn a_configuration_that_was_sent_compressed_is_written_as_it_was() {
    let text = b"{\"key\": \"value\"}\n";
    let (host, _store) = configured(move |exchange| {
        exchange.reply("200 OK", &["Content-Encoding: gzip"], &archive::gzip(text));
    });
    let running = host.wait_running("demo", "1.0.0");
    let written = fs::read(running.dir.join("demo.json")).expect("a file");
    assert_eq!(written, text);
}

#[test]
fn a_configuration_that_is_to_be_a_gzip_file_stays_one_whatever_the_server_calls_it() {
    let bytes = archive::gzip(b"{}\n");
    let mut host = Host::new();
    let served = bytes.clone();
    let store = Faults::serve(move |mut exchange| {
        exchange.reply("200 OK", &["Content-Encoding: x-gzip"], &served);
    });
    host.publish(&Agent::new("demo", "1.0.0"));
    let entry = host.want("demo", "1.0.0");
    host.desire(&[entry.config("data.json.GZ", store.url("/data.json.gz"))]);
    host.start();
    let running = host.wait_running("demo", "1.0.0");
    let written = fs::read(running.dir.join("data.json.GZ")).expect("a file");
    assert_eq!(written, bytes);
}

#[test]
fn a_configuration_in_another_encoding_is_refused_and_the_encoding_is_named() {
    let (host, _store) = configured(|exchange| {
        exchange.reply("200 OK", &["Content-Encoding: br"], b"\x0b\x02\x80{}\n\x03");
    });
    let error = host.wait_error("demo");
    assert!(error.contains("Content-Encoding br"), "{error}");
    assert!(!host.agent_dir("demo").join("1.0.0").exists());
}

const XML: &[u8] = b"<!-- logback -->\n<configuration><root level='info'/></configuration>";
const LOGIN: &[u8] = b"\xef\xbb\xbf\n<!DOCTYPE html>\n<html><body>Please log in</body></html>";

#[test]
fn a_login_page_is_no_configuration() {
    let pages: [(&str, &[u8]); 3] = [
        ("Content-Type: application/json", LOGIN),
        (
            "Content-Type: text/html; charset=utf-8",
            b"<script>go('/login')</script>",
        ),
        ("X-Type: none", b"<HTML>"),
    ];
    for (kind, page) in pages {
        let (host, _store) = configured(move |x| x.reply("200 OK", &[kind], page));
        let error = host.wait_error("demo");
        assert!(
            error.contains("HTML page; does the store want a login?"),
            "{error}"
        );
        assert!(!host.agent_dir("demo").join("1.0.0").exists());
    }
}

#[test]
fn a_page_is_a_configuration_if_its_name_says_so_and_json_and_xml_are_whatever_their_type() {
    let mut host = Host::new();
    let store = Faults::serve(|mut exchange| {
        let body: &[u8] = match exchange.path.as_str() {
            "/html" => LOGIN,
            "/xml" => XML,
            _ => b"{}",
        };
        exchange.reply("200 OK", &["Content-Type: text/html"], body);
    });
    let rows: [(&str, &str, &str, &[u8]); 5] = [
        ("page", "www/index.HTML", "/html", LOGIN),
        ("old", "index.htm", "/html", LOGIN),
        ("template", "index.html.j2", "/html", LOGIN),
        ("json", "cfg.json", "/json", b"{}"),
        ("xml", "logback.xml", "/xml", XML),
    ];
    for (name, ..) in rows {
        host.publish(&Agent::new(name, "1.0.0"));
    }
    let entry = |(name, file, path, _)| host.want(name, "1.0.0").config(file, store.url(path));
    host.desire(&rows.map(entry));
    host.start();
    for (name, file, _, body) in rows {
        let running = host.wait_running(name, "1.0.0");
        let written = fs::read(running.dir.join(file)).expect("a file");
        assert!(written == body, "{name}");
    }
}

#[test]
fn a_login_page_in_place_of_an_md5_file_is_told_as_such() {
    let store = Faults::serve(|mut x| x.reply("200 OK", &["Content-Type: text/html"], LOGIN));
    let host = one_attempt(|host| host.want("demo", "1.0.0").tarball(store.releases()));
    let error = host.error("demo");
    assert!(error.contains(".md5: it is an HTML page"), "{error}");
}

#[test]
fn a_tarball_with_another_digest_that_was_sent_encoded_is_told_as_such() {
    for (encoding, body) in [
        ("gzip", archive::gzip(&bytes())),
        ("br", b"no gzip".to_vec()),
    ] {
        let header = format!("Content-Encoding: {encoding}");
        let (host, _) = attempt(move |x| x.reply("200 OK", &[&header], &body));
        let error = host.error("demo");
        let hint = format!("(sent with Content-Encoding {encoding})");
        assert!(error.contains(&hint), "{error}");
    }
}

#[test]
fn the_reason_of_a_refusal_is_shown_also_if_it_is_not_utf_8() {
    let (host, _) = attempt(|x| {
        x.send(b"HTTP/1.1 403 Acc\xe8s refus\xe9\r\nContent-Length: 0\r\n\r\n");
    });
    let error = host.error("demo");
    assert!(error.contains("403 Acc?s refus?"), "{error}");
}

#[test]
fn a_configuration_that_trickles_for_more_than_a_minute_is_installed() {
    if std::env::var_os("OPS_TEST_SLOW").is_none() {
        skipped("takes 80 s, set OPS_TEST_SLOW to run it");
        return;
    }
    let (host, store) = configured(|exchange| {
        exchange.head("200 OK", &[], Some(18));
        for _ in 0..18 {
            exchange.send(b"x");
            std::thread::sleep(Duration::from_secs(4));
        }
    });
    host.wait_within(Duration::from_secs(110), "1.0.0 to run", || {
        host.running("demo").len() == 1
    });
    assert_eq!(store.heads().len(), 1);
}

#[test]
fn a_configuration_never_takes_the_place_of_control() {
    let mut host = Host::new();
    host.publish(&Agent::new("demo", "1.0.0"));
    host.meta.put("/config", "{}");
    let config = host.meta.url("/config");
    host.start();
    for name in ["control", "./control", ".//control", "control/"] {
        let entry = host.want("demo", "1.0.0");
        host.desire(&[entry.config(name, config.clone())]);
        host.wait_beats(3);
        let heartbeat = host.last_beat().expect("a heartbeat came").json();
        assert!(
            !heartbeat.field("errors").items().is_empty(),
            "{name:?} is accepted"
        );
        assert!(host.meta.downloads().is_empty(), "{name:?} is fetched");
    }
}

#[test]
fn a_redirect_may_have_a_url_in_its_query() {
    let mut host = Host::new();
    let bytes = crate::network::downloads::tarball(&host);
    let store = crate::network::downloads::store(&bytes, |exchange, bytes| {
        if exchange.path.starts_with("/real?from=http://") {
            exchange.reply("200 OK", &[], bytes);
        } else {
            exchange.reply("302 Found", &["Location: /real?from=http://login/"], b"");
        }
    });
    crate::network::downloads::install(&mut host, &store, &bytes);
}

#[test]
fn a_tarball_that_is_labelled_as_html_is_installed_also_if_it_broke_once() {
    let mut host = Host::new();
    let bytes = crate::network::downloads::tarball(&host);
    let store = crate::network::downloads::store(&bytes, |exchange, bytes| {
        let kind = "Content-Type: text/html; charset=UTF-8";
        if exchange.count == 0 {
            exchange.head("200 OK", &[kind], Some(bytes.len()));
            exchange.send(&bytes[..bytes.len() / 2]);
        } else {
            exchange.reply("200 OK", &[kind], bytes);
        }
    });
    crate::network::downloads::install(&mut host, &store, &bytes);
}

#[test]
fn space_around_an_md5_and_a_mark_before_it_do_no_harm() {
    let mut host = Host::new();
    for name in ["spaces", "mark"] {
        host.publish(&Agent::new(name, "1.0.0"));
    }
    let digest = |host: &Host, name| md5_hex(&Agent::new(name, "1.0.0").tarball(&host.dir));
    let spaced = format!(" {}\n", digest(&host, "spaces"));
    let marked = format!("\u{feff}{}  mark-1.0.0.tar.gz\r\n", digest(&host, "mark"));
    let path = release_path("mark", "1.0.0") + ".md5";
    host.meta.put(&path, marked);
    host.desire(&[
        host.want("spaces", "1.0.0").md5(spaced),
        host.want("mark", "1.0.0"),
    ]);
    host.start();
    host.wait_running("spaces", "1.0.0");
    host.wait_running("mark", "1.0.0");
}

#[test]
fn an_agent_may_not_take_the_updaters_own_var() {
    let mut host = Host::new();
    host.publish(&Agent::new("var", "1.0.0"));
    let entry = host.want("var", "1.0.0").work_dir("".as_ref());
    let spelled = host.want("var", "lock").work_dir(&host.own.join("."));
    host.start();
    for entry in [entry, spelled] {
        host.desire(&[entry]);
        host.wait_beats(3);
        let heartbeat = host.last_beat().expect("a heartbeat came").json();
        let errors = heartbeat.field("errors").items();
        assert!(errors.iter().any(|error| error.text().contains("var")));
    }
    assert!(host.meta.downloads().is_empty());
    assert!(!host.own.join("var/.updater").exists());
}

#[test]
fn directories_of_the_oldest_tar_are_directories() {
    use tar::EntryType;
    let mut host = Host::new();
    let agent = Agent::new("demo", "1.0.0").archive(&host.dir);
    let bytes = agent
        .entry(EntryType::new(0), "d/", "", 0o755, b"")
        .entry(EntryType::new(0), "d/x", "", 0o644, b"within")
        .gzip();
    host.meta.publish("demo", "1.0.0", bytes);
    host.desire(&[host.want("demo", "1.0.0")]);
    host.start();
    let running = host.wait_running("demo", "1.0.0");
    let within = fs::read_to_string(running.dir.join("d/x"));
    assert_eq!(within.expect("a file"), "within");
}

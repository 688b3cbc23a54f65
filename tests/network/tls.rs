//! HTTPS by the host's curl, against nginx with certificates of the tests' own authority. Skipped where openssl, nginx or curl
//! is missing.

use crate::network::downloads::tarball;
use crate::support::agent::Agent;
use crate::support::fault::Faults;
use crate::support::host::{Host, PATIENCE};
use crate::support::json::quote;
use crate::support::md5_hex;
use crate::support::platform::patience;
use crate::support::procs::write_script;
use crate::support::tls::TlsServer;
use std::fs;

/// Starts a site that passes everything on to this address, besides other sites.
fn in_front_of(host: &Host, addr: &str, others: &[(&str, &str)]) -> Option<TlsServer> {
    let pass = format!("location / {{ proxy_pass http://{addr}; }}");
    let mut sites = vec![("good", pass.as_str())];
    sites.extend_from_slice(others);
    TlsServer::start(host, &sites)
}

#[test]
fn heartbeats_digests_tarballs_and_configurations_go_over_tls() {
    let mut host = Host::new();
    let Some(tls) = in_front_of(&host, &host.meta.addr(), &[]) else {
        return;
    };
    host.set("server", &quote(&tls.url("good")));
    host.set("ca_file", &quote(&tls.file("ca.pem")));
    host.publish(&Agent::new("demo", "1.0.0"));
    host.meta.put("/cfg.json", "{}\n");
    let entry = host.want("demo", "1.0.0");
    let entry = entry.tarball(tls.url("good") + "/releases");
    host.desire(&[entry.config("cfg.json", tls.url("good") + "/cfg.json")]);
    host.start();
    let running = host.wait_running_within(patience(PATIENCE), "demo", "1.0.0");
    let config = fs::read(running.dir.join("cfg.json")).expect("it is there");
    assert_eq!(config, b"{}\n");
    let log = tls.log();
    for path in [
        "POST /api/heartbeat",
        ".tar.gz.md5 ",
        ".tar.gz ",
        "GET /cfg.json",
    ] {
        assert!(log.contains(path), "{path}: {log}");
    }
    let ip = host.last_beat().expect("a heartbeat").body;
    assert!(ip.contains("\"ip\":\"127.0.0.1\""), "{ip}");
}

#[test]
fn apply_takes_a_desired_state_over_tls() {
    let mut host = Host::new();
    let Some(tls) = in_front_of(&host, &host.meta.addr(), &[]) else {
        return;
    };
    host.set("ca_file", &quote(&tls.file("ca.pem")));
    host.publish(&Agent::new("demo", "1.0.0"));
    let entry = host
        .want("demo", "1.0.0")
        .tarball(tls.url("good") + "/releases");
    host.meta
        .put("/desired.json", format!("[{}]", entry.json()));
    let output = host.run_with(&["apply", &(tls.url("good") + "/desired.json")]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert_eq!(host.version("demo"), "1.0.0");
}

/// The rows: a site, its directives, and what is reported of it.
const REFUSED: [(&str, &str, &str); 8] = [
    (
        "expired",
        "ssl_certificate DIR/expired.pem; ssl_certificate_key DIR/expired.key;",
        "the certificate of 127.0.0.1 has expired",
    ),
    (
        "elsewhere",
        "ssl_certificate DIR/elsewhere.pem; ssl_certificate_key DIR/elsewhere.key;",
        "the certificate of 127.0.0.1 is for another name",
    ),
    (
        "unknown",
        "ssl_certificate DIR/unknown.pem; ssl_certificate_key DIR/unknown.key;",
        "the certificate of 127.0.0.1 is signed by an unknown CA",
    ),
    (
        "old",
        "ssl_protocols TLSv1; ssl_ciphers ALL:@SECLEVEL=0;",
        "TLS cannot be agreed on",
    ),
    (
        "mutual",
        "ssl_client_certificate DIR/ca.pem; ssl_verify_client on;",
        ": 400 Bad Request",
    ),
    (
        "down",
        "return 302 http://127.0.0.1:1/x;",
        "it redirects from https to http",
    ),
    ("missing", "return 404;", ": 404 Not Found"),
    ("broken", "return 500;", ": 500 Internal Server Error"),
];

#[test]
fn a_server_that_cannot_be_verified_is_refused_and_says_why() {
    let mut host = Host::new();
    let sites = REFUSED.map(|(name, directives, _)| (name, directives));
    let Some(tls) = TlsServer::start(&host, &sites) else {
        return;
    };
    host.set("ca_file", &quote(&tls.file("ca.pem")));
    host.desire(&REFUSED.map(|(name, ..)| host.want(name, "1.0.0").tarball(tls.url(name))));
    host.start();
    for (name, _, expected) in REFUSED {
        let error = host.wait_error(name);
        assert!(error.contains(expected), "{name}: {error}");
        assert!(!host.agent_dir(name).join("1.0.0").exists(), "{name}");
    }
}

#[test]
fn without_ca_file_a_server_of_an_own_authority_is_refused() {
    let mut host = Host::new();
    let Some(tls) = in_front_of(&host, &host.meta.addr(), &[]) else {
        return;
    };
    host.set("server", &quote(&tls.url("good")));
    host.start();
    host.wait_for("the server to be refused", || {
        let expected = "the certificate of 127.0.0.1 is signed by an unknown CA";
        host.log().contains(expected)
    });
    assert_eq!(host.meta.count_beats(), 0);
}

#[test]
fn a_server_gets_the_client_certificate_that_it_wants() {
    let mut host = Host::new();
    let addr = host.meta.addr();
    let mutual = format!(
        "ssl_client_certificate DIR/ca.pem; ssl_verify_client on; location / {{ proxy_pass http://{addr}; }}"
    );
    let Some(tls) = TlsServer::start(&host, &[("mutual", &mutual)]) else {
        return;
    };
    host.set("server", &quote(&tls.url("mutual")));
    host.set("ca_file", &quote(&tls.file("ca.pem")));
    host.set("client_cert", &quote(&tls.file("client.pem")));
    host.set("client_key", &quote(&tls.file("client.key")));
    host.start();
    host.wait_beats(1);
    // A key of another certificate is no reason to go on without one.
    let before = host.meta.count_beats();
    host.set("client_key", &quote(&tls.file("good.key")));
    host.signal_daemon(libc::SIGHUP);
    host.wait_for("the key to be refused", || {
        let expected = "client_cert and client_key cannot be used";
        host.log().contains(expected)
    });
    assert!(host.meta.count_beats() <= before + 2);
}

/// Installs demo from this store behind TLS. Returns false if there can be no TLS here.
fn installs_over_tls(host: &mut Host, store: &Faults, digest: String) -> bool {
    let Some(tls) = in_front_of(host, &store.addr(), &[]) else {
        return false;
    };
    host.set("ca_file", &quote(&tls.file("ca.pem")));
    let entry = host.want("demo", "1.0.0").tarball(tls.url("good"));
    host.desire(&[entry.md5(digest)]);
    host.start();
    host.wait_running_within(patience(PATIENCE), "demo", "1.0.0");
    true
}

#[test]
fn a_download_over_tls_that_is_cut_is_resumed() {
    let mut host = Host::new();
    let bytes = tarball(&host);
    let digest = md5_hex(&bytes);
    let store = Faults::serve(move |mut exchange| match exchange.count {
        0 => exchange.begin(&bytes, bytes.len() / 2),
        _ => exchange.serve(&bytes),
    });
    if !installs_over_tls(&mut host, &store, digest) {
        return;
    }
    let heads = store.heads();
    assert!(heads.last().expect("a request").contains("Range: bytes="));
}

#[test]
fn a_redirect_over_tls_is_followed_hop_by_hop() {
    let mut host = Host::new();
    let bytes = tarball(&host);
    let digest = md5_hex(&bytes);
    let store = Faults::serve(move |mut exchange| {
        if exchange.path.starts_with("/moved") {
            return exchange.serve(&bytes);
        }
        exchange.reply("302 Found", &["Location: /moved/x.tar.gz"], b"");
    });
    installs_over_tls(&mut host, &store, digest);
}

/// What is not a secret is not in the arguments either: they are the same for every request.
#[test]
fn curl_gets_nothing_by_its_arguments_and_its_environment() {
    let mut host = Host::new();
    let script = host.dir.join("curl");
    let seen = host.dir.join("seen");
    let text = format!(
        "#!/bin/sh\n{{ echo \"$# $*\"; export -p; }} >>{}\nexec /usr/bin/curl \"$@\"\n",
        seen.display()
    );
    write_script(&script, &text);
    host.set("transport", &quote("curl"));
    host.set("curl", &quote(&script.display().to_string()));
    host.env("https_proxy", "http://canary:1");
    host.env("CURL_HOME", "/canary");
    host.start();
    host.wait_beats(1);
    let seen = fs::read_to_string(seen).expect("it ran");
    assert!(
        seen.starts_with("4 -q --disallow-username-in-url --config -\n"),
        "{seen}"
    );
    assert!(
        !seen.contains("canary") && !seen.contains("heartbeat"),
        "{seen}"
    );
}

#[test]
fn a_host_without_curl_says_so_once_and_check_fails() {
    let mut host = Host::new();
    host.set("server", &quote("https://127.0.0.1:1"));
    host.set("curl", &quote("/no/curl"));
    let expected = "cannot reach https://127.0.0.1:1/api/heartbeat: curl is not installed; install it or set \"curl\"";
    for command in ["check", "doctor"] {
        let output = host.run(command);
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        assert!(text.contains(expected), "{command}: {text}");
        assert!(!output.status.success(), "{command}");
    }
    host.start();
    host.wait_for("the warning", || host.log().contains(expected));
    assert!(host.daemon_is_well());
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let mut host = Host::new();
    host.set("server", &quote("https://127.0.0.1:1"));
    host.set("ca_file", &quote("/no/ca.pem"));
    let output = host.run("check");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    if crate::support::tls::has(&["curl"]) {
        assert_eq!(output.status.code(), Some(2));
        assert!(text.contains("cannot read /no/ca.pem: No such"), "{text}");
    }
}

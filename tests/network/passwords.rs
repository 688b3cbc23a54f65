//! A URL with user and password is refused wherever it comes from, and the password reaches no output and no name server.

use crate::support::agent::Agent;
use crate::support::fault::Faults;
use crate::support::host::Host;
use crate::support::http::{free, try_get};
use crate::support::json::{Json as _, quote};
use crate::support::md5_hex;
use crate::support::names::{NameServer, can_mount, reply, with_names};
use crate::support::watch::tree;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const CANARY: &str = "canary-in-a-coal-mine";

fn holds_canary(bytes: &[u8]) -> bool {
    bytes
        .windows(CANARY.len())
        .any(|window| window == CANARY.as_bytes())
}

/// Checks every file of the sandbox but the configuration, every answer of the endpoint, every command and every heartbeat.
#[track_caller]
fn assert_unknown(host: &Host, addr: &str) {
    let mut outputs: Vec<(String, Vec<u8>)> = Vec::new();
    for path in tree(&host.dir).into_keys() {
        if path != host.config_file() && path.is_file() {
            outputs.push((
                path.display().to_string(),
                fs::read(&path).unwrap_or_default(),
            ));
        }
    }
    for path in ["/", "/status", "/metrics", "/config/reload", "/version"] {
        let reply = try_get(addr, path).map(|reply| reply.body);
        outputs.push((path.to_owned(), reply.unwrap_or_default().into_bytes()));
    }
    for command in ["status", "plan", "check", "doctor"] {
        let output = host.run(command);
        outputs.push((command.to_owned(), [output.stdout, output.stderr].concat()));
    }
    let json = host.run_with(&["status", "--json"]);
    outputs.push(("status --json".to_owned(), json.stdout));
    for seen in host.meta.seen() {
        outputs.push((
            format!("{} {}", seen.method, seen.path),
            seen.body.into_bytes(),
        ));
    }
    for (what, bytes) in outputs {
        let text = String::from_utf8_lossy(&bytes);
        assert!(!holds_canary(&bytes), "{what}: {text}");
    }
}

#[test]
fn a_password_in_a_url_of_the_server_is_known_to_nobody() {
    if !can_mount() {
        return;
    }
    let is_asked = Arc::new(AtomicBool::new(false));
    let asked = is_asked.clone();
    let names = NameServer::serve(move |query| {
        asked.fetch_or(holds_canary(query), Ordering::Relaxed);
        Some(reply(query, 3, b""))
    });
    let mut host = Host::new();
    let addr = free("127.0.0.1");
    host.listen_at(&addr);
    host.set("log_level", &quote("debug"));
    for agent in ["demo", "config"] {
        host.publish(&Agent::new(agent, "1.0.0"));
    }
    host.desire(&[host.want("demo", "1.0.0")]);
    let command = with_names(&host, "", names.addr);
    host.start_as(command);
    host.wait_running("demo", "1.0.0");
    let secret = |place: &str| format!("http://user:{CANARY}@{place}");
    let location = format!("Location: {}", secret("store.test/x"));
    let store = Faults::serve(move |mut x| x.reply("302 Found", &[&location], b""));
    let digest = md5_hex(b"");
    let want = |name| host.want(name, "1.0.1").md5(&digest);
    host.desire(&[
        want("demo").tarball(secret("store.test/releases")),
        want("slash").tarball(format!("http://user:{CANARY}/{CANARY}@store.test/")),
        want("no-scheme").tarball(format!("{CANARY}@store.test/")),
        want("other-scheme").tarball(format!("ftp://{CANARY}@store.test/")),
        want("secure").tarball(format!("https://{CANARY}@store.test/")),
        want("sum").md5(secret("store.test/sums")),
        want("remote").config("cfg.json", secret("store.test/cfg.json")),
        want("redirected").tarball(store.releases()),
        host.want("config", "1.0.0")
            .config("cfg.json", store.url("/cfg.json")),
        host.want("md5-file", "1.0.0").tarball(store.releases()),
    ]);
    let wanted = [
        "demo: tarball is a URL with user and password",
        "slash: tarball ",
        "no-scheme: tarball ",
        "other-scheme: tarball is a URL with user and password",
        "secure: tarball is a URL with user and password",
        "sum: md5 is a URL with user and password",
        "remote: configRemoteUrl is a URL with user and password",
    ];
    host.wait_for("all refusals to be reported", || {
        let heartbeat = host.last_beat().expect("a heartbeat came").json();
        let errors = heartbeat.field("errors").items();
        let is_told = |wanted: &&str| errors.iter().any(|error| error.text().contains(*wanted));
        wanted.iter().all(is_told)
    });
    for name in ["redirected", "config", "md5-file"] {
        let error = host.wait_error(name);
        assert!(
            error.contains("it redirects to a URL with user and password"),
            "{error}"
        );
    }
    assert_eq!(host.version("demo"), "1.0.0");
    assert_unknown(&host, &addr);
    assert!(
        !is_asked.load(Ordering::Relaxed),
        "the name server was asked"
    );
}

#[test]
fn a_server_with_a_password_is_a_mistake_in_cfg_json_that_is_told_without_it() {
    let (mut host, addr) = Host::answering();
    for server in [
        format!("http://user:{CANARY}@127.0.0.1:1"),
        format!("user:{CANARY}@127.0.0.1:1/api"),
        format!("https://{CANARY}@127.0.0.1"),
        format!("http://user:{CANARY}/{CANARY}@127.0.0.1"),
    ] {
        host.set("server", &quote(&server));
        host.signal_daemon(libc::SIGHUP);
        for command in [&["check"][..], &["once"], &["plan"], &[]] {
            let output = host.run_with(command);
            assert_eq!(output.status.code(), Some(2), "{command:?}");
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(error.contains("cfg.json: server "), "{error}");
            assert!(!error.contains(CANARY), "{error}");
            let is_plain = error.contains("a URL with user and password, which is not supported");
            assert!(is_plain || server.matches(CANARY).count() == 2, "{error}");
        }
        assert_unknown(&host, &addr);
    }
}

#[test]
fn apply_takes_no_url_with_a_password() {
    for (password, wanted) in [
        (CANARY.to_owned(), "it is a URL with user and password"),
        (format!("x\"{CANARY}"), "it is a URL with user and password"),
        (format!("{CANARY}/{CANARY}"), "it is no http URL"),
        (format!("{CANARY}?{CANARY}"), "it is no http URL"),
    ] {
        let host = Host::new();
        let url = format!("http://user:{password}@127.0.0.1:1/desired.json");
        let output = host.run_with(&["apply", &url]);
        assert_eq!(output.status.code(), Some(1));
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        assert!(text.contains(wanted), "{text}");
        assert!(!text.contains(CANARY), "{text}");
        let files = tree(&host.dir).into_keys().filter(|path| path.is_file());
        for path in files {
            let bytes = fs::read(&path).unwrap_or_default();
            assert!(!holds_canary(&bytes), "{}", path.display());
        }
    }
}

//! Tests unusual answers of stores and servers of configurations, and the messages that the operator reads about them.

use crate::support::agent::Agent;
use crate::support::fault::{Exchange, Faults};
use crate::support::host::Host;
use crate::support::json::Json as _;
use crate::support::platform::skipped;
use crate::support::wire::Desired;
use crate::support::{md5_hex, release_path};
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

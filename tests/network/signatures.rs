//! Tests releases and configurations that must be signed, with signatures of the real minisign. Whatever is wrong with one, the
//! version that runs is not touched.

use crate::support::agent::Agent;
use crate::support::archive::noise;
use crate::support::fault::Faults;
use crate::support::host::Host;
use crate::support::json::{self, Json as _};
use crate::support::minisign::{Key, list, words};
use crate::support::watch::names;
use crate::support::{md5_hex, platform, prepared, release_path};
use std::fs;

/// Returns a host whose cfg.json has one key, and the key.
pub fn host_with_key() -> Option<(Host, Key)> {
    let mut host = Host::new();
    let key = Key::new(&host, "one")?;
    host.set("public_keys", &list(&[&key]));
    Some((host, key))
}

/// Puts a signature beside a tarball of the sandbox's store.
pub fn put_signature(host: &Host, name: &str, version: &str, signature: impl Into<Vec<u8>>) {
    let path = release_path(name, version) + ".minisig";
    host.meta.put(&path, signature);
}

/// Publishes a version with the signature of this key.
pub fn publish(host: &Host, key: &Key, agent: &Agent) {
    host.publish(agent);
    let comment = words(&agent.version).replace("demo", &agent.name);
    let signature = key.sign(&agent.tarball(&host.dir), &comment);
    put_signature(host, &agent.name, &agent.version, signature);
}

/// Waits until a heartbeat reports an error of the agent that contains these words.
#[track_caller]
pub fn wait_error(host: &Host, name: &str, words: &str) {
    host.wait_for(&format!("an error of {name} with {words:?}"), || {
        host.error(name).contains(words)
    });
}

/// Returns the signer in the receipt of an installed version.
pub fn signer(host: &Host, name: &str, version: &str) -> Option<String> {
    let file = host.agent_dir(name).join(version).join(".receipt.json");
    let receipt = json::parse(&fs::read_to_string(file).expect("a receipt"));
    let signer = receipt.field("signer").text().to_owned();
    (!signer.is_empty()).then_some(signer)
}

#[test]
fn a_signed_release_with_a_signed_configuration_is_installed_and_its_receipt_names_the_key() {
    let Some((mut host, key)) = host_with_key() else {
        return;
    };
    publish(&host, &key, &Agent::new("demo", "1.0.0"));
    let config = b"{\"port\": 1}";
    let signature = key.sign(config, "name=demo config=conf/cfg.json");
    // An editor of Windows has saved it.
    let signature = signature.replace('\n', "\r\n");
    // A server of configurations may choose by the query, so it stays at the end.
    host.meta.put("/conf/demo.minisig?host=x", signature);
    host.meta.put("/conf/demo?host=x", config.as_slice());
    let url = host.meta.url("/conf/demo?host=x");
    host.desire(&[host.want("demo", "1.0.0").config("conf/cfg.json", url)]);
    host.start();
    let running = host.wait_running("demo", "1.0.0");
    let written = fs::read(running.dir.join("conf/cfg.json")).expect("a configuration");
    assert_eq!(written, config);
    assert_eq!(signer(&host, "demo", "1.0.0"), Some(key.public));
}

#[test]
fn without_keys_no_signature_is_asked_for() {
    let host = Host::with_installed_demo("1.0.0");
    let requests = host.meta.downloads();
    assert!(requests.iter().all(|seen| !seen.path.contains("minisig")));
    assert_eq!(signer(&host, "demo", "1.0.0"), None);
}

/// What a row of signatures is made of.
struct Maker<'a> {
    key: &'a Key,
    stranger: &'a Key,
    /// The tarball of the version that is offered.
    tarball: &'a [u8],
    /// What its trusted comment must be.
    words: &'a str,
}

impl Maker<'_> {
    fn good(&self) -> String {
        self.signed_for(self.words)
    }

    /// Signs the tarball for what these words say.
    fn signed_for(&self, words: &str) -> String {
        self.key.sign(self.tarball, words)
    }
}

/// The signature of a row. None: there is none.
type Make = fn(&Maker) -> Option<String>;

/// The rows: the name of an agent says what is wrong with the signature of its new version, and then how the error begins
/// after the URL.
const BAD: [(&str, &str, Make); 16] = [
    (
        "missing",
        "404 Not Found (public_keys want it signed)",
        |_| None,
    ),
    ("empty", "its .minisig is no signature of minisign", |_| {
        Some(String::new())
    }),
    ("page", "it is an HTML page", |_| {
        Some("<html><body>Please log in</body></html>".to_owned())
    }),
    (
        "garbled",
        "its .minisig is no signature of minisign",
        |maker| Some(maker.good().replace("RU", "R!")),
    ),
    ("cut", "its .minisig is no signature of minisign", |maker| {
        let good = maker.good();
        Some(good[..good.len() - 20].to_owned())
    }),
    ("large", "it is larger than", |maker| {
        Some(maker.good() + &"more\n".repeat(200_000))
    }),
    (
        "stranger",
        "it is signed by no key of public_keys",
        |maker| Some(maker.stranger.sign(maker.tarball, maker.words)),
    ),
    ("legacy", "its signature has the legacy form", |maker| {
        let options = ["-l", "-t", maker.words];
        Some(maker.key.sign_with(&options, maker.tarball))
    }),
    ("other-bytes", "its signature does not match", |maker| {
        Some(maker.key.sign(b"other bytes", maker.words))
    }),
    ("edited", "its signature does not match", |maker| {
        let comment = maker.words.replace("1.0.1", "1.0.0");
        let good = maker.key.sign(maker.tarball, &comment);
        Some(good.replace("version=1.0.0", "version=1.0.1"))
    }),
    (
        "other-version",
        "its signature is for version=1.0.0, wanted version=1.0.1",
        |maker| Some(maker.signed_for(&maker.words.replace("1.0.1", "1.0.0"))),
    ),
    (
        "two-versions",
        "its signature is for version=1.0.0, wanted version=1.0.1",
        |maker| Some(maker.signed_for(&format!("{} version=1.0.0", maker.words))),
    ),
    (
        "other-name",
        "its signature is for name=demo, wanted name=other-name",
        |maker| Some(maker.signed_for(&maker.words.replace("name=other-name", "name=demo"))),
    ),
    (
        "other-arch",
        "its signature is for arch=plan9_mips, wanted arch=",
        |maker| Some(maker.signed_for(&maker.words.replace(&platform::arch(), "plan9_mips"))),
    ),
    (
        "for-a-config",
        "its trusted comment does not have version=1.0.1",
        |maker| Some(maker.signed_for(&maker.words.replace("version=1.0.1", "config=cfg.json"))),
    ),
    (
        "wordless",
        "its trusted comment does not have name=wordless",
        |maker| Some(maker.key.sign_with(&[], maker.tarball)),
    ),
];

#[test]
fn running_agents_are_not_touched_by_an_upgrade_whose_signature_is_missing_or_wrong() {
    let Some((mut host, key)) = host_with_key() else {
        return;
    };
    let stranger = Key::new(&host, "stranger").expect("minisign is there");
    let old = BAD.map(|(name, _, _)| Agent::new(name, "1.0.0"));
    prepared::settle(&host, &old);
    host.start();
    let mut wanted = Vec::new();
    for (name, _, make) in BAD {
        let new = Agent::new(name, "1.0.1");
        host.publish(&new);
        let maker = Maker {
            key: &key,
            stranger: &stranger,
            tarball: &new.tarball(&host.dir),
            words: &words("1.0.1").replace("demo", name),
        };
        if let Some(signature) = make(&maker) {
            put_signature(&host, name, "1.0.1", signature);
        }
        wanted.push(host.want(name, "1.0.1"));
    }
    host.desire(&wanted);
    for (name, cause, _) in BAD {
        wait_error(&host, name, cause);
        assert!(host.log().contains(&format!("{name}: cannot ")));
        let begin = [
            format!("-1.0.1.tar.gz: {cause}"),
            format!("-1.0.1.tar.gz.minisig: {cause}"),
        ];
        let error = host.error(name);
        assert!(begin.iter().any(|begin| error.contains(begin)), "{error}");
        assert_eq!(host.calls(name), ["1.0.0 start"], "{name}");
        assert_eq!(host.reported(name).0, "1.0.0");
        assert_eq!(
            names(&host.agent_dir(name)),
            [".updater", ".version", "1.0.0"]
        );
    }
    // The store is repaired for one that was refused before its download, and for one after it.
    for name in ["missing", "other-bytes"] {
        publish(&host, &key, &Agent::new(name, "1.0.1"));
        host.wait_running(name, "1.0.1");
        assert_eq!(signer(&host, name, "1.0.1"), Some(key.public.clone()));
    }
}

/// The attack that an md5 does not stop: whoever can replace the tarball can replace its digest too.
#[test]
fn a_tarball_that_was_replaced_together_with_its_md5_is_refused_and_nothing_of_it_stays() {
    let Some((mut host, key)) = host_with_key() else {
        return;
    };
    prepared::settle(&host, &[Agent::new("demo", "1.0.0")]);
    host.start();
    let good = Agent::new("demo", "1.0.1");
    publish(&host, &key, &good);
    let mark = host.dir.join("evil-ran");
    let shell = format!(": >{}", mark.display());
    let evil = good.clone().on_start(&shell).on_status(&shell);
    host.publish(&evil);
    host.desire(&[host.want("demo", "1.0.1")]);
    wait_error(&host, "demo", "1.0.1.tar.gz: its signature does not match");
    let mut attempts = Vec::new();
    host.wait_for("the next attempt", || {
        attempts = host.meta.downloads();
        attempts.retain(|seen| seen.path == release_path("demo", "1.0.1"));
        attempts.len() > 1
    });
    assert!(attempts.iter().all(|seen| seen.header("Range").is_none()));
    assert_eq!(host.calls("demo"), ["1.0.0 start"]);
    host.publish(&good);
    host.wait_running("demo", "1.0.1");
    assert!(!mark.exists(), "a script of the replaced tarball ran");
    let left = names(&host.agent_dir("demo").join(".updater"));
    assert!(!left.iter().any(|name| name.contains("1.0.1.")), "{left:?}");
}

/// The rows: the name of an agent says what is wrong with the signature of its configuration, the trusted comment and the bytes
/// that are signed, and what the error says after the URL.
const BAD_CONFIGS: [(&str, &str, &str, &str); 6] = [
    ("missing", "", "", "404 Not Found"),
    (
        "changed",
        "name=changed config=cfg.json",
        "{\"a\": 1}",
        "its signature does not match",
    ),
    (
        "other-file",
        "name=other-file config=other.json",
        "{}",
        "its signature is for config=other.json, wanted config=cfg.json",
    ),
    (
        "other-agent",
        "name=demo config=cfg.json",
        "{}",
        "its signature is for name=demo, wanted name=other-agent",
    ),
    (
        "for-a-tarball",
        "name=for-a-tarball version=1.0.0 arch=linux_amd64",
        "{}",
        "its trusted comment does not have config=cfg.json",
    ),
    ("good", "name=good config=cfg.json", "{}", ""),
];

#[test]
fn a_configuration_that_is_not_signed_for_its_agent_and_its_file_is_not_installed() {
    let Some((mut host, key)) = host_with_key() else {
        return;
    };
    let mut wanted = Vec::new();
    for (name, comment, signed, _) in BAD_CONFIGS {
        publish(&host, &key, &Agent::new(name, "1.0.0"));
        let path = format!("/conf/{name}");
        host.meta.put(&path, "{}");
        if !comment.is_empty() {
            let signature = key.sign(signed.as_bytes(), comment);
            host.meta.put(&format!("{path}.minisig"), signature);
        }
        let entry = host.want(name, "1.0.0");
        wanted.push(entry.config("cfg.json", host.meta.url(&path)));
    }
    host.desire(&wanted);
    host.start();
    host.wait_running("good", "1.0.0");
    for (name, _, _, cause) in BAD_CONFIGS {
        if !cause.is_empty() {
            wait_error(&host, name, &format!(": {cause}"));
            assert_eq!(host.calls(name), [""; 0]);
            assert_eq!(names(&host.agent_dir(name)), [".updater"]);
        }
    }
}

#[test]
fn a_signature_without_end_ends_one_attempt_and_nothing_else() {
    let Some((mut host, _)) = host_with_key() else {
        return;
    };
    let store = Faults::serve(|mut exchange| {
        exchange.head("200 OK", &[], None);
        while exchange.send_slowly(&[b'x'; 4096], 1 << 20) {}
    });
    let entry = host.want("demo", "1.0.0").tarball(store.releases());
    host.desire(&[entry.md5(md5_hex(b""))]);
    host.start();
    wait_error(&host, "demo", "minisig: it is larger than");
}

#[test]
fn a_download_that_broke_is_resumed_and_then_verified_as_a_whole() {
    let Some((mut host, key)) = host_with_key() else {
        return;
    };
    let agent = Agent::new("demo", "1.0.0").file("data", noise(200_000, 3));
    let bytes = agent.archive(&host.dir).stored();
    let signature = key.sign(&bytes, &words("1.0.0"));
    let md5 = md5_hex(&bytes);
    let store = Faults::serve(move |mut exchange| {
        if exchange.path.ends_with(".minisig") {
            exchange.reply("200 OK", &[], signature.as_bytes());
        } else if exchange.range().is_none() {
            exchange.begin(&bytes, 120_000);
        } else {
            exchange.serve(&bytes);
        }
    });
    let entry = host.want("demo", "1.0.0").tarball(store.releases());
    host.desire(&[entry.md5(md5)]);
    host.start();
    host.wait_running("demo", "1.0.0");
    let heads = store.heads();
    assert_eq!(
        heads
            .iter()
            .filter(|head| head.contains("bytes=120000-"))
            .count(),
        1
    );
    assert_eq!(signer(&host, "demo", "1.0.0"), Some(key.public));
}

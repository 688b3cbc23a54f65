//! Tests which keys are in force: those of cfg.json, those of the policy, and what lies on disk from before.

use crate::contract::policy::set_policy;
use crate::network::signatures::{host_with_key, publish, put_signature, signer, wait_error};
use crate::support::agent::Agent;
use crate::support::host::Host;
use crate::support::json::quote;
use crate::support::minisign::{Key, list, words};
use crate::support::prepared;
use crate::support::procs;
use crate::support::users::can_make_users;
use std::fs;
use std::time::Duration;

const BY_NO_KEY: &str = "it is signed by no key of public_keys";
const NOT_SIGNED: &str = "minisig: 404 Not Found (public_keys want it signed)";

/// Has the daemon read its settings again.
fn reload(host: &Host) {
    host.wait_for("the daemon to be ready", || {
        host.run("pid").status.success()
    });
    host.signal_daemon(libc::SIGHUP);
}

#[test]
fn keys_are_changed_in_steps_and_a_removed_key_counts_no_more() {
    let Some((mut host, old)) = host_with_key() else {
        return;
    };
    let new = Key::new(&host, "two").expect("minisign is there");
    publish(&host, &old, &Agent::new("demo", "1.0.0"));
    host.desire(&[host.want("demo", "1.0.0")]);
    host.start();
    host.wait_running("demo", "1.0.0");
    publish(&host, &new, &Agent::new("demo", "1.0.1"));
    host.desire(&[host.want("demo", "1.0.1")]);
    wait_error(&host, "demo", BY_NO_KEY);
    host.set("public_keys", &list(&[&old, &new]));
    reload(&host);
    host.wait_running("demo", "1.0.1");
    assert_eq!(signer(&host, "demo", "1.0.1"), Some(new.public.clone()));
    host.set("public_keys", &list(&[&new]));
    reload(&host);
    publish(&host, &old, &Agent::new("demo", "1.0.2"));
    host.desire(&[host.want("demo", "1.0.2")]);
    wait_error(&host, "demo", BY_NO_KEY);
    assert_eq!(
        host.calls("demo").last().map(String::as_str),
        Some("1.0.1 start")
    );
}

#[test]
fn when_the_keys_are_removed_nothing_must_be_signed_any_more() {
    let Some((mut host, _)) = host_with_key() else {
        return;
    };
    host.publish(&Agent::new("demo", "1.0.0"));
    host.desire(&[host.want("demo", "1.0.0")]);
    host.start();
    wait_error(&host, "demo", NOT_SIGNED);
    host.unset("public_keys");
    reload(&host);
    host.wait_running("demo", "1.0.0");
    assert_eq!(signer(&host, "demo", "1.0.0"), None);
}

#[test]
fn what_was_installed_before_there_were_keys_runs_on_and_is_gone_back_to() {
    let Some((mut host, key)) = host_with_key() else {
        return;
    };
    prepared::settle(&host, &[Agent::new("demo", "1.0.0")]);
    host.start();
    let first = host.wait_running("demo", "1.0.0");
    procs::signal(first.pid, libc::SIGKILL);
    host.wait_for("the agent to be started again", || {
        host.running("demo").iter().any(|now| now.pid != first.pid)
    });
    publish(&host, &key, &Agent::new("demo", "1.0.1").on_start("exit 1"));
    host.desire(&[host.want("demo", "1.0.1")]);
    host.wait_rolled_back(Duration::from_secs(60));
}

#[test]
fn the_keys_of_the_policy_count_alone() {
    if !can_make_users() {
        return;
    }
    let Some((mut host, of_config)) = host_with_key() else {
        return;
    };
    let of_policy = Key::new(&host, "policy").expect("minisign is there");
    let policy = format!("{{\"public_keys\": {}}}", list(&[&of_policy]));
    set_policy(&host, &policy);
    for (name, key) in [("wrong", &of_config), ("right", &of_policy)] {
        publish(&host, key, &Agent::new(name, "1.0.0"));
    }
    host.publish(&Agent::new("none", "1.0.0"));
    let wanted = ["wrong", "right", "none"].map(|name| host.want(name, "1.0.0"));
    host.desire(&wanted);
    host.start();
    host.wait_running("right", "1.0.0");
    wait_error(&host, "wrong", BY_NO_KEY);
    wait_error(&host, "none", NOT_SIGNED);
    // The server's operator may change cfg.json, but not what root wants.
    host.unset("public_keys");
    reload(&host);
    host.desire(&[host.want("late", "1.0.0")]);
    host.publish(&Agent::new("late", "1.0.0"));
    wait_error(&host, "late", NOT_SIGNED);
    set_policy(&host, "{\"public_keys\": []}");
    host.publish(&Agent::new("never", "1.0.0"));
    let signature = of_policy.sign(b"", &words("1.0.0").replace("demo", "never"));
    put_signature(&host, "never", "1.0.0", signature);
    host.desire(&[host.want("never", "1.0.0")]);
    wait_error(&host, "never", BY_NO_KEY);
}

#[test]
fn no_command_installs_what_is_not_signed() {
    let Some((mut host, key)) = host_with_key() else {
        return;
    };
    prepared::settle(&host, &[Agent::new("demo", "1.0.0")]);
    host.publish(&Agent::new("demo", "1.0.1"));
    let entry = host.want("demo", "1.0.1");
    let input = host.dir.join("input.json");
    fs::write(&input, format!("{{\"desiredAgents\": [{}]}}", entry.json())).expect("a file");
    let apply = host.run_with(&["apply", &input.display().to_string()]);
    assert_eq!(apply.status.code(), Some(1), "{apply:?}");
    host.desire(&[entry]);
    assert_eq!(host.run("once").status.code(), Some(1));
    assert!(
        host.error("demo").contains(NOT_SIGNED),
        "{}",
        host.error("demo")
    );
    host.desire(&[host.want("demo", "1.0.0")]);
    host.start();
    host.wait_running("demo", "1.0.0");
    assert!(host.run_with(&["pin", "demo", "1.0.1"]).status.success());
    wait_error(&host, "demo", NOT_SIGNED);
    assert_eq!(host.calls("demo"), ["1.0.0 start"]);
    publish(&host, &key, &Agent::new("demo", "1.0.1"));
    host.wait_running("demo", "1.0.1");
}

#[test]
fn check_and_doctor_tell_how_many_keys_are_in_force_and_where_they_stand() {
    let key = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
    let mut host = Host::new();
    let assert_printed = |host: &Host, words: &str| {
        for command in ["check", "doctor"] {
            let text = host.run(command).stdout;
            let text = String::from_utf8_lossy(&text).into_owned();
            assert!(text.lines().any(|line| line.ends_with(words)), "{text}");
        }
    };
    let none = "releases are not verified by signature: there are no public_keys";
    assert_printed(&host, none);
    host.set("public_keys", &format!("[{}, {}]", quote(key), quote(key)));
    let words = "every release must be signed by a key of";
    assert_printed(&host, &format!("{words} cfg.json, which has 2"));
    if can_make_users() {
        set_policy(&host, &format!("{{\"public_keys\": [{}]}}", quote(key)));
        assert_printed(&host, &format!("{words} policy.json, which has 1"));
    }
    host.set("public_keys", "[\"RWRTY0IyMaybeSecret\"]");
    let check = host.run("check");
    let error = String::from_utf8_lossy(&check.stderr).into_owned();
    assert_eq!(check.status.code(), Some(2));
    assert_eq!(error.lines().count(), 1, "{error}");
    let expected = "cfg.json: public_keys is a list with \"RWRTY0IyMayb\", wanted a list of public keys of minisign";
    assert!(error.contains(expected), "{error}");
}

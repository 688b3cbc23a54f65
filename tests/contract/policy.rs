//! Tests the local policy: what root allows the server to ask for. Only root can write one, so each test needs root.

use crate::support::agent::Agent;
use crate::support::fault::Faults;
use crate::support::host::Host;
use crate::support::json::{Json as _, quote};
use crate::support::users::{can_make_users, mode};
use crate::support::watch::names;
use crate::support::wire::Desired;
use std::fs;

/// Writes the policy of this host's updater.
pub fn set_policy(host: &Host, text: &str) {
    let file = host.own.join("policy.json");
    fs::write(&file, text).expect("a policy");
    mode(&file, 0o644);
}

/// Returns the errors of the last heartbeat.
fn errors(host: &Host) -> Vec<String> {
    let heartbeat = host.last_beat().map(|heartbeat| heartbeat.json());
    let errors = heartbeat.map(|heartbeat| {
        let errors = heartbeat.field("errors").items().iter();
        errors.map(|error| error.text().to_owned()).collect()
    });
    errors.unwrap_or_default()
}

fn wait_refused(host: &Host, error: &str) {
    host.wait_for(error, || errors(host).iter().any(|found| found == error));
}

/// Waits until demo 1.0.0 runs, and a heartbeat reports that and why its new entry is refused.
fn wait_running_refused(host: &Host) {
    host.wait_for("demo to run beside its refused entry", || {
        let (version, status) = host.reported("demo");
        version == "1.0.0"
            && status.starts_with("started; refused: ")
            && host.running("demo").len() == 1
    });
}

/// Starts a host with this policy, which is to follow the entry `good` and to refuse the entry `bad` for this reason.
fn follows_and_refuses(policy: &str, good: Desired, bad: Desired, reason: &str, host: &mut Host) {
    set_policy(host, policy);
    let before = names(&host.dir);
    host.publish(&Agent::new("good", "1.0.0"));
    host.publish(&Agent::new("bad", "1.0.0"));
    host.desire(&[bad, good]);
    host.start();
    host.wait_running("good", "1.0.0");
    wait_refused(host, &format!("bad: {reason}"));
    assert!(!names(&host.work).contains(&"bad".to_owned()));
    let new = names(&host.dir);
    let mut new = new.iter().filter(|name| !before.contains(name));
    assert!(
        !new.any(|name| name.contains("bad")),
        "{:?}",
        names(&host.dir)
    );
}

#[test]
fn an_agent_outside_of_work_dirs_is_refused_and_one_inside_runs() {
    if !can_make_users() {
        return;
    }
    let mut host = Host::new();
    let work = host.work.display().to_string();
    let policy = format!(r#"{{"work_dirs": [{}]}}"#, quote(&work));
    let (good, bad) = (host.want("good", "1.0.0"), host.want("bad", "1.0.0"));
    let bad = bad.work_dir(&host.dir.join("work2"));
    let reason = format!("workDir {work}2 is not below one of work_dirs in policy.json");
    follows_and_refuses(&policy, good, bad, &reason, &mut host);
}

#[test]
fn an_agent_of_a_user_outside_of_run_users_is_refused() {
    if !can_make_users() {
        return;
    }
    let mut host = Host::new();
    let (good, bad) = (host.want("good", "1.0.0"), host.want("bad", "1.0.0"));
    let bad = bad.run_user("daemon");
    let reason = "runUser daemon is not one of run_users in policy.json";
    follows_and_refuses(r#"{"run_users": ["root"]}"#, good, bad, reason, &mut host);
}

#[test]
fn the_updaters_own_user_is_no_exception_to_run_users() {
    if !can_make_users() {
        return;
    }
    let mut host = Host::new();
    set_policy(&host, r#"{"run_users": ["nobody"]}"#);
    host.publish(&Agent::new("demo", "1.0.0"));
    host.desire(&[host.want("demo", "1.0.0")]);
    host.start();
    wait_refused(
        &host,
        "demo: runUser root is not one of run_users in policy.json",
    );
    assert_eq!(names(&host.work), [""; 0]);
}

#[test]
fn a_tarball_digest_or_configuration_from_outside_of_stores_is_refused() {
    if !can_make_users() {
        return;
    }
    let mut host = Host::new();
    let store = host.meta.releases();
    let policy = format!(r#"{{"stores": [{}]}}"#, quote(&store));
    let evil = format!("{store}.evil");
    let other = host.meta.url("/elsewhere");
    let (good, bad) = (host.want("good", "1.0.0"), host.want("bad", "1.0.0"));
    set_policy(&host, &policy);
    host.publish(&Agent::new("good", "1.0.0"));
    let rename = |name: &str| Desired {
        name: name.to_owned(),
        ..bad.clone()
    };
    host.desire(&[
        good,
        rename("tarball").tarball(&evil),
        rename("md5").md5(&other),
        rename("config").config("cfg.json", &other),
    ]);
    host.start();
    host.wait_running("good", "1.0.0");
    for (name, field, url) in [
        ("tarball", "tarball", &evil),
        ("md5", "md5", &other),
        ("config", "configRemoteUrl", &other),
    ] {
        let reason = format!("{field} {url} is not below one of stores in policy.json");
        wait_refused(&host, &format!("{name}: {reason}"));
    }
    assert_eq!(names(&host.work), ["good"]);
}

#[test]
fn a_redirect_to_outside_of_stores_is_not_followed() {
    if !can_make_users() {
        return;
    }
    let mut host = Host::new();
    let secret = Faults::serve(|mut exchange| exchange.serve(b"secret"));
    let target = format!("Location: {}", secret.url("/x?signature=canary"));
    let inside = host.meta.releases();
    let store = Faults::serve(move |mut exchange| {
        let path = exchange.path.clone();
        let good = format!("Location: {inside}{}", path.trim_start_matches("/releases"));
        let is_good = path.contains("good");
        exchange.reply("302 Found", &[if is_good { &good } else { &target }], b"");
    });
    let stores = [host.meta.releases(), store.releases()].map(|url| quote(&url));
    set_policy(&host, &format!(r#"{{"stores": [{}]}}"#, stores.join(",")));
    host.publish(&Agent::new("good", "1.0.0"));
    host.publish(&Agent::new("config", "1.0.0"));
    let md5 = "490ac172dabecc867289079d48e84a66";
    host.desire(&[
        host.want("good", "1.0.0").tarball(store.releases()),
        host.want("tarball", "1.0.0")
            .tarball(store.releases())
            .md5(md5),
        host.want("digest", "1.0.0").md5(store.releases()),
        host.want("config", "1.0.0")
            .config("x.json", store.url("/releases/x")),
    ]);
    host.start();
    host.wait_running("good", "1.0.0");
    for name in ["tarball", "digest", "config"] {
        let error = host.wait_error(name);
        let wanted = "it is not below one of stores in policy.json";
        assert!(error.contains(wanted), "{error}");
        assert!(!error.contains("canary"), "{error}");
    }
    assert_eq!(secret.heads(), [""; 0], "nobody asked there");
}

#[test]
fn only_max_agents_entries_are_followed_and_the_rest_is_refused_by_name() {
    if !can_make_users() {
        return;
    }
    let mut host = Host::new();
    let (good, bad) = (host.want("good", "1.0.0"), host.want("bad", "1.0.0"));
    set_policy(&host, r#"{"max_agents": 1}"#);
    host.publish(&Agent::new("good", "1.0.0"));
    host.publish(&Agent::new("bad", "1.0.0"));
    host.desire(&[good, bad]);
    host.start();
    host.wait_running("good", "1.0.0");
    let reason = "bad: only 1 entries are followed, see max_agents in policy.json";
    wait_refused(&host, reason);
    assert_eq!(names(&host.work), ["good"]);
}

#[test]
fn a_former_entry_stays_in_force_when_a_new_one_is_against_the_policy() {
    if !can_make_users() {
        return;
    }
    let mut host = Host::with_demo("1.0.0");
    set_policy(&host, r#"{"stores": ["http://store.example"]}"#);
    host.publish(&Agent::new("demo", "1.0.1"));
    host.desire(&[host.want("demo", "1.0.1")]);
    host.wait_for("the refusal", || {
        errors(&host)
            .iter()
            .any(|error| error.contains("one of stores"))
    });
    host.kill_agent("demo");
    wait_running_refused(&host);
    host.stop();
    host.start();
    host.wait_beats(1);
    host.kill_agent("demo");
    wait_running_refused(&host);
}

#[test]
fn a_policy_that_others_can_change_allows_nothing_and_agents_keep_running() {
    if !can_make_users() {
        return;
    }
    for is_dir in [false, true] {
        let mut host = Host::with_demo("1.0.0");
        set_policy(&host, "{}");
        let path = if is_dir {
            host.own.clone()
        } else {
            host.own.join("policy.json")
        };
        mode(&path, 0o775);
        host.publish(&Agent::new("fresh", "1.0.0"));
        host.desire(&[host.want("demo", "1.0.0"), host.want("fresh", "1.0.0")]);
        let reason = format!(
            "cannot trust {0}: its group, gid 0, or its ACL can write to it; chmod go-w {0}",
            path.display()
        );
        wait_refused(&host, &format!("fresh: {reason}"));
        wait_refused(&host, &format!("demo: {reason}"));
        host.kill_agent("demo");
        wait_running_refused(&host);
        assert_eq!(names(&host.work), ["demo"]);
        mode(&path, 0o755);
        host.wait_running("fresh", "1.0.0");
        host.stop();
    }
}

#[test]
fn a_wrong_policy_ends_a_start_and_refuses_what_comes_later() {
    if !can_make_users() {
        return;
    }
    let mut host = Host::with_demo("1.0.0");
    set_policy(&host, "{\"workdirs\": []}");
    host.publish(&Agent::new("fresh", "1.0.0"));
    host.desire(&[host.want("demo", "1.0.0"), host.want("fresh", "1.0.0")]);
    let file = host.own.join("policy.json").display().to_string();
    let reason = format!("cannot use {file}: the key \"workdirs\" is unknown");
    wait_refused(&host, &format!("fresh: {reason}"));
    assert_eq!(names(&host.work), ["demo"]);
    host.stop();
    for command in ["once", "check", "plan"] {
        let output = host.run(command);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains(&reason), "{command}: {error}");
        assert_eq!(output.status.code(), Some(2), "{command}");
    }
    host.start();
    assert_eq!(host.wait_exit().code(), Some(2));
    assert_eq!(host.running("demo").len(), 1);
}

#[test]
fn check_and_doctor_show_each_rule_or_that_there_is_none() {
    if !can_make_users() {
        return;
    }
    let host = Host::new();
    let printed = |command| String::from_utf8_lossy(&host.run(command).stdout).into_owned();
    assert!(printed("check").contains("\npolicy           none"));
    assert!(printed("doctor").contains("policy: none"));
    let text = r#"{"work_dirs": ["/srv/x"], "create_users": false, "max_agents": 7}"#;
    set_policy(&host, text);
    let file = host.own.join("policy.json").display().to_string();
    for command in ["check", "doctor"] {
        let text = printed(command);
        assert!(text.contains(&file), "{text}");
        for (rule, value) in [
            ("work_dirs", "/srv/x"),
            ("run_users", "no restriction"),
            ("create_users", "none"),
            ("max_agents", "7"),
        ] {
            let mut lines = text.lines();
            let is_shown = lines.any(|line| line.contains(rule) && line.ends_with(value));
            assert!(is_shown, "{command}, {rule}: {text}");
        }
    }
}

#[test]
fn nothing_is_made_for_an_agent_whose_digest_is_not_known() {
    let mut host = Host::new();
    host.desire(&[host.want("demo", "1.0.0")]);
    host.start();
    let error = host.wait_error("demo");
    assert!(error.contains("404"), "{error}");
    assert_eq!(names(&host.work), [""; 0]);
    host.publish(&Agent::new("demo", "1.0.0"));
    host.desire(&[host.want("demo", "1.0.0").config("x", "")]);
    host.wait_running("demo", "1.0.0");
}

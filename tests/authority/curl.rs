//! Who runs curl, and what a forged job through sudo can make of it.

use super::policy::{act, confined, job, with_policy};
use crate::support::agent::Agent;
use crate::support::fault::Faults;
use crate::support::host::PATIENCE;
use crate::support::json::quote;
use crate::support::names::can_mount;
use crate::support::platform::patience;
use crate::support::tls::{TlsServer, has};
use crate::support::users::{User, can_make_users, mode};
use std::fs;
use std::path::Path;

/// Returns the step that installs demo from this store.
fn install(tarball: &str) -> String {
    format!(
        r#""step":{{"Install":{{"version":"1.0.0","tarball":{},"md5":"","config_file_name":"","config_remote_url":""}}}}"#,
        quote(tarball)
    )
}

/// Writes a program in place of curl that notes who runs it.
fn noting_curl(path: &Path, note: &Path) {
    let text = format!(
        "#!/bin/sh\nid -u >>{}\nexec /usr/bin/curl \"$@\"\n",
        note.display()
    );
    fs::write(path, text).expect("a script");
    mode(path, 0o755);
}

#[test]
fn a_forged_job_through_sudo_runs_no_curl_of_the_callers_and_none_as_root() {
    if !can_make_users() || !can_mount() || !has(&["curl"]) {
        return;
    }
    let (ops, user) = (User::new(), User::new());
    let host = confined(&ops, &user);
    let (program, note) = (host.dir.join("curl"), host.dir.join("note"));
    noting_curl(&program, &note);
    fs::write(&note, "").expect("a file");
    mode(&note, 0o666);
    let plain = job("demo", &host.work, Some(&user.name), &host.dir);
    let forged = plain
        .replace(r#""step":null"#, &install("https://127.0.0.1:1/x"))
        .replace(
            r#""curl":"""#,
            &format!(r#""curl":{}"#, quote(&program.display().to_string())),
        )
        .replace(r#""client_cert":"""#, r#""client_cert":"/etc/shadow""#);
    assert_ne!(forged, plain);
    let answer = act(&host, &ops, &forged);
    assert_eq!(fs::read_to_string(&note).expect("a file"), "", "{answer}");
    // It is the agent's user who cannot read the file.
    assert!(
        answer.contains("cannot read /etc/shadow: Permission denied"),
        "{answer}"
    );
    assert!(answer.contains(&format!("(as {})", user.name)), "{answer}");
}

#[test]
fn a_forged_job_through_sudo_puts_no_proxy_in_place_of_a_store_that_the_policy_names() {
    if !can_make_users() || !can_mount() {
        return;
    }
    let (ops, user) = (User::new(), User::new());
    let (host, _) = with_policy(&ops, |host| {
        format!(
            r#"{{"run_users": [{}], "stores": [{}]}}"#,
            quote(&user.name),
            quote(&host.meta.releases())
        )
    });
    host.publish(&Agent::new("demo", "1.0.0"));
    let proxy = Faults::serve(|mut exchange| exchange.reply("200 OK", &[], b"of the caller"));
    let plain = job("demo", &host.work, Some(&user.name), &host.dir);
    let proxied = format!(r#""proxy":{}"#, quote(&proxy.url("")));
    let forged = plain
        .replace(r#""step":null"#, &install(&host.meta.releases()))
        .replace(r#""proxy":"""#, &proxied)
        .replace(r#""tls_proxy":"""#, &format!(r#""tls_{}"#, &proxied[1..]));
    assert_ne!(forged, plain);
    let answer = act(&host, &ops, &forged);
    assert!(proxy.heads().is_empty(), "{answer}");
    let paths: Vec<_> = host
        .meta
        .downloads()
        .into_iter()
        .map(|seen| seen.path)
        .collect();
    assert!(
        paths.iter().any(|path| path.ends_with(".tar.gz")),
        "{paths:?}: {answer}"
    );
}

#[test]
fn curl_runs_as_the_agents_user() {
    if !can_make_users() {
        return;
    }
    let (user, mut host) = (User::new(), crate::support::host::Host::new());
    let pass = format!("location / {{ proxy_pass http://{}; }}", host.meta.addr());
    let Some(tls) = TlsServer::start(&host, &[("good", &pass)]) else {
        return;
    };
    let (program, note) = (host.dir.join("curl"), host.dir.join("note"));
    noting_curl(&program, &note);
    fs::write(&note, "").expect("a file");
    mode(&note, 0o666);
    host.set("curl", &quote(&program.display().to_string()));
    host.set("ca_file", &quote(&tls.file("ca.pem")));
    host.publish(&Agent::new("demo", "1.0.0"));
    let entry = host
        .want("demo", "1.0.0")
        .tarball(tls.url("good") + "/releases");
    host.desire(&[entry.run_user(&user.name)]);
    host.start();
    let version = host.agent_dir("demo").join("1.0.0/control");
    host.wait_within(patience(PATIENCE), "the installation", || version.exists());
    let note = fs::read_to_string(&note).expect("a file");
    // Root fetches one line, before the user and its directory are made.
    let uid = user.uid().to_string();
    assert_eq!(note.lines().collect::<Vec<_>>(), ["0", uid.as_str()]);
}

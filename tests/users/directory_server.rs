//! Tests users that a directory server knows and /etc/passwd does not. The updater asks `id` about them.

use crate::support::host::Host;
use crate::support::names::with_files;
use crate::support::procs;
use crate::support::users::{can_make_users, four, not_of, noting};
use std::fs;
use std::path::PathBuf;

const UID: u32 = 70_123;

/// Returns an `id` as on a host with LDAP: it knows one more user. The real `id` answers for all others.
fn id_of_the_directory(host: &Host, user: &str) -> PathBuf {
    let real = host.dir.join("id.real");
    fs::copy("/usr/bin/id", &real).expect("a copy of id");
    let fake = host.dir.join("id");
    let text = format!(
        "#!/bin/sh\ncase \"$*\" in\n'-u {user}') echo {UID} ;;\n'-G {user}') echo {UID} 70200 70201 ;;\n*) exec {} \"$@\" ;;\nesac\n",
        real.display()
    );
    procs::write_script(&fake, &text);
    fake
}

#[test]
fn an_agent_of_a_user_that_only_a_directory_server_knows_runs_with_all_its_groups() {
    if !can_make_users() {
        return;
    }
    let mut host = Host::new();
    let user = "ldap.user-1";
    let id = id_of_the_directory(&host, user);
    host.offer(&noting("demo", "1.0.0"));
    host.desire(&[host.want("demo", "1.0.0").run_user(user)]);
    let command = with_files(&host, &[("/usr/bin/id", &id)]);
    host.start_as(command);
    let running = host.wait_running("demo", "1.0.0");
    let status = |key| procs::status(running.pid, key).expect("a process of ours");
    assert_eq!(status("Uid"), four(UID));
    assert_eq!(status("Gid"), four(UID));
    let groups: Vec<String> = status("Groups")
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    assert_eq!(groups, ["70123", "70200", "70201"]);
    assert_eq!(not_of(UID, &host.agent_dir("demo")), []);
    let passwd = fs::read_to_string("/etc/passwd").expect("a passwd file");
    assert!(!passwd.contains(user), "no user was made");
}

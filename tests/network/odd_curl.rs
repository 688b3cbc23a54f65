//! Programs in the place of curl that do what curls of other versions do.

use crate::support::host::Host;
use crate::support::json::quote;
use crate::support::procs::write_script;
use std::fs;

/// Makes the host ask its server by this script.
fn with_curl(host: &mut Host, script: &str) {
    let path = host.dir.join("curl");
    write_script(&path, &format!("#!/bin/sh\n{script}"));
    host.set("transport", &quote("curl"));
    host.set("curl", &quote(&path.display().to_string()));
}

#[test]
fn a_curl_that_is_too_old_is_told_as_such() {
    let mut host = Host::new();
    let script = "case $* in *--disallow-username-in-url*)\n\
        echo 'curl: option --disallow-username-in-url: is unknown' >&2; exit 2;; esac\n";
    with_curl(&mut host, script);
    host.start();
    host.wait_for("the warning", || {
        host.log().contains(": curl must be 7.61 or newer: ")
    });
}

/// Newer curls fail if they cannot write the headers that follow a chunked body.
#[test]
fn headers_behind_a_body_can_still_be_written() {
    let mut host = Host::new();
    // It cannot see when its reader has read a part, so it waits.
    let script = r#"
while read -r line; do
    case $line in "dump-header = "*) head=${line#*\"}; head=${head%\"};; esac
done
exec 3>"$head"
printf 'HTTP/1.1 200 OK\r\n\r\n' >&3
sleep 1
printf '{"desiredAgents": []}'
sleep 1
printf 'Trailer: 1\r\n\r\n' >&3 || { echo 'curl: (23) Failed writing headers' >&2; exit 23; }
"#;
    with_curl(&mut host, script);
    host.start();
    host.wait_for("an answer", || {
        let status = fs::read_to_string(host.own.join("var/status.json"));
        status.is_ok_and(|text| !text.contains("\"answered\":0,"))
    });
    assert!(!host.log().contains("cannot post"), "{}", host.log());
}

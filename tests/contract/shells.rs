//! Control scripts that are written for other shells than `sh` live their whole life.

use crate::support::agent::Agent;
use crate::support::archive::Tarball;
use crate::support::host::Host;
use crate::support::platform::skipped;
use crate::support::trial::each;
use crate::support::wire::Desired;
use std::path::Path;

/// The shell, and the first line of a script for it: the forms that are met in the field.
const SHELLS: [(&str, &str); 5] = [
    ("/bin/sh", "#!/bin/sh"),
    ("/usr/bin/dash", "#!/usr/bin/dash"),
    ("/usr/bin/busybox", "#! /usr/bin/busybox sh"),
    ("/usr/bin/bash", "#!/usr/bin/env bash"),
    ("/usr/bin/zsh", "#!/usr/bin/zsh -f"),
];

/// Publishes a version of demo whose control begins with this line, and returns its entry.
fn publish(host: &Host, version: &str, first_line: &str) -> Desired {
    let control = Agent::new("demo", version).control(&host.dir);
    let control = control.replacen("#!/bin/sh", first_line, 1);
    let tarball = Tarball::new().file("control", 0o755, control).gzip();
    host.meta.publish("demo", version, tarball);
    host.want("demo", version)
}

#[test]
fn a_control_for_any_of_five_shells_is_started_upgraded_and_stopped() {
    each(&SHELLS, |(shell, first_line)| {
        if !Path::new(shell).exists() {
            return skipped(&format!("there is no {shell}"));
        }
        let mut host = Host::new();
        host.desire(&[publish(&host, "1.0.0", first_line)]);
        host.start();
        host.wait_running("demo", "1.0.0");
        let entry = publish(&host, "1.0.1", first_line);
        host.desire(std::slice::from_ref(&entry));
        host.wait_running("demo", "1.0.1");
        host.desire(&[entry.cmd("stop")]);
        host.wait_for("the agent to be stopped", || {
            host.reported("demo").1 == "stoped"
        });
        let life = ["1.0.0 start", "1.0.0 stop", "1.0.1 start", "1.0.1 stop"];
        assert_eq!(host.calls("demo"), life, "{shell}");
        assert!(host.running("demo").is_empty(), "{shell}");
    });
}

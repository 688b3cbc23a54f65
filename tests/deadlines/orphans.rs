//! The updater as the first process of a container, or as the one that gets the orphans of its children: an agent that died
//! is no zombie, which `kill -0` in a control script would take for a running agent.

use crate::support::agent::Agent;
use crate::support::host::Host;
use crate::support::platform::skipped;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

/// Shell lines that ask for the pid alone, as most control scripts do.
const ASKS_KILL: &str =
    r#"if kill -0 "$(cat app.pid)" 2>/dev/null; then echo started; else echo stoped; fi; return"#;
const STOPS_BY_KILL: &str = r#"kill "$(cat app.pid)"; while kill -0 "$(cat app.pid)" 2>/dev/null; do sleep 0.02; done; return"#;

fn agent(version: &str) -> Agent {
    let agent = Agent::new("demo", version);
    agent.on_status(ASKS_KILL).on_stop(STOPS_BY_KILL)
}

/// Asserts that an agent that dies is restarted, and upgraded, under an updater that this command starts.
fn restarts_and_upgrades(mut host: Host, command: Command) {
    host.publish(&agent("1.0.0"));
    host.publish(&agent("1.0.1"));
    host.desire(&[host.want("demo", "1.0.0")]);
    host.start_as(command);
    host.wait_running("demo", "1.0.0");
    host.kill_agent("demo");
    host.wait_for("the dead agent to run again", || {
        host.running("demo").len() == 1
    });
    host.desire(&[host.want("demo", "1.0.1")]);
    host.wait_running("demo", "1.0.1");
    host.wait_without_zombies();
}

#[test]
fn as_the_first_process_of_a_container_it_reaps_agents_that_died() {
    let unshare = |program: &std::path::Path| {
        let mut command = Command::new("unshare");
        command
            .args(["--pid", "--fork", "--kill-child", "--mount-proc"])
            .arg(program);
        command
    };
    let tried = unshare("true".as_ref()).stderr(Stdio::null()).status();
    if !tried.is_ok_and(|status| status.success()) {
        return skipped("needs root, and unshare for a namespace of processes");
    }
    let host = Host::new();
    let plain = host.command();
    let mut command = unshare(&host.program());
    command.args(plain.get_args()).current_dir(&host.dir);
    for (key, value) in plain.get_envs() {
        command.env(key, value.expect("none is removed"));
    }
    command.stdin(Stdio::null()).process_group(0);
    restarts_and_upgrades(host, command);
}

#[test]
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "std has no call for it")]
fn as_the_reaper_of_orphans_it_reaps_agents_that_died() {
    let host = Host::new();
    let mut command = host.command();
    // SAFETY: prctl(2) touches no memory here, and is async-signal-safe.
    unsafe {
        command.pre_exec(
            || match libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            },
        );
    }
    restarts_and_upgrades(host, command);
}

//! A running agent inherits its directory, its environment and its limits from the updater, and nothing else.

use crate::support::agent::Agent;
use crate::support::host::Host;
use crate::support::procs;
use crate::support::watch::Running;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

/// Shell commands that write down the signals, the directory and the descriptors of the control script.
const NOTES: &str = "grep -E '^Sig(Ign|Blk)' /proc/self/status >signals; pwd >pwd; \
    for fd in 0 1 2; do name=$(readlink /proc/$$/fd/$fd); echo \"$name\" >fd$fd; done";

fn started() -> (Host, Running) {
    let mut host = Host::new();
    host.publish(&Agent::new("demo", "1.0.0").on_start(NOTES));
    host.desire(&[host.want("demo", "1.0.0")]);
    host.start();
    let running = host.wait_running("demo", "1.0.0");
    (host, running)
}

fn variables(pid: u32) -> BTreeSet<String> {
    let bytes = fs::read(format!("/proc/{pid}/environ")).expect("a running process");
    let text = String::from_utf8_lossy(&bytes).into_owned();
    text.split_terminator('\0').map(str::to_owned).collect()
}

#[test]
fn an_agent_inherits_no_descriptor() {
    let (_host, running) = started();
    let mut open: Vec<_> =
        crate::support::watch::names(format!("/proc/{}/fd", running.pid).as_ref());
    open.sort();
    assert_eq!(open, ["0", "1", "2"]);
}

#[test]
fn an_agent_inherits_the_limits_that_the_updater_was_started_with() {
    let (host, running) = started();
    let limits =
        |pid: u32| fs::read_to_string(format!("/proc/{pid}/limits")).expect("a running process");
    assert_eq!(limits(running.pid), limits(std::process::id()));
    assert_eq!(limits(running.pid), limits(host.daemon_pid()));
}

/// Makes the command ignore the signals 32 to 64. C libraries refuse that for the first of them.
#[expect(unsafe_code, reason = "std has no call for it")]
fn ignore_real_time_signals(command: &mut Command) {
    let ignore = || {
        for signal in 32..=64 {
            // The kernel's struct, whose first word is the action.
            let ignored = [libc::SIG_IGN as u64, 0, 0, 0];
            let none = std::ptr::null_mut::<u64>();
            // SAFETY: the kernel only reads the struct. The last argument is the size of its set of signals.
            unsafe {
                libc::syscall(
                    libc::SYS_rt_sigaction,
                    signal,
                    ignored.as_ptr(),
                    none,
                    8_usize,
                );
            }
        }
        Ok(())
    };
    // SAFETY: the closure makes system calls only, and uses its own stack.
    unsafe {
        command.pre_exec(ignore);
    }
}

#[test]
fn an_agent_inherits_no_ignored_or_blocked_signal() {
    let mut host = Host::new();
    host.publish(&Agent::new("demo", "1.0.0").on_start(NOTES));
    host.desire(&[host.want("demo", "1.0.0")]);
    let inner = host.command();
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' HUP PIPE USR2 ALRM; exec \"$0\" \"$@\""]);
    shell
        .arg(inner.get_program())
        .args(inner.get_args())
        .current_dir(&host.dir);
    shell
        .env(crate::support::host::MARK, &host.dir)
        .stdin(Stdio::null());
    ignore_real_time_signals(&mut shell);
    host.start_as(shell);
    let running = host.wait_running("demo", "1.0.0");
    let text = fs::read_to_string(running.dir.join("signals")).expect("the script's notes");
    assert_eq!(text.lines().count(), 2);
    for line in text.lines() {
        let mask = line
            .split_once(":\t")
            .map(|(_, hex)| u64::from_str_radix(hex, 16));
        let mask = mask
            .expect("a name and a mask")
            .expect("a hexadecimal mask");
        assert_eq!(mask, 0, "{line}");
    }
}

#[test]
fn an_agent_inherits_the_environment_and_no_variable_of_ours() {
    let mut host = Host::new();
    host.env("SITE_PROXY", "http://proxy.example:3128");
    host.publish(&Agent::new("demo", "1.0.0"));
    host.desire(&[host.want("demo", "1.0.0")]);
    host.start();
    let running = host.wait_running("demo", "1.0.0");
    let (daemons, agents) = (variables(host.daemon_pid()), variables(running.pid));
    assert!(agents.contains("SITE_PROXY=http://proxy.example:3128"));
    let set_by_the_shell = ["PWD=", "OLDPWD=", "_=", "SHLVL="];
    let unexpected: Vec<_> = agents
        .difference(&daemons)
        .filter(|line| !set_by_the_shell.iter().any(|name| line.starts_with(name)))
        .collect();
    assert!(unexpected.is_empty(), "{unexpected:?}");
}

#[test]
fn an_agent_has_a_session_of_its_own() {
    let (host, running) = started();
    let session = procs::session(running.pid).expect("a running process");
    assert_ne!(Some(session), procs::session(host.daemon_pid()));
    assert_ne!(session, host.daemon_pid());
}

#[test]
fn a_control_script_runs_in_its_versions_directory_with_its_output_in_a_file() {
    let (host, running) = started();
    let note = |name: &str| {
        fs::read_to_string(running.dir.join(name))
            .expect("the script's notes")
            .trim()
            .to_owned()
    };
    assert_eq!(
        note("pwd"),
        host.agent_dir("demo").join("1.0.0").display().to_string()
    );
    assert_eq!(note("fd0"), "/dev/null");
    assert_eq!(note("fd1"), note("fd2"));
    assert_eq!(
        note("fd1"),
        host.agent_dir("demo")
            .join(".updater/control.out")
            .display()
            .to_string()
    );
}

#[test]
fn what_a_control_script_says_at_start_is_kept_for_the_operator() {
    let mut host = Host::new();
    host.publish(&Agent::new("demo", "1.0.0").on_start("echo 'port 80 is taken'; exit 1"));
    host.desire(&[host.want("demo", "1.0.0")]);
    host.start();
    let output = host.agent_dir("demo").join(".updater/control.out");
    host.wait_for("its output in control.out", || {
        fs::read_to_string(&output).is_ok_and(|text| text.contains("port 80 is taken"))
    });
}

//! Tests starts of the updater in unusual surroundings. The updater receives its signals, and a stuck reader of its
//! log cannot stop it.

use crate::support::agent::Agent;
use crate::support::host::{Host, MARK};
use crate::support::platform::has_own;
use crate::support::procs;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Returns the command that starts the updater after these lines of shell.
fn through_shell(host: &Host, before: &str) -> Command {
    let inner = host.command();
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{before}; exec \"$0\" \"$@\"")]);
    shell.arg(inner.get_program()).args(inner.get_args());
    shell.current_dir(&host.dir).env(MARK, &host.dir);
    shell.stdin(Stdio::null());
    shell
}

/// Asserts that TERM ends the updater in time and with exit code 0.
fn assert_ends_in_time(host: &mut Host) {
    let began = Instant::now();
    let status = host.stop();
    assert!(began.elapsed() < Duration::from_millis(2500));
    assert_eq!(status.code(), Some(0));
}

/// Makes the command start with these signals blocked.
#[expect(unsafe_code, reason = "std has no call for it")]
fn block(command: &mut Command, signals: &'static [i32]) {
    // SAFETY: only async-signal-safe functions are called between fork and exec, on a set that lives in this closure.
    unsafe {
        command.pre_exec(move || {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            for signal in signals {
                libc::sigaddset(&raw mut set, *signal);
            }
            libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
            Ok(())
        });
    }
}

#[test]
fn an_updater_started_with_blocked_signals_hears_them_and_its_agents_do_too() {
    let mut host = Host::new();
    host.publish(&Agent::new("demo", "1.0.0"));
    host.desire(&[host.want("demo", "1.0.0")]);
    let mut command = host.command();
    let signals = &[libc::SIGTERM, libc::SIGHUP, libc::SIGUSR1, libc::SIGCHLD];
    block(&mut command, signals);
    host.start_as(command);
    let running = host.wait_running("demo", "1.0.0");
    let mask = procs::status(running.pid, "SigBlk").expect("a process of ours");
    let mask = u64::from_str_radix(&mask, 16).expect("a hexadecimal mask");
    assert_eq!(mask & 0x7fff_ffff, 0, "{mask:x}");
    assert_ends_in_time(&mut host);
}

#[test]
fn a_log_that_nobody_reads_stops_neither_heartbeats_nor_term() {
    let mut host = Host::new();
    host.set("log_level", "\"debug\"");
    let entries = (0..60).map(|n| host.want(&format!("a{n}"), "1").cmd("stop"));
    host.desire(&entries.collect::<Vec<_>>());
    // The pipe is full before the first line of the log.
    let fill = "mkfifo log.pipe; exec 2<>log.pipe; timeout 1 head -c 2000000 /dev/zero >&2";
    let mut command = through_shell(&host, fill);
    command.process_group(0);
    host.start_as(command);
    host.wait_beats(4);
    assert_ends_in_time(&mut host);
}

#[test]
fn a_signal_right_after_the_start_ends_nobody() {
    let mut host = Host::new();
    let lock = host.own.join("var/lock");
    for signal in [libc::SIGUSR1, libc::SIGHUP].repeat(5) {
        let _ = fs::remove_file(&lock);
        host.start();
        let began = Instant::now();
        while fs::read_to_string(&lock)
            .unwrap_or_default()
            .trim()
            .is_empty()
        {
            assert!(began.elapsed() < Duration::from_secs(20), "no lock");
        }
        host.signal_daemon(signal);
        host.wait_beats(1);
        assert!(host.daemon_is_well());
        host.stop();
    }
}

#[test]
fn an_updater_started_without_its_three_streams_opens_no_file_in_their_place() {
    // An emulator opens the binary before it runs it, and the file takes the first free descriptor.
    if !has_own("descriptors") {
        return;
    }
    let mut host = Host::new();
    host.publish(&Agent::new("demo", "1.0.0"));
    host.desire(&[host.want("demo", "1.0.0")]);
    let mut command = through_shell(&host, "exec <&- >&- 2>&-");
    command.process_group(0);
    host.start_as(command);
    host.wait_running("demo", "1.0.0");
    for fd in 0..3 {
        let path = format!("/proc/{}/fd/{fd}", host.daemon_pid());
        let open = fs::read_link(path).expect("it is open");
        assert_eq!(open.to_str(), Some("/dev/null"), "{fd}");
    }
}

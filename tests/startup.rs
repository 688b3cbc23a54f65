//! However the updater is started: it hears its signals, and whoever reads its log cannot stop it.

use crate::support::agent::Agent;
use crate::support::host::{Host, MARK};
use crate::support::procs;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The updater, started by these lines of shell before it.
fn through_shell(host: &Host, before: &str) -> Command {
    let inner = host.command();
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{before}; exec \"$0\" \"$@\"")]);
    shell.arg(inner.get_program()).args(inner.get_args());
    shell.current_dir(&host.dir).env(MARK, &host.dir);
    shell.stdin(Stdio::null());
    shell
}

/// TERM ends it, in time and well.
fn ends_in_time(host: &mut Host) {
    let began = Instant::now();
    let status = host.stop();
    assert!(began.elapsed() < Duration::from_millis(2500));
    assert_eq!(status.code(), Some(0));
}

/// Makes the command begin with these signals blocked.
#[expect(unsafe_code, reason = "std has no call for it")]
fn block(command: &mut Command, signals: &'static [i32]) {
    // SAFETY: between fork and exec only async-signal-safe calls are made, on a set that lives here.
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
    ends_in_time(&mut host);
}

#[test]
fn a_log_that_nobody_reads_stops_neither_heartbeats_nor_term() {
    let mut host = Host::new();
    host.set("log_level", "\"debug\"");
    let entries = (0..60).map(|n| host.want(&format!("a{n}"), "1").cmd("stop"));
    host.desire(&entries.collect::<Vec<_>>());
    // A pipe that is full before the first line.
    let fill = "mkfifo log.pipe; exec 2<>log.pipe; timeout 1 head -c 2000000 /dev/zero >&2";
    let mut command = through_shell(&host, fill);
    command.process_group(0);
    host.start_as(command);
    host.wait_beats(4);
    ends_in_time(&mut host);
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

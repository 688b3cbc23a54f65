//! Tests what shells offer as completions.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::operator::control::unpacked;
use crate::operator::help::commands;
use crate::support::host::Host;
use crate::support::platform::skipped;

/// Returns what bash offers for the last of these words. The first one is the program.
fn offered_by_bash(host: &Host, words: &[&str]) -> Vec<String> {
    let script = r#". "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); f=_ops_updater
        case $1 in *control) f=_ops_updater_control ;; esac
        "$f" "$1" 2>/dev/null; printf '%s\n' "${COMPREPLY[@]}""#;
    let mut command = Command::new("bash");
    command.args(["-c", script]).arg(source("ops-updater.bash"));
    printed(host, command.args(words))
}

fn offered(host: &Host, words: &[&str]) -> Vec<String> {
    offered_by_bash(host, &[&["ops-updater"], words].concat())
}

/// Returns what fish offers for the last of these words, without the descriptions.
fn offered_by_fish(host: &Host, words: &[&str]) -> Vec<String> {
    let mut command = Command::new("fish");
    command.args(["--no-config", "-c", "source $argv[1]; complete -C $argv[2]"]);
    command.arg(source("ops-updater.fish")).arg(words.join(" "));
    printed(host, command.env("HOME", &host.own))
}

fn source(name: &str) -> PathBuf {
    let completions = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/completions");
    completions.join(name)
}

/// Returns the first word of each line that the shell prints.
fn printed(host: &Host, shell: &mut Command) -> Vec<String> {
    let output = shell
        .current_dir(&host.own)
        .output()
        .expect("the shell runs");
    let text = String::from_utf8(output.stdout).expect("text");
    let words = text
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    words.map(str::to_owned).collect()
}

/// What a shell offers for the last of these words.
type Offered = fn(&Host, &[&str]) -> Vec<String>;

/// Writes a desired state with two agents, and an entry of a hostile server.
fn desire(host: &Host) {
    let state = r#"{"desiredAgents": [{"name":"falcon-agent", "version":"1"},
        {"version": "2", "name" : "demo"}, {"name": "$(touch pwned)"}]}"#;
    fs::write(host.own.join("desired_agent.json"), state).expect("a state");
}

#[test]
fn bash_completes_commands_and_names_of_agents_and_runs_nothing_that_a_server_named() {
    let host = Host::new();
    desire(&host);
    assert_eq!(offered(&host, &[""]).len(), commands().len());
    assert_eq!(offered(&host, &["rel"]), ["release"]);
    assert_eq!(offered(&host, &["status", "--w"]), ["--wait"]);
    for command in ["status", "plan", "check", "doctor"] {
        assert_eq!(offered(&host, &[command, "--j"]), ["--json"], "{command}");
    }
    for command in ["once", "apply"] {
        let all = offered(&host, &[command, "--d"]);
        assert_eq!(all, ["--detailed-exitcode"], "{command}");
    }
    for command in ["pin", "unpin", "rollback", "retry"] {
        let all = offered(&host, &[command, ""]);
        assert_eq!(all, ["falcon-agent", "demo"], "{command}");
    }
    let config = host.config_file().display().to_string();
    assert_eq!(offered(&host, &["-c", &config, "pin", "de"]), ["demo"]);
    assert_eq!(offered(&host, &["-c", "/nowhere/x", "pin", ""]), [""; 0]);
    assert!(!host.own.join("pwned").exists());
}

#[test]
fn fish_completes_the_same() {
    if Command::new("fish").arg("--version").output().is_err() {
        return skipped("needs fish");
    }
    let host = Host::new();
    desire(&host);
    let offered = |words: &[&str]| offered_by_fish(&host, &[&["ops-updater"], words].concat());
    assert_eq!(offered(&[""]).len(), commands().len());
    assert_eq!(offered(&["rel"]), ["release"]);
    assert_eq!(offered(&["help", "rel"]), ["release"]);
    assert_eq!(offered(&["status", "--w"]), ["--wait"]);
    for command in ["status", "plan", "check", "doctor"] {
        assert_eq!(offered(&[command, "--j"]), ["--json"], "{command}");
    }
    for command in ["pin", "unpin", "rollback", "retry"] {
        assert_eq!(offered(&[command, ""]), ["demo", "falcon-agent"]);
    }
    assert_eq!(offered(&["pin", "demo", ""]), [""; 0]);
    assert_eq!(offered(&["-c", "/nowhere/x", "pin", ""]), [""; 0]);
    assert!(!host.own.join("pwned").exists());
}

#[test]
fn the_control_of_the_updater_is_completed_and_no_other_one() {
    let host = unpacked();
    desire(&host);
    let other = host.dir.join("control");
    fs::write(&other, "").expect("a script");
    let (own, other) = (host.own.join("control"), other.display().to_string());
    let own = own.display().to_string();
    let mut shells: Vec<Offered> = vec![offered_by_bash];
    match Command::new("fish").arg("--version").output() {
        Ok(_) => shells.push(offered_by_fish),
        Err(_) => skipped("needs fish"),
    }
    for offered in shells {
        for control in [own.as_str(), "./control"] {
            let mut all = offered(&host, &[control, "re"]);
            all.sort();
            assert_eq!(all, ["release", "reload", "restart", "retry", "revert"]);
            let mut agents = offered(&host, &[control, "pin", ""]);
            agents.sort();
            assert_eq!(agents, ["demo", "falcon-agent"]);
        }
        assert_eq!(offered(&host, &[&other, "relo"]), [""; 0]);
    }
}

//! Tests what shells offer as completions.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::operator::help::commands;
use crate::support::host::Host;

/// Returns what bash offers as completions of the last of these words.
fn offered(host: &Host, words: &[&str]) -> Vec<String> {
    let script = r#". "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
        _ops_updater 2>/dev/null; printf '%s\n' "${COMPREPLY[@]}""#;
    let completion = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new("bash")
        .args(["-c", script])
        .arg(completion.join("contrib/completions/ops-updater.bash"))
        .arg("ops-updater")
        .args(words)
        .current_dir(&host.own)
        .output()
        .expect("bash runs");
    let text = String::from_utf8(output.stdout).expect("text");
    text.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_and_names_of_agents_and_runs_nothing_that_a_server_named() {
    let host = Host::new();
    let state = r#"{"desiredAgents": [{"name":"falcon-agent", "version":"1"},
        {"version": "2", "name" : "demo"}, {"name": "$(touch pwned)"}]}"#;
    fs::write(host.own.join("desired_agent.json"), state).expect("a state");
    assert_eq!(offered(&host, &[""]).len(), commands().len());
    assert_eq!(offered(&host, &["rel"]), ["release"]);
    assert_eq!(offered(&host, &["status", "--w"]), ["--wait"]);
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

//! Tests files that an editor of Windows has saved: they begin with a byte order mark. `cfg.json` may, so all may.

use crate::support::agent::Agent;
use crate::support::host::Host;
use crate::support::users::{can_make_users, mode};
use crate::support::wire::{Answer, Desired, stock_answer};
use std::fs;
use std::process::{Output, Stdio};

const MARK: &str = "\u{feff}";

fn text(output: &Output) -> String {
    let bytes = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Returns a host with a server that has demo 1.0.0, and the two forms of a desired state with a mark.
fn host_and_inputs() -> (Host, [String; 2]) {
    let host = Host::new();
    host.publish(&Agent::new("demo", "1.0.0"));
    let entry = host.want("demo", "1.0.0");
    let inputs = [
        format!("{MARK}{}", stock_answer(std::slice::from_ref(&entry))),
        format!("{MARK}[{}]", entry.json()),
    ];
    (host, inputs)
}

#[test]
fn apply_takes_a_file_an_url_and_its_stdin_with_a_mark() {
    let (host, inputs) = host_and_inputs();
    let file = host.dir.join("desired.json");
    for input in inputs {
        fs::write(&file, &input).expect("a file");
        let output = host.run_with(&["apply", "desired.json"]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        host.meta.put("/desired.json", input);
        let output = host.run_with(&["apply", &host.meta.url("/desired.json")]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        let mut command = host.command();
        let stdin = fs::File::open(&file).expect("a file");
        command.args(["apply", "-"]).stdin(Stdio::from(stdin));
        let output = command.output().expect("it runs");
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    }
    assert_eq!(host.calls("demo"), ["1.0.0 start"]);
}

#[test]
fn an_answer_with_a_mark_is_followed() {
    let (mut host, [answer, _]) = host_and_inputs();
    host.meta.answer(Answer::new(200, answer));
    host.start();
    host.wait_running("demo", "1.0.0");
}

#[test]
fn a_saved_desired_state_with_a_mark_is_in_force_before_the_server_has_answered() {
    let mut host = Host::with_demo("1.0.0");
    host.stop();
    host.kill_agent("demo");
    let file = host.own.join("desired_agent.json");
    let saved = fs::read_to_string(&file).expect("it is saved");
    fs::write(&file, format!("{MARK}{saved}")).expect("a file");
    host.meta.answer(Answer::new(500, "broken"));
    host.start();
    host.wait_for("the agent to run", || host.running("demo").len() == 1);
}

#[test]
fn a_policy_with_a_mark_is_a_policy() {
    if !can_make_users() {
        return;
    }
    let host = Host::new();
    let file = host.own.join("policy.json");
    fs::write(&file, format!("{MARK}{{\"max_agents\": 7}}")).expect("a policy");
    mode(&file, 0o644);
    let output = host.run("check");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("policy    7"), "{}", text(&output));
}

#[test]
fn a_mark_that_is_not_at_the_beginning_is_a_mistake_with_its_place() {
    let host = Host::new();
    let entry: Desired = host.want("demo", "1.0.0");
    let file = host.dir.join("desired.json");
    fs::write(&file, format!("{MARK}{MARK}[{}]", entry.json())).expect("a file");
    let output = host.run_with(&["apply", "desired.json"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(
        text(&output).contains("line 1, column 1"),
        "{}",
        text(&output)
    );
}

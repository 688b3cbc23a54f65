//! Tests `status`, `plan`, `once` and `apply`: their output, their changes, and the exit codes that scripts depend on.

use crate::support::agent::Agent;
use crate::support::fault::Faults;
use crate::support::host::Host;
use crate::support::json::{self, Json as _};
use crate::support::meta::Meta;
use crate::support::watch::tree;
use crate::support::wire::{Answer, stock_answer};
use std::fs;
use std::process::{Command, Output, Stdio};

/// Runs the command. Returns the exit code, standard output and standard error.
fn ran(host: &Host, words: &[&str]) -> (i32, String, String) {
    outcome(&host.run_with(words))
}

fn outcome(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    let code = output.status.code().expect("a code");
    (code, text(&output.stdout), text(&output.stderr))
}

/// Returns a host whose server desires this version. No agent runs there yet.
fn host_desiring(version: &str) -> Host {
    let host = Host::new();
    host.publish(&Agent::new("demo", version));
    host.desire(&[host.want("demo", version)]);
    host
}

#[test]
fn a_plan_tells_the_steps_and_changes_nothing() {
    let host = host_desiring("1.0.0");
    let before = (tree(&host.work), tree(&host.own));
    let (code, out, err) = ran(&host, &["plan"]);
    assert_eq!(code, 4, "{out}{err}");
    let steps: Vec<&str> = out.lines().collect();
    assert!(steps[0].starts_with("demo: install 1.0.0"), "{out}");
    assert!(
        steps.iter().any(|step| step.starts_with("demo: start")),
        "{out}"
    );
    assert_eq!(host.meta.count_beats(), 1);
    assert_eq!(host.meta.downloads().len(), 0);
    assert_eq!((tree(&host.work), tree(&host.own)), before);
}

#[test]
fn a_plan_for_programs_has_an_object_for_each_step_and_nothing_else() {
    let host = host_desiring("1.0.0");
    let (code, out, _) = ran(&host, &["plan", "--json"]);
    assert_eq!(code, 4, "{out}");
    assert_eq!(
        out,
        "{\"name\":\"demo\",\"step\":\"install 1.0.0\"}\n{\"name\":\"demo\",\"step\":\"start 1.0.0\"}\n"
    );
    assert_eq!(
        host.run_with(&["hold", "a \"reason\""]).status.code(),
        Some(0)
    );
    let (code, out, _) = ran(&host, &["plan", "--json"]);
    assert_eq!(code, 4, "{out}");
    assert_eq!(
        out,
        "{\"name\":\"demo\",\"reason\":\"this host is held\"}\n"
    );
    host.desire(&[]);
    assert_eq!(
        ran(&host, &["plan", "--json"]),
        (0, String::new(), String::new())
    );
}

#[test]
fn a_plan_of_a_host_that_is_as_desired_is_empty_even_beside_the_daemon() {
    let host = Host::with_demo("1.0.0");
    let (code, out, err) = ran(&host, &["plan"]);
    assert_eq!((code, out.as_str()), (0, "nothing to do\n"), "{err}");
    host.publish(&Agent::new("demo", "1.0.1"));
    assert!(host.daemon_is_well());
}

#[test]
fn a_plan_without_an_answer_fails_and_tells_the_steps_of_the_last_wish() {
    let mut host = Host::with_demo("1.0.0");
    host.stop();
    host.kill_agent("demo");
    host.meta.answer(Answer::new(500, "broken"));
    let (code, out, err) = ran(&host, &["plan"]);
    assert_eq!(code, 1, "{out}{err}");
    assert!(out.starts_with("demo: start"), "{out}");
    assert!(err.contains("500"), "{err}");
}

#[test]
fn once_makes_the_host_what_is_desired_reports_it_and_ends() {
    let host = host_desiring("1.0.0");
    let (code, out, err) = ran(&host, &["once"]);
    assert_eq!(code, 0, "{out}{err}");
    assert_eq!(host.version("demo"), "1.0.0");
    assert_eq!(host.running("demo").len(), 1);
    assert_eq!(host.reported("demo"), ("1.0.0".into(), "started".into()));
    assert!(out.contains("AGENT") && out.contains("started"), "{out}");
    let (code, out, err) = ran(&host, &["once", "--detailed-exitcode"]);
    assert_eq!(code, 0, "nothing was changed: {out}{err}");
    assert_eq!(
        host.calls("demo")
            .iter()
            .filter(|call| *call == "1.0.0 start")
            .count(),
        1
    );
    assert_eq!(ran(&host, &["plan"]).0, 0);
}

#[test]
fn once_fails_when_a_version_does_and_the_one_before_runs_on() {
    let host = host_desiring("1.0.0");
    assert_eq!(ran(&host, &["once", "--detailed-exitcode"]).0, 4);
    host.publish(&Agent::new("demo", "1.0.1").on_start("exit 1"));
    host.desire(&[host.want("demo", "1.0.1")]);
    let (code, out, err) = ran(&host, &["--detailed-exitcode", "once"]);
    assert_eq!(code, 1, "{out}{err}");
    assert!(out.contains("back to 1.0.0"), "{out}");
    assert_eq!(host.running("demo").len(), 1);
    assert_eq!(host.version("demo"), "1.0.0");
}

#[test]
fn once_without_a_server_fails_in_time_and_says_which() {
    let host = Host::new();
    host.meta.answer(Answer::new(503, "later"));
    let (code, out, err) = ran(&host, &["once"]);
    assert_eq!(code, 1, "{out}{err}");
    assert!(
        err.contains(&host.meta.addr()) && err.contains("503"),
        "{err}"
    );
}

#[test]
fn once_and_apply_leave_a_running_updater_alone() {
    let host = Host::with_demo("1.0.0");
    fs::write(host.dir.join("input.json"), "[]").expect("a file");
    for words in [&["once"][..], &["apply", "input.json"]] {
        let (code, out, err) = ran(&host, words);
        assert_eq!(code, 3, "{words:?}: {out}{err}");
        assert!(err.contains("already running"), "{err}");
    }
}

/// Returns a host with a store and no server. The desired state is in `input.json`.
fn host_without_server() -> Host {
    let mut host = Host::new();
    host.unset("server");
    host.publish(&Agent::new("demo", "1.0.0"));
    let answer = stock_answer(&[host.want("demo", "1.0.0")]);
    fs::write(host.dir.join("input.json"), answer).expect("a file");
    host
}

#[test]
fn apply_needs_no_server_and_nothing_is_told_to_one() {
    let host = host_without_server();
    let detailed = ["apply", "--detailed-exitcode", "input.json"];
    let (code, out, err) = ran(&host, &detailed);
    assert_eq!(code, 4, "{out}{err}");
    assert_eq!(host.running("demo").len(), 1);
    assert_eq!(host.meta.count_beats(), 0);
    let (code, out, err) = ran(&host, &detailed);
    assert_eq!(code, 0, "{out}{err}");
    let (code, out, _) = ran(&host, &["status"]);
    assert_eq!(code, 5, "{out}");
    assert!(
        out.contains("does not run") && out.contains("1.0.0"),
        "{out}"
    );
}

#[test]
fn apply_takes_standard_input_and_a_url() {
    let host = host_without_server();
    let input = fs::read(host.dir.join("input.json")).expect("it is there");
    let mut command = host.command();
    let stdin = fs::File::open(host.dir.join("input.json")).expect("it is there");
    let output = command
        .args(["apply", "-"])
        .stdin(Stdio::from(stdin))
        .output();
    let (code, out, err) = outcome(&output.expect("it runs"));
    assert_eq!(code, 0, "{out}{err}");
    let depot = Meta::start();
    depot.put("/input.json", input);
    let (code, out, err) = ran(&host, &["apply", &depot.url("/input.json")]);
    assert_eq!(code, 0, "{out}{err}");
}

#[test]
fn apply_works_where_there_is_no_cfg_json() {
    let host = host_without_server();
    fs::remove_file(host.config_file()).expect("it is there");
    let (code, out, err) = ran(&host, &["apply", "input.json"]);
    assert_eq!(code, 0, "{out}{err}");
    assert_eq!(host.version("demo"), "1.0.0");
}

/// Returns the files of the agents without the owner mark, which each run renews.
fn unmarked(host: &Host) -> String {
    let mut tree = tree(&host.work);
    tree.retain(|path, _| path.iter().all(|part| part != ".updater"));
    format!("{tree:?}")
}

#[test]
fn a_wish_that_cannot_be_used_is_told_and_changes_nothing() {
    let host = host_without_server();
    assert_eq!(ran(&host, &["apply", "input.json"]).0, 0);
    let before = unmarked(&host);
    let store = Faults::serve(|mut exchange| exchange.send(b"HTTP/1.1 404 gone\r\n\r\n"));
    for (name, text) in [
        ("broken.json", "{\"desiredAgents\": [1,}"),
        ("other.json", "{\"name\": \"demo\"}"),
        (
            "wrong.json",
            "[{\"name\": \"../demo\", \"version\": \"1\"}]",
        ),
    ] {
        fs::write(host.dir.join(name), text).expect("a file");
    }
    let url = format!("{}/input.json", store.releases());
    for (input, message) in [
        ("missing.json", "cannot read missing.json: No such file"),
        ("broken.json", "cannot use broken.json: line 1, column 22"),
        (
            "other.json",
            "cannot use the desired state: the answer has no desiredAgents",
        ),
        ("wrong.json", "../demo"),
        (&url, "404"),
    ] {
        let (code, out, err) = ran(&host, &["apply", input]);
        assert_eq!(code, 1, "{input}: {out}{err}");
        assert!(err.contains(message), "{input}: {out}{err}");
        assert_eq!(unmarked(&host), before, "{input}");
        assert_eq!(host.running("demo").len(), 1);
    }
}

#[test]
fn a_terminal_gets_lines_of_80_columns_and_a_pipe_whole_names() {
    let mut host = Host::new();
    let name = "an-agent-with-a-name-of-more-than-24-characters";
    host.desire(&[host.want(name, "1.0.0")]);
    host.start();
    host.wait_for("the failure in the status", || {
        let out = ran(&host, &["status"]).1;
        out.contains("next try in") && out.contains(name)
    });
    let mut ours = host.command();
    ours.arg("status");
    let mut words = vec![ours.get_program().to_string_lossy()];
    words.extend(ours.get_args().map(|word| word.to_string_lossy()));
    let mut terminal = Command::new("script");
    terminal.args(["-qc", &words.join(" "), "/dev/null"]);
    terminal.env("NO_COLOR", "1").stdin(Stdio::null());
    let output = terminal.output().expect("script(1) runs");
    let out = String::from_utf8(output.stdout).expect("text");
    assert!(out.contains("an-agent-with-a-name-of…"), "{out}");
    for line in out.lines() {
        assert!(
            line.chars().count() <= 80 && !line.ends_with(' '),
            "{line:?}"
        );
    }
}

#[test]
fn a_status_tells_whether_the_updater_runs_and_whether_all_is_as_desired() {
    let mut host = Host::new();
    let (code, out, err) = ran(&host, &["status"]);
    assert_eq!((code, out.as_str()), (5, ""), "{err}");
    assert!(err.contains("never ran here"), "{err}");
    host.publish(&Agent::new("demo", "1.0.0"));
    host.desire(&[host.want("demo", "1.0.0")]);
    host.start();
    host.wait_running("demo", "1.0.0");
    host.wait_for("the desired state to be reached", || {
        ran(&host, &["status"]).0 == 0
    });
    let (_, out, _) = ran(&host, &["status"]);
    assert!(out.contains(&format!("pid {}", host.daemon_pid())), "{out}");
    assert!(
        out.contains(&host.meta.addr()) && out.contains("answered"),
        "{out}"
    );
    host.desire(&[host.want("demo", "1.0.9")]);
    host.wait_for("the failure in the status", || {
        let (code, out, _) = ran(&host, &["status"]);
        code == 4 && out.contains("1.0.9") && out.contains("next try in")
    });
    let (_, out, _) = ran(&host, &["status"]);
    assert!(
        out.contains("\nagents     0 of 1 healthy, not demo\n"),
        "{out}"
    );
    let error = format!(
        "cannot fetch http://{}/releases/linux_amd64/demo-1.0.9.tar.gz.md5: 404 Not Found\n",
        host.meta.addr()
    );
    assert!(out.contains(&error), "one line in a pipe: {out}");
    assert!(!out.contains('\u{1b}'), "no terminal, no colours: {out:?}");
    host.stop();
    let (code, out, _) = ran(&host, &["status"]);
    assert_eq!(code, 5);
    assert!(
        out.contains("does not run") && out.contains("1.0.9"),
        "{out}"
    );
}

#[test]
fn a_status_for_programs_has_every_field_that_the_readme_names() {
    let host = Host::with_installed_demo("1.0.0");
    host.wait_for("the desired state to be reached", || {
        ran(&host, &["status"]).0 == 0
    });
    let (_, out, _) = ran(&host, &["status", "--json"]);
    let status = json::parse(&out);
    assert_eq!(
        status.field("pid").number(),
        Some(u64::from(host.daemon_pid()))
    );
    assert_eq!(status.field("server").text(), host.meta.addr());
    assert_eq!(
        status.field("heartbeat").field("failures").number(),
        Some(0)
    );
    assert_eq!(status.field("counts").field("starts").number(), Some(1));
    let agent = status.field("agents").items()[0].clone();
    for (field, text) in [
        ("name", "demo"),
        ("version", "1.0.0"),
        ("desired", "1.0.0"),
        ("cmd", "start"),
        ("state", "started"),
        ("error", ""),
    ] {
        assert_eq!(agent.field(field).text(), text, "{field}");
    }
    assert!(agent.field("since").number() > Some(0));
}

#[test]
fn a_download_that_is_under_way_is_shown_with_its_progress() {
    let host = Host::with_demo("1.0.0");
    let store = Faults::serve(|mut exchange| {
        if exchange.path.strip_suffix(".md5").is_some() {
            return exchange.reply("200 OK", &[], &[b'0'; 32]);
        }
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 40000000\r\n\r\n");
        exchange.send(b"\x1f\x8b\x08\0");
        exchange.send_slowly(&vec![0; 39_999_996], 1_000_000);
    });
    let far = host.want("demo", "1.0.1").tarball(store.releases());
    host.desire(&[far]);
    host.wait_for("progress", || {
        let (_, out, _) = ran(&host, &["status"]);
        out.contains(" of 40.0 MB, ") && out.contains(" %, ") && out.contains(" MB/s")
    });
}

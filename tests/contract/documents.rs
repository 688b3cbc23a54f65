//! What docs/AGENTS.md and docs/DESIRED_STATE.md show works as it stands there.

use crate::support::archive::Tarball;
use crate::support::host::Host;
use crate::support::json::Json as _;
use crate::support::platform::arch;
use crate::support::wire::Answer;
use std::fs;

const AGENTS: &str = include_str!("../../docs/AGENTS.md");
const DESIRED_STATE: &str = include_str!("../../docs/DESIRED_STATE.md");

/// Returns the first block of code in this language behind a heading.
fn block<'a>(page: &'a str, heading: &str, language: &str) -> &'a str {
    let (_, section) = page.split_once(heading).expect("the heading");
    let (_, block) = section
        .split_once(&format!("```{language}\n"))
        .expect("a block");
    block.split_once("```").expect("an end").0
}

#[test]
fn the_documented_agent_is_installed_by_the_documented_answer_and_reported_as_documented() {
    let mut host = Host::new();
    let control = block(AGENTS, "### A control script", "sh");
    let tarball = Tarball::new()
        .file("control", 0o755, control)
        .file("falcon-agent", 0o755, "#!/bin/sh\nexec sleep 0 86400\n")
        .gzip();
    host.meta.publish("falcon-agent", "5.1.3", tarball);
    host.meta.put("/conf/falcon-agent.json", "{}");
    let work = host.work.display().to_string();
    let releases = host.meta.releases();
    let answer = block(DESIRED_STATE, "## The answer", "json")
        .replace("http://store.example.com/releases", &releases)
        .replace("http://store.example.com", &host.meta.url(""))
        .replace("\"runUser\": \"falcon\"", "\"runUser\": \"\"")
        .replace("/home/falcon/open-falcon", &work);
    host.meta.answer(Answer::new(200, answer.clone()));
    host.start();
    let running = host.wait_running("falcon-agent", "5.1.3");
    let config = fs::read_to_string(running.dir.join("cfg.json"));
    assert_eq!(config.expect("it is fetched"), "{}");

    let beat = host.last_beat().expect("a heartbeat came");
    let [user, address, version] =
        ["runUser", "ip", "updaterVersion"].map(|key| beat.json().field(key).text().to_owned());
    let agent = beat.agent("falcon-agent");
    let sent = agent.field("timestamp").number().expect("a number");
    let documented = block(DESIRED_STATE, "## The heartbeat", "json")
        .replace(['\n', ' '], "")
        .replace("web-17", "sandbox")
        .replace("linux_amd64", &arch())
        .replace("192.0.2.17", &address)
        .replace("\"root\"", &format!("\"{user}\""))
        .replace("\"falcon\"", "\"\"")
        .replace("\"0.1.0\"", &format!("\"{version}\""))
        .replace("1796084656", &sent.to_string())
        .replace("/home/falcon/open-falcon", &work);
    assert_eq!(beat.body, documented);

    host.kill_agent("falcon-agent");
    host.prompt();
    host.wait_running("falcon-agent", "5.1.3");
    let stop = answer.replace("\"start\"", "\"stop\"");
    host.meta.answer(Answer::new(200, stop));
    host.wait_for("the agent to be stopped", || {
        host.reported("falcon-agent").1 == "stoped" && host.running("falcon-agent").is_empty()
    });
    assert_eq!(host.error("falcon-agent"), "");
}

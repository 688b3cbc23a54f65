//! The page for people, as a browser shows it. The state of agents is made up, so that all kinds of them are there.

use crate::support::host::Host;
use crate::support::http::get;
use crate::support::platform::skipped;
use std::process::Command;
use std::sync::Arc;
use std::thread::JoinHandle;
use tiny_http::{Header, Response, Server};

/// Serves the page, and a status so many times. After that `/status` is an error.
struct Site {
    server: Arc<Server>,
    thread: Option<JoinHandle<()>>,
}

impl Site {
    fn new(page: String, status: String, mut times: usize) -> Self {
        let server = Arc::new(Server::http("127.0.0.1:0").expect("a free port"));
        let thread = std::thread::spawn({
            let server = Arc::clone(&server);
            move || {
                for request in server.incoming_requests() {
                    let (kind, body) = match request.url() {
                        "/" => ("text/html", page.clone()),
                        "/status" if times > 0 => {
                            times -= 1;
                            ("application/json", status.clone())
                        }
                        _ => ("text/plain", String::new()),
                    };
                    let kind = Header::from_bytes("Content-Type", format!("{kind}; charset=utf-8"));
                    let response = Response::from_string(body).with_header(kind.expect("a header"));
                    // The browser may have gone.
                    let _ = request.respond(response);
                }
            }
        });
        let thread = Some(thread);
        Self { server, thread }
    }

    fn url(&self) -> String {
        format!("http://{}/", self.server.server_addr())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.server.unblock();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Returns the page as the binary sends it.
fn page() -> String {
    let (_host, addr) = Host::answering();
    get(&addr, "/").body
}

/// The names of the browser: that of Debian, those that Google gives it, and that of Ubuntu, where a newer one only says how to
/// install a snap.
const BROWSERS: [&str; 4] = [
    "chromium",
    "google-chrome",
    "google-chrome-stable",
    "chromium-browser",
];

/// Returns the first browser that runs.
fn browser() -> Option<&'static str> {
    BROWSERS.into_iter().find(|name| {
        let version = Command::new(name).arg("--version").output();
        version.is_ok_and(|output| output.status.success())
    })
}

/// Returns the elements of a page after so many seconds of a browser's time, if it gets this status so many times. None: there is
/// no browser.
fn elements(page: String, status: String, times: usize, seconds: u32) -> Option<String> {
    let Some(browser) = browser() else {
        skipped("there is no chromium and no google-chrome");
        return None;
    };
    let site = Site::new(page, status, times);
    let host = Host::new();
    let output = Command::new("timeout")
        .args([
            "120",
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
        ])
        .args([
            "--disable-dev-shm-usage",
            "--disable-quic",
            "--no-first-run",
        ])
        .args([
            "--disable-background-networking",
            "--disable-component-update",
        ])
        .args(["--disable-sync", "--dump-dom"])
        .arg(format!(
            "--user-data-dir={}",
            host.dir.join("browser").display()
        ))
        .arg(format!("--virtual-time-budget={}", seconds * 1000))
        .arg(site.url())
        .env("HOME", &host.dir)
        .output()
        .expect("timeout(1) runs");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {complaint}", output.status);
    Some(String::from_utf8(output.stdout).expect("text"))
}

fn agent(name: &str, fields: &str) -> String {
    let usual = r#""version": "1.0.0", "desired": "1.0.0", "cmd": "start", "pinned": "", "state": "started",
        "since": 1, "status": "started", "converged": true, "phase": "", "bytes": 0, "total": 0, "rate": 0, "next": "",
        "error": "", "errorAt": 0, "retryAt": 0, "restarts": 0"#;
    format!(r#"{{"name": "{name}", {usual}{fields}}}"#)
}

fn status(agents: &[String]) -> String {
    format!(
        r#"{{"version": "0.1.0", "arch": "linux_amd64", "hostname": "web-17", "pid": 1, "since": 1, "server": "meta:1",
            "interval": 300, "hold": "", "heartbeat": {{"answered": 1, "next": 1, "error": ""}}, "refused": [],
            "agents": [{}]}}"#,
        agents.join(",")
    )
}

fn assert_shows(elements: &str, parts: &[&str]) {
    for part in parts {
        assert!(elements.contains(part), "no {part:?} in {elements}");
    }
}

#[test]
fn a_host_of_which_little_is_known_is_not_shown_as_well() {
    let unheard = status(&[]).replace("\"answered\": 1", "\"answered\": 0");
    let refusing =
        status(&[agent("well", "")]).replace("\"refused\": []", "\"refused\": [\"x: odd\"]");
    for (status, parts) in [
        (
            unheard,
            [
                "<title>… web-17</title>",
                ">it is not known which agents are desired</p>",
            ],
        ),
        (
            refusing,
            ["<title>✗ web-17</title>", ">✗ 1 of 1 healthy</p>"],
        ),
        (status(&[]), ["<title>✓ web-17</title>", ">no agents</p>"]),
    ] {
        let Some(found) = elements(page(), status, 100, 2) else {
            return;
        };
        assert_shows(&found, &parts);
    }
}

#[test]
fn the_page_says_what_is_wrong_without_a_click_and_not_by_colour_alone() {
    let agents = [
        agent("well", ""),
        agent(
            "ill",
            r#", "converged": false, "error": "cannot fetch <b>", "errorAt": 1, "retryAt": 99999999999"#,
        ),
        agent(
            "busy",
            r#", "converged": false, "phase": "downloading", "bytes": 1500000, "total": 6000000, "rate": 250000"#,
        ),
        agent("ended", r#", "cmd": "stop", "state": "stopped""#),
    ];
    let Some(found) = elements(page(), status(&agents), 100, 2) else {
        return;
    };
    assert_shows(
        &found,
        &[
            "<title>✗ web-17</title>",
            ">✗ 2 of 4 healthy, not ill, busy</p>",
            ">✓ started</td>",
            ">✗ started</td>",
            ">… started</td>",
            ">✓ stopped</td>",
            "ago: cannot fetch &lt;b&gt;\nnext try in ",
            "downloading 1.5 of 6.0 MB, 0.3 MB/s<progress",
            r#"max="6000000""#,
        ],
    );
    assert!(
        found.contains("error\" hidden"),
        "no filter for four agents"
    );
}

#[test]
fn a_page_of_many_agents_can_be_filtered() {
    let agents: Vec<String> = (0..20).map(|at| agent(&format!("agent{at}"), "")).collect();
    let page = page().replace("$('q').oninput", "$('q').value='AGENT1';$('q').oninput");
    let Some(found) = elements(page, status(&agents), 100, 2) else {
        return;
    };
    assert!(!found.contains("error\" hidden"), "the filter is there");
    // agent1 and agent10 to agent19.
    assert_eq!(found.matches(">✓ started</td>").count(), 11, "{found}");
    assert_shows(&found, &[">✓ 20 of 20 healthy</p>"]);
}

#[test]
fn a_page_whose_updater_is_silent_says_that_it_is_old() {
    let Some(found) = elements(page(), status(&[agent("well", "")]), 1, 8) else {
        return;
    };
    assert_shows(
        &found,
        &[
            "<body class=\"old\">",
            "; what is below is old: ",
            ">✓ started</td>",
        ],
    );
}

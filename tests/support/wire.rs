//! The texts between updater and ops-meta: entries and answers with the layout of the stock server, and requests as they
//! were received.

use super::json::{self, Json as _, quote};
use miniserde::json::Value;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// One entry of `desiredAgents`.
#[derive(Clone, Default)]
pub struct Desired {
    pub name: String,
    pub version: String,
    pub tarball: String,
    pub md5: String,
    pub cmd: String,
    pub run_user: String,
    pub work_dir: String,
    pub config_file_name: String,
    pub config_remote_url: String,
}

impl Desired {
    pub fn cmd(mut self, cmd: &str) -> Self {
        cmd.clone_into(&mut self.cmd);
        self
    }

    pub fn md5(mut self, md5: impl Into<String>) -> Self {
        self.md5 = md5.into();
        self
    }

    pub fn tarball(mut self, url: impl Into<String>) -> Self {
        self.tarball = url.into();
        self
    }

    pub fn work_dir(mut self, dir: &Path) -> Self {
        self.work_dir = dir.display().to_string();
        self
    }

    pub fn config(mut self, file_name: &str, url: impl Into<String>) -> Self {
        file_name.clone_into(&mut self.config_file_name);
        self.config_remote_url = url.into();
        self
    }

    /// Returns the entry with the layout of the stock server.
    pub fn json(&self) -> String {
        let fields = [
            ("name", &self.name),
            ("version", &self.version),
            ("tarball", &self.tarball),
            ("md5", &self.md5),
            ("cmd", &self.cmd),
            ("runUser", &self.run_user),
            ("workDir", &self.work_dir),
            ("configFileName", &self.config_file_name),
            ("configRemoteUrl", &self.config_remote_url),
        ];
        let lines = fields.map(|(key, value)| format!("      \"{key}\": {}", quote(value)));
        format!("    {{\n{}\n    }}", lines.join(",\n"))
    }
}

/// Returns the whole answer for these agents, byte for byte as the stock server writes it.
pub fn stock_answer(agents: &[Desired]) -> String {
    let entries: Vec<_> = agents.iter().map(Desired::json).collect();
    let list = if entries.is_empty() {
        "[]".to_owned()
    } else {
        format!("[\n{}\n  ]", entries.join(",\n"))
    };
    format!("{{\n  \"errorMessage\": \"\",\n  \"desiredAgents\": {list}\n}}")
}

/// An exact answer to a heartbeat.
#[derive(Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.into(),
        }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// A request as it was received, and its time.
#[derive(Clone)]
pub struct Seen {
    pub at: Instant,
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
    /// The body, parsed when it is first asked for. Clones share it: tests ask the same heartbeat again and again.
    pub parsed: Arc<OnceLock<Arc<Value>>>,
}

impl Seen {
    pub fn is_beat(&self) -> bool {
        self.method == "POST"
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Arc<Value> {
        let parse = || Arc::new(json::parse(&self.body));
        self.parsed.get_or_init(parse).clone()
    }

    /// Returns the part of a heartbeat about one agent. It is null if the heartbeat does not name the agent.
    pub fn agent(&self, name: &str) -> Value {
        let body = self.json();
        let mut agents = body.field("realAgents").items().iter();
        agents
            .find(|agent| agent.field("name").text() == name)
            .cloned()
            .unwrap_or(Value::Null)
    }
}

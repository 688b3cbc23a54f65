//! The status document as text: `status` prints it, and a round ends with its table. Pure.

use std::fmt::Write;

use super::current::is_known;
use crate::protocol::status::{AgentStatus, Status};
use crate::text::{printable, span, timestamp};

/// The columns of a terminal.
pub(super) const TERMINAL: usize = 80;
/// The title and the maximal width of each column on a terminal, where a longer text is cut.
const COLUMNS: [(&str, usize); 4] = [
    ("AGENT", 24),
    ("VERSION", 16),
    ("DESIRED", 16),
    ("STATE", 9),
];
/// A time that is ahead of the clock by more seconds was noted by a clock that was wrong.
const CLOCKS_DIFFER: u64 = 5;
const INDENT: &str = "    ";

const PLAIN: &str = "";
const BOLD: &str = "1";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";

#[derive(Clone, Copy)]
pub(super) struct Style {
    /// Seconds since 1970. Times are printed relative to it.
    pub(super) now: u64,
    pub(super) colours: bool,
    /// The columns of a line, `TERMINAL` or no limit: what reads a pipe wants a fact on one line, and names whole.
    pub(super) width: usize,
}

/// Returns the head and the table. `pid` is the daemon's, `None` if it does not run.
pub(super) fn page(status: &Status, pid: Option<u32>, style: Style) -> String {
    let mut page = Page {
        out: String::new(),
        style,
    };
    page.head(status, pid);
    page.out.push('\n');
    page.table(status, is_known(status));
    page.out
}

/// Returns the agents, one row each, with notes below it. `is_known` says that it is known which agents are desired.
pub(super) fn table(status: &Status, is_known: bool, style: Style) -> String {
    let mut page = Page {
        out: String::new(),
        style,
    };
    page.table(status, is_known);
    page.out
}

struct Page {
    out: String,
    style: Style,
}

impl Page {
    /// Writes `lead` and the text in lines of the width. All lines but the first are indented.
    fn put(&mut self, colour: &str, lead: &str, text: &str) {
        self.begin(colour, lead);
        let mut column = lead.chars().count();
        let mut is_begun = false;
        for word in printable(text).split_whitespace() {
            let width = word.chars().count();
            if is_begun && column + 1 + width > self.style.width {
                column = self.break_line(colour);
            } else if is_begun {
                self.out.push(' ');
                column += 1;
            }
            is_begun = true;
            // A word that is longer than a line, such as a URL, is broken, as the terminal would do.
            for c in word.chars() {
                if column >= self.style.width {
                    column = self.break_line(colour);
                }
                self.out.push(c);
                column += 1;
            }
        }
        while !is_begun && self.out.ends_with(' ') {
            self.out.pop();
        }
        self.end(colour);
    }

    fn begin(&mut self, colour: &str, lead: &str) {
        if self.style.colours && colour != PLAIN {
            let _ = write!(self.out, "\u{1b}[{colour}m");
        }
        self.out += lead;
    }

    fn end(&mut self, colour: &str) {
        if self.style.colours && colour != PLAIN {
            self.out += "\u{1b}[0m";
        }
        self.out.push('\n');
    }

    /// Returns the column in which the next line begins.
    fn break_line(&mut self, colour: &str) -> usize {
        self.end(colour);
        self.begin(colour, INDENT);
        INDENT.len()
    }

    /// Returns how long ago this was: `12s ago`.
    fn ago(&self, at: u64) -> String {
        match self.age(at) {
            Some(age) => format!("{age} ago"),
            None => format!(
                "at {}, in the future: the clock was set back",
                timestamp(at)
            ),
        }
    }

    /// Returns none for a time in the future. The daemon's clock may be ahead by some seconds.
    fn age(&self, at: u64) -> Option<String> {
        let now = self.style.now;
        (at <= now + CLOCKS_DIFFER).then(|| span(now.saturating_sub(at)))
    }

    fn head(&mut self, status: &Status, pid: Option<u32>) {
        let lead = format!("ops-updater {} ({}) ", status.version, status.arch);
        match pid {
            Some(pid) => {
                let since = timestamp(status.since);
                self.put(GREEN, &lead, &format!("running since {since}, pid {pid}"));
            }
            None => self.put(RED, &lead, "does not run; below is what it last knew"),
        }
        let server = match status.server.as_str() {
            "" => "none",
            server => server,
        };
        let server = format!("{server}, every {} s", status.interval);
        self.put(PLAIN, "server     ", &server);
        let heartbeat = &status.heartbeat;
        let mut words = match heartbeat.answered {
            0 if heartbeat.failures > 0 => "the server has never answered".to_owned(),
            0 => "no answer yet".to_owned(),
            at => format!("answered {}", self.ago(at)),
        };
        if pid.is_some() && heartbeat.next > self.style.now {
            let _ = write!(words, ", next in {}", span(heartbeat.next - self.style.now));
        }
        self.put(PLAIN, "heartbeat  ", &words);
        if !heartbeat.error.is_empty() {
            let error = format!(
                "{} failed in a row: {}",
                heartbeat.failures, heartbeat.error
            );
            self.put(RED, INDENT, &error);
        }
        self.health(status);
        if !status.hold.is_empty() {
            self.put(YELLOW, "held       ", &status.hold);
        }
        for refusal in &status.refused {
            self.put(PLAIN, "refused    ", refusal);
        }
    }

    /// Says how many agents run as desired, and which do not.
    fn health(&mut self, status: &Status) {
        let mut healthy = 0;
        let mut others = String::new();
        for agent in &status.agents {
            if agent.converged && agent.error.is_empty() {
                healthy += 1;
            } else {
                others += if others.is_empty() { ", not " } else { ", " };
                others += &agent.name;
            }
        }
        let colour = if others.is_empty() { GREEN } else { YELLOW };
        if !status.agents.is_empty() {
            let words = format!("{healthy} of {} healthy{others}", status.agents.len());
            self.put(colour, "agents     ", &words);
        }
    }

    fn table(&mut self, status: &Status, is_known: bool) {
        if status.agents.is_empty() {
            let text = if is_known {
                "no agents are desired on this host"
            } else {
                "it is not known which agents are desired on this host"
            };
            self.put(PLAIN, PLAIN, text);
            return;
        }
        let mut widths = COLUMNS.map(|(head, _)| head.len());
        for agent in &status.agents {
            for (at, cell) in cells(agent).iter().enumerate() {
                let most = if self.style.width == TERMINAL {
                    COLUMNS[at].1
                } else {
                    usize::MAX
                };
                widths[at] = cell.chars().count().max(widths[at]).min(most);
            }
        }
        let head = row(COLUMNS.map(|(head, _)| head), widths);
        self.put(BOLD, &head, "SINCE");
        for agent in &status.agents {
            let mut since = match agent.since {
                0 => String::new(),
                at => self.age(at).unwrap_or_else(|| timestamp(at)),
            };
            match agent.restarts {
                None | Some(0) => {}
                Some(1) => since += ", 1 restart",
                Some(times) => {
                    let _ = write!(since, ", {times} restarts");
                }
            }
            self.put(colour(agent), &row(cells(agent), widths), &since);
            self.notes(agent);
        }
    }

    fn notes(&mut self, agent: &AgentStatus) {
        if !agent.pinned.is_empty() {
            self.put(PLAIN, "    pinned to ", &agent.pinned);
        }
        if !agent.phase.is_empty() {
            self.put(PLAIN, INDENT, &agent.progress());
        } else if !agent.next.is_empty() {
            self.put(PLAIN, "    next: ", &agent.next);
        }
        let has_details = agent.state == "other" || agent.state == "unknown";
        if has_details && !agent.status.is_empty() {
            self.put(PLAIN, "    it reports: ", &agent.status);
        }
        // An agent that another updater manages has said so already, and has had no error.
        if agent.error_at != 0 && !agent.error.is_empty() {
            let error = format!("{}: {}", self.ago(agent.error_at), agent.error);
            self.put(PLAIN, INDENT, &error);
        }
        if agent.retry_at > self.style.now {
            let wait = span(agent.retry_at - self.style.now);
            let lead = if agent.error.is_empty() {
                "    due in "
            } else {
                "    next try in "
            };
            self.put(PLAIN, lead, &wait);
        }
    }
}

fn cells(agent: &AgentStatus) -> [&str; 4] {
    let version = match agent.version.as_str() {
        "" => "-",
        version => version,
    };
    let desired = match agent.cmd.as_str() {
        "stop" => "stop",
        _ => &agent.desired,
    };
    [&agent.name, version, desired, &agent.state]
}

fn row(cells: [&str; 4], widths: [usize; 4]) -> String {
    let mut row = String::new();
    for (at, &width) in widths.iter().enumerate() {
        let cell = printable(cells[at]);
        let mut column = 0;
        for c in cell.chars() {
            column += 1;
            if column == width && cell.len() > width {
                row.push('…');
                break;
            }
            row.push(c);
        }
        while column < width + 2 {
            row.push(' ');
            column += 1;
        }
    }
    row
}

fn colour(agent: &AgentStatus) -> &'static str {
    match (agent.converged, agent.error.is_empty()) {
        (true, true) => GREEN,
        // It runs now, and has died again and again.
        (true, false) | (false, true) => YELLOW,
        (false, false) => RED,
    }
}

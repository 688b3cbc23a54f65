//! The table that `status` prints and a round ends with: the status document in words for a terminal of 80 columns.
//! Pure: the time, and whether there are colours, are arguments.

use std::fmt::Write;

use crate::log::{printable, timestamp};
use crate::report::{AgentStatus, Status};

const WIDTH: usize = 80;
/// Each column, and how wide it is at most; what is longer is cut, `--json` has it whole.
const COLUMNS: [(&str, usize); 4] = [
    ("AGENT", 24),
    ("VERSION", 16),
    ("DESIRED", 16),
    ("STATE", 9),
];
const NOTE: &str = "    ";

const PLAIN: &str = "";
const BOLD: &str = "1";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";

/// How times and words are written.
#[derive(Clone, Copy)]
pub struct Style {
    pub now: u64,
    pub colours: bool,
}

/// The two largest units of so many seconds: `12s`, `4m 48s`, `2h 5m`, `3d 4h`.
pub fn span(seconds: u64) -> String {
    const UNITS: [(u64, char); 4] = [(86_400, 'd'), (3600, 'h'), (60, 'm'), (1, 's')];
    let mut at = 0;
    while at < 3 && seconds < UNITS[at].0 {
        at += 1;
    }
    let (size, unit) = UNITS[at];
    let mut words = format!("{}{unit}", seconds / size);
    if let Some((next, unit)) = UNITS.get(at + 1) {
        let _ = write!(words, " {}{unit}", seconds % size / next);
    }
    words
}

/// Megabytes with one digit behind the point.
fn megabytes(bytes: u64) -> String {
    format!("{}.{}", bytes / 1_000_000, bytes / 100_000 % 10)
}

/// `pid` is that of the daemon, none if it does not run.
pub fn page(status: &Status, pid: Option<u32>, style: Style) -> String {
    let mut page = Page {
        out: String::new(),
        style,
    };
    page.head(status, pid);
    page.out.push('\n');
    page.table(status);
    page.out
}

/// The agents, each with what there is to say of it below.
pub fn table(status: &Status, style: Style) -> String {
    let mut page = Page {
        out: String::new(),
        style,
    };
    page.table(status);
    page.out
}

struct Page {
    out: String,
    style: Style,
}

impl Page {
    /// What leads the line and the text behind it, in lines of at most 80 columns: the later ones are set in.
    fn put(&mut self, colour: &str, lead: &str, text: &str) {
        self.begin(colour, lead);
        let mut column = lead.chars().count();
        let mut is_begun = false;
        for word in printable(text).split_whitespace() {
            let width = word.chars().count();
            if is_begun && column + 1 + width > WIDTH {
                column = self.turn(colour);
            } else if is_begun {
                self.out.push(' ');
                column += 1;
            }
            is_begun = true;
            // One that is longer than a line, as a URL, is broken: no terminal can do it better.
            for c in word.chars() {
                if column >= WIDTH {
                    column = self.turn(colour);
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

    /// Tells the column in which the next line begins.
    fn turn(&mut self, colour: &str) -> usize {
        self.end(colour);
        self.begin(colour, NOTE);
        NOTE.len()
    }

    fn ago(&self, at: u64) -> String {
        span(self.style.now.saturating_sub(at))
    }

    fn head(&mut self, status: &Status, pid: Option<u32>) {
        let lead = format!("ops-updater {} ({}) ", status.version, status.arch);
        match pid {
            Some(pid) => {
                let since = timestamp(status.since);
                self.put(GREEN, &lead, &format!("running since {since}, pid {pid}"));
            }
            None => self.put(RED, &lead, "does not run; this is what it last knew"),
        }
        let server = match status.server.as_str() {
            "" => "none",
            server => server,
        };
        let server = format!("{server}, every {} s", status.interval);
        self.put(PLAIN, "server     ", &server);
        let beat = &status.heartbeat;
        let mut words = match beat.answered {
            0 => "no answer yet".to_owned(),
            at => format!("answered {} ago", self.ago(at)),
        };
        if pid.is_some() && beat.next > self.style.now {
            let _ = write!(words, ", next in {}", span(beat.next - self.style.now));
        }
        self.put(PLAIN, "heartbeat  ", &words);
        if !beat.error.is_empty() {
            let error = format!("{} failed in a row: {}", beat.failures, beat.error);
            self.put(RED, NOTE, &error);
        }
        if !status.hold.is_empty() {
            self.put(YELLOW, "held       ", &status.hold);
        }
        for refusal in &status.refused {
            self.put(PLAIN, "refused    ", refusal);
        }
    }

    fn table(&mut self, status: &Status) {
        if status.agents.is_empty() {
            self.put(PLAIN, PLAIN, "no agents are desired on this host");
            return;
        }
        let mut widths = COLUMNS.map(|(head, _)| head.len());
        for agent in &status.agents {
            for (at, cell) in cells(agent).into_iter().enumerate() {
                widths[at] = cell.len().max(widths[at]).min(COLUMNS[at].1);
            }
        }
        let head = row(COLUMNS.map(|(head, _)| head), widths);
        self.put(BOLD, &head, "SINCE");
        for agent in &status.agents {
            let since = match agent.since {
                0 => String::new(),
                at => self.ago(at),
            };
            self.put(colour(agent), &row(cells(agent), widths), &since);
            self.notes(agent);
        }
    }

    fn notes(&mut self, agent: &AgentStatus) {
        if !agent.pinned.is_empty() {
            self.put(PLAIN, "    pinned to ", &agent.pinned);
        }
        if !agent.phase.is_empty() {
            self.put(PLAIN, NOTE, &progress(agent));
        } else if !agent.next.is_empty() {
            self.put(PLAIN, "    next: ", &agent.next);
        }
        let says_more = agent.state == "other" || agent.state == "unknown";
        if says_more && !agent.status.is_empty() {
            self.put(PLAIN, "    it says: ", &agent.status);
        }
        if !agent.error.is_empty() {
            let error = format!("{} ago: {}", self.ago(agent.error_at), agent.error);
            self.put(PLAIN, NOTE, &error);
        }
        if agent.retry_at > self.style.now {
            let wait = span(agent.retry_at - self.style.now);
            self.put(PLAIN, "    next try in ", &wait);
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
    for (at, width) in widths.into_iter().enumerate() {
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
        (true, _) => GREEN,
        (false, true) => YELLOW,
        (false, false) => RED,
    }
}

/// `downloading 12.3 of 45.0 MB, 27 %, 3.2 MB/s`.
pub fn progress(agent: &AgentStatus) -> String {
    let mut words = agent.phase.clone();
    if agent.bytes > 0 {
        let _ = write!(words, " {}", megabytes(agent.bytes));
        match agent.bytes.saturating_mul(100).checked_div(agent.total) {
            Some(percent) => {
                let _ = write!(words, " of {} MB, {percent} %", megabytes(agent.total));
            }
            None => words += " MB",
        }
        if agent.rate > 0 {
            let _ = write!(words, ", {} MB/s", megabytes(agent.rate));
        }
    }
    words
}

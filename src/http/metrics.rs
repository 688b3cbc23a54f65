//! The status document in the text format 0.0.4 of Prometheus. Pure.
//! Names and labels are an interface: new ones may be added, existing ones never change.

use std::fmt::Write as _;

use crate::protocol::status::{AgentStatus, Status};

pub(super) const KIND: &str = "text/plain; version=0.0.4";

const STATES: [&str; 5] = ["started", "stopped", "other", "absent", "unknown"];

/// `now` is in seconds since 1970.
pub(super) fn page(status: &Status, now: u64) -> String {
    let mut page = Page::default();
    let (name, help) = (
        "ops_updater_build_info",
        "Version and arch of this updater.",
    );
    page.family(name, help, "gauge");
    page.sample(
        name,
        &[("version", &status.version), ("arch", &status.arch)],
        1,
    );
    write_heartbeats(status, now, &mut page);
    write_steps(status, &mut page);
    write_overrides(status, &mut page);
    write_agents(status, &mut page);
    write_each_agent(status, &mut page);
    page.out
}

fn write_heartbeats(status: &Status, now: u64, page: &mut Page) {
    let answered = status.heartbeat.answered;
    // An answer in the future was dated by a wrong clock. How old it is nobody knows.
    let dated_well = if answered > now { 0 } else { answered };
    page.gauge(
        "ops_updater_start_time_seconds",
        "When the updater was started, in seconds since 1970.",
        status.since,
    );
    page.gauge(
        "ops_updater_heartbeat_interval_seconds",
        "The configured interval between heartbeats.",
        status.interval,
    );
    page.gauge(
        "ops_updater_last_heartbeat_success_timestamp_seconds",
        "When the server last answered, in seconds since 1970; 0 for never.",
        answered,
    );
    page.gauge(
        "ops_updater_seconds_since_last_heartbeat_success",
        "Seconds since the last answer, or since the start of the updater if that is later.",
        // Counted from the start until the first answer, so that one alert also finds hosts that never had an answer.
        now.saturating_sub(dated_well.max(status.since)),
    );
    page.counter(
        "ops_updater_heartbeats_total",
        "Heartbeats that the server answered.",
        status.counts.heartbeats,
    );
    page.counter(
        "ops_updater_heartbeat_failures_total",
        "Heartbeats without a usable answer.",
        status.counts.heartbeat_failures,
    );
}

fn write_steps(status: &Status, page: &mut Page) {
    let counts = &status.counts;
    page.counters(
        "ops_updater_steps_total",
        "Steps that succeeded.",
        "kind",
        &[
            ("install", counts.installs),
            ("switch", counts.switches),
            ("start", counts.starts),
            ("stop", counts.stops),
            ("prune", counts.prunes),
        ],
    );
    page.counters(
        "ops_updater_step_failures_total",
        "Steps that failed, by what was at fault.",
        "kind",
        &[
            ("host", counts.host_failures),
            ("version", counts.version_failures),
        ],
    );
    page.counter(
        "ops_updater_rollbacks_total",
        "Times that a failed version gave way to the one before.",
        counts.rollbacks,
    );
    page.counter(
        "ops_updater_downloaded_bytes_total",
        "Bytes of releases that were downloaded.",
        counts.downloaded_bytes,
    );
}

fn write_overrides(status: &Status, page: &mut Page) {
    page.gauge(
        "ops_updater_held",
        "1 while an operator holds this host, else 0.",
        u64::from(!status.hold.is_empty()),
    );
    page.gauge(
        "ops_updater_refused_entries",
        "Entries of the last answer that were refused.",
        status.refused.len() as u64,
    );
}

fn write_agents(status: &Status, page: &mut Page) {
    let count = |is: &dyn Fn(&AgentStatus) -> bool| {
        let found = status.agents.iter().filter(|agent| is(agent));
        found.count() as u64
    };
    page.gauge(
        "ops_updater_agents_converged",
        "Agents that are in the desired state.",
        count(&|agent| agent.converged),
    );
    page.gauge(
        "ops_updater_agents_pinned",
        "Agents that an operator has pinned to a version.",
        count(&|agent| !agent.pinned.is_empty()),
    );
    page.gauge(
        "ops_updater_agents_with_error",
        "Agents with an error: a step failed, or they die again and again.",
        count(&|agent| !agent.error.is_empty()),
    );
    page.gauges(
        "ops_updater_agents",
        "Agents by observed state.",
        "state",
        &STATES.map(|state| (state, count(&|agent| agent.state == state))),
    );
}

/// Writes a sample for each agent. The labels of the first family are the information.
fn write_each_agent(status: &Status, page: &mut Page) {
    let (name, help) = (
        "ops_updater_agent_info",
        "Installed and desired version of each agent.",
    );
    page.family(name, help, "gauge");
    for agent in &status.agents {
        let labels = [
            ("name", agent.name.as_str()),
            ("version", &agent.version),
            ("desired", &agent.desired),
            ("state", &agent.state),
        ];
        page.sample(name, &labels, 1);
    }
    let (name, help) = (
        "ops_updater_agent_restarts_total",
        "Starts of each agent after it was found dead.",
    );
    page.family(name, help, "counter");
    for agent in &status.agents {
        let restarts = agent.restarts.unwrap_or_default();
        page.sample(name, &[("name", &agent.name)], restarts);
    }
}

/// A label and its value.
type Label<'a> = (&'a str, &'a str);

/// The page so far: metric families one after another, each with its samples below it.
#[derive(Default)]
struct Page {
    out: String,
}

impl Page {
    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, help, "gauge");
        self.sample(name, &[], value);
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, help, "counter");
        self.sample(name, &[], value);
    }

    /// Writes one sample for each value of the label.
    fn gauges(&mut self, name: &str, help: &str, label: &str, values: &[(&str, u64)]) {
        self.family(name, help, "gauge");
        for (text, value) in values {
            self.sample(name, &[(label, text)], *value);
        }
    }

    /// Writes one sample for each value of the label.
    fn counters(&mut self, name: &str, help: &str, label: &str, values: &[(&str, u64)]) {
        self.family(name, help, "counter");
        for (text, value) in values {
            self.sample(name, &[(label, text)], *value);
        }
    }

    fn family(&mut self, name: &str, help: &str, kind: &str) {
        let _ = writeln!(self.out, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[Label], value: u64) {
        self.out += name;
        let mut before = "{";
        for (label, text) in labels {
            let _ = write!(self.out, "{before}{label}=\"{}\"", escaped(text));
            before = ",";
        }
        if !labels.is_empty() {
            self.out.push('}');
        }
        let _ = writeln!(self.out, " {value}");
    }
}

/// Returns the value of a label as it is written between quotation marks.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\\' => out += "\\\\",
            '"' => out += "\\\"",
            '\n' => out += "\\n",
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(name: &str, state: &str) -> AgentStatus {
        AgentStatus {
            name: name.to_owned(),
            state: state.to_owned(),
            ..AgentStatus::default()
        }
    }

    fn status() -> Status {
        let mut status = Status {
            version: "1\"2\\3\n4".to_owned(),
            since: 100,
            hold: "a reason".to_owned(),
            agents: vec![agent("a", "started"), agent("b", "started")],
            ..Status::default()
        };
        status.agents[0].converged = true;
        status.agents[1].pinned = "1.0".to_owned();
        status.agents[1].restarts = Some(4);
        status.agents[1].error = "died 4 times".to_owned();
        status.counts.starts = 3;
        status.counts.version_failures = 2;
        status
    }

    #[test]
    fn every_sample_is_below_its_family() {
        let text = page(&status(), 160);
        for lines in [
            "# HELP ops_updater_build_info Version and arch of this updater.\n# TYPE ops_updater_build_info gauge\nops_updater_build_info{version=\"1\\\"2\\\\3\\n4\",arch=\"\"} 1\n",
            "# TYPE ops_updater_heartbeats_total counter\nops_updater_heartbeats_total 0\n",
            "_agents gauge\nops_updater_agents{state=\"started\"} 2\nops_updater_agents{state=\"stopped\"} 0\nops_updater_agents{state=\"other\"} 0\nops_updater_agents{state=\"absent\"} 0\nops_updater_agents{state=\"unknown\"} 0\n",
            "\nops_updater_agents_converged 1\n",
            "\nops_updater_agents_pinned 1\n",
            "\nops_updater_agents_with_error 1\n",
            "\nops_updater_agent_restarts_total{name=\"a\"} 0\nops_updater_agent_restarts_total{name=\"b\"} 4\n",
            "\nops_updater_held 1\n",
            "\nops_updater_steps_total{kind=\"start\"} 3\n",
            "\nops_updater_step_failures_total{kind=\"version\"} 2\n",
            "\nops_updater_agent_info{name=\"a\",version=\"\",desired=\"\",state=\"started\"} 1\nops_updater_agent_info{name=\"b\",",
        ] {
            assert!(text.contains(lines), "{lines}in {text}");
        }
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            let family = line.strip_prefix("# HELP ").expect("a family");
            let (name, _) = family.split_once(' ').expect("a name");
            let is_counter = name.ends_with("_total");
            let kind = if is_counter { "counter" } else { "gauge" };
            assert_eq!(lines.next(), Some(&*format!("# TYPE {name} {kind}")));
            let mut samples = 0;
            while let Some(sample) = lines.next_if(|line| !line.starts_with('#')) {
                let rest = sample.strip_prefix(name).expect("a sample");
                assert!(rest.starts_with([' ', '{']), "{sample}");
                samples += 1;
            }
            assert!(samples > 0, "{name}");
        }
        assert!(text.ends_with("\"} 4\n"));
    }

    #[test]
    fn the_age_of_the_last_answer_is_counted_from_the_start_until_there_is_one() {
        let mut status = status();
        for (answered, now, age) in [(0, 160, 60), (150, 160, 10), (150, 140, 40)] {
            status.heartbeat.answered = answered;
            let line = format!("\nops_updater_seconds_since_last_heartbeat_success {age}\n");
            assert!(page(&status, now).contains(&line), "{line}");
        }
    }
}

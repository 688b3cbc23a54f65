//! The status document in the text format 0.0.4 of Prometheus. Pure.
//! Names and labels are an interface: new ones may be added, existing ones never change. A name that is no longer good stays, and
//! its help names the better one.

use std::fmt::Write as _;

use crate::model::Step;
use crate::os::usage::Usage;
use crate::protocol::status::{AgentStatus, Counts, Status};

pub(super) const KIND: &str = "text/plain; version=0.0.4";

const STATES: [&str; 5] = ["started", "stopped", "other", "absent", "unknown"];

/// The values of the labels of steps.
const STEPS: [&str; 5] = ["install", "switch", "start", "stop", "prune"];

/// The steps that failed since the start of the daemon.
#[derive(Default)]
pub struct Failures([u64; STEPS.len()]);

impl Failures {
    pub fn count(&mut self, step: &Step) {
        let at = match step {
            Step::Install(_) => 0,
            Step::Switch { .. } => 1,
            Step::Start(_) => 2,
            Step::Stop(_) => 3,
            Step::Prune(_) => 4,
        };
        self.0[at] += 1;
    }
}

/// `now` is in seconds since 1970.
pub(super) fn page(
    status: &Status,
    now: u64,
    failures: &Failures,
    usage: Option<&Usage>,
) -> String {
    let mut page = Page::default();
    let name = page.family("ops_updater_build_info Version and arch of this updater.");
    page.sample(
        name,
        &[("version", &status.version), ("arch", &status.arch)],
        1,
    );
    write_process(status, usage, &mut page);
    write_heartbeats(status, now, &mut page);
    write_steps(&status.counts, failures, &mut page);
    write_releases(&status.counts, &mut page);
    write_overrides(status, &mut page);
    write_agents(status, &mut page);
    write_each_agent(status, &mut page);
    page.out
}

/// Writes what clients of Prometheus tell of every process, under the same names.
fn write_process(status: &Status, usage: Option<&Usage>, page: &mut Page) {
    page.single(
        "process_start_time_seconds Start of the updater, in seconds since 1970.",
        status.since,
    );
    let Some(usage) = usage else {
        return;
    };
    let name = page.family("process_cpu_seconds_total CPU time, that of children not included.");
    let (seconds, ticks) = (usage.cpu_ticks / 100, usage.cpu_ticks % 100);
    let _ = writeln!(page.out, "{name} {seconds}.{ticks:02}");
    page.single(
        "process_resident_memory_bytes Memory in use.",
        usage.resident_bytes,
    );
    page.single("process_open_fds Open file descriptors.", usage.open_fds);
    page.single(
        "process_max_fds Limit of open file descriptors.",
        usage.max_fds,
    );
}

fn write_heartbeats(status: &Status, now: u64, page: &mut Page) {
    let answered = status.heartbeat.answered;
    // An answer in the future was dated by a wrong clock. How old it is nobody knows.
    let dated_well = if answered > now { 0 } else { answered };
    page.single(
        "ops_updater_start_time_seconds Deprecated: use process_start_time_seconds.",
        status.since,
    );
    page.single(
        "ops_updater_heartbeat_interval_seconds The configured interval between heartbeats.",
        status.interval,
    );
    page.single(
        "ops_updater_last_heartbeat_success_timestamp_seconds When the server last answered, in seconds since 1970; 0 for never.",
        answered,
    );
    // Counted from the start until the first answer, so that one alert also finds hosts that never had an answer.
    let age = now.saturating_sub(dated_well.max(status.since));
    page.single(
        "ops_updater_last_answer_age_seconds Time since the last answer, or since the start if that is later.",
        age,
    );
    page.single(
        "ops_updater_seconds_since_last_heartbeat_success Deprecated: use ops_updater_last_answer_age_seconds.",
        age,
    );
    page.single(
        "ops_updater_heartbeats_total Heartbeats that the server answered.",
        status.counts.heartbeats,
    );
    page.single(
        "ops_updater_heartbeat_failures_total Heartbeats without a usable answer.",
        status.counts.heartbeat_failures,
    );
}

/// Writes the attempts of each step and those that failed, so that a ratio is one division.
fn write_steps(counts: &Counts, failures: &Failures, page: &mut Page) {
    let succeeded = [
        counts.installs,
        counts.switches,
        counts.starts,
        counts.stops,
        counts.prunes,
    ];
    let mut attempts = succeeded;
    for (attempts, failed) in attempts.iter_mut().zip(&failures.0) {
        *attempts += failed;
    }
    page.by(
        "step",
        &STEPS,
        "ops_updater_step_attempts_total Steps, those that failed too.",
        &attempts,
    );
    page.by(
        "step",
        &STEPS,
        "ops_updater_step_attempt_failures_total Steps that failed.",
        &failures.0,
    );
    page.by(
        "kind",
        &STEPS,
        "ops_updater_steps_total Deprecated: use ops_updater_step_attempts_total.",
        &succeeded,
    );
    page.by(
        "kind",
        &["host", "version"],
        "ops_updater_step_failures_total Steps that failed, by fault.",
        &[counts.host_failures, counts.version_failures],
    );
}

fn write_releases(counts: &Counts, page: &mut Page) {
    page.single(
        "ops_updater_rollbacks_total Times that a failed version gave way to the one before.",
        counts.rollbacks,
    );
    page.single(
        "ops_updater_downloaded_bytes_total Bytes of releases that were downloaded.",
        counts.downloaded_bytes,
    );
}

fn write_overrides(status: &Status, page: &mut Page) {
    page.single(
        "ops_updater_held 1 while an operator holds this host, else 0.",
        u64::from(!status.hold.is_empty()),
    );
    page.single(
        "ops_updater_refused_entries Entries of the last answer that were refused.",
        status.refused.len() as u64,
    );
}

fn write_agents(status: &Status, page: &mut Page) {
    let count = |is: &dyn Fn(&AgentStatus) -> bool| {
        let found = status.agents.iter().filter(|agent| is(agent));
        found.count() as u64
    };
    page.single(
        "ops_updater_agents_converged Agents that are in the desired state.",
        count(&|agent| agent.converged),
    );
    page.single(
        "ops_updater_agents_pinned Agents that an operator has pinned to a version.",
        count(&|agent| !agent.pinned.is_empty()),
    );
    page.single(
        "ops_updater_agents_with_error Agents with an error.",
        count(&|agent| !agent.error.is_empty()),
    );
    page.by(
        "state",
        &STATES,
        "ops_updater_agents Agents by observed state.",
        &STATES.map(|state| count(&|agent| agent.state == state)),
    );
}

/// Writes a sample for each agent. The labels of the first family are the information.
fn write_each_agent(status: &Status, page: &mut Page) {
    let name = page.family("ops_updater_agent_info Installed and desired version of each agent.");
    for agent in &status.agents {
        let labels = [
            ("name", agent.name.as_str()),
            ("version", &agent.version),
            ("desired", &agent.desired),
            ("state", &agent.state),
        ];
        page.sample(name, &labels, 1);
    }
    page.by_agent(
        "ops_updater_agent_converged 1 if the agent is in its desired state.",
        &status.agents,
        &|agent| agent.converged.into(),
    );
    page.by_agent(
        "ops_updater_agent_crash_loop 1 if the agent died so often that it is started hourly only.",
        &status.agents,
        &|agent| agent.crash_loop.unwrap_or_default().into(),
    );
    page.by_agent(
        "ops_updater_agent_restarts_total Starts of each agent after it was found dead.",
        &status.agents,
        &|agent| agent.restarts.unwrap_or_default(),
    );
}

/// A label and its value.
type Label<'a> = (&'a str, &'a str);

/// The page so far: metric families one after another, each with its samples below it. A family is given as its name, a space and
/// its help.
#[derive(Default)]
struct Page {
    out: String,
}

impl Page {
    fn single(&mut self, family: &str, value: u64) {
        let name = self.family(family);
        self.sample(name, &[], value);
    }

    /// Writes one sample for each value of the label.
    fn by(&mut self, label: &str, texts: &[&str], family: &str, values: &[u64]) {
        let name = self.family(family);
        for (text, value) in texts.iter().zip(values) {
            self.sample(name, &[(label, text)], *value);
        }
    }

    fn by_agent(
        &mut self,
        family: &str,
        agents: &[AgentStatus],
        value: &dyn Fn(&AgentStatus) -> u64,
    ) {
        let name = self.family(family);
        for agent in agents {
            self.sample(name, &[("name", &agent.name)], value(agent));
        }
    }

    /// Begins a family and returns its name. By convention the names of counters, and no others, end in `_total`.
    fn family<'a>(&mut self, family: &'a str) -> &'a str {
        let (name, _) = family.split_once(' ').unwrap_or((family, ""));
        let is_counter = name.ends_with("_total");
        let kind = if is_counter { "counter" } else { "gauge" };
        let _ = writeln!(self.out, "# HELP {family}\n# TYPE {name} {kind}");
        name
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
    use crate::model::Version;

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
        status.agents[1].crash_loop = Some(true);
        status.agents[1].error = "died 4 times".to_owned();
        status.counts.heartbeats = 5;
        status.counts.heartbeat_failures = 2;
        status.counts.starts = 3;
        status.counts.version_failures = 2;
        status
    }

    #[test]
    fn every_sample_is_below_its_family() {
        let mut failures = Failures::default();
        let version = Version::parse("1").expect("a version");
        failures.count(&Step::Stop(version));
        let usage = Usage {
            cpu_ticks: 100_203,
            resident_bytes: 1_200_000,
            open_fds: 12,
            max_fds: 1024,
        };
        let text = page(&status(), 160, &failures, Some(&usage));
        for lines in [
            "# HELP ops_updater_build_info Version and arch of this updater.\n# TYPE ops_updater_build_info gauge\nops_updater_build_info{version=\"1\\\"2\\\\3\\n4\",arch=\"\"} 1\n",
            "# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total 1002.03\n",
            "# TYPE process_open_fds gauge\nprocess_open_fds 12\n",
            "\nops_updater_heartbeat_failures_total 2\n",
            "# TYPE ops_updater_heartbeats_total counter\nops_updater_heartbeats_total 5\n",
            "\nops_updater_step_attempts_total{step=\"start\"} 3\nops_updater_step_attempts_total{step=\"stop\"} 1\n",
            "\nops_updater_step_attempt_failures_total{step=\"stop\"} 1\nops_updater_step_attempt_failures_total{step=\"prune\"} 0\n",
            "\nops_updater_agent_converged{name=\"a\"} 1\nops_updater_agent_converged{name=\"b\"} 0\n",
            "\nops_updater_agent_crash_loop{name=\"a\"} 0\nops_updater_agent_crash_loop{name=\"b\"} 1\n",
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
            let line = format!("\nops_updater_last_answer_age_seconds {age}\n");
            let page = page(&status, now, &Failures::default(), None);
            assert!(page.contains(&line), "{line}");
        }
    }
}

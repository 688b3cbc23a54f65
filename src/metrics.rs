//! The status as Prometheus wants it, in its text format 0.0.4. Pure. Names and labels are an interface: they may be added
//! to, and do not change; metrics.txt has them all.

use crate::report::Status;
use crate::texts::{self, Name};

pub const KIND: &str = "text/plain; version=0.0.4";

/// In the order of `values`.
const STATES: [&str; 5] = ["started", "stopped", "other", "absent", "unknown"];

pub fn write(status: &Status, now: u64, out: &mut String) {
    let template = texts::text(Name::Metrics);
    let labels = [status.version.as_str(), &status.arch];
    let agent = texts::fill(&template, &labels, &values(status, now), out);
    for it in &status.agents {
        let labels = [it.name.as_str(), &it.version, &it.desired, &it.state];
        texts::fill(agent, &labels, &[], out);
    }
}

fn values(status: &Status, now: u64) -> [u64; 24] {
    let counts = &status.counts;
    let beat = &status.heartbeat;
    let (mut converged, mut pinned, mut seen) = (0, 0, [0; STATES.len()]);
    for agent in &status.agents {
        converged += u64::from(agent.converged);
        pinned += u64::from(!agent.pinned.is_empty());
        if let Some(at) = STATES.iter().position(|state| *state == agent.state) {
            seen[at] += 1;
        }
    }
    [
        status.since,
        status.interval,
        beat.answered,
        // Until the first answer from its start on, so that one limit finds those hosts, too, that never had any.
        now.saturating_sub(beat.answered.max(status.since)),
        counts.heartbeats,
        counts.heartbeat_failures,
        counts.installs,
        counts.switches,
        counts.starts,
        counts.stops,
        counts.prunes,
        counts.host_failures,
        counts.version_failures,
        counts.rollbacks,
        counts.downloaded_bytes,
        u64::from(!status.hold.is_empty()),
        status.refused.len() as u64,
        converged,
        pinned,
        seen[0],
        seen[1],
        seen[2],
        seen[3],
        seen[4],
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::AgentStatus;

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
        status.counts.starts = 3;
        status.counts.version_failures = 2;
        status
    }

    fn text(status: &Status, now: u64) -> String {
        let mut out = String::new();
        write(status, now, &mut out);
        out
    }

    #[test]
    fn every_sample_stands_below_its_family() {
        let text = text(&status(), 160);
        for lines in [
            "# HELP ops_updater_build_info The updater that answers.\n# TYPE ops_updater_build_info gauge\nops_updater_build_info{version=\"1\\\"2\\\\3\\n4\",arch=\"\"} 1\n",
            "# TYPE ops_updater_heartbeats_total counter\nops_updater_heartbeats_total 0\n",
            "_agents gauge\nops_updater_agents{state=\"started\"} 2\nops_updater_agents{state=\"stopped\"} 0\nops_updater_agents{state=\"other\"} 0\nops_updater_agents{state=\"absent\"} 0\nops_updater_agents{state=\"unknown\"} 0\n",
            "\nops_updater_agents_converged 1\n",
            "\nops_updater_agents_pinned 1\n",
            "\nops_updater_held 1\n",
            "\nops_updater_steps_total{kind=\"start\"} 3\n",
            "\nops_updater_step_failures_total{kind=\"version\"} 2\n",
            "\nops_updater_agent_info{name=\"a\",version=\"\",desired=\"\",state=\"started\"} 1\nops_updater_agent_info{name=\"b\",",
        ] {
            assert!(text.contains(lines), "{lines}in {text}");
        }
        assert!(!text.contains(['%', '$', '|']));
        let template = texts::text(Name::Metrics);
        assert_eq!(template.matches('%').count(), values(&status(), 160).len());
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
        assert!(text.ends_with("\"} 1\n"));
    }

    #[test]
    fn the_age_of_the_last_answer_is_counted_from_the_start_until_there_is_one() {
        let mut status = status();
        for (answered, now, age) in [(0, 160, 60), (150, 160, 10), (150, 140, 0)] {
            status.heartbeat.answered = answered;
            let line = format!("\nops_updater_seconds_since_last_heartbeat_success {age}\n");
            assert!(text(&status, now).contains(&line), "{line}");
        }
    }
}

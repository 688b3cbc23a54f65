//! Tests the alerts of contrib/prometheus and docs/SECURITY.md with the metrics of the real binary.

use crate::support::host::Host;
use crate::support::http::get;
use crate::support::platform::skipped;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

const RULES: &str = include_str!("../../contrib/prometheus/ops-updater.rules.yml");
const OPERATING: &str = include_str!("../../docs/OPERATING.md");
const SECURITY: &str = include_str!("../../docs/SECURITY.md");

/// Returns the alerts of contrib without what is said to people, followed by those of the document.
fn rules() -> String {
    let mut rules = String::new();
    let mut is_annotation = false;
    for line in RULES.lines() {
        let is_deeper = line.starts_with("          ");
        is_annotation = line.trim() == "annotations:" || is_annotation && is_deeper;
        if !is_annotation {
            rules += line;
            rules.push('\n');
        }
    }
    for block in SECURITY.split("```yaml\n- alert:").skip(1) {
        let (block, _) = block.split_once("```").expect("an end");
        for line in format!("- alert:{block}").lines() {
            for part in ["      ", line, "\n"] {
                rules += part;
            }
        }
    }
    rules
}

/// Returns each name of a metric of ours in a text.
pub(super) fn metrics(text: &str) -> Vec<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words
        .filter(|word| word.starts_with("ops_updater_") || word.starts_with("process_"))
        .collect()
}

/// Runs promtool in a directory. Returns false if there is none.
#[track_caller]
pub(super) fn promtool(dir: &Path, words: &[&str]) -> bool {
    let output = Command::new("promtool")
        .args(words)
        .current_dir(dir)
        .output();
    match output {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            skipped("there is no promtool (Debian: prometheus) to check the alerts with");
            false
        }
        output => {
            let output = output.expect("it runs");
            let text = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&text);
            assert!(output.status.success(), "{text}");
            true
        }
    }
}

/// One host of a fleet: samples of its metrics, and what becomes of them.
struct Series<'a>(&'a str, String, &'a str);

impl Series<'_> {
    fn yaml(&self) -> String {
        let Self(instance, sample, values) = self;
        let (sample, _) = sample.rsplit_once(' ').unwrap_or((sample, ""));
        let series = match sample.split_once('{') {
            Some((name, labels)) => format!("{name}{{instance=\"{instance}\",{labels}"),
            None => format!("{sample}{{instance=\"{instance}\"}}"),
        };
        format!("  - series: '{series}'\n    values: '{values}'\n")
    }
}

/// Returns a test: with these series the alert is silent until the first time, and fires with these labels at the second.
fn case(series: &[Series], alert: &str, silent: &str, fires: &str, labels: &str) -> String {
    let series: String = series.iter().map(Series::yaml).collect();
    format!(
        "- interval: 1m\n  input_series:\n{series}  alert_rule_test:\n  \
         - {{eval_time: {silent}, alertname: {alert}, exp_alerts: []}}\n  \
         - {{eval_time: {fires}, alertname: {alert}, exp_alerts: [{labels}]}}\n"
    )
}

#[test]
fn an_alert_fires_when_a_server_freezes_replays_goes_silent_or_divides_the_fleet() {
    let (host, addr) = Host::answering_with_demo();
    let page = get(&addr, "/metrics").body;
    let sample = |name: &str| {
        let mut lines = page.lines();
        let line = lines.find(|line| line.starts_with(name) && !line.starts_with('#'));
        line.expect(name).to_owned()
    };
    let rules = rules();
    for name in metrics(&rules) {
        sample(name);
    }
    assert_eq!(rules.matches("- alert:").count(), 11, "{rules}");
    fs::write(host.dir.join("rules.yml"), &rules).expect("a file");
    if !promtool(&host.dir, &["check", "rules", "rules.yml"]) {
        return;
    }
    let info = || sample("ops_updater_agent_info{");
    let other = info().replace("desired=\"1.0.0\"", "desired=\"0.9.0\"");
    let released = |version: &str| format!("release_info{{name=\"demo\",version=\"{version}\"}} 1");
    let old = [
        Series("a", info(), "1x600"),
        Series("pipeline", released("1.1.0"), "1x600"),
    ];
    let new = [
        Series("a", info(), "1x600"),
        Series("pipeline", released("1.0.0"), "1x600"),
    ];
    let divided = [Series("a", info(), "1x600"), Series("b", other, "1x600")];
    let silent = [
        Series("a", sample("ops_updater_last_answer_age"), "0+60x60"),
        Series("a", sample("ops_updater_heartbeat_interval"), "300x60"),
    ];
    let refusing = [Series("a", sample("ops_updater_refused_entries"), "1x60")];
    let labels = |labels: &str| format!("{{exp_labels: {{{labels}}}}}");
    let frozen = labels("instance: a, name: demo, version: 1.0.0, desired: 1.0.0, state: started");
    let silence = labels("instance: a, severity: critical");
    let refusal = labels("instance: a, severity: warning");
    let cases = [
        case(&old, "OpsUpdaterFrozen", "5h", "7h", &frozen),
        case(&new, "OpsUpdaterFrozen", "5h", "7h", ""),
        case(&new, "OpsUpdaterVersionsDiffer", "5h", "7h", ""),
        case(
            &divided,
            "OpsUpdaterVersionsDiffer",
            "5h",
            "7h",
            &labels("name: demo"),
        ),
        case(&silent, "OpsUpdaterSilent", "14m", "25m", &silence),
        case(
            &refusing,
            "OpsUpdaterRefusesEntries",
            "10m",
            "20m",
            &refusal,
        ),
    ];
    let head = "rule_files: [rules.yml]\nevaluation_interval: 1m\ntests:\n";
    fs::write(
        host.dir.join("tests.yml"),
        head.to_owned() + &cases.concat(),
    )
    .expect("a file");
    promtool(&host.dir, &["test", "rules", "tests.yml"]);
}

#[test]
fn every_alert_is_silent_until_its_time_has_come() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/prometheus");
    promtool(&dir, &["test", "rules", "ops-updater.test.yml"]);
}

#[test]
fn the_document_for_operators_lists_every_metric_and_no_other() {
    let (_host, addr) = Host::answering_with_demo();
    let page = get(&addr, "/metrics").body;
    let families = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let mut sent: Vec<&str> = families
        .map(|family| family.split(' ').next().expect("a name"))
        .collect();
    let (_, section) = OPERATING
        .split_once("### Prometheus and Grafana")
        .expect("a section");
    let (section, _) = section.split_once("\n## ").expect("an end");
    let mut listed = metrics(section);
    sent.sort_unstable();
    listed.sort_unstable();
    listed.dedup();
    assert_eq!(listed, sent);
}

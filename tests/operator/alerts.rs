//! Tests the alerts of docs/OPERATING.md and docs/SECURITY.md with the metrics of the real binary.

use crate::support::host::Host;
use crate::support::http::get;
use crate::support::platform::skipped;
use std::fs;
use std::io::ErrorKind;
use std::process::Command;

const PAGES: [&str; 2] = [
    include_str!("../../docs/OPERATING.md"),
    include_str!("../../docs/SECURITY.md"),
];

/// Returns the alerts of the pages as one group of rules.
fn rules() -> String {
    let mut rules = "groups:\n- name: documents\n  rules:\n".to_owned();
    for page in PAGES {
        for block in page.split("```yaml\n- alert:").skip(1) {
            let (block, _) = block.split_once("```").expect("an end");
            for line in format!("- alert:{block}").lines() {
                for part in ["  ", line, "\n"] {
                    rules += part;
                }
            }
        }
    }
    rules
}

/// Returns each word that begins like our metrics.
fn metrics(rules: &str) -> Vec<&str> {
    let words = rules.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words
        .filter(|word| word.starts_with("ops_updater_"))
        .collect()
}

/// Runs promtool in the sandbox. Returns false if there is none.
#[track_caller]
fn promtool(host: &Host, words: &[&str]) -> bool {
    let output = Command::new("promtool")
        .args(words)
        .current_dir(&host.dir)
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
    assert_eq!(rules.matches("- alert:").count(), 6, "{rules}");
    fs::write(host.dir.join("rules.yml"), &rules).expect("a file");
    if !promtool(&host, &["check", "rules", "rules.yml"]) {
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
        Series("a", sample("ops_updater_seconds_since_last"), "0+60x60"),
        Series("a", sample("ops_updater_heartbeat_interval"), "300x60"),
    ];
    let refusing = [Series("a", sample("ops_updater_refused_entries"), "1x60")];
    let labels = |labels: &str| format!("{{exp_labels: {{{labels}}}}}");
    let frozen = labels("instance: a, name: demo, version: 1.0.0, desired: 1.0.0, state: started");
    let on_a = labels("instance: a");
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
        case(&silent, "OpsUpdaterSilent", "14m", "20m", &on_a),
        case(&refusing, "OpsUpdaterRefusesEntries", "10m", "20m", &on_a),
    ];
    let head = "rule_files: [rules.yml]\nevaluation_interval: 1m\ntests:\n";
    fs::write(
        host.dir.join("tests.yml"),
        head.to_owned() + &cases.concat(),
    )
    .expect("a file");
    promtool(&host, &["test", "rules", "tests.yml"]);
}

//! Tests the dashboard of contrib/grafana: it asks only for what the updater sends, and loads with any data source.

use super::alerts::{metrics, promtool};
use crate::support::host::Host;
use crate::support::http::get;
use crate::support::json::{Json as _, parse, quote};
use miniserde::json::Value;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;

const DASHBOARD: &str = include_str!("../../contrib/grafana/ops-updater.json");

/// Returns the queries of all panels and variables, with a host, an agent and a time in place of the variables.
fn queries(dashboard: &Value) -> Vec<String> {
    let panels = dashboard.field("panels").items().iter();
    let targets = panels.flat_map(|panel| panel.field("targets").items());
    let mut queries: Vec<&str> = targets.map(|target| target.field("expr").text()).collect();
    let variables = dashboard.field("templating").field("list").items().iter();
    let variables = variables.filter(|variable| variable.field("type").text() == "query");
    for variable in variables {
        let query = variable.field("query").field("query").text();
        let query = query.strip_prefix("label_values(").expect("a query");
        queries.push(query.rsplit_once(", ").expect("a label").0);
    }
    let mut plain = Vec::new();
    for query in queries {
        let query = query.replace("$host", "a:2001").replace("$agent", "demo");
        plain.push(query.replace("$__rate_interval", "5m"));
    }
    plain
}

#[test]
fn every_query_asks_for_what_the_updater_sends_and_is_valid() {
    let (host, addr) = Host::answering_with_demo();
    let page = get(&addr, "/metrics").body;
    let queries = queries(&parse(DASHBOARD));
    let mut rules = "groups:\n- name: dashboard\n  rules:\n".to_owned();
    for (at, query) in queries.iter().enumerate() {
        assert!(!query.is_empty() && !query.contains('$'), "{query}");
        for name in metrics(query) {
            let family = format!("\n# TYPE {name} ");
            assert!(page.contains(&family), "{name} in {page}");
        }
        let query = quote(query);
        let _ = writeln!(rules, "  - {{record: query{at}, expr: {query}}}");
    }
    fs::write(host.dir.join("rules.yml"), rules).expect("a file");
    promtool(&host.dir, &["check", "rules", "rules.yml"]);
}

#[test]
fn every_panel_has_a_place_of_its_own_and_takes_the_data_source_that_was_chosen() {
    let dashboard = parse(DASHBOARD);
    assert!(dashboard.field("schemaVersion").number() >= Some(39));
    assert!(
        !dashboard.has("id"),
        "Grafana would replace another dashboard"
    );
    let variables = dashboard.field("templating").field("list").items();
    assert_eq!(variables[0].field("name").text(), "datasource");
    assert_eq!(variables[0].field("type").text(), "datasource");
    let mut ids = BTreeSet::new();
    let mut cells = BTreeSet::new();
    for panel in dashboard.field("panels").items() {
        let title = panel.field("title").text();
        assert!(!panel.field("description").text().is_empty(), "{title}");
        assert!(ids.insert(panel.field("id").number().expect("an id")));
        for asks in panel.field("targets").items().iter().chain([panel]) {
            let source = asks.field("datasource").field("uid").text();
            assert_eq!(source, "${datasource}", "{title}");
        }
        let [x, y, width, height] = ["x", "y", "w", "h"].map(|key| {
            let place = panel.field("gridPos").field(key);
            place.number().expect("a number")
        });
        assert!(x + width <= 24, "{title}");
        for cell in (x..x + width).flat_map(|x| (y..y + height).map(move |y| (x, y))) {
            assert!(cells.insert(cell), "{title} lies over another panel");
        }
    }
}

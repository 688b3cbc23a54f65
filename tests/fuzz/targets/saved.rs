//! `desired_agent.json`: written by us, by the original updater or by an operator's editor.
#![no_main]

use std::fs;

use libfuzzer_sys::fuzz_target;
use ops_updater::daemon::state::State;
use ops_updater::model::Own;
use ops_updater::protocol::desired;
use ops_updater_fuzz::bench;

fuzz_target!(|bytes: &[u8]| {
    let dir = bench::dir("saved");
    let own = Own {
        dir: dir.to_string_lossy().into_owned(),
        user: "root".to_owned(),
    };
    let wanted = std::str::from_utf8(bytes)
        .ok()
        .and_then(desired::saved)
        .map(|entries| bench::check_entries(entries, &own));
    let file = dir.join("desired_agent.json");
    bench::put(&file, bytes);
    let state = State::load(&dir, &own.user, bench::NOW);
    let names: Vec<String> = state.names().iter().map(ToString::to_string).collect();
    let wanted: Vec<String> = wanted
        .into_iter()
        .flatten()
        .map(|desired| desired.wire.name)
        .collect();
    assert_eq!(names, wanted);
    let after = fs::read(&file).expect("it stays");
    assert_eq!(after, bytes, "loading changes nothing");
});

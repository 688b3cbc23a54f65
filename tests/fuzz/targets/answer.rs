//! The body of a server's answer to a heartbeat.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ops_updater::protocol::desired;
use ops_updater_fuzz::bench;

fuzz_target!(|body: &[u8]| {
    match desired::answer(200, "OK", body) {
        Ok(entries) => drop(bench::check_entries(entries, &bench::own())),
        Err(error) => bench::check_words(&error, 300),
    }
    let error = desired::answer(500, &String::from_utf8_lossy(body), body);
    bench::check_words(&error.expect_err("a 500 is no answer"), 100);
});

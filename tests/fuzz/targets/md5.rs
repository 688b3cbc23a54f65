//! The `.md5` file of a release store.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ops_updater::net::digest;
use ops_updater_fuzz::bench;

fuzz_target!(|body: &[u8]| {
    if let Some(digest) = digest::parse(body) {
        bench::check_md5(&digest);
        let is_it = |window: &[u8]| window.eq_ignore_ascii_case(digest.as_bytes());
        assert!(body.windows(32).any(is_it), "{digest} is not there");
    }
});

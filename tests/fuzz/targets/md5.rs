//! The `.md5` file of a release store.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ops_updater::net::digest;
use ops_updater_fuzz::bench;

fuzz_target!(|body: &[u8]| {
    match digest::parse(body, "demo-1.0.1.tar.gz") {
        Ok(digest) => {
            bench::check_md5(&digest);
            let is_it = |window: &[u8]| window.eq_ignore_ascii_case(digest.as_bytes());
            // In UTF-16 each second byte is zero.
            let plain: Vec<u8> = body.iter().copied().filter(|byte| *byte != 0).collect();
            assert!(plain.windows(32).any(is_it), "{digest} is not there");
        }
        Err(cause) => assert!(!cause.contains('\n') && cause.len() < 800, "{cause}"),
    }
});

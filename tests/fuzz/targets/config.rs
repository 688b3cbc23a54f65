//! cfg.json, as an operator writes it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ops_updater::model::is_url;
use ops_updater::store::config::Source;
use ops_updater_fuzz::bench;

fuzz_target!(|bytes: &[u8]| {
    let file = bench::dir("config").join("cfg.json");
    bench::put(&file, bytes);
    let source = Source::new(&file).expect("an absolute path");
    match source.load() {
        Err(error) => {
            let error = error.to_string();
            assert!(!error.contains('\n'), "{error}");
            assert!(error.contains("cfg.json"), "{error}");
        }
        Ok(config) => {
            assert!((1..=86_400).contains(&config.interval.as_secs()));
            assert_eq!(config.interval.subsec_nanos(), 0);
            assert!(is_url(&config.url), "{}", config.url);
            let schemes = ["http://", "https://"];
            let mut rests = schemes.iter().filter_map(|it| config.url.strip_prefix(it));
            let host = rests.next().expect("a URL").split('/').next();
            let host = host.unwrap_or_default();
            assert!(!host.is_empty() && !host.contains(['@', '[', '#', '?', ' ']));
            assert!(config.sudo.starts_with('/'), "{}", config.sudo);
            assert!(config.ip.is_empty() || config.ip.parse::<std::net::IpAddr>().is_ok());
            for text in [&config.hostname, &config.ip, &config.sudo, &config.server] {
                bench::check_words(text, bytes.len());
            }
            for warning in &config.warnings {
                assert!(!warning.contains('\n'), "{warning}");
            }
        }
    }
});

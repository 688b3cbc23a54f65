//! The `.minisig` file beside a tarball. Only the one that the key has made, for the file that it was made for, is accepted:
//! nobody finds another without the secret key.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ops_updater::net::signature::Keys;

const KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
/// The file that the seed `good` is the signature of.
const FILE: &[u8] = b"test";
const COMMENT: &str = "trusted comment: timestamp:1556193335\tfile:test";

fuzz_target!(|body: &[u8]| {
    let keys = Keys(Some(vec!["no key".to_owned(), KEY.to_owned()]));
    let words = [("name", "demo"), ("version", "1.0.1")];
    assert!(keys.seal("u", body.to_vec(), &words).is_err() || says(body, "name=demo"));
    let seal = match keys.seal("u", body.to_vec(), &[]) {
        Ok(seal) => seal,
        Err(error) => {
            let error = error.to_string();
            assert!(!error.contains('\n') && error.len() < 200, "{error}");
            return;
        }
    };
    let mut silent = || Ok(());
    assert!(seal.verify(&mut &b"tesT"[..], &mut silent).is_err());
    if let Ok(signer) = seal.verify(&mut &FILE[..], &mut silent) {
        assert_eq!(signer.key(), Some(KEY));
        assert!(says(body, COMMENT), "another comment is believed");
    }
});

fn says(body: &[u8], words: &str) -> bool {
    String::from_utf8_lossy(body).contains(words)
}

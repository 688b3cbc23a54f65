//! Keys and signatures of the real tool `minisign`. Tests are skipped where it is not installed.

use super::host::Host;
use super::json::quote;
use super::platform::{self, skipped};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A key pair in the sandbox.
pub struct Key {
    pub secret: PathBuf,
    /// The public key, as cfg.json has it.
    pub public: String,
}

impl Key {
    /// Makes a key pair. Returns None, and prints that the test is skipped, if there is no minisign.
    pub fn new(host: &Host, name: &str) -> Option<Self> {
        let dir = host.dir.join("keys");
        fs::create_dir_all(&dir).expect("a directory");
        let secret = dir.join(name);
        let public = secret.with_extension("pub");
        let mut command = Command::new("minisign");
        command.args(["-G", "-W", "-p"]).arg(&public);
        let Ok(output) = command.arg("-s").arg(&secret).output() else {
            skipped("minisign is not installed");
            return None;
        };
        assert_succeeded(&output);
        let text = fs::read_to_string(public).expect("a public key");
        let public = text.lines().nth(1).expect("its second line").to_owned();
        Some(Self { secret, public })
    }

    /// Returns the signature of these bytes with this trusted comment.
    pub fn sign(&self, bytes: &[u8], comment: &str) -> String {
        self.sign_with(&["-t", comment], bytes)
    }

    pub fn sign_with(&self, options: &[&str], bytes: &[u8]) -> String {
        let file = self.secret.with_extension("file");
        fs::write(&file, bytes).expect("a file");
        let mut command = Command::new("minisign");
        command.arg("-S").args(options).arg("-s").arg(&self.secret);
        let output = command.arg("-m").arg(&file).stdin(Stdio::null()).output();
        assert_succeeded(&output.expect("minisign runs"));
        fs::read_to_string(beside(&file)).expect("a signature")
    }
}

fn assert_succeeded(output: &Output) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
}

/// Returns the path of the signature of a file.
pub fn beside(file: &Path) -> PathBuf {
    PathBuf::from(format!("{}.minisig", file.display()))
}

/// Returns the trusted comment of a release of demo for the arch under test.
pub fn words(version: &str) -> String {
    format!("name=demo version={version} arch={}", platform::arch())
}

/// Returns these public keys as the value of `public_keys`.
pub fn list(keys: &[&Key]) -> String {
    let keys: Vec<_> = keys.iter().map(|key| quote(&key.public)).collect();
    format!("[{}]", keys.join(", "))
}

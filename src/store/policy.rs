//! `policy.json`: where it is, whether it can be believed, and its text as a `Policy`. An unknown key is an error, because
//! a mistyped rule must not silently allow everything.
#![expect(
    clippy::disallowed_methods,
    reason = "it reads a file and asks who can change it"
)]

use std::fs::File;
use std::io::ErrorKind::{NotFound, PermissionDenied};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::layout;
use crate::error::{At, Error, Result};
use crate::json::{self, Number, Value};
use crate::model::{Policy, is_public_key, is_url, is_user, is_work_dir, one_spelling};
use crate::os::walk::{self, Trusted};
use crate::os::{credentials, disk};
use crate::store::config::PUBLIC_KEYS_WANTED;
use crate::text::without_passwords;

/// The largest file, in bytes.
const FILE_LIMIT: u64 = 1 << 20;
/// More entries than the largest answer holds.
const MAX_AGENTS_MOST: u64 = 10_000;

/// Returns the file that is in force: the one beside cfg.json if there is one, else that of the host, else none.
/// `own_dir` is `None` under sudo, because there the own directory belongs to the caller.
pub fn file(own_dir: Option<&Path>) -> Option<PathBuf> {
    // Anything but a clear "there is none" counts as a file, which then cannot be read.
    let is_there =
        |file: &PathBuf| !matches!(file.symlink_metadata(), Err(error) if error.kind() == NotFound);
    let own = own_dir.map(layout::policy).filter(is_there);
    own.or_else(|| Some(PathBuf::from(layout::HOST_POLICY)).filter(is_there))
}

/// Reads the policy in force. A file that others than root can change is not believed: that policy allows nothing. An error
/// means that it cannot be read, or that it is wrong.
pub fn load(own_dir: Option<&Path>) -> Result<Policy> {
    let Some(file) = file(own_dir) else {
        return Ok(Policy::default());
    };
    let opened = File::options()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(&file);
    let opened = match opened {
        // Root keeps it from this user. The worker that sudo starts enforces it.
        Err(error) if error.kind() == PermissionDenied && credentials::effective_uid() != 0 => {
            return Ok(Policy::default());
        }
        opened => opened.at("read", &file)?,
    };
    if let Err(mut error) = walk::check(&file, Trusted::user(0, None)) {
        if credentials::effective_uid() != 0 {
            // A plain user does not give its own directory to root.
            error = error.with_hint("or use /etc/ops-updater/policy.json");
        }
        return Ok(Policy::refusing(error.to_string()));
    }
    let text = disk::read_text(&opened, FILE_LIMIT).at("read", &file)?;
    parse(&text).map_err(|cause| Error::new("use", &file, cause))
}

/// Does the same for a worker, which has nobody to return an error to: a wrong file allows nothing.
pub fn load_or_refuse(own_dir: Option<&Path>) -> Policy {
    load(own_dir).unwrap_or_else(|error| Policy::refusing(error.to_string()))
}

fn parse(text: &str) -> std::result::Result<Policy, String> {
    let object = match json::parse(text)? {
        Value::Object(object) => object,
        other => return Err(wrong("it", json::kind(&other), "an object: {…}")),
    };
    let mut policy = Policy::default();
    for (key, value) in &object {
        set(&mut policy, key, value)?;
    }
    Ok(policy)
}

fn set(policy: &mut Policy, key: &str, value: &Value) -> std::result::Result<(), String> {
    let users = |wanted| list(key, value, is_name, wanted).map(Some);
    match (key, value) {
        ("work_dirs", _) => {
            let dirs = list(key, value, is_dir, "a list of absolute paths without ..")?;
            let plain = dirs.iter().map(|dir| one_spelling(dir.as_bytes()));
            let plain = plain.map(|dir| String::from_utf8(dir).unwrap_or_default());
            policy.work_dirs = Some(plain.collect());
        }
        ("run_users", _) => policy.run_users = users("a list of user names")?,
        ("stores", _) => policy.stores = Some(list(key, value, is_url, "a list of http URLs")?),
        ("public_keys", _) => {
            policy.public_keys = Some(list(key, value, is_public_key, PUBLIC_KEYS_WANTED)?);
        }
        ("create_users", Value::Bool(true)) => policy.create_users = None,
        ("create_users", Value::Bool(false)) => policy.create_users = Some(Vec::new()),
        ("create_users", _) => {
            policy.create_users = users("true, false or a list of user names")?;
        }
        ("max_agents", Value::Number(Number::U64(most)))
            if (1..=MAX_AGENTS_MOST).contains(most) =>
        {
            policy.max_agents = usize::try_from(*most).unwrap_or(usize::MAX);
        }
        ("max_agents", _) => {
            let wanted = "a whole number from 1 to 10000";
            return Err(wrong(key, json::kind(value), wanted));
        }
        _ => return Err(format!("the key {key:?} is unknown")),
    }
    Ok(())
}

fn is_dir(text: &str) -> bool {
    !text.is_empty() && is_work_dir(text)
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && is_user(text)
}

fn list(
    key: &str,
    value: &Value,
    is_good: fn(&str) -> bool,
    wanted: &str,
) -> std::result::Result<Vec<String>, String> {
    let Value::Array(values) = value else {
        return Err(wrong(key, json::kind(value), wanted));
    };
    let mut texts = Vec::new();
    for value in values {
        match value {
            Value::String(text) if is_good(text) => texts.push(text.clone()),
            Value::String(text) => {
                let text = without_passwords(text);
                return Err(wrong(key, &format!("{text:?}"), wanted));
            }
            other => return Err(wrong(key, json::kind(other), wanted)),
        }
    }
    Ok(texts)
}

fn wrong(key: &str, found: &str, wanted: &str) -> String {
    format!("{key} has {found}, wanted {wanted}")
}

/// Returns one line for each rule, for `check` and `doctor`. A missing rule says so.
pub fn lines(policy: &Policy) -> Vec<(&'static str, String)> {
    let list = |list: &Option<Vec<String>>| match list {
        None => "no restriction".to_owned(),
        Some(list) if list.is_empty() => "none".to_owned(),
        Some(list) => list.join(" "),
    };
    vec![
        ("work_dirs", list(&policy.work_dirs)),
        ("run_users", list(&policy.run_users)),
        ("stores", list(&policy.stores)),
        ("create_users", list(&policy.create_users)),
        ("max_agents", policy.max_agents.to_string()),
        ("public_keys", list(&policy.public_keys)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_is_read() {
        let text = r#"{"work_dirs": ["/a//b/"], "run_users": ["falcon"], "stores": ["http://store/x"],
            "create_users": ["falcon"], "max_agents": 7,
            "public_keys": ["RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3"]}"#;
        let policy = parse(text).expect("valid");
        let values: Vec<String> = lines(&policy).into_iter().map(|line| line.1).collect();
        assert_eq!(
            values,
            [
                "/a/b",
                "falcon",
                "http://store/x",
                "falcon",
                "7",
                "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3"
            ]
        );
        assert_eq!(parse("{}"), Ok(Policy::default()));
        let none = parse(r#"{"create_users": false}"#).expect("valid");
        assert!(!none.may_create("falcon"));
        assert!(
            parse(r#"{"create_users": true}"#)
                .expect("valid")
                .may_create("x")
        );
    }

    #[test]
    fn a_mistake_never_becomes_a_missing_rule() {
        for (text, expected) in [
            ("[]", "it has a list, wanted an object"),
            ("{", "line 1, column 2"),
            (r#"{"workdirs": []}"#, "the key \"workdirs\" is unknown"),
            (
                r#"{"work_dirs": null}"#,
                "work_dirs has null, wanted a list",
            ),
            (r#"{"work_dirs": [1]}"#, "work_dirs has a number"),
            (r#"{"work_dirs": ["a"]}"#, "work_dirs has \"a\""),
            (r#"{"work_dirs": [""]}"#, "work_dirs has \"\""),
            (r#"{"work_dirs": ["/a/.."]}"#, "work_dirs has \"/a/..\""),
            (r#"{"run_users": "x"}"#, "run_users has a string"),
            (r#"{"run_users": [""]}"#, "run_users has \"\""),
            (r#"{"stores": ["store"]}"#, "stores has \"store\""),
            (
                r#"{"create_users": 1}"#,
                "create_users has a number, wanted true",
            ),
            (
                r#"{"public_keys": "RW"}"#,
                "public_keys has a string, wanted a list of public keys",
            ),
            (
                r#"{"public_keys": ["RW"]}"#,
                "public_keys has \"RW\", wanted",
            ),
            (r#"{"public_keys": null}"#, "public_keys has null"),
            (r#"{"max_agents": 0}"#, "max_agents has a number, wanted"),
            (r#"{"max_agents": true}"#, "max_agents has true or false"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }
}

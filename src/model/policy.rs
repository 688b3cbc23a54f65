//! The local policy: what root allows the server, and the users of sudo, to ask for on this host. Pure; `store/policy` reads
//! the file. A missing rule restricts nothing.

use super::checks::{is_config_path, url_parts};
use super::desired::Desired;
use super::release::Release;
use crate::text::{before, brief};

/// The most entries of an answer that are followed, if the policy names no other number. Hosts have tens of agents.
pub const MAX_AGENTS: usize = 1000;
/// Bytes of a refused value that are reported.
const SHOWN: usize = 200;

/// The rules of `policy.json`. A list that is `None` restricts nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Agents live in one of these directories or below one, each in one spelling.
    pub work_dirs: Option<Vec<String>>,
    /// Agents run as one of these users. The updater's own user is no exception.
    pub run_users: Option<Vec<String>>,
    /// Tarballs, digests and configurations come from below one of these URLs.
    pub stores: Option<Vec<String>>,
    /// Only these users are created. `create_users: false` is an empty list.
    pub create_users: Option<Vec<String>>,
    pub max_agents: usize,
    /// Releases and configurations are signed by one of these keys of minisign, whatever cfg.json says.
    pub public_keys: Option<Vec<String>>,
    /// Why nothing at all is allowed. Empty: the rules decide.
    pub unusable: String,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            work_dirs: None,
            run_users: None,
            stores: None,
            create_users: None,
            max_agents: MAX_AGENTS,
            public_keys: None,
            unusable: String::new(),
        }
    }
}

impl Policy {
    /// Returns the policy that allows nothing, for a file that must not be believed.
    pub fn refusing(cause: String) -> Self {
        Self {
            unusable: cause,
            ..Self::default()
        }
    }

    /// Checks an entry. `own_user` is the user for which `runUser` is empty. The error names the rule.
    pub fn check(&self, desired: &Desired, own_user: &str) -> Result<(), String> {
        let user = match desired.location.run_user.as_str() {
            "" => own_user,
            user => user,
        };
        self.check_location(&desired.location.work_dir, user)?;
        self.check_release(&desired.release())
    }

    /// Checks where and as which user an agent is to run.
    pub fn check_location(&self, work_dir: &str, user: &str) -> Result<(), String> {
        if !self.unusable.is_empty() {
            return Err(self.unusable.clone());
        }
        if let Some(dirs) = &self.work_dirs
            && !dirs.iter().any(|dir| is_below(work_dir, dir))
        {
            return Err(refused("workDir", work_dir, "below one of work_dirs"));
        }
        if !allows(self.run_users.as_ref(), user) {
            return Err(refused("runUser", user, "one of run_users"));
        }
        Ok(())
    }

    /// Checks where a release is fetched from, and that its configuration stays in the version: an entry is checked for that
    /// where it enters, but a job may be forged.
    pub fn check_release(&self, release: &Release) -> Result<(), String> {
        if !is_config_path(&release.config_file_name) {
            return Err("configFileName leads out of the version".to_owned());
        }
        let Some(stores) = &self.stores else {
            return Ok(());
        };
        let md5 = match release.inline_md5() {
            Some(_) => "",
            None => &release.md5,
        };
        for (field, url) in [
            ("tarball", release.tarball.as_str()),
            ("md5", md5),
            ("configRemoteUrl", &release.config_remote_url),
        ] {
            if !url.is_empty() && !is_in_stores(stores, url) {
                return Err(refused(field, url, "below one of stores"));
            }
        }
        Ok(())
    }

    /// Returns the public keys in force: those of the policy, or else those of cfg.json. None: nothing must be signed.
    pub fn keys_in_force<'a>(&'a self, configured: &'a Vec<String>) -> Option<&'a Vec<String>> {
        let configured = (!configured.is_empty()).then_some(configured);
        self.public_keys.as_ref().or(configured)
    }

    pub fn may_create(&self, user: &str) -> bool {
        self.unusable.is_empty() && allows(self.create_users.as_ref(), user)
    }
}

fn allows(list: Option<&Vec<String>>, value: &str) -> bool {
    list.is_none_or(|list| list.iter().any(|allowed| allowed == value))
}

fn refused(field: &str, value: &str, wanted: &str) -> String {
    format!(
        "{field} {} is not {wanted} in policy.json",
        brief(value, SHOWN)
    )
}

/// Returns whether a path is this directory or below it. A path with `..` is below nothing: a forged job may have one.
fn is_below(path: &str, dir: &str) -> bool {
    let rest = path.strip_prefix(dir.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        && path.split('/').all(|part| part != "..")
}

/// Returns whether a URL is one of the prefixes or below one: scheme, host and port are equal, and the path begins with
/// the same whole segments.
pub fn is_in_stores(stores: &[String], url: &str) -> bool {
    let Some((scheme, address, path)) = parts(url) else {
        return false;
    };
    // A server may decode these before it looks for the file.
    let is_encoded = |three: &[u8]| {
        let mut codes = [b"%2e", b"%2f", b"%5c"].into_iter();
        codes.any(|code| three.eq_ignore_ascii_case(code))
    };
    // Tomcat drops what follows a `;`, and then takes `..;x` for `..`.
    if path.contains('\\') || path.contains("/..;") || path.as_bytes().windows(3).any(is_encoded) {
        return false;
    }
    let mut stores = stores.iter().filter_map(|store| parts(store));
    stores.any(|store| store.0 == scheme && store.1 == address && is_below(path, store.2))
}

/// Returns whether two URLs are written with one scheme, host and port.
pub fn has_same_origin(one: &str, other: &str) -> bool {
    let (Some(one), Some(other)) = (url_parts(one), url_parts(other)) else {
        return false;
    };
    one.0 == other.0 && one.1.eq_ignore_ascii_case(other.1)
}

/// Returns scheme, `host:port` in lower case with its port, and the path without query.
fn parts(url: &str) -> Option<(&str, String, &str)> {
    // A `#` or `@` in the address is that of no store.
    let (scheme, address, path) = url_parts(url)?;
    let path = before(path, b"?#");
    let mut address = address.to_ascii_lowercase();
    if !address.contains(':') {
        address.push_str(match scheme {
            "https" => ":443",
            _ => ":80",
        });
    }
    Some((scheme, address, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_covers_whole_segments_of_its_own_host_and_port_only() {
        let stores = ["http://Store/a/b/", "https://tls:8443"].map(str::to_owned);
        for url in [
            "http://store/a/b",
            "http://store:80/a/b",
            "http://STORE/a/b/c.tar.gz",
            "http://store/a/b?x=/../y",
            "http://store/a/b/c%20d",
            "http://store/a/b/..c;d/e;f/...;g",
            "https://tls:8443",
            "https://tls:8443/x",
        ] {
            assert!(is_in_stores(&stores, url), "{url}");
        }
        for url in [
            "http://store/a",
            "http://store/a/bc",
            "http://store/A/b",
            "http://store",
            "http://store.evil/a/b",
            "http://store:81/a/b",
            "http://store:80@evil/a/b",
            "http://store@evil/a/b",
            "http://evil@store/a/b",
            "http://store#.evil/a/b",
            "http://store\\.evil/a/b",
            "http://evil/http://store/a/b",
            "http://evil?http://store/a/b",
            "https://store/a/b",
            "http://tls:8443/x",
            "https://tls/x",
            "http://store/a/b/../c",
            "http://store/a/b/..",
            "http://store/a/b/%2E%2e/c",
            "http://store/a/b/..;/c",
            "http://store/a/b/..;x=y/c",
            "http://store/a/b/..%2fc",
            "http://store/a/b/x%2f..%2F..%5cc",
            "ftp://store/a/b",
            "store/a/b",
            "",
        ] {
            assert!(!is_in_stores(&stores, url), "{url}");
        }
    }

    #[test]
    fn a_directory_is_below_another_by_whole_names() {
        let policy = Policy {
            work_dirs: Some(vec!["/srv/agents".into()]),
            run_users: Some(vec!["falcon".into()]),
            ..Policy::default()
        };
        for (dir, user, refusal) in [
            ("/srv/agents", "falcon", ""),
            ("/srv/agents/x/y", "falcon", ""),
            ("/srv/agents2", "falcon", "workDir /srv/agents2 is not"),
            (
                "/srv",
                "falcon",
                "workDir /srv is not below one of work_dirs",
            ),
            ("/srv/agents/../x", "falcon", "workDir"),
            (
                "/srv/agents",
                "root",
                "runUser root is not one of run_users",
            ),
            ("/srv/agents", "", "runUser"),
        ] {
            let checked = policy.check_location(dir, user);
            let error = checked.err().unwrap_or_default();
            assert!(error.starts_with(refusal), "{dir}: {error}");
            assert_eq!(error.is_empty(), refusal.is_empty(), "{dir}: {error}");
        }
        let everywhere = Policy {
            work_dirs: Some(vec!["/".into()]),
            ..Policy::default()
        };
        assert_eq!(everywhere.check_location("/x", "root"), Ok(()));
    }

    #[test]
    fn a_policy_that_cannot_be_believed_allows_nothing() {
        let policy = Policy::refusing("why".into());
        assert_eq!(policy.check_location("/", "root"), Err("why".to_owned()));
        assert!(!policy.may_create("falcon"));
    }

    #[test]
    fn the_keys_of_the_policy_count_alone_and_without_them_those_of_cfg_json() {
        let keys = |list: &[&str]| list.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
        for (policy, configured, in_force) in [
            (None, keys(&[]), None),
            (None, keys(&["c"]), Some(keys(&["c"]))),
            (Some(keys(&["p"])), keys(&[]), Some(keys(&["p"]))),
            (Some(keys(&["p"])), keys(&["c", "p"]), Some(keys(&["p"]))),
            // Nothing is signed by one of no keys.
            (Some(keys(&[])), keys(&["c"]), Some(keys(&[]))),
        ] {
            let policy = Policy {
                public_keys: policy,
                ..Policy::default()
            };
            assert_eq!(policy.keys_in_force(&configured), in_force.as_ref());
        }
    }
}

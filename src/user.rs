//! Who am I. Names come from /etc/passwd, and where that does not know (LDAP, SSSD), from `id`, for a static binary
//! cannot ask NSS.

use std::io::{Read, Seek};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::disk;
use crate::sys;

/// A directory server that does not answer must not keep us from starting.
const ID_DEADLINE: Duration = Duration::from_secs(5);
/// More than any passwd file; beyond it `id` is asked.
const PASSWD_LIMIT: u64 = 4 << 20;

/// The name of the user that this process runs as; its number where nobody knows a name.
pub fn own_name() -> String {
    let uid = sys::effective_uid().to_string();
    let passwd = disk::read_small("/etc/passwd".as_ref(), PASSWD_LIMIT).unwrap_or_default();
    name_in(&passwd, &uid).or_else(ask_id).unwrap_or(uid)
}

/// The first passwd(5) line with this number.
fn name_in(passwd: &str, uid: &str) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    })
}

fn ask_id() -> Option<String> {
    let mut output = sys::nameless_file().ok()?;
    let mut child = Command::new("id")
        .arg("-un")
        .stdin(Stdio::null())
        .stdout(output.try_clone().ok()?)
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let give_up = Instant::now() + ID_DEADLINE;
    while child.try_wait().ok()?.is_none() {
        if Instant::now() >= give_up {
            child.kill().ok()?;
            child.wait().ok()?;
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut name = String::new();
    output.rewind().ok()?;
    output.take(256).read_to_string(&mut name).ok()?;
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_by_its_number_and_not_by_a_group() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbad line\nfalcon:x:1001:0::/home/falcon:\n";
        assert_eq!(name_in(passwd, "0").as_deref(), Some("root"));
        assert_eq!(name_in(passwd, "1001").as_deref(), Some("falcon"));
        assert_eq!(name_in(passwd, "7"), None);
    }
}

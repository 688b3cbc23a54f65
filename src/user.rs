//! Who am I, who is that, and how root becomes somebody else for good. Names and numbers come from /etc/passwd and
//! from `id`, so that users of LDAP and SSSD work in a static binary, which cannot ask NSS. No shell ever sees a name.
#![allow(unsafe_code)]
#![expect(clippy::disallowed_methods, reason = "it asks the tools of the system")]

use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use crate::disk;
use crate::error::{At, Error, Result};
use crate::spawn::{self, Leads, Spawn, Status};
use crate::sys;

/// A directory server that does not answer must not keep us waiting.
const TOOL_DEADLINE: Duration = Duration::from_secs(10);
/// How often it is looked for the end of a tool, which takes some milliseconds.
const PAUSE: Duration = Duration::from_millis(2);
/// More than any passwd file; beyond it the tools are asked.
const PASSWD_LIMIT: u64 = 4 << 20;
/// Where the system's own tools are, nothing that a user could write to; and their words in English.
const TOOL_ENVIRONMENT: &[&CStr] = &[c"PATH=/usr/sbin:/usr/bin:/sbin:/bin", c"LC_ALL=C"];
/// Held while a user is made; root's alone. Where /etc cannot be written no user can be made either.
const USERS_LOCK: &str = "/etc/.ops-updater.lock";
/// Several that are made in turn; less than a child may be silent.
const USERS_PATIENCE: Duration = Duration::from_secs(30);
/// What an agent of another user finds in PATH: sudo's usual secure path.
const AGENT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The user who called sudo, as sudo tells it: who may become root by its rule is trusted like root. None where we did
/// not come through sudo.
pub fn caller_of_sudo(by_sudo: bool) -> Option<u32> {
    let uid = std::env::var("SUDO_UID").ok().filter(|_| by_sudo)?;
    uid.parse().ok()
}

/// A user of this host. The name was checked where it came in.
#[derive(Debug)]
pub struct Account {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub home: String,
}

impl Account {
    /// None when nobody of that name exists.
    pub fn find(name: &str) -> Result<Option<Self>> {
        let uid = tool("id", &["-u", name])?;
        let Some(uid) = uid.and_then(|uid| uid.trim().parse().ok()) else {
            return Ok(None);
        };
        let groups = tool("id", &["-G", name])?.unwrap_or_default();
        let groups: Vec<u32> = numbers(&groups);
        // The user's own group comes first (POSIX, id -G).
        let gid = groups.first().copied();
        Ok(Some(Self {
            name: name.to_owned(),
            uid,
            gid: gid.ok_or_else(|| Error::new("look up", name, "id knows no group of it"))?,
            groups,
            home: home(name),
        }))
    }

    /// Makes a user that is missing. One process at a time: useradd looks for the name before it takes its own lock,
    /// and of two at once the second gives the user another uid than the first one's.
    pub fn create(name: &str) -> Result<Self> {
        let refuse = |cause: &str| Error::new("create the user", name, cause);
        let lock = disk::lock(USERS_LOCK.as_ref(), 0o600, USERS_PATIENCE)?;
        let _lock = lock.ok_or_else(|| refuse("another process is making users for too long"))?;
        if Self::find(name)?.is_none() {
            create(name)?;
        }
        Self::find(name)?.ok_or_else(|| refuse("it was made, but id does not know it"))
    }
}

/// Whether a user that is missing can be made.
pub fn can_create() -> bool {
    let has = |tool| run(tool, &["--help"], true).is_ok();
    !cfg!(target_os = "macos") && (has("useradd") || has("adduser"))
}

fn numbers(words: &str) -> Vec<u32> {
    let mut numbers = Vec::new();
    for word in words.split_whitespace() {
        let Ok(number) = word.parse() else { break };
        numbers.push(number);
    }
    numbers
}

#[cfg(not(target_os = "macos"))]
fn create(name: &str) -> Result<()> {
    // Debian, Red Hat, SUSE; and BusyBox, which has no useradd.
    let made = match run("useradd", &["-m", name], true) {
        Err(_) => run("adduser", &["-D", name], true),
        made => made,
    };
    match made? {
        (true, _) => Ok(()),
        // Somebody else, such as a configuration tool, may have made it a moment ago.
        (false, _) if Account::find(name)?.is_some() => Ok(()),
        (false, words) => Err(Error::new("create the user", name, words.trim())),
    }
}

#[cfg(target_os = "macos")]
fn create(name: &str) -> Result<()> {
    let cause = "users are not created on macOS; make it in System Settings or with sysadminctl";
    Err(Error::new("create the user", name, cause))
}

/// The home directory; `/` where nobody knows one, as for a daemon's user.
fn home(name: &str) -> String {
    let passwd = disk::read_small("/etc/passwd".as_ref(), PASSWD_LIMIT).unwrap_or_default();
    let mut home = home_in(&passwd, name);
    if home.is_none() {
        home = if cfg!(target_os = "macos") {
            let asked = tool("dscacheutil", &["-q", "user", "-a", "name", name]);
            let entry = asked.ok().flatten().unwrap_or_default();
            let dir = entry.lines().find_map(|line| line.strip_prefix("dir: "));
            dir.map(|dir| dir.trim().to_owned())
        } else {
            let asked = tool("getent", &["passwd", name]);
            home_in(&asked.ok().flatten().unwrap_or_default(), name)
        };
    }
    home.filter(|home| home.starts_with('/'))
        .unwrap_or_else(|| "/".to_owned())
}

/// The sixth field of the passwd(5) line of this name.
fn home_in(passwd: &str, name: &str) -> Option<String> {
    field(passwd, 0, name, 5)
}

/// The field of the first passwd(5) line that has this value in another one.
fn field(passwd: &str, known: usize, value: &str, wanted: usize) -> Option<String> {
    for line in passwd.lines() {
        let nth = |at| line.split(':').nth(at);
        if nth(known) == Some(value)
            && let Some(field) = nth(wanted)
        {
            return Some(field.to_owned());
        }
    }
    None
}

/// The name of the user that this process runs as; its number where nobody knows a name.
pub fn own_name() -> String {
    let uid = sys::effective_uid().to_string();
    // Another name than the last time would look like a move of every agent.
    let passwd = disk::read_patiently("/etc/passwd".as_ref(), PASSWD_LIMIT).unwrap_or_default();
    let asked = || tool("id", &["-un"]).ok().flatten();
    let name = name_in(&passwd, &uid).or_else(asked).unwrap_or_default();
    match name.trim() {
        "" => uid,
        name => name.to_owned(),
    }
}

/// The first passwd(5) line with this number.
fn name_in(passwd: &str, uid: &str) -> Option<String> {
    field(passwd, 2, uid, 0)
}

/// What one of the system's tools prints; none when it exits with an error.
fn tool(program: &str, arguments: &[&str]) -> Result<Option<String>> {
    let (succeeded, text) = run(program, arguments, false)?;
    Ok(succeeded.then_some(text))
}

/// Whether the tool succeeded, and what it printed, on stderr too if so wanted.
pub fn run(program: &str, arguments: &[&str], with_errors: bool) -> Result<(bool, String)> {
    let nothing = spawn::nothing()?;
    output(&nothing, program, arguments, with_errors).at("run", program)
}

fn output(
    nothing: &File,
    program: &str,
    arguments: &[&str],
    with_errors: bool,
) -> io::Result<(bool, String)> {
    let output = sys::nameless_file()?;
    let errors = if with_errors { &output } else { nothing };
    let program = OsStr::new(program);
    let mut words = vec![program];
    for argument in arguments {
        words.push(OsStr::new(argument));
    }
    let tool = Spawn {
        program,
        words: &words,
        env: TOOL_ENVIRONMENT,
        dir: None,
        stdio: [nothing.as_fd(), output.as_fd(), errors.as_fd()],
        leads: Leads::Nothing,
        pid_file: None,
    };
    let mut process = tool.spawn()?;
    let give_up = Instant::now() + TOOL_DEADLINE;
    loop {
        if let Some(status) = process.try_wait()? {
            let text = sys::read_text(&output, 0, 65_536)?;
            return Ok((status == Status::Exited(0), text));
        }
        if Instant::now() >= give_up {
            process.kill()?;
            let cause = format!("no answer within {} s", TOOL_DEADLINE.as_secs());
            return Err(io::Error::other(cause));
        }
        std::thread::sleep(PAUSE);
    }
}

/// Root becomes this user for good: groups, then gid, then uid, each checked, and the way back tried. After this the
/// environment is the user's own, and nothing that follows has more rights than the user.
pub fn become_user(account: &Account) -> Result<()> {
    let change = |what: &str, done: io::Result<()>| {
        let done = done.map_err(|error| format!("{what}: {error}"));
        done.at("become", &account.name)
    };
    change("setgroups", sys::set_groups(&account.groups))?;
    change("setgid", sys::set_gid(account.gid))?;
    change("setuid", sys::set_uid(account.uid))?;
    if !is_for_good(account) {
        return Err(Error::new(
            "become",
            &account.name,
            "the change did not stick",
        ));
    }
    clean_environment(account)
}

fn is_for_good(account: &Account) -> bool {
    let mut groups = vec![0; 65_536];
    // SAFETY: getgroups writes at most as many as the Vec holds; the others give integers.
    let (ids, count) = unsafe {
        (
            [libc::getuid(), libc::geteuid()] == [account.uid; 2]
                && [libc::getgid(), libc::getegid()] == [account.gid; 2],
            libc::getgroups(65_536, groups.as_mut_ptr()),
        )
    };
    let regained = account.uid != 0
        && (sys::set_uid(0).is_ok() || sys::set_gid(0).is_ok() && account.gid != 0);
    groups.truncate(usize::try_from(count).unwrap_or(0));
    let all_known = groups
        .iter()
        .all(|g| account.groups.contains(g) || *g == account.gid);
    ids && count >= 0 && all_known && !regained
}

/// HOME, USER, LOGNAME and PATH; of root's own variables nothing is left.
fn clean_environment(account: &Account) -> Result<()> {
    let Account { name, home, .. } = account;
    let entries = [
        format!("HOME={home}"),
        format!("USER={name}"),
        format!("LOGNAME={name}"),
        format!("PATH={AGENT_PATH}"),
    ];
    sys::replace_environment(&entries).at("make the environment of", name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nbad line\nfalcon:x:1001:0::/home/falcon:\n";

    #[test]
    fn a_name_is_found_by_its_number_and_not_by_a_group() {
        assert_eq!(name_in(PASSWD, "0").as_deref(), Some("root"));
        assert_eq!(name_in(PASSWD, "1001").as_deref(), Some("falcon"));
        assert_eq!(name_in(PASSWD, "7"), None);
    }

    #[test]
    fn a_home_is_the_sixth_field_of_the_name_s_own_line() {
        assert_eq!(home_in(PASSWD, "falcon").as_deref(), Some("/home/falcon"));
        assert_eq!(home_in(PASSWD, "falco"), None);
        assert_eq!(home_in(PASSWD, "bad line"), None);
    }
}

//! Users of this host: find, create and become one. Names and numbers come from /etc/passwd and from `id`, so that users of
//! LDAP and SSSD work too: a static binary cannot ask NSS. No shell ever sees a name.
#![allow(unsafe_code)]
#![expect(clippy::disallowed_methods, reason = "it runs tools of the system")]

use std::fs::File;
use std::io;
#[cfg(not(target_os = "macos"))]
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::{At, Cause, Error, Result};

use super::command::Command;
use super::{credentials, disk, environment, files, lock, spawn};

/// The deadline of a tool: a directory server may not answer.
const TOOL_DEADLINE: Duration = Duration::from_secs(10);
/// The pause between two checks whether a tool has ended. A tool takes some milliseconds.
const PAUSE: Duration = Duration::from_millis(2);
/// Bytes of the largest passwd file that is read. If it is larger, only the tools are asked.
const PASSWD_LIMIT: u64 = 4 << 20;
/// The PATH has only directories that no ordinary user can write to. The tools print English.
const TOOL_ENVIRONMENT: [(&str, &str); 2] =
    [("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), ("LC_ALL", "C")];
/// The lock file that is held while a user is created. If /etc is read-only, no user can be created either.
const USERS_LOCK: &str = "/etc/.ops-updater.lock";
/// The time to wait for that lock. Enough for several users, and less than a worker may be silent.
const USERS_PATIENCE: Duration = Duration::from_secs(30);
/// Shells that end at once, in the order of preference: nobody is to log in as an agent.
#[cfg(not(target_os = "macos"))]
const NO_LOGIN: [&str; 3] = ["/usr/sbin/nologin", "/sbin/nologin", "/bin/false"];
/// The name of uid 0 where nothing else is known, as in a container without /etc/passwd.
const ROOT: &str = "root";
/// The PATH of agents of other users: sudo's usual secure path.
const AGENT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The variable in which sudo names its caller. sudo sets it itself, whatever the caller has in its environment and
/// whatever sudoers keeps of it, so the caller can neither leave it out nor choose its value.
pub const SUDO_CALLER: &str = "SUDO_UID";

/// Returns the uid of the user who called sudo, if sudo has started this process as root. It is trusted like root, because it
/// may become root. A daemon that sudo started removes the variable from its environment, so its workers are not taken for
/// calls of sudo. Only root can start a worker of root without the variable.
pub fn caller_of_sudo() -> Option<u32> {
    let uid = std::env::var_os(SUDO_CALLER)?;
    // What is no number counts as a caller who owns nothing.
    let uid = uid.to_str().and_then(|uid| uid.parse().ok());
    (credentials::effective_uid() == 0).then(|| uid.unwrap_or(u32::MAX))
}

/// A user of this host. The name was validated where it entered the program.
#[derive(Debug)]
pub struct Account {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub home: String,
}

impl Account {
    /// Returns none if no user has this name.
    pub fn find(name: &str) -> Result<Option<Self>> {
        let uid = match tool("id", &["-u", name])? {
            None if name == ROOT => Some(0),
            uid => uid.and_then(|uid| uid.trim().parse().ok()),
        };
        let Some(uid) = uid else {
            return Ok(None);
        };
        let groups = tool("id", &["-G", name])?.unwrap_or_default();
        let groups: Vec<u32> = numbers(&groups);
        // The primary group comes first (POSIX, id -G).
        let gid = groups.first().copied().or((uid == 0).then_some(0));
        Ok(Some(Self {
            name: name.to_owned(),
            uid,
            gid: gid.ok_or_else(|| Error::new("look up", name, "id knows no group of it"))?,
            groups,
            home: home(name),
        }))
    }

    /// Creates the user if it is missing. A lock allows one process at a time: useradd checks the name before it takes its own
    /// lock, so the second of two would give the user another uid.
    pub fn create(name: &str) -> Result<Self> {
        let refuse = |cause: &str| Error::new("create the user", name, cause);
        let lock = lock::take(USERS_LOCK.as_ref(), USERS_PATIENCE)?;
        let _lock =
            lock.ok_or_else(|| refuse("another process has been creating users for too long"))?;
        if Self::find(name)?.is_none() {
            create(name)?;
        }
        Self::find(name)?.ok_or_else(|| refuse("it was created, but id does not know it"))
    }
}

/// Returns whether this host has a tool to create users.
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
    let shell = NO_LOGIN.into_iter().find(|shell| Path::new(shell).exists());
    let shell = shell.unwrap_or("/bin/false");
    // useradd fails at a group of that name, unless it is told to use the group. BusyBox has another letter for that.
    let arguments = |first, group| -> Vec<&str> {
        let mut arguments = vec![first, "-s", shell];
        if has_group(name) {
            arguments.extend_from_slice(&[group, name]);
        }
        arguments.push(name);
        arguments
    };
    // useradd on Debian, Red Hat and SUSE; adduser on BusyBox.
    let made = match run("useradd", &arguments("-m", "-g"), true) {
        Err(_) => run("adduser", &arguments("-D", "-G"), true),
        made => made,
    };
    match made? {
        (true, _) => Ok(()),
        // A configuration tool may have created it in the meantime.
        (false, _) if Account::find(name)?.is_some() => Ok(()),
        (false, output) => Err(Error::new("create the user", name, output.trim())),
    }
}

/// Returns whether a group has this name.
#[cfg(not(target_os = "macos"))]
fn has_group(name: &str) -> bool {
    let groups = disk::read_small("/etc/group".as_ref(), PASSWD_LIMIT).unwrap_or_default();
    field(&groups, 0, name, 2).is_some() || matches!(tool("getent", &["group", name]), Ok(Some(_)))
}

#[cfg(target_os = "macos")]
fn create(name: &str) -> Result<()> {
    let cause = "users are not created on macOS; create it in System Settings or with sysadminctl";
    Err(Error::new("create the user", name, cause))
}

/// Returns the home directory, or `/` if none is known.
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

/// Returns the sixth field of the passwd(5) line of this name.
fn home_in(passwd: &str, name: &str) -> Option<String> {
    field(passwd, 0, name, 5)
}

/// Returns field number `wanted` of the first passwd(5) line whose field number `known` has this value.
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

/// Returns the name of the user that this process runs as, or its number if the name is unknown. Root always has a name.
pub fn own_name() -> String {
    let uid = credentials::effective_uid().to_string();
    // If the name differed from the last time, every agent would seem to have a new run user. So a short lack of resources
    // must not change it.
    let passwd = disk::read_patiently("/etc/passwd".as_ref(), PASSWD_LIMIT).unwrap_or_default();
    let asked = || tool("id", &["-un"]).ok().flatten();
    let name = name_in(&passwd, &uid).or_else(asked).unwrap_or_default();
    match name.trim() {
        "" if uid == "0" => ROOT.to_owned(),
        "" => uid,
        name => name.to_owned(),
    }
}

/// Returns the group of this process if only its user is in it, by the rule of useradd and umask: it has the number or the
/// name of the user.
pub fn private_group() -> Option<u32> {
    let (uid, gid) = (credentials::effective_uid(), credentials::effective_gid());
    let read = |file: &str| disk::read_small(file.as_ref(), PASSWD_LIMIT).unwrap_or_default();
    let name = || name_in(&read("/etc/passwd"), &uid.to_string());
    let number = |name: String| field(&read("/etc/group"), 0, &name, 2);
    let is_private = || uid == gid || name().and_then(number) == Some(gid.to_string());
    (uid != 0 && is_private()).then_some(gid)
}

/// Returns the name in the first passwd(5) line with this number.
fn name_in(passwd: &str, uid: &str) -> Option<String> {
    field(passwd, 2, uid, 0)
}

/// Returns the output of a tool of the system; none if it exits with an error.
fn tool(program: &str, arguments: &[&str]) -> Result<Option<String>> {
    let (succeeded, text) = run(program, arguments, false)?;
    Ok(succeeded.then_some(text))
}

/// Runs a tool. Returns whether it succeeded, and its output; stderr is included if `with_errors`.
pub fn run(program: &str, arguments: &[&str], with_errors: bool) -> Result<(bool, String)> {
    let dev_null = spawn::dev_null()?;
    output(&dev_null, program, arguments, with_errors).at("run", program)
}

fn output(
    dev_null: &File,
    program: &str,
    arguments: &[&str],
    with_errors: bool,
) -> io::Result<(bool, String)> {
    let output = files::nameless_file()?;
    let errors = if with_errors { &output } else { dev_null };
    let mut tool = Command::new(program);
    tool.environment(&TOOL_ENVIRONMENT)
        .args(arguments)
        .stdin(dev_null.try_clone()?)
        .stdout(output.try_clone()?)
        .stderr(errors.try_clone()?);
    let mut child = tool.spawn()?;
    let give_up = Instant::now() + TOOL_DEADLINE;
    loop {
        if let Some(status) = child.try_wait()? {
            let text = files::read_text(&output, 0, 65_536)?;
            return Ok((status.success(), text));
        }
        if Instant::now() >= give_up {
            child.kill()?;
            let cause = format!("no answer within {} s", TOOL_DEADLINE.as_secs());
            return Err(io::Error::other(cause));
        }
        std::thread::sleep(PAUSE);
    }
}

/// Makes this process, run by root, this user for good: groups, then gid, then uid. Checks each, and that root cannot be
/// regained. Then replaces the environment by the user's own.
pub fn become_user(account: &Account) -> Result<()> {
    let change = |what: &str, done: io::Result<()>| {
        let done = done.map_err(|error| Cause::of_call(what, error));
        done.at("become", &account.name)
    };
    change("setgroups", credentials::set_groups(&account.groups))?;
    change("setgid", credentials::set_gid(account.gid))?;
    change("setuid", credentials::set_uid(account.uid))?;
    if !is_permanent(account) {
        return Err(Error::new(
            "become",
            &account.name,
            "the change did not stick",
        ));
    }
    change("setenv", clean_environment(account))
}

fn is_permanent(account: &Account) -> bool {
    let mut groups = vec![0; 65_536];
    // SAFETY: getgroups writes at most as many groups as the Vec holds; the other calls only return integers.
    let (ids, count) = unsafe {
        (
            [libc::getuid(), libc::geteuid()] == [account.uid; 2]
                && [libc::getgid(), libc::getegid()] == [account.gid; 2],
            libc::getgroups(65_536, groups.as_mut_ptr()),
        )
    };
    let regained = account.uid != 0
        && (credentials::set_uid(0).is_ok() || credentials::set_gid(0).is_ok() && account.gid != 0);
    groups.truncate(usize::try_from(count).unwrap_or(0));
    let all_known = groups
        .iter()
        .all(|g| account.groups.contains(g) || *g == account.gid);
    ids && count >= 0 && all_known && !regained
}

/// Sets HOME, USER, LOGNAME and PATH, and removes all of root's variables.
fn clean_environment(account: &Account) -> io::Result<()> {
    let Account { name, home, .. } = account;
    environment::replace_environment(&[
        ("HOME", home),
        ("USER", name),
        ("LOGNAME", name),
        ("PATH", AGENT_PATH),
    ])
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
    fn the_home_is_the_sixth_field_of_the_line_of_the_name() {
        assert_eq!(home_in(PASSWD, "falcon").as_deref(), Some("/home/falcon"));
        assert_eq!(home_in(PASSWD, "falco"), None);
        assert_eq!(home_in(PASSWD, "bad line"), None);
    }
}

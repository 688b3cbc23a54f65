//! Tests which users the local policy allows, how a missing user is made, and that nobody widens the policy by a job that
//! is forged and sent through sudo.

use crate::contract::policy::set_policy;
use crate::support::agent::Agent;
use crate::support::host::Host;
use crate::support::json::quote;
use crate::support::minisign::{Key, list, words};
use crate::support::names::{can_mount, with_files};
use crate::support::release_path;
use crate::support::users::{User, can_make_users, mode, noting, uid_of};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn field(user: &User, index: usize) -> String {
    let passwd = fs::read_to_string("/etc/passwd").expect("a passwd file");
    let prefix = format!("{}:", user.name);
    let line = passwd.lines().find(|line| line.starts_with(&prefix));
    let field = line.expect("the user exists").split(':').nth(index);
    field.expect("a field").to_owned()
}

#[test]
fn a_user_that_is_made_has_a_home_and_cannot_log_in() {
    if !can_make_users() {
        return;
    }
    let (user, mut host) = (User::unborn(), Host::new());
    host.offer(&noting("demo", "1.0.0"));
    host.desire(&[host.want("demo", "1.0.0").run_user(&user.name)]);
    host.start();
    host.wait_running("demo", "1.0.0");
    let shell = field(&user, 6);
    assert!(
        shell.ends_with("/nologin") || shell == "/bin/false",
        "{shell}"
    );
    assert_eq!(uid_of(&user.home()), Some(user.uid()));
}

#[test]
fn a_user_whose_group_exists_already_is_made_in_that_group() {
    if !can_make_users() {
        return;
    }
    let (user, mut host) = (User::unborn(), Host::new());
    let done = Command::new("groupadd").arg(&user.name).status();
    assert!(done.expect("groupadd runs").success());
    host.offer(&noting("demo", "1.0.0"));
    host.desire(&[host.want("demo", "1.0.0").run_user(&user.name)]);
    host.start();
    host.wait_running("demo", "1.0.0");
    let groups = fs::read_to_string("/etc/group").expect("a group file");
    let prefix = format!("{}:", user.name);
    let lines: Vec<&str> = groups
        .lines()
        .filter(|line| line.starts_with(&prefix))
        .collect();
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0].split(':').nth(2), Some(&*user.gid().to_string()));
}

#[test]
fn a_user_that_create_users_does_not_allow_is_not_made() {
    if !can_make_users() {
        return;
    }
    let (good, bad, mut host) = (User::unborn(), User::unborn(), Host::new());
    let list = format!(r#"{{"create_users": [{}]}}"#, quote(&good.name));
    set_policy(&host, &list);
    for (name, user) in [("good", &good), ("bad", &bad)] {
        host.offer(&noting(name, "1.0.0"));
        let _ = user;
    }
    host.desire(&[
        host.want("bad", "1.0.0").run_user(&bad.name),
        host.want("good", "1.0.0").run_user(&good.name),
    ]);
    host.start();
    host.wait_running("good", "1.0.0");
    let wanted = format!(
        "cannot create the user {}: create_users in policy.json does not allow it",
        bad.name
    );
    assert_eq!(host.wait_error("bad"), wanted);
    assert!(good.exists() && !bad.exists());
    assert!(!host.work.join("bad").exists());
}

#[test]
fn no_user_is_made_for_an_agent_whose_digest_is_not_known() {
    if !can_make_users() {
        return;
    }
    let (user, mut host) = (User::unborn(), Host::new());
    host.desire(&[host.want("demo", "1.0.0").run_user(&user.name)]);
    host.start();
    let error = host.wait_error("demo");
    assert!(error.contains("404"), "{error}");
    assert!(!user.exists() && !host.work.join("demo").exists());
}

/// Puts a policy where a worker under sudo reads it, for one process. Returns what to mount.
fn host_policy(host: &Host, text: &str) -> PathBuf {
    let dir = host.dir.join("etc");
    fs::create_dir(&dir).expect("a directory");
    mode(&dir, 0o755);
    fs::write(dir.join("policy.json"), text).expect("a policy");
    mode(&dir.join("policy.json"), 0o644);
    fs::create_dir_all("/etc/ops-updater").expect("a mount point");
    dir
}

/// Returns a host of a plain user with a sudo rule, and the command of its daemon with this policy of the host.
pub fn with_policy(ops: &User, text: impl FnOnce(&Host) -> String) -> (Host, Command) {
    let host = Host::of(ops);
    ops.sudoers(&host.rule());
    let dir = host_policy(&host, &text(&host));
    let mut command = with_files(&host, &[("/etc/ops-updater", &dir)]);
    // The daemon's user is taken on after the mount.
    let text: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    let script = text[3].to_string_lossy().replace(
        "exec \"$@\"",
        &format!(
            "exec setpriv --reuid {} --regid {} --clear-groups \"$@\"",
            ops.uid(),
            ops.gid()
        ),
    );
    let mut as_user = Command::new("unshare");
    as_user.args(&text[..3]).arg(script).args(&text[4..]);
    for (key, value) in command.get_envs() {
        as_user.env(key, value.unwrap_or_default());
    }
    as_user.current_dir(&host.dir).stdin(Stdio::null());
    std::os::unix::process::CommandExt::process_group(&mut as_user, 0);
    command = as_user;
    (host, command)
}

#[test]
fn a_policy_of_the_host_decides_what_a_plain_users_updater_may_do() {
    if !can_make_users() || !can_mount() {
        return;
    }
    let (ops, user, stranger) = (User::new(), User::new(), User::new());
    let (mut host, command) = with_policy(&ops, |_| {
        format!(r#"{{"run_users": [{}]}}"#, quote(&user.name))
    });
    host.offer(&noting("good", "1.0.0"));
    host.offer(&noting("bad", "1.0.0"));
    host.desire(&[
        host.want("bad", "1.0.0").run_user(&stranger.name),
        host.want("good", "1.0.0").run_user(&user.name),
    ]);
    host.start_as(command);
    host.wait_running("good", "1.0.0");
    let reason = format!(
        "bad: runUser {} is not one of run_users in policy.json",
        stranger.name
    );
    host.wait_for("the refusal", || host.log().contains(&reason));
    assert_eq!(host.ids("bad"), [""; 0]);
}

#[test]
fn a_policy_beside_cfg_json_of_a_plain_user_is_refused_with_the_file_to_use_instead() {
    if !can_make_users() {
        return;
    }
    let user = User::new();
    let mut host = Host::of(&user);
    set_policy(&host, "{}");
    host.offer(&noting("demo", "1.0.0"));
    host.desire(&[host.want("demo", "1.0.0")]);
    host.start();
    host.wait_for("the refusal", || {
        let log = host.log();
        log.contains("demo: cannot trust") && log.contains("use /etc/ops-updater/policy.json")
    });
    assert_eq!(host.calls("demo"), [""; 0]);
}

/// A job as the daemon of a plain user sends it through sudo, with these fields. `act` believes the version of its own build.
pub fn job(name: &str, work_dir: &Path, run_as: Option<&str>, own_dir: &Path) -> String {
    let run_as = run_as.map_or("null".to_owned(), quote);
    format!(
        r#"{{"made_by":"{}","log_level":"info","name":{},"location":{{"work_dir":{},"run_user":""}},"step":null,"elsewhere":null,"other_locations":[],"role":{{"run_as":{run_as},"moving":false,"by_sudo":false}},"public_keys":[],"is_move":false,"keeps_work_dir":false,"updater":{{"dir":{},"own":"","var":"","above":[],"process":""}},"network":{{"curl":"","ca_file":"","client_cert":"","client_key":"","proxy":"","tls_proxy":"","no_proxy":"","download_share":0,"always_curl":false,"tokens":""}}}}"#,
        env!("CARGO_PKG_VERSION"),
        quote(name),
        quote(&work_dir.display().to_string()),
        quote(&own_dir.display().to_string()),
    )
}

/// Returns a host of a plain user with a sudo rule and a policy that allows agents of one user in workDir.
pub fn confined(ops: &User, user: &User) -> Host {
    let (host, _) = with_policy(ops, |host| {
        let work = quote(&host.work.display().to_string());
        format!(
            r#"{{"run_users": [{}], "work_dirs": [{work}]}}"#,
            quote(&user.name)
        )
    });
    host
}

/// Makes a directory that the policy does not name, with an agent in it whose status runs these shell lines.
fn lax_dir(host: &Host, on_status: &str) -> PathBuf {
    let lax = host.dir.join("lax");
    fs::create_dir(&lax).expect("a directory");
    let agent = Agent::new("demo", "1.0.0").on_status(&format!("{on_status}; echo started"));
    crate::support::prepared::unpack(host, &lax, &agent);
    fs::write(lax.join("demo/.version"), "1.0.0").expect("a version");
    lax
}

#[test]
fn a_forged_job_through_sudo_does_not_widen_the_policy() {
    if !can_make_users() || !can_mount() {
        return;
    }
    let (ops, user) = (User::new(), User::new());
    let host = confined(&ops, &user);
    let lax = lax_dir(&host, &format!("id -u >>{}/ran", host.dir.display()));
    // A policy of the caller's own, which no root reads under sudo.
    fs::write(lax.join("policy.json"), "{}").expect("a policy");
    let dotted = host.work.join("../lax");
    for (work, run_as, reason) in [
        (&lax, None, "work_dirs"),
        (&dotted, None, "work_dirs"),
        (&lax, Some(user.name.as_str()), "work_dirs"),
        (&host.work, None, "runUser root is not one of run_users"),
        (&host.work, Some("root"), "runUser root is not"),
        (&host.work, Some("daemon"), "runUser daemon is not"),
    ] {
        let answer = act(&host, &ops, &job("demo", work, run_as, &lax));
        assert!(answer.contains(reason), "{work:?} {run_as:?}: {answer}");
    }
    let answer = act(
        &host,
        &ops,
        &job("demo", &host.work, Some(&user.name), &lax),
    );
    assert!(!answer.contains("policy.json"), "{answer}");
    assert!(!host.dir.join("ran").exists(), "a script of root's ran");
}

#[test]
fn a_forged_job_through_sudo_runs_nothing_outside_work_dirs_by_its_other_locations() {
    if !can_make_users() || !can_mount() {
        return;
    }
    let (ops, user) = (User::new(), User::new());
    let host = confined(&ops, &user);
    let mark = user.closed_dir("closed").join("mark");
    // The caller's own directory, whose scripts the agent's user would run.
    let lax = lax_dir(&host, &format!(": >{}", mark.display()));
    ops.take(&lax);
    let plain = job("demo", &host.work, Some(&user.name), &host.dir);
    let there = format!(
        r#"{{"work_dir":{},"run_user":""}}"#,
        quote(&lax.display().to_string())
    );
    let start = plain.replace(
        r#""step":null"#,
        r#""step":{"Start":{"version":"1.0.0","md5":""}}"#,
    );
    for forged in [
        plain.replace(r#""elsewhere":null"#, &format!(r#""elsewhere":{there}"#)),
        start.replace(
            r#""other_locations":[]"#,
            &format!(r#""other_locations":[{there}]"#),
        ),
    ] {
        assert_ne!(forged, plain);
        let answer = act(&host, &ops, &forged);
        assert!(answer.contains("work_dirs"), "{answer}");
    }
    assert!(!mark.exists(), "a script of the caller's ran as the user");
}

#[test]
fn a_forged_job_through_sudo_replaces_no_file_outside_the_version() {
    if !can_make_users() || !can_mount() {
        return;
    }
    let (ops, user) = (User::new(), User::new());
    let host = confined(&ops, &user);
    let file = user.closed_dir("closed").join("file");
    fs::write(&file, "the user's own").expect("a file");
    user.take(&file);
    let release = Agent::new("demo", "1.0.0");
    host.publish(&release);
    let tarball = host.want("demo", "1.0.0").tarball;
    let url = format!("{tarball}{}.md5", release_path("demo", "1.0.0"));
    let absolute = file.display().to_string();
    for name in [format!("../../../../../../..{absolute}"), absolute] {
        let job = job("demo", &host.work, Some(&user.name), &host.dir);
        let answer = act(&host, &ops, &with_install(&job, &tarball, &name, &url));
        let text = fs::read_to_string(&file).expect("it is there");
        assert_eq!(text, "the user's own", "{answer}");
        assert!(answer.contains("configFileName"), "{answer}");
    }
}

/// The keys in a job are the caller's own words. Those of the policy count alone.
#[test]
fn a_forged_job_through_sudo_installs_nothing_that_no_key_of_the_policy_has_signed() {
    if !can_make_users() || !can_mount() {
        return;
    }
    let (ops, user) = (User::new(), User::new());
    let host = confined(&ops, &user);
    let Some(key) = Key::new(&host, "policy") else {
        return;
    };
    let own = Key::new(&host, "own").expect("minisign is there");
    let policy = format!(
        r#"{{"run_users": [{}], "public_keys": {}}}"#,
        quote(&user.name),
        list(&[&key])
    );
    fs::write(host.dir.join("etc/policy.json"), policy).expect("a policy");
    let release = Agent::new("demo", "1.0.0");
    host.publish(&release);
    let job = job("demo", &host.work, Some(&user.name), &host.dir);
    let tarball = host.want("demo", "1.0.0").tarball;
    let unsigned = with_install(&job, &tarball, "", "");
    let keys = format!(r#""public_keys":{}"#, list(&[&own]));
    let signed = unsigned.replace(r#""public_keys":[]"#, &keys);
    assert_ne!(signed, unsigned);
    let answer = act(&host, &ops, &unsigned);
    assert!(answer.contains("minisig: 404 Not Found"), "{answer}");
    let path = release_path("demo", "1.0.0") + ".minisig";
    let tarball = release.tarball(&host.dir);
    host.meta.put(&path, own.sign(&tarball, &words("1.0.0")));
    let answer = act(&host, &ops, &signed);
    assert!(
        answer.contains("signed by no key of public_keys"),
        "{answer}"
    );
    assert!(!host.agent_dir("demo").join("1.0.0").exists());
    host.meta.put(&path, key.sign(&tarball, &words("1.0.0")));
    act(&host, &ops, &unsigned);
    assert!(host.agent_dir("demo").join("1.0.0/control").exists());
}

/// Returns the job with an install of demo 1.0.0 as its step.
fn with_install(job: &str, tarball: &str, config_file_name: &str, config_url: &str) -> String {
    let install = format!(
        r#""step":{{"Install":{{"version":"1.0.0","tarball":{},"md5":"","config_file_name":{},"config_remote_url":{}}}}}"#,
        quote(tarball),
        quote(config_file_name),
        quote(config_url)
    );
    let job_with_step = job.replace(r#""step":null"#, &install);
    assert_ne!(job_with_step, job);
    job_with_step
}

/// Sends a job through sudo as this user, in a mount namespace with the policy of the host.
pub fn act(host: &Host, ops: &User, job: &str) -> String {
    let file = host.dir.join("job");
    fs::write(&file, job).expect("a job");
    mode(&file, 0o644);
    let lines = format!(
        "mount --make-rprivate / && mount --bind {}/etc /etc/ops-updater && \
         exec setpriv --reuid {} --regid {} --clear-groups env SUDO_UID=0 sudo -n -- {} act <{}",
        host.dir.display(),
        ops.uid(),
        ops.gid(),
        host.program().display(),
        file.display(),
    );
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", &lines])
        .output();
    let output = output.expect("unshare runs");
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn the_workers_of_a_daemon_that_sudo_started_are_not_taken_for_calls_of_sudo() {
    if !can_make_users() {
        return;
    }
    let (admin, user, mut host) = (User::new(), User::new(), Host::new());
    // The administrator owns the directory above workDir. Root trusts that only if the administrator calls sudo.
    let above = host.dir.join("above");
    fs::create_dir(&above).expect("a directory");
    host.work = above.join("work");
    fs::create_dir(&host.work).expect("a directory");
    admin.take(&above);
    set_policy(
        &host,
        &format!(r#"{{"run_users": ["root", {}]}}"#, quote(&user.name)),
    );
    host.env("SUDO_UID", &admin.uid().to_string());
    host.offer(&noting("demo", "1.0.0"));
    host.desire(&[host.want("demo", "1.0.0").run_user(&user.name)]);
    host.start();
    let error = host.wait_error("demo");
    let fault = format!(
        "cannot trust {}: it belongs to uid {}",
        above.display(),
        admin.uid()
    );
    assert!(error.contains(&fault), "{error}");
    let stranger = User::new();
    host.desire(&[host.want("other", "1.0.0").run_user(&stranger.name)]);
    host.wait_for("the refusal by the policy beside cfg.json", || {
        host.log()
            .contains("is not one of run_users in policy.json")
    });
}

//! Tests `doctor` and `check`. `doctor` finds the faults that occur in the field, says what to do, and ends within the
//! time that an operator waits. `check` prints the origin of each setting.

use crate::support::fault::Faults;
use crate::support::host::Host;
use crate::support::json::{Json as _, parse, quote};
use crate::support::tls::secret_file;
use crate::support::users::{User, can_make_users, mode};
use miniserde::json::Value;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// The most time that `doctor` may take when something does not answer.
const LONGEST: Duration = Duration::from_secs(20);

struct Found {
    code: Option<i32>,
    text: String,
}

impl Found {
    fn of(output: &Output) -> Self {
        Self {
            code: output.status.code(),
            text: String::from_utf8_lossy(&output.stdout).into_owned(),
        }
    }

    /// Asserts that a line of this kind contains all these words.
    #[track_caller]
    fn assert_has(&self, kind: &str, words: &[&str]) -> &Self {
        let is_it = |line: &str| {
            line.starts_with(&format!("{kind:4}  ")) && words.iter().all(|word| line.contains(word))
        };
        assert!(
            self.text.lines().any(is_it),
            "{kind} {words:?}:\n{}",
            self.text
        );
        self
    }

    /// Asserts that this fault is the only one and that the exit code is 1.
    #[track_caller]
    fn assert_fails_with(&self, words: &[&str]) {
        self.assert_has("fail", words);
        assert_eq!(self.count("fail"), 1, "{}", self.text);
        assert_eq!(self.code, Some(1), "{}", self.text);
    }

    #[track_caller]
    fn assert_warns(&self, words: &[&str]) {
        self.assert_has("warn", words);
        assert_eq!(
            (self.count("fail"), self.code),
            (0, Some(0)),
            "{}",
            self.text
        );
    }

    fn count(&self, kind: &str) -> usize {
        self.text
            .lines()
            .filter(|line| line.starts_with(kind))
            .count()
    }
}

#[track_caller]
fn run(command: &mut Command) -> Found {
    let began = Instant::now();
    let output = command.output().expect("the binary runs");
    assert!(began.elapsed() < LONGEST, "it took {:?}", began.elapsed());
    Found::of(&output)
}

#[track_caller]
fn doctor(host: &Host) -> Found {
    run(host.command().arg("doctor"))
}

/// Runs the doctor from lines of sh that receive its command as `"$@"`.
#[track_caller]
fn run_by_sh(host: &Host, lines: &str) -> Found {
    let doctor = host.command();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", lines, "sh"]).arg(doctor.get_program());
    command.args(doctor.get_args()).arg("doctor");
    run(&mut command)
}

/// Saves a desired state of one agent, as the updater does.
fn save_desired(host: &Host, user: &str) {
    let text = format!(
        r#"[{{"name":"demo","version":"1","tarball":"http://127.0.0.1/","md5":"","cmd":"start","runUser":{},"workDir":{}}}]"#,
        quote(user),
        quote(&host.work.display().to_string()),
    );
    fs::write(host.own.join("desired_agent.json"), text).expect("a file");
}

fn tree(dir: &Path) -> Vec<std::path::PathBuf> {
    crate::support::watch::tree(dir).into_keys().collect()
}

#[test]
fn a_healthy_host_is_all_ok_and_nothing_is_changed() {
    let host = Host::with_installed_demo("1.0.0");
    host.wait_for("the desired state to be saved", || {
        host.own.join("desired_agent.json").exists() && host.own.join("var/ledger.json").exists()
    });
    // The daemon may be writing a file just now, which has another name until it is whole.
    let mut before = Vec::new();
    host.wait_for("all files to be whole", || {
        before = tree(&host.own);
        let mut names = before.iter();
        names.all(|path| path.extension().is_none_or(|end| end != "tmp"))
    });
    let found = doctor(&host);
    assert_eq!(found.code, Some(0), "{}", found.text);
    assert_eq!(
        found.count("ok"),
        found.text.lines().count(),
        "{}",
        found.text
    );
    let pid = host.daemon_pid().to_string();
    found
        .assert_has("ok", &["cfg.json"])
        .assert_has("ok", &["the updater", &pid])
        .assert_has("ok", &["127.0.0.1", "connected in"])
        .assert_has("ok", &["/api/heartbeat answers"])
        .assert_has("ok", &["clock"])
        .assert_has("ok", &[&host.work.display().to_string(), "MB free"]);
    host.wait_for("the files to be those of before", || {
        tree(&host.own) == before
    });
    assert!(host.meta.seen().iter().any(|seen| seen.method == "GET"));
}

#[test]
fn without_an_updater_it_says_how_to_start_one() {
    doctor(&Host::new()).assert_warns(&["no updater runs", "./control start"]);
}

#[test]
fn a_port_that_nobody_listens_on_is_told_with_its_address() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let mut host = Host::new();
    host.set("server", &quote(&address.to_string()));
    doctor(&host).assert_fails_with(&[
        "127.0.0.1",
        &address.port().to_string(),
        "Connection refused",
    ]);
}

#[test]
fn a_server_that_is_silent_is_told_in_time() {
    let silent = Faults::serve(|mut exchange| exchange.hold());
    let mut host = Host::new();
    host.set("server", &quote(&silent.addr()));
    doctor(&host).assert_fails_with(&["ask http://", "no answer within"]);
}

#[test]
fn a_server_in_trouble_is_warned_of() {
    let broken = Faults::serve(|mut exchange| exchange.reply("502 Bad Gateway", &[], b""));
    let mut host = Host::new();
    host.set("server", &quote(&broken.addr()));
    doctor(&host).assert_warns(&["answers 502"]);
}

#[test]
fn a_name_that_nobody_knows_is_told() {
    let mut host = Host::new();
    host.set("server", &quote("no-such-host.invalid:2000"));
    let found = doctor(&host);
    found.assert_fails_with(&["look up no-such-host.invalid"]);
}

#[test]
fn a_clock_that_is_hours_off_fails_and_minutes_are_warned_of() {
    for (date, kind) in [("Sun, 06 Nov 1994 08:49:37 GMT", "fail"), ("today", "warn")] {
        let server = Faults::serve(move |mut exchange| {
            exchange.reply("200 OK", &[&format!("Date: {date}")], b"");
        });
        let mut host = Host::new();
        host.set("server", &quote(&server.addr()));
        let found = doctor(&host);
        found.assert_has(kind, &["clock"]);
        assert_eq!(
            found.code,
            Some(i32::from(kind == "fail")),
            "{}",
            found.text
        );
    }
    for (hours, kind) in [("+2 hours", "fail"), ("-5 minutes", "warn"), ("now", "ok")] {
        let mut date = Command::new("date");
        date.args(["-u", "-d", hours, "+%a, %d %b %Y %T GMT"]);
        let date = date.env("LC_ALL", "C").output().expect("date runs");
        let date = date.stdout;
        let date = String::from_utf8(date).expect("a date").trim().to_owned();
        let server = Faults::serve(move |mut exchange| {
            exchange.reply("200 OK", &[&format!("Date: {date}")], b"");
        });
        let mut host = Host::new();
        host.set("server", &quote(&server.addr()));
        doctor(&host).assert_has(kind, &["clock", "differ by"]);
    }
}

#[test]
fn a_bad_configuration_is_one_fault_among_the_lines() {
    let mut host = Host::new();
    host.set("interval", "0");
    let found = doctor(&host);
    found.assert_fails_with(&["cfg.json", "interval is 0"]);
    found.assert_has("ok", &["/bin/sh"]);
}

#[test]
fn a_key_that_nobody_knows_is_warned_of() {
    let mut host = Host::new();
    host.set("intervall", "5");
    doctor(&host).assert_warns(&["cfg.json", "intervall"]);
}

#[test]
fn a_file_in_the_place_of_var_fails() {
    let host = Host::new();
    fs::write(host.own.join("var"), "in the way").expect("a file");
    doctor(&host).assert_fails_with(&["cannot write to", "var", "Not a directory"]);
}

/// Runs the doctor in a mount namespace of its own, with this mount.
fn in_mounts(host: &Host, mount: &str) -> Option<Found> {
    if !can_make_users() {
        return None;
    }
    let lines = format!("mount --make-rprivate / && {mount} && exec \"$@\"");
    let doctor = host.command();
    let mut command = Command::new("unshare");
    command.args(["-m", "/bin/sh", "-c", &lines, "sh"]);
    command
        .arg(doctor.get_program())
        .args(doctor.get_args())
        .arg("doctor");
    Some(run(&mut command))
}

#[test]
fn a_directory_that_became_read_only_fails() {
    let host = Host::new();
    let own = host.own.display();
    let mount = format!("mount --bind {own} {own} && mount -o remount,bind,ro {own}");
    if let Some(found) = in_mounts(&host, &mount) {
        found.assert_fails_with(&["cannot write to", "updater", "Read-only file system"]);
    }
}

#[test]
fn a_work_dir_on_which_nothing_can_be_run_fails() {
    let host = Host::new();
    save_desired(&host, "");
    let mount = format!("mount -t tmpfs -o noexec none {}", host.work.display());
    if let Some(found) = in_mounts(&host, &mount) {
        found.assert_fails_with(&["work", "noexec"]);
    }
}

#[test]
fn a_full_file_system_fails_and_one_without_inodes_is_warned_of() {
    let host = Host::new();
    save_desired(&host, "");
    let work = host.work.display();
    let mount = format!("mount -t tmpfs -o size=8m none {work}");
    if let Some(found) = in_mounts(&host, &mount) {
        found.assert_fails_with(&["work", "has 8 MB free", "free up space"]);
    }
    let mount = format!("mount -t tmpfs -o size=99m,nr_inodes=99 none {work}");
    if let Some(found) = in_mounts(&host, &mount) {
        found.assert_warns(&["work", "inode"]);
    }
}

#[test]
fn a_disk_that_hangs_is_told_in_time() {
    let host = Host::new();
    save_desired(&host, "");
    let Some(_disk) = crate::support::dead_disk::DeadDisk::over(&host.work) else {
        return;
    };
    doctor(&host).assert_fails_with(&["work", "does the disk hang?", "no answer within"]);
}

#[test]
fn few_open_files_a_tight_umask_and_a_proxy_are_warned_of() {
    let host = Host::new();
    run_by_sh(&host, "ulimit -n 64; exec \"$@\"").assert_warns(&["open files 64"]);
    run_by_sh(&host, "umask 077; exec \"$@\"").assert_warns(&["umask 0077"]);
    let fine = run_by_sh(&host, "umask 022; ulimit -n 300; exec \"$@\"");
    fine.assert_has("ok", &["umask 0022"]);
    fine.assert_has("ok", &["open files 300"]);
    let found = run_by_sh(&host, "http_proxy=http://secret@proxy/ exec \"$@\"");
    found.assert_warns(&["proxy", "http_proxy counts unless"]);
    assert!(!found.text.contains("secret"), "{}", found.text);
    let found = run_by_sh(&host, "HTTP_PROXY=http://secret@proxy/ exec \"$@\"");
    found.assert_warns(&["proxy", "HTTP_PROXY does not count"]);
}

#[test]
fn a_user_that_is_missing_will_be_made() {
    if !can_make_users() {
        return;
    }
    let (host, user) = (Host::new(), User::unborn());
    save_desired(&host, &user.name);
    doctor(&host).assert_warns(&[&user.name, "does not exist", "useradd"]);
    let user = User::new();
    save_desired(&host, &user.name);
    doctor(&host).assert_has("ok", &["user", &user.name]);
}

#[test]
fn sudo_is_tried_for_the_one_command_that_needs_it() {
    if !can_make_users() {
        return;
    }
    let (ops, user) = (User::new(), User::new());
    let host = Host::of(&ops);
    save_desired(&host, &user.name);
    doctor(&host).assert_fails_with(&["sudo: ", "password", "NOPASSWD"]);
    ops.sudoers(&host.rule());
    doctor(&host).assert_has("ok", &["/usr/bin/sudo"]);
    ops.sudoers(&format!("Defaults:USER requiretty\n{}", host.rule()));
    doctor(&host).assert_fails_with(&["sudo: ", "tty", "requiretty"]);
}

#[test]
fn a_directory_that_is_not_its_own_fails() {
    if !can_make_users() {
        return;
    }
    // Both users are made at the same time, because a removed user leaves its number to the next one.
    let (ops, other) = (User::new(), User::new());
    let host = Host::of(&ops);
    other.take(&host.own);
    mode(&host.own, 0o755);
    doctor(&host).assert_fails_with(&["cannot write to", "Permission denied"]);
}

#[test]
fn what_a_crash_left_is_told_and_left_to_the_next_round() {
    let host = Host::new();
    save_desired(&host, "");
    let ours = host.work.join("demo/.updater");
    fs::create_dir_all(&ours).expect("a directory");
    for kept in ["lock", "control.out", "1.other"] {
        fs::write(ours.join(kept), "").expect("a file");
    }
    assert!(!doctor(&host).text.contains("left over from a crash"));
    fs::write(ours.join("1.part"), "").expect("a file");
    doctor(&host).assert_warns(&["1.part", "left over from a crash"]);
    fs::create_dir_all(host.own.join("var")).expect("a directory");
    fs::write(host.own.join("var/ledger.json.tmp"), "").expect("a file");
    doctor(&host).assert_warns(&["ledger.json.tmp", "left over from a crash"]);
    assert!(ours.join("1.part").exists());
}

#[test]
fn saved_files_that_cannot_be_used_are_warned_of_and_stay() {
    let host = Host::new();
    fs::create_dir_all(host.own.join("var")).expect("a directory");
    for file in ["desired_agent.json", "var/ledger.json"] {
        let path = host.own.join(file);
        fs::write(&path, "{\u{1b}[2J").expect("a file");
        doctor(&host).assert_warns(&[file]);
        assert_eq!(fs::read_to_string(&path).expect("it stays"), "{\u{1b}[2J");
    }
}

#[test]
fn a_word_from_outside_moves_no_cursor() {
    let host = Host::new();
    let text = r#"[{"name":"demo\u001b[2J","version":7}]"#;
    fs::write(host.own.join("desired_agent.json"), text).expect("a file");
    let found = doctor(&host);
    found.assert_warns(&["desired_agent.json", "version"]);
    assert!(!found.text.contains('\u{1b}'), "{}", found.text);
}

/// Returns key, origin and value of each line that `check` prints.
fn origins(config: &str) -> Vec<(String, String, String)> {
    let host = Host::new();
    let config = config.replace("DIR", &host.dir.display().to_string());
    fs::write(host.config_file(), config).expect("cfg.json");
    for (name, text) in [("token", "canary\n"), ("tokens", "http://store/ canary\n")] {
        secret_file(&host.dir.join(name), text);
    }
    let output = host.run("check");
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(!text.contains("canary"), "{text}");
    // The policy comes last, and has no source.
    let lines = text.lines().skip(2);
    let lines = lines.take_while(|line| !line.starts_with("policy "));
    let rows = lines.map(|line| {
        // A path of a test and a public key are longer.
        let is_long = line.contains("/ops-updater-test-") || line.starts_with("public_keys ");
        assert!(is_long || line.len() <= 80, "{line}");
        let (key, rest) = line.split_at(17);
        let (from, value) = rest.split_at(10);
        (
            key.trim().to_owned(),
            from.trim().to_owned(),
            value.to_owned(),
        )
    });
    rows.collect()
}

/// Runs a command with `--json`. Returns the objects that it prints, one a line.
fn objects(host: &Host, command: &str) -> Vec<Value> {
    let output = host.run_with(&[command, "--json"]);
    let text = String::from_utf8(output.stdout).expect("text");
    let objects = text.lines().map(parse);
    objects
        .inspect(|row| assert!(matches!(row, Value::Object(_)), "{text}"))
        .collect()
}

#[test]
fn the_findings_for_programs_are_those_for_people() {
    let mut host = Host::new();
    save_desired(&host, "");
    host.set("frobnicate", "1");
    // Times and free space differ from one run to the next.
    let steady = |text: &str| text.replace(|c: char| c.is_ascii_digit(), "");
    let lines = String::from_utf8(host.run("doctor").stdout).expect("text");
    let objects = objects(&host, "doctor").into_iter();
    let found = objects.map(|row| {
        let (kind, text) = (row.field("kind").text(), row.field("text").text());
        steady(&format!("{kind:4}  {text}"))
    });
    let found: Vec<_> = found.collect();
    let expected: Vec<_> = lines.lines().map(steady).collect();
    assert_eq!(found, expected);
    assert!(found.iter().any(|line| line.starts_with("warn")), "{lines}");
}

#[test]
fn the_settings_for_programs_are_those_for_people() {
    let host = Host::new();
    let lines = String::from_utf8(host.run("check").stdout).expect("text");
    let objects = objects(&host, "check");
    assert_eq!(objects.len(), lines.lines().count() - 2, "{lines}");
    for (row, line) in objects.iter().zip(lines.lines().skip(2)) {
        let words = ["key", "from", "value"].map(|field| row.field(field).text().to_owned());
        let joined = words.join(" ");
        assert!(
            line.split_whitespace().eq(joined.split_whitespace()),
            "{line}"
        );
    }
}

#[track_caller]
fn assert_origin(config: &str, key: &str, from: &str, value: &str) {
    let rows = origins(config);
    let row = rows.iter().find(|row| row.0 == key).expect(key);
    assert_eq!((row.1.as_str(), row.2.as_str()), (from, value), "{config}");
}

#[test]
fn check_tells_where_each_setting_comes_from() {
    let bare = r#"{"server": "m:1"}"#;
    assert_origin(bare, "server", "cfg.json", "m:1");
    assert_origin(bare, "interval", "default", "300 s");
    assert_origin(bare, "check_interval", "default", "30 s");
    assert_origin(bare, "allow_downgrade", "default", "true");
    assert_origin(bare, "download_spread", "default", "0 s");
    assert_origin(bare, "ip", "system", "the address toward the server");
    assert_origin(bare, "log_max_size", "default", "10 MB");
    assert_origin(bare, "log_format", "default", "text");
    assert_origin(bare, "http.enabled", "default", "false");
    let system = fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
    assert_origin(bare, "hostname", "system", system.trim());
    let full = r#"{"server": "m:1", "interval": 300, "check_interval": 5, "hostname": "h", "ip": "192.0.2.1",
        "log_max_size": 5, "log_format": "json", "log_level": "warn", "sudo": "/opt/sudo", "allow_downgrade": false, "download_spread": 60,
        "public_keys": ["RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3"],
        "transport": "curl", "curl": "/usr/bin/curl", "ca_file": "/dev/null", "client_cert": "/dev/null",
        "client_key": "/dev/null", "proxy": "http://u:canary@proxy:3128", "no_proxy": "m", "token_file": "DIR/token",
        "store_token_file": "DIR/tokens", "download_rate": 20000,
        "http": {"enabled": false, "listen": "0.0.0.0:2001"}}"#;
    assert!(origins(full).iter().all(|row| row.1 == "cfg.json"));
    assert_origin(full, "http.listen", "cfg.json", "0.0.0.0:2001");
    // An empty value and null count as missing.
    let empty = r#"{"server": "m:1", "interval": null, "hostname": "", "log_level": ""}"#;
    assert_origin(empty, "interval", "default", "300 s");
    assert_origin(empty, "hostname", "system", system.trim());
    assert_origin(empty, "log_level", "default", "info");
    let debug = r#"{"server": "m:1", "debug": true}"#;
    assert_origin(debug, "log_level", "cfg.json", "debug");
}

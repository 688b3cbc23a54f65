//! `contrib/install-fleet`, with a stand-in for ssh: each host is a directory, and its updater a script that notes its calls. The
//! `control` is the real one.

use crate::support::host::Host;
use crate::support::procs::write_script;
use crate::support::watch::names;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

/// Runs the command line on a host. It asks for a password, which nobody types, unless it is told not to.
const SSH: &str = r#"#!/bin/sh
batch=no
while [ "${1#-}" != "$1" ]; do
    [ "$2" != BatchMode=yes ] || batch=yes
    case $1 in -o) shift 2 ;; *) echo "odd option $1" >&2; exit 255 ;; esac
done
host=$1 root=$FLEET_ROOT/$1
shift
case $host in
asks) [ $batch = yes ] || sleep 86400; echo "Permission denied (publickey)." >&2; exit 255 ;;
gone) echo "connect to host gone port 22: No route to host" >&2; exit 255 ;;
esac
PATH=$root/bin:$PATH exec sh -c "$(printf '%s' "$*" | sed "s#/opt/ops-updater#$root/opt#g")"
"#;

/// What stands for the binary: it knows its version, and what a good configuration is. A host whose directory has a file `ill` is
/// one of which `doctor` complains, and a version that is named in `lame` does not start there.
const BINARY: &str = r#"#!/bin/sh
case $1 in
-v) echo VERSION && exit ;;
--version) echo "ops-updater VERSION ARCH" && exit ;;
esac
note() { echo "$1 VERSION" >>../calls; }
case ${3:-} in
check) grep -q server "$2" || { echo "$2: server is missing" >&2; exit 2; } ;;
pid) cat ../runs 2>/dev/null ;;
signal) note stop; kill "$(cat ../runs)"; rm ../runs ;;
doctor)
    note doctor
    if [ -e ../ill ]; then echo "fail  the server does not answer"; exit 1; fi
    ;;
'')
    note start
    ! grep -qx VERSION ../lame 2>/dev/null || { echo "it is lame" >&2; exit 1; }
    echo '{"version":"VERSION","arch":"x"}' >var/status.json
    echo $$ >../runs
    exec sleep 86400
    ;;
esac
"#;

/// The directory in which an operator runs the script, and the hosts.
struct Fleet {
    sandbox: Host,
    desk: PathBuf,
}

impl Fleet {
    fn new(hosts: &[&str]) -> Self {
        let sandbox = Host::new();
        let desk = sandbox.dir.join("desk");
        for dir in ["desk", "tools", "hosts"] {
            fs::create_dir(sandbox.dir.join(dir)).expect("a directory");
        }
        write_script(&sandbox.dir.join("tools/ssh"), SSH);
        fs::write(desk.join("hosts"), hosts.join("\n") + "\n").expect("hosts");
        fs::write(desk.join("cfg.json"), r#"{"server": "meta:2000"}"#).expect("a configuration");
        for host in hosts {
            fs::create_dir(sandbox.dir.join("hosts").join(host)).expect("a host");
        }
        let fleet = Self { sandbox, desk };
        for arch in ["linux_amd64", "linux_arm64", "darwin_amd64"] {
            fleet.pack("1.0.0", arch);
            fleet.pack("2.0.0", arch);
        }
        fleet
    }

    /// Makes a release whose binary names its version and arch.
    fn pack(&self, version: &str, arch: &str) {
        let dir = self.sandbox.dir.join("release");
        fs::create_dir(&dir).expect("a directory");
        let binary = BINARY.replace("VERSION", version).replace("ARCH", arch);
        write_script(&dir.join("ops-updater"), &binary);
        let control = concat!(env!("CARGO_MANIFEST_DIR"), "/control");
        fs::copy(control, dir.join("control")).expect("a script");
        let name = format!("ops-updater-{version}-{arch}.tar.gz");
        self.shell(&format!(
            "tar czf {name} -C '{}' . && sha256sum {name} >{name}.sha256",
            dir.display()
        ));
        fs::remove_dir_all(&dir).expect("it is removed");
    }

    fn shell(&self, line: &str) {
        let mut shell = Command::new("sh");
        let status = shell.args(["-c", line]).current_dir(&self.desk).status();
        assert!(status.expect("sh runs").success(), "{line}");
    }

    /// Returns a path on a host.
    fn on(&self, host: &str, path: &str) -> PathBuf {
        self.sandbox.dir.join("hosts").join(host).join(path)
    }

    /// Makes `uname -sm` of a host print this.
    fn set_system(&self, host: &str, system: &str) {
        fs::create_dir(self.on(host, "bin")).expect("a directory");
        write_script(
            &self.on(host, "bin/uname"),
            &format!("#!/bin/sh\necho '{system}'\n"),
        );
        write_script(
            &self.on(host, "bin/shasum"),
            "#!/bin/sh\nshift 2\nexec sha256sum \"$@\"\n",
        );
    }

    fn install(&self, arguments: &[&str]) -> Output {
        let path = std::env::var("PATH").unwrap_or_default();
        let tools = self.sandbox.dir.join("tools");
        Command::new("sh")
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/contrib/install-fleet"
            ))
            .args(arguments)
            .current_dir(&self.desk)
            .env("PATH", format!("{}:{path}", tools.display()))
            .env("FLEET_ROOT", self.sandbox.dir.join("hosts"))
            .output()
            .expect("sh runs")
    }

    /// Asserts the exit code and the lines of the output, in any order.
    #[track_caller]
    fn assert_says(&self, arguments: &[&str], code: i32, lines: &[&str]) {
        let output = self.install(arguments);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{out}{err}");
        let mut said: Vec<&str> = out.lines().collect();
        said.sort_unstable();
        assert_eq!(said, lines, "{err}");
    }

    fn failed(&self) -> Vec<String> {
        let text = fs::read_to_string(self.desk.join("hosts.failed")).unwrap_or_default();
        let mut failed: Vec<String> = text.lines().map(str::to_owned).collect();
        failed.sort_unstable();
        failed
    }

    fn calls(&self, host: &str) -> String {
        fs::read_to_string(self.on(host, "calls")).unwrap_or_default()
    }
}

#[test]
fn each_host_gets_the_release_of_its_arch_and_one_that_has_it_is_left_alone() {
    let fleet = Fleet::new(&["amd", "arm", "mac"]);
    fleet.set_system("amd", "Linux x86_64");
    fleet.set_system("arm", "Linux aarch64");
    fleet.set_system("mac", "Darwin x86_64");
    let now = [
        "amd: runs 1.0.0 now",
        "arm: runs 1.0.0 now",
        "mac: runs 1.0.0 now",
    ];
    fleet.assert_says(&["1.0.0"], 0, &now);
    for (host, arch) in [
        ("amd", "linux_amd64"),
        ("arm", "linux_arm64"),
        ("mac", "darwin_amd64"),
    ] {
        let binary = fs::read_to_string(fleet.on(host, "opt/ops-updater")).expect("a binary");
        assert!(binary.contains(arch), "{host}");
        let files = names(&fleet.on(host, "opt"));
        assert_eq!(files, ["cfg.json", "control", "ops-updater", "var"]);
        assert_eq!(fleet.calls(host), "start 1.0.0\ndoctor 1.0.0\n");
    }
    let already = now.map(|line| line.replace("now", "already"));
    fleet.assert_says(&["1.0.0"], 0, &already.each_ref().map(String::as_str));
    assert_eq!(
        fleet.calls("amd"),
        "start 1.0.0\ndoctor 1.0.0\ndoctor 1.0.0\n"
    );
    // One that does not run, and a new cfg.json, are reasons to restart.
    fs::remove_file(fleet.on("amd", "runs")).expect("it ran");
    fleet.assert_says(&["1.0.0"], 0, &[now[0], &already[1], &already[2]]);
    fs::write(fleet.desk.join("cfg.json"), r#"{"server": "other:2000"}"#).expect("it is writable");
    fleet.assert_says(&["1.0.0"], 0, &now);
    let config = fs::read_to_string(fleet.on("arm", "opt/cfg.json")).expect("a configuration");
    assert!(config.contains("other"));
    fleet.assert_says(
        &["2.0.0"],
        0,
        &now.map(|line| line.replace("1.0.0", "2.0.0"))
            .each_ref()
            .map(String::as_str),
    );
}

#[test]
fn a_host_keeps_its_own_configuration_if_none_is_given() {
    let fleet = Fleet::new(&["own"]);
    fleet.set_system("own", "Linux x86_64");
    fleet.assert_says(&["1.0.0"], 0, &["own: runs 1.0.0 now"]);
    fs::write(fleet.on("own", "opt/cfg.json"), r#"{"server": "mine"}"#).expect("it is writable");
    fs::remove_file(fleet.desk.join("cfg.json")).expect("it is there");
    fleet.assert_says(&["1.0.0"], 0, &["own: runs 1.0.0 already"]);
    fleet.assert_says(&["2.0.0"], 0, &["own: runs 2.0.0 now"]);
    let config = fs::read_to_string(fleet.on("own", "opt/cfg.json")).expect("a configuration");
    assert!(config.contains("mine"));
}

#[test]
fn hosts_that_fail_are_listed_to_be_tried_again() {
    let fleet = Fleet::new(&["well", "gone", "asks", "odd", "broken"]);
    for host in ["well", "broken"] {
        fleet.set_system(host, "Linux x86_64");
    }
    fleet.set_system("odd", "SunOS sun4v");
    write_script(&fleet.on("broken", "bin/sha256sum"), "#!/bin/sh\nexit 1\n");
    fleet.assert_says(&["-n", "0", "1.0.0"], 1, &["well: runs 1.0.0 now"]);
    assert_eq!(fleet.failed(), ["asks", "broken", "gone", "odd"]);
    assert_eq!(fleet.calls("broken"), "");
    fs::remove_file(fleet.on("broken", "bin/sha256sum")).expect("it is there");
    fs::write(fleet.desk.join("hosts"), "broken\n").expect("it is writable");
    fleet.assert_says(&["1.0.0"], 0, &["broken: runs 1.0.0 now"]);
    assert!(fleet.failed().is_empty());
}

#[test]
fn the_others_are_untouched_if_a_canary_is_ill() {
    let fleet = Fleet::new(&["first", "second", "third"]);
    for host in ["first", "second", "third"] {
        fleet.set_system(host, "Linux x86_64");
    }
    fs::write(fleet.on("second", "ill"), "").expect("a file");
    let well = "first: runs 1.0.0 now";
    fleet.assert_says(&["-n", "2", "1.0.0"], 1, &[well]);
    assert_eq!(fleet.failed(), ["second", "third"]);
    assert!(!fleet.on("third", "opt").exists());
    fs::remove_file(fleet.on("second", "ill")).expect("it is there");
    let rest = [
        "first: runs 1.0.0 already",
        "second: runs 1.0.0 already",
        "third: runs 1.0.0 now",
    ];
    fleet.assert_says(&["-n", "2", "1.0.0"], 0, &rest);
    assert!(!fleet.calls("third").contains("doctor"));
}

#[test]
fn what_would_not_run_stops_nothing() {
    let fleet = Fleet::new(&["host"]);
    fleet.set_system("host", "Linux x86_64");
    fleet.assert_says(&["1.0.0"], 0, &["host: runs 1.0.0 now"]);
    let before = fleet.calls("host");
    let config = fs::read_to_string(fleet.on("host", "opt/cfg.json")).expect("a configuration");
    fs::write(fleet.desk.join("cfg.json"), "{}").expect("it is writable");
    fleet.assert_says(&["2.0.0"], 1, &[]);
    fs::write(fleet.desk.join("cfg.json"), &config).expect("it is writable");
    let pack = fleet.desk.join("ops-updater-2.0.0-linux_amd64.tar.gz");
    let whole = fs::read(&pack).expect("a tarball");
    fs::write(&pack, &whole[..whole.len() / 2]).expect("it is writable");
    fleet.assert_says(&["2.0.0"], 1, &[]);
    assert_eq!(fleet.calls("host"), before);
    let now = fs::read_to_string(fleet.on("host", "opt/cfg.json")).expect("a configuration");
    assert_eq!(now, config);
    fs::write(&pack, whole).expect("it is writable");
    fleet.assert_says(&["2.0.0"], 0, &["host: runs 2.0.0 now"]);
}

#[test]
fn a_version_that_does_not_start_gives_way_to_the_one_before_and_is_tried_again() {
    let fleet = Fleet::new(&["host"]);
    fleet.set_system("host", "Linux x86_64");
    fleet.assert_says(&["1.0.0"], 0, &["host: runs 1.0.0 now"]);
    fs::write(fleet.on("host", "lame"), "2.0.0\n").expect("a file");
    for _ in 0..2 {
        fleet.assert_says(&["2.0.0"], 1, &[]);
        let calls = fleet.calls("host");
        assert!(
            calls.ends_with("stop 1.0.0\nstart 2.0.0\nstart 1.0.0\n"),
            "{calls}"
        );
        assert!(fleet.on("host", "runs").exists());
    }
    fs::remove_file(fleet.on("host", "lame")).expect("it is there");
    fleet.assert_says(&["2.0.0"], 0, &["host: runs 2.0.0 now"]);
    let previous = names(&fleet.on("host", "opt/ops-updater.previous"));
    assert_eq!(previous, ["cfg.json", "control", "ops-updater"]);
}

#[test]
fn a_directory_of_something_else_is_left_alone() {
    let fleet = Fleet::new(&["host"]);
    fleet.set_system("host", "Linux x86_64");
    fs::create_dir(fleet.on("host", "opt")).expect("a directory");
    fs::write(fleet.on("host", "opt/precious"), "").expect("a file");
    fleet.assert_says(&["1.0.0"], 1, &[]);
    assert_eq!(names(&fleet.on("host", "opt")), ["precious"]);
}

#[test]
fn what_cannot_work_is_refused_before_any_host_is_reached() {
    let fleet = Fleet::new(&["host"]);
    for arguments in [
        &[][..],
        &["9.9.9"],
        &["1.0.0", "more"],
        &["-d", "/opt/$(id)", "1.0.0"],
        &["-d", "relative", "1.0.0"],
        &["-d", "/opt", "1.0.0"],
        &["-d", "/opt/../etc", "1.0.0"],
        &["-d", "", "1.0.0"],
        &["-p", "x", "1.0.0"],
        &["-n", "", "1.0.0"],
        &["-n", "08", "1.0.0"],
    ] {
        fleet.assert_says(arguments, 2, &[]);
    }
    for hosts in [
        "-oProxyCommand=id\n",
        "two words\n",
        "it's\n",
        "crlf\r\n",
        "host\nhost\n",
        "\n",
    ] {
        fs::write(fleet.desk.join("hosts"), hosts).expect("it is writable");
        fleet.assert_says(&["1.0.0"], 2, &[]);
    }
    assert!(names(&fleet.on("host", "")).is_empty());
}

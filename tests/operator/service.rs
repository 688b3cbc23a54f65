//! Tests `control` beside a unit of systemd. A script stands in for systemctl, and starts the updater as systemd would.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use crate::operator::control::{command, pid, unpacked};
use crate::support::host::Host;
use crate::support::procs;

const SYSTEMCTL: &str = r#"#!/bin/sh
cd "$(dirname "$0")/../updater" || exit
echo "$*" >>../calls
[ ! -e ../hangs ] || exec sleep 60
[ ! -e ../denied ] || [ "$1" = show ] || exit 4
case $* in
show*)
    cat ../unit || exit
    echo "MainPID=$(cat ../main)"
    exit
    ;;
*restart*)
    ./ops-updater -c cfg.json signal TERM >/dev/null
    while ./ops-updater -c cfg.json pid >/dev/null; do sleep 0.1; done
    ;;
esac
mkdir -p var
./ops-updater -c cfg.json </dev/null >>var/app.log 2>&1 &
echo $! >../main
"#;

/// A host with this stand-in for systemctl. What it knows of the unit is the file `unit`.
struct Service {
    host: Host,
}

impl Service {
    fn new() -> Self {
        let host = unpacked();
        fs::create_dir(host.dir.join("bin")).expect("bin");
        fs::write(host.dir.join("main"), "0").expect("a pid");
        procs::write_script(&host.dir.join("bin/systemctl"), SYSTEMCTL);
        Self { host }
    }

    /// Installs a unit that runs this command in the updater's directory.
    fn install(&self, command: &str) {
        let dir = self.host.own.display();
        let path = command.split(' ').next().unwrap_or_default();
        let unit = format!(
            "WorkingDirectory={dir}\nExecStart={{ path={path} ; argv[]={command} ; ignore_errors=no ; start_time=[n/a] }}\n"
        );
        fs::write(self.host.dir.join("unit"), unit).expect("a unit");
    }

    /// Installs the unit that is shipped.
    fn install_shipped(&self) {
        self.install(&format!("{} -c cfg.json", self.binary().display()));
    }

    fn binary(&self) -> PathBuf {
        self.host.own.join("ops-updater")
    }

    fn control(&self, verb: &str) -> Output {
        self.control_of(&["sh"], verb)
    }

    fn control_of(&self, shell: &[&str], verb: &str) -> Output {
        self.run(&mut command(&self.host, shell, verb))
    }

    /// Runs a command that finds the stand-in for systemctl.
    fn run(&self, command: &mut Command) -> Output {
        let path = std::env::var("PATH").expect("a PATH");
        let path = format!("{}:{path}", self.host.dir.join("bin").display());
        command.env("PATH", path).output().expect("it runs")
    }

    #[track_caller]
    fn succeed(&self, verb: &str) -> String {
        let output = self.control(verb);
        assert!(output.status.success(), "{verb}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Returns what systemctl was called for, without the questions.
    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.host.dir.join("calls")).unwrap_or_default();
        let orders = calls.lines().filter(|call| !call.starts_with("show "));
        let verbs = orders.filter_map(|call| call.split(' ').nth(2));
        verbs.map(str::to_owned).collect()
    }

    fn main_pid(&self) -> u32 {
        let main = fs::read_to_string(self.host.dir.join("main")).expect("a pid");
        main.trim().parse().expect("a pid")
    }
}

#[test]
fn a_service_is_started_and_restarted_by_systemd_under_every_shell() {
    for shell in [&["sh"][..], &["dash"], &["bash"], &["busybox", "sh"]] {
        if Command::new(shell[0]).arg("--help").output().is_err() {
            continue;
        }
        let service = Service::new();
        service.install_shipped();
        let output = service.control_of(shell, "start");
        assert!(output.status.success(), "{shell:?}: {output:?}");
        let first = service.main_pid();
        let said = String::from_utf8(output.stdout).expect("text");
        assert!(said.ends_with(&format!("\nops-updater started..., pid={first}\n")));
        assert_eq!(pid(&service.host), first);
        let output = service.control_of(shell, "restart");
        assert!(output.status.success(), "{shell:?}: {output:?}");
        assert_ne!(pid(&service.host), first);
        assert_eq!(pid(&service.host), service.main_pid());
        assert_eq!(service.calls(), ["start", "restart"], "{shell:?}");
    }
}

#[test]
fn an_upgraded_service_is_started_by_systemd() {
    let service = Service::new();
    service.install_shipped();
    service.succeed("start");
    let new = service.host.own.join(".new");
    fs::create_dir(&new).expect("a directory");
    for file in ["control", "ops-updater"] {
        fs::copy(service.host.own.join(file), new.join(file)).expect("a file of the release");
    }
    let control = fs::read_to_string(new.join("control")).expect("text");
    fs::write(new.join("control"), control + "# another release\n").expect("a file");
    let output = service.run(Command::new("sh").arg(new.join("control")).arg("upgrade"));
    assert!(output.status.success(), "{output:?}");
    assert_eq!(pid(&service.host), service.main_pid());
    assert_eq!(service.calls(), ["start", "start"]);
}

#[test]
fn start_and_stop_of_a_running_service_are_the_same_as_without_one() {
    let service = Service::new();
    service.install_shipped();
    service.succeed("start");
    service.succeed("start");
    assert_eq!(service.succeed("stop"), "ops-updater stoped...\n");
    assert_eq!(service.succeed("status"), "stoped\n");
    assert_eq!(service.calls(), ["start"]);
}

#[test]
fn an_updater_that_was_started_by_hand_is_restarted_by_hand() {
    let service = Service::new();
    service.succeed("start");
    let first = pid(&service.host);
    service.install_shipped();
    service.succeed("restart");
    assert_ne!(pid(&service.host), first);
    assert!(service.calls().is_empty());
}

#[test]
fn a_unit_that_runs_another_updater_or_this_script_is_left_alone() {
    let service = Service::new();
    let (binary, own) = (service.binary(), &service.host.own);
    for command in [
        format!("{} start", own.join("control").display()),
        format!(
            "/bin/sh -c {} -c cfg.json start",
            own.join("control").display()
        ),
        format!("{} -c /nowhere/cfg.json", binary.display()),
        format!("{} -c other.json", binary.display()),
        "/usr/sbin/sshd -D".to_owned(),
    ] {
        service.install(&command);
        service.succeed("start");
        service.succeed("restart");
        service.succeed("stop");
    }
    assert!(service.calls().is_empty());
}

#[test]
fn a_unit_may_name_the_directory_by_another_path() {
    let service = Service::new();
    let link = service.host.dir.join("link");
    std::os::unix::fs::symlink(&service.host.own, &link).expect("a link");
    let (binary, config) = (link.join("ops-updater"), link.join("cfg.json"));
    service.install(&format!("{} -c {}", binary.display(), config.display()));
    service.succeed("start");
    assert_eq!(service.calls(), ["start"]);
}

#[test]
fn where_systemd_refuses_a_service_is_not_replaced_and_what_is_stopped_is_started_by_hand() {
    let service = Service::new();
    service.install_shipped();
    service.succeed("start");
    let first = pid(&service.host);
    fs::write(service.host.dir.join("denied"), "").expect("a file");
    let output = service.control("restart");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("run systemctl restart ops-updater.service as root"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
    assert_eq!(pid(&service.host), first);
    service.succeed("stop");
    let output = service.control("start");
    assert!(output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("is started without ops-updater.service"),
        "{said}"
    );
    assert_ne!(pid(&service.host), first);
}

#[test]
fn a_systemd_that_hangs_keeps_the_updater_from_nothing() {
    let service = Service::new();
    fs::write(service.host.dir.join("hangs"), "").expect("a file");
    service.succeed("start");
    service.succeed("restart");
    service.succeed("stop");
}

#[test]
fn a_wrong_configuration_neither_starts_nor_stops_a_service() {
    let mut service = Service::new();
    service.install_shipped();
    service.succeed("start");
    let first = pid(&service.host);
    service.host.set("interval", "0");
    assert_eq!(service.control("restart").status.code(), Some(2));
    assert!(procs::alive(first));
    service.succeed("stop");
    assert_eq!(service.control("start").status.code(), Some(2));
    assert_eq!(service.calls(), ["start"]);
}

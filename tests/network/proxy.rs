//! Requests through a proxy: tinyproxy with a password. Skipped where tinyproxy or curl is missing.

use crate::support::agent::Agent;
use crate::support::fault::Faults;
use crate::support::host::{Host, PATIENCE};
use crate::support::http::free;
use crate::support::json::quote;
use crate::support::platform::patience;
use crate::support::procs;
use crate::support::tls::{TlsServer, has};
use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const PASSWORD: &str = "canary-in-a-proxy";

struct Proxy {
    addr: String,
    log: PathBuf,
    process: Child,
}

impl Proxy {
    fn start(host: &Host) -> Option<Self> {
        if !has(&["tinyproxy", "curl"]) {
            return None;
        }
        let addr = free("127.0.0.1");
        let port = addr.rsplit(':').next().expect("a port");
        let (conf, log) = (host.dir.join("proxy.conf"), host.dir.join("proxy.log"));
        let text = format!(
            "Port {port}\nListen 127.0.0.1\nLogFile \"{}\"\nLogLevel Connect\nMaxClients 20\n\
             BasicAuth user {PASSWORD}\n",
            log.display()
        );
        fs::write(&conf, text).expect("a file");
        let mut command = Command::new("tinyproxy");
        command.arg("-d").arg("-c").arg(&conf);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let process = command.stderr(Stdio::null()).spawn();
        let proxy = Self {
            process: process.expect("tinyproxy runs"),
            addr,
            log,
        };
        host.wait_for("the proxy to listen", || {
            TcpStream::connect(&proxy.addr).is_ok()
        });
        Some(proxy)
    }

    fn url(&self) -> String {
        format!("http://user:{PASSWORD}@{}", self.addr)
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn heartbeats_and_downloads_go_through_the_proxy() {
    let mut host = Host::new();
    let Some(proxy) = Proxy::start(&host) else {
        return;
    };
    host.set("proxy", &quote(&proxy.url()));
    host.publish(&Agent::new("demo", "1.0.0"));
    host.desire(&[host.want("demo", "1.0.0")]);
    host.start();
    host.wait_running_within(patience(PATIENCE), "demo", "1.0.0");
    let log = proxy.log();
    assert!(log.contains("POST http://"), "{log}");
    let heartbeat = host.last_beat().expect("a heartbeat").body;
    assert!(heartbeat.contains("\"ip\":\"127.0.0.1\""), "{heartbeat}");
    assert!(log.contains(".tar.gz "), "{log}");
}

#[test]
fn tls_goes_through_a_tunnel_of_the_proxy() {
    let mut host = Host::new();
    let pass = format!("location / {{ proxy_pass http://{}; }}", host.meta.addr());
    let Some(tls) = TlsServer::start(&host, &[("good", &pass)]) else {
        return;
    };
    let Some(proxy) = Proxy::start(&host) else {
        return;
    };
    host.set("server", &quote(&tls.url("good")));
    host.set("ca_file", &quote(&tls.file("ca.pem")));
    host.set("proxy", &quote(&proxy.url()));
    host.start();
    host.wait_beats(1);
    let log = proxy.log();
    assert!(log.contains("CONNECT 127.0.0.1"), "{log}");
}

#[test]
fn a_host_of_no_proxy_is_reached_directly() {
    let mut host = Host::new();
    host.set("proxy", &quote("http://127.0.0.1:1"));
    host.set("no_proxy", &quote("example.com, 127.0.0.1"));
    host.start();
    host.wait_beats(1);
}

#[test]
fn a_proxy_of_the_environment_is_used_unless_the_file_has_another_but_never_for_loopback() {
    if !has(&["curl"]) {
        return;
    }
    let proxy = Faults::serve(|mut exchange| {
        exchange.reply("200 OK", &[], br#"{"desiredAgents": []}"#);
    });
    let mut host = Host::new();
    host.env("http_proxy", &proxy.url(""));
    host.start();
    host.wait_beats(1);
    assert!(proxy.heads().is_empty(), "{:?}", proxy.heads());
    host.stop();
    host.set("server", &quote("meta.example:2000"));
    host.start();
    host.wait_for("a heartbeat through the proxy", || {
        let heads = proxy.heads();
        heads
            .iter()
            .any(|head| head.starts_with("POST http://meta.example:2000/api/heartbeat "))
    });
    let settings = String::from_utf8_lossy(&host.run("check").stdout).into_owned();
    let line = format!("proxy            variable  http: {}\n", proxy.url(""));
    assert!(settings.contains(&line), "{settings}");
    host.stop();
    let asked = proxy.heads().len();
    host.set("proxy", &quote("http://127.0.0.1:1"));
    host.start();
    host.wait_for("the other proxy", || {
        host.log().contains("connect to 127.0.0.1 port 1 ")
    });
    assert_eq!(proxy.heads().len(), asked);
}

#[test]
fn a_proxy_that_curl_would_leave_out_or_show_is_refused_without_its_password() {
    let mut host = Host::new();
    for address in ["127.0.0.1:+3128", "a{b:3128"] {
        let proxy = format!("http://user:{PASSWORD}@{address}");
        host.set("proxy", &quote(&proxy));
        let output = host.run("check");
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        assert!(text.contains("wanted the URL of a proxy"), "{text}");
        assert!(!text.contains(PASSWORD), "{text}");
    }
    host.set("proxy", &quote("http://user:a%0ab@127.0.0.1:3128"));
    assert_eq!(host.run("check").status.code(), Some(2));
}

#[test]
fn a_proxy_that_refuses_is_reported_and_nothing_goes_around_it() {
    let mut host = Host::new();
    let Some(proxy) = Proxy::start(&host) else {
        return;
    };
    let wrong = format!("http://user:wrong@{}", proxy.addr);
    host.set("proxy", &quote(&wrong));
    host.start();
    host.wait_for("the refusal", || {
        host.log().contains("the last desired state stays in force")
    });
    assert_eq!(host.meta.count_beats(), 0);
}

#[test]
fn the_password_of_a_proxy_is_in_no_log_no_status_and_no_argument() {
    let mut host = Host::new();
    let Some(proxy) = Proxy::start(&host) else {
        return;
    };
    host.set("log_level", &quote("debug"));
    host.set("proxy", &quote(&proxy.url()));
    let addr = free("127.0.0.1");
    host.listen_at(&addr);
    let is_over = Arc::new(AtomicBool::new(false));
    let watch = {
        let (is_over, dir) = (is_over.clone(), host.dir.clone());
        std::thread::spawn(move || {
            let mut all = String::new();
            while !is_over.load(Ordering::Relaxed) {
                for pid in procs::in_sandbox(&dir) {
                    all += &procs::args(pid).join(" ");
                }
            }
            all
        })
    };
    host.start();
    host.wait_beats(3);
    is_over.store(true, Ordering::Relaxed);
    let arguments = watch.join().expect("it ends");
    assert!(arguments.contains("ops-updater"), "{arguments}");
    let settings = crate::support::http::send(
        &addr,
        format!("POST /config/reload HTTP/1.1\r\nHost: {addr}\r\nContent-Length: 0\r\n\r\n")
            .as_bytes(),
    );
    let settings = settings.expect("an answer").body;
    let check = host.run("check");
    let texts = [
        arguments,
        host.log(),
        fs::read_to_string(host.own.join("var/status.json")).expect("it is there"),
        settings,
        String::from_utf8_lossy(&check.stdout).into_owned(),
        host.last_beat().expect("a heartbeat").body,
    ];
    for text in texts {
        assert!(!text.contains(PASSWORD), "{text}");
    }
}

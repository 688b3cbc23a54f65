//! nginx as a release store: what it compresses beforehand, its tags, ranges and headers. Skipped where nginx is not installed.

use crate::network::downloads::tarball;
use crate::support::archive::{gzip, noise};
use crate::support::fault::Faults;
use crate::support::host::Host;
use crate::support::http::{free, try_get};
use crate::support::platform::skipped;
use crate::support::{md5_hex, release_path};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::UNIX_EPOCH;

pub struct Nginx {
    root: PathBuf,
    log: PathBuf,
    pub addr: String,
    process: Child,
}

impl Nginx {
    /// Starts one process of nginx, which serves the directory `www` of the sandbox. Its log has the status and the headers of
    /// ranges of each request.
    fn start(host: &Host) -> Option<Self> {
        let (addr, root) = (free("127.0.0.1"), host.dir.join("nginx/www"));
        let mut server = format!(
            "gzip_static always;\n\
             server {{ listen {addr}; root {}; location /locked {{ return 401; }} add_header Via \"soci",
            root.display()
        )
        .into_bytes();
        server.extend(b"\xe9t\xe9\"; }\n");
        Self::run(host, addr, &server)
    }

    /// Starts nginx with these directives in its block `http`. They make it listen at the address.
    pub fn run(host: &Host, addr: String, http: &[u8]) -> Option<Self> {
        let dir = host.dir.join("nginx");
        let root = dir.join("www");
        fs::create_dir_all(&root).expect("a directory");
        let at = dir.display();
        let mut text = format!(
            "daemon off; master_process off; pid {at}/pid; error_log {at}/errors;\n\
             events {{}}\n\
             http {{\n\
             log_format ranges '$status|$http_range|$http_if_range';\n\
             access_log {at}/log ranges;\n\
             client_body_temp_path {at}/t1; proxy_temp_path {at}/t2; fastcgi_temp_path {at}/t3;\n\
             uwsgi_temp_path {at}/t4; scgi_temp_path {at}/t5;\n\
             keepalive_timeout 0;\n"
        )
        .into_bytes();
        text.extend(http);
        text.extend(b"}\n");
        let conf = dir.join("conf");
        fs::write(&conf, text).expect("a file");
        let mut command = Command::new("nginx");
        command.arg("-c").arg(&conf).arg("-p").arg(&dir);
        command.stdin(Stdio::null()).stderr(Stdio::null());
        let Ok(process) = command.spawn() else {
            skipped("nginx is not installed");
            return None;
        };
        let nginx = Self {
            root,
            log: dir.join("log"),
            addr,
            process,
        };
        host.wait_for("nginx to answer", || try_get(&nginx.addr, "/none").is_ok());
        Some(nginx)
    }

    fn put(&self, path: &str, bytes: &[u8]) {
        let file = self.root.join(path.trim_start_matches('/'));
        fs::create_dir_all(file.parent().unwrap_or(Path::new("/"))).expect("a directory");
        fs::write(file, bytes).expect("a file");
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    fn tag(&self, path: &str) -> String {
        let reply = try_get(&self.addr, path).expect("an answer");
        reply.header("ETag").expect("a tag").to_owned()
    }

    fn log(&self) -> Vec<String> {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn what_nginx_compressed_beforehand_is_installed_as_it_was() {
    let mut host = Host::new();
    let Some(nginx) = Nginx::start(&host) else {
        return;
    };
    let bytes = tarball(&host);
    let path = release_path("demo", "1.0.0");
    let sum = format!("{}  demo-1.0.0.tar.gz\n", md5_hex(&bytes));
    nginx.put(&path, &bytes);
    nginx.put(&format!("{path}.md5.gz"), &gzip(sum.as_bytes()));
    nginx.put("/cfg.json.gz", &gzip(b"{}\n"));
    let entry = host.want("demo", "1.0.0").tarball(nginx.url("/releases"));
    let locked = host.want("locked", "1.0.0").tarball(nginx.url("/locked"));
    host.desire(&[entry.config("cfg.json", nginx.url("/cfg.json")), locked]);
    host.start();
    let running = host.wait_running("demo", "1.0.0");
    let written = fs::read(running.dir.join("cfg.json")).expect("a file");
    assert_eq!(written, b"{}\n");
    assert!(host.wait_error("locked").contains(": 401 Unauthorized"));
}

/// Breaks a download after half of its bytes, and lets nginx go on with the file that it has then.
fn assert_goes_on(is_replaced: bool, expected: &str) {
    let mut host = Host::new();
    let Some(nginx) = Nginx::start(&host) else {
        return;
    };
    let bytes = tarball(&host);
    let path = "/demo.tar.gz";
    nginx.put(path, &noise(bytes.len(), 9));
    // The tag is made of the length and the second of the change.
    let file = fs::File::options()
        .write(true)
        .open(nginx.root.join("demo.tar.gz"));
    let made_old = file.and_then(|file| file.set_modified(UNIX_EPOCH));
    made_old.expect("another time");
    let before = nginx.tag(path);
    nginx.put(path, &bytes);
    let tag = if is_replaced { before } else { nginx.tag(path) };
    let (tag_header, location) = (
        format!("ETag: {tag}"),
        format!("Location: {}", nginx.url(path)),
    );
    let all = bytes.clone();
    let store = Faults::serve(move |mut exchange| match exchange.count {
        0 => {
            exchange.head("200 OK", &[&tag_header], Some(all.len()));
            exchange.send(&all[..all.len() / 2]);
        }
        _ => exchange.reply("302 Found", &[&location], b""),
    });
    let entry = host.want("demo", "1.0.0").tarball(store.releases());
    host.desire(&[entry.md5(md5_hex(&bytes))]);
    host.start();
    host.wait_running("demo", "1.0.0");
    let range = format!("{expected}|bytes={}-|", bytes.len() / 2);
    let log = nginx.log();
    let line = log.last().expect("a request");
    assert!(
        line.starts_with(&range) && line.len() > range.len() + 2,
        "{log:?}"
    );
}

#[test]
fn nginx_resumes_the_file_that_it_has_still() {
    assert_goes_on(false, "206");
}

#[test]
fn nginx_sends_all_of_a_file_that_was_replaced() {
    assert_goes_on(true, "200");
}

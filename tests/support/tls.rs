//! A certificate authority of the tests' own, and nginx with certificates of it. Skipped where openssl, nginx or curl is missing.

use super::host::Host;
use super::http::free;
use super::platform::skipped;
use std::fmt::Write as _;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Writes a file that only this user can read.
pub fn secret_file(path: &Path, text: &str) {
    fs::write(path, text).expect("a file");
    super::users::mode(path, 0o600);
}

/// Returns false, and says so, if a program of this host is missing.
pub fn has(programs: &[&str]) -> bool {
    programs.iter().all(|program| {
        let mut command = Command::new(program);
        let is_there = command.arg("-v").stdin(Stdio::null()).output().is_ok();
        if !is_there {
            skipped(&format!("{program} is not installed"));
        }
        is_there
    })
}

fn openssl(dir: &Path, words: &str) {
    let mut command = Command::new("openssl");
    let output = command.args(words.split(' ')).current_dir(dir).output();
    let output = output.expect("openssl runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}: {errors}");
}

/// Makes `name.pem` and `name.key`, which sign certificates.
pub fn authority(dir: &Path, name: &str) {
    openssl(
        dir,
        &format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
             -subj /CN={name} -keyout {name}.key -out {name}.pem"
        ),
    );
}

/// Makes `name.pem` and `name.key` for this IP address, signed by an authority. It is valid for these days from now on.
pub fn certificate(dir: &Path, name: &str, ip: &str, ca: &str, days: i32) {
    fs::write(dir.join("ext"), format!("subjectAltName=IP:{ip}\n")).expect("a file");
    openssl(
        dir,
        &format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN={name} -keyout {name}.key \
             -out {name}.csr"
        ),
    );
    openssl(
        dir,
        &format!(
            "x509 -req -in {name}.csr -CA {ca}.pem -CAkey {ca}.key -CAcreateserial -days {days} -extfile ext -out {name}.pem"
        ),
    );
}

/// One nginx with a port for each site.
pub struct TlsServer {
    /// Certificates and keys.
    pub dir: PathBuf,
    sites: Vec<(String, String)>,
    process: Child,
}

impl TlsServer {
    /// Starts nginx with these sites: a name, and the directives besides. A site has the certificate `good`, unless it names
    /// another. None: it cannot be started here.
    pub fn start(host: &Host, sites: &[(&str, &str)]) -> Option<Self> {
        if !has(&["nginx", "openssl", "curl"]) {
            return None;
        }
        let dir = host.dir.join("tls");
        fs::create_dir_all(&dir).expect("a directory");
        authority(&dir, "ca");
        authority(&dir, "other");
        certificate(&dir, "good", "127.0.0.1", "ca", 2);
        certificate(&dir, "expired", "127.0.0.1", "ca", -1);
        certificate(&dir, "elsewhere", "127.0.0.2", "ca", 2);
        certificate(&dir, "unknown", "127.0.0.1", "other", 2);
        certificate(&dir, "client", "127.0.0.1", "ca", 2);
        let at = dir.display();
        let mut text = format!(
            "daemon off; master_process off; pid {at}/pid; error_log {at}/errors;\nevents {{}}\nhttp {{\n\
             access_log {at}/log; client_body_temp_path {at}/t1; proxy_temp_path {at}/t2; fastcgi_temp_path {at}/t3;\n\
             uwsgi_temp_path {at}/t4; scgi_temp_path {at}/t5; proxy_http_version 1.1; proxy_buffering off;\n"
        );
        let mut addresses: Vec<(String, String)> = Vec::new();
        for (name, directives) in sites {
            // Nobody listens yet, so the same port may be free again. Two sites of one port would share a certificate.
            let mut free = std::iter::repeat_with(|| free("127.0.0.1"));
            let addr = free.find(|addr| addresses.iter().all(|(_, taken)| taken != addr));
            let addr = addr.expect("without end");
            let mut directives = (*directives).to_owned();
            if !directives.contains("ssl_certificate ") {
                directives += " ssl_certificate DIR/good.pem; ssl_certificate_key DIR/good.key;";
            }
            let directives = directives.replace("DIR", &at.to_string());
            let _ = writeln!(text, "server {{ listen {addr} ssl; {directives} }}");
            addresses.push(((*name).to_owned(), addr));
        }
        text += "}\n";
        fs::write(dir.join("conf"), text).expect("a file");
        let mut command = Command::new("nginx");
        command.arg("-c").arg(dir.join("conf")).arg("-p").arg(&dir);
        command.stdin(Stdio::null()).stderr(Stdio::null());
        let server = Self {
            process: command.spawn().expect("nginx runs"),
            dir,
            sites: addresses,
        };
        let last = server.sites.last().expect("a site").1.clone();
        host.wait_for("nginx to listen", || TcpStream::connect(&last).is_ok());
        Some(server)
    }

    pub fn url(&self, site: &str) -> String {
        let mut sites = self.sites.iter();
        let (_, addr) = sites.find(|(name, _)| name == site).expect("a site");
        format!("https://{addr}")
    }

    pub fn file(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// Returns the lines of the requests so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

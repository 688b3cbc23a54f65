//! A client that sends a test's bytes and reads until the end, and ports on which nothing listens.

use super::agent::Agent;
use super::host::Host;
use super::json::quote;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1);
        lines.find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// Returns this address of the host, such as `127.0.0.1`, with a port that was free a moment ago.
pub fn free(ip: &str) -> String {
    let listener = TcpListener::bind((ip, 0)).expect("a free port");
    listener.local_addr().expect("an address").to_string()
}

/// Returns the address by which other hosts know this machine, if it has one.
pub fn outer_ip() -> Option<String> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback()).then(|| ip.to_string())
}

pub fn connect(addr: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.set_write_timeout(Some(Duration::from_secs(20)))?;
    Ok(stream)
}

/// Sends these bytes and reads until the connection ends.
pub fn send(addr: &str, bytes: &[u8]) -> io::Result<Reply> {
    let mut stream = connect(addr)?;
    stream.write_all(bytes)?;
    let mut got = Vec::new();
    stream.read_to_end(&mut got)?;
    let text = String::from_utf8_lossy(&got);
    let (head, body) = text
        .split_once("\r\n\r\n")
        .ok_or_else(|| io::Error::other(format!("no answer but {text:?}")))?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok(Reply {
        status: status.ok_or_else(|| io::Error::other(format!("no status in {head:?}")))?,
        head: head.to_owned(),
        body: body.to_owned(),
    })
}

pub fn try_get(addr: &str, path: &str) -> io::Result<Reply> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\n\r\n");
    send(addr, request.as_bytes())
}

#[track_caller]
pub fn get(addr: &str, path: &str) -> Reply {
    try_get(addr, path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

impl Host {
    /// Enables the HTTP endpoint on this address, from the next start or reload on.
    pub fn listen_at(&mut self, addr: &str) {
        let http = format!("{{\"enabled\": true, \"listen\": {}}}", quote(addr));
        self.set("http", &http);
    }

    #[track_caller]
    pub fn wait_answers(&self, addr: &str) {
        self.wait_for("an answer over HTTP", || {
            try_get(addr, "/health").is_ok_and(|reply| reply.body == "ok")
        });
    }

    /// Returns a host whose daemon answers HTTP, and its address.
    pub fn answering() -> (Self, String) {
        let mut host = Self::new();
        let addr = free("127.0.0.1");
        host.listen_at(&addr);
        host.start();
        host.wait_answers(&addr);
        (host, addr)
    }

    /// Returns the same with a running agent called demo.
    pub fn answering_with_demo() -> (Self, String) {
        let (host, addr) = Self::answering();
        host.publish(&Agent::new("demo", "1.0.0"));
        host.desire(&[host.want("demo", "1.0.0")]);
        host.wait_running("demo", "1.0.0");
        (host, addr)
    }
}

//! Names and addresses of a host in trouble: its own /etc/hosts and /etc/resolv.conf in a mount namespace, addresses that
//! never answer, name servers that answer as a test wants. Needs root. A test calls [`can_mount`] first.

use super::host::Host;
use super::platform;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

/// Returns whether this process may mount. If not, prints that the test is skipped.
pub fn can_mount() -> bool {
    let done = Command::new("unshare").args(["-m", "true"]).status();
    let can = done.is_ok_and(|status| status.success());
    if !can {
        platform::skipped("needs root to mount");
    }
    can && platform::has_own("the resolver")
}

/// Returns the command of the daemon in a mount namespace of its own, in which each of these files is replaced.
pub fn with_files(host: &Host, files: &[(&str, &Path)]) -> Command {
    let mut lines = ":".to_owned();
    for (file, instead) in files {
        lines = format!("{lines} && mount --bind '{}' {file}", instead.display());
    }
    in_mounts(host, &lines)
}

/// Returns the command of the daemon in a mount namespace of its own, after these lines of shell, which are joined by `&&`.
pub fn in_mounts(host: &Host, lines: &str) -> Command {
    let lines = format!("mount --make-rprivate / && {lines} && exec \"$@\"");
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &lines, "sh"]);
    let daemon = host.command();
    command.arg(daemon.get_program()).args(daemon.get_args());
    for (key, value) in daemon.get_envs() {
        command.env(key, value.unwrap_or_default());
    }
    command.current_dir(&host.dir);
    command.stdin(Stdio::null()).process_group(0);
    command
}

/// Returns the command of the daemon with these lines as /etc/hosts and with this name server for all other names.
pub fn with_names(host: &Host, hosts: &str, name_server: Ipv4Addr) -> Command {
    let write = |name: &str, text: &str| -> PathBuf {
        let path = host.dir.join(name);
        fs::write(&path, text).expect("a file");
        path
    };
    let hosts = write("hosts", hosts);
    let resolv = write("resolv.conf", &format!("nameserver {name_server}\n"));
    with_files(
        host,
        &[("/etc/hosts", &hosts), ("/etc/resolv.conf", &resolv)],
    )
}

/// An address that does not answer, not even with a refusal. Its queue is full, so the kernel drops new connections.
pub struct Blackhole {
    listener: TcpListener,
    queued: Vec<TcpStream>,
}

impl Blackhole {
    pub fn at(addr: SocketAddr) -> Self {
        let listener = TcpListener::bind(addr).expect("a free port on loopback");
        shorten_queue(&listener);
        let addr = listener.local_addr().expect("it is bound");
        let mut queued = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&addr, Duration::from_millis(300)) {
            queued.push(stream);
            assert!(queued.len() < 10, "the queue of {addr} does not fill");
        }
        Self { listener, queued }
    }

    pub fn port(&self) -> u16 {
        let addr = self.listener.local_addr().expect("it is bound");
        addr.port()
    }
}

#[expect(unsafe_code, reason = "std sets no length for the queue of a listener")]
fn shorten_queue(listener: &TcpListener) {
    // SAFETY: listen takes two numbers and touches no memory.
    let done = unsafe { libc::listen(listener.as_raw_fd(), 0) };
    assert_eq!(done, 0, "a shorter queue");
}

/// A name server on port 53 of a loopback address of its own. The test's own code answers each query; `None` means no
/// answer.
pub struct NameServer {
    pub addr: Ipv4Addr,
    queries: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

static SERVERS: AtomicU8 = AtomicU8::new(1);

impl NameServer {
    pub fn serve(answer: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + 'static) -> Self {
        let [.., high, low] = std::process::id().to_be_bytes();
        let count = SERVERS.fetch_add(1, Ordering::Relaxed);
        let addr = Ipv4Addr::new(127, 64 + count, high, low);
        let socket = UdpSocket::bind((addr, 53)).expect("port 53 of an address of our own");
        let patience = Some(Duration::from_millis(100));
        socket.set_read_timeout(patience).expect("a timeout");
        let (queries, stop) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let server = Self {
            addr,
            queries: queries.clone(),
            stop: stop.clone(),
        };
        std::thread::spawn(move || {
            let mut query = [0; 1500];
            while !stop.load(Ordering::Relaxed) {
                let Ok((got, from)) = socket.recv_from(&mut query) else {
                    continue;
                };
                queries.fetch_add(1, Ordering::Relaxed);
                if let Some(answer) = answer(&query[..got]) {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        server
    }

    pub fn silent() -> Self {
        Self::serve(|_| None)
    }

    pub fn queries(&self) -> usize {
        self.queries.load(Ordering::Relaxed)
    }
}

/// Answers as a good name server does: 127.0.0.1 for a query of an IPv4 address, no record for any other.
pub fn loopback(query: &[u8]) -> Vec<u8> {
    let record = b"\xc0\x0c\0\x01\0\x01\0\0\0\x01\0\x04\x7f\0\0\x01";
    if is_for_ipv4(query) {
        reply(query, 0, record)
    } else {
        reply(query, 0, b"")
    }
}

/// Whether the query is for type A. A query ends with type and class.
pub fn is_for_ipv4(query: &[u8]) -> bool {
    question(query).ends_with(b"\0\x01\0\x01")
}

/// Makes an answer with this code and, unless it is empty, with this record.
pub fn reply(query: &[u8], code: u8, record: &[u8]) -> Vec<u8> {
    let records = u8::from(!record.is_empty());
    let head = [
        query[0],
        query[1],
        0x81,
        0x80 | code,
        0,
        1,
        0,
        records,
        0,
        0,
        0,
        0,
    ];
    [&head, question(query), record].concat()
}

/// Returns the question section: the bytes after the head, without the records of extensions.
fn question(query: &[u8]) -> &[u8] {
    let rest = &query[12..];
    let end = rest.iter().position(|byte| *byte == 0);
    &rest[..end.map_or(rest.len(), |end| rest.len().min(end + 5))]
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

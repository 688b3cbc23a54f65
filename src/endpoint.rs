//! The sockets of the HTTP endpoint: listens, and answers one request a connection without ever waiting. Knows nothing of
//! what is answered. What strangers can cost is bounded: connections, bytes, seconds, and the work of one turn.
#![expect(clippy::disallowed_methods, reason = "it listens")]

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use httparse::{EMPTY_HEADER, Error, Header, Status};

use crate::sys::{Awaited, READABLE, WRITABLE};
use crate::texts::{self, Name};

/// When there is one more, the oldest is dropped: what is slow on purpose makes way, and nobody who asks and reads at once
/// is ever the oldest.
const CONNECTIONS: usize = 32;
/// In all, from its first byte to its last.
const PATIENCE: Duration = Duration::from_secs(5);
/// Of what comes before a body; nobody here wants a body. What has grown so long and is no whole request is none.
const HEAD_LIMIT: usize = 8 << 10;
const HEADERS: usize = 64;
const CHUNK: usize = 4096;
/// After a turn that had work the next one is so far away: a flood has the daemon look for heartbeats and acts fifty times
/// a second, not as often as the flood likes.
const PAUSE: Duration = Duration::from_millis(20);

pub struct Request<'a> {
    pub method: &'a str,
    pub target: &'a str,
    pub headers: &'a [Header<'a>],
    /// Whether it comes from this host.
    pub is_local: bool,
}

/// What stands above a body.
pub struct Head {
    pub status: &'static str,
    pub kind: &'static str,
}

/// Writes the body; without one the status is told in its place.
pub type Answer<'a> = &'a mut dyn FnMut(&Request, &mut String) -> Head;

#[derive(Default)]
pub struct Endpoint {
    at: Option<SocketAddr>,
    listener: Option<TcpListener>,
    /// Oldest first.
    connections: Vec<Connection>,
    rests_until: Option<Instant>,
}

impl Endpoint {
    /// From now on listens there and nowhere else; tells whether it has just begun. Whoever has connected before is
    /// answered all the same.
    pub fn listen(&mut self, at: Option<SocketAddr>) -> io::Result<bool> {
        if !self.is_meant_for(at) {
            // Before the new one is there: the two may share a port.
            self.listener = None;
            self.at = at;
        }
        let Some(at) = self.at.filter(|_| self.listener.is_none()) else {
            return Ok(false);
        };
        self.listener = Some(bind(at)?);
        Ok(true)
    }

    pub fn is_meant_for(&self, at: Option<SocketAddr>) -> bool {
        self.at == at
    }

    /// What it waits for.
    pub fn add_awaited(&self, now: Instant, awaited: &mut Vec<Awaited>) {
        if self.rests(now) {
            return;
        }
        if let Some(listener) = &self.listener {
            awaited.push((listener.as_raw_fd(), READABLE));
        }
        for connection in &self.connections {
            let events = match connection.stage {
                Stage::Asks | Stage::Ends => READABLE,
                Stage::IsAnswered => WRITABLE,
            };
            awaited.push((connection.stream.as_raw_fd(), events));
        }
    }

    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        if self.rests(now) {
            return self.rests_until;
        }
        Some(self.connections.first()?.until)
    }

    fn rests(&self, now: Instant) -> bool {
        self.rests_until.is_some_and(|until| now < until)
    }

    /// Does what can be done without waiting, and not much of it.
    pub fn tend(&mut self, now: Instant, answer: Answer) {
        if self.rests(now) {
            return;
        }
        let mut has_worked = self.accept(now);
        let mut at = 0;
        while let Some(connection) = self.connections.get_mut(at) {
            let mut stays = now < connection.until;
            // A request, its answer, and the end.
            for _ in 0..3 {
                match connection.step(answer) {
                    Ok(()) => has_worked = true,
                    Err(waits) => {
                        stays &= waits;
                        break;
                    }
                }
            }
            if stays {
                at += 1;
            } else {
                lose(&mut self.connections, at);
            }
        }
        self.rests_until = has_worked.then(|| now + PAUSE);
    }

    /// Those who have connected, a full house at most.
    fn accept(&mut self, now: Instant) -> bool {
        let Some(listener) = &self.listener else {
            return false;
        };
        for before in 0..CONNECTIONS {
            let (stream, peer) = match listener.accept() {
                Ok(accepted) => accepted,
                // Without a descriptor left it stays readable, and must not be asked without end.
                Err(error) => return before > 0 || !is_early(&error),
            };
            if stream.set_nonblocking(true).is_err() {
                continue;
            }
            if self.connections.len() >= CONNECTIONS {
                lose(&mut self.connections, 0);
            }
            self.connections.push(Connection {
                stream,
                is_local: is_loopback(peer.ip()),
                until: now + PATIENCE,
                stage: Stage::Asks,
                bytes: Vec::new(),
                written: 0,
            });
        }
        true
    }
}

#[inline(never)]
fn lose(connections: &mut Vec<Connection>, at: usize) {
    connections.remove(at);
}

fn is_early(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EAGAIN)
}

/// Every address of a host that has no IPv6 is every one of IPv4.
fn bind(at: SocketAddr) -> io::Result<TcpListener> {
    let second = if at.ip() == Ipv6Addr::UNSPECIFIED {
        (Ipv4Addr::UNSPECIFIED, at.port()).into()
    } else {
        at
    };
    let listener = TcpListener::bind(&[at, second][..])?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Also where IPv6 stands for IPv4.
#[inline(never)]
pub fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Asks,
    IsAnswered,
    /// What else it sends is read and dropped. To close before all is read would reset the connection, and take the
    /// answer from whoever has not read it yet.
    Ends,
}

struct Connection {
    stream: TcpStream,
    is_local: bool,
    until: Instant,
    stage: Stage,
    /// What has come of the request, and then the answer.
    bytes: Vec<u8>,
    written: usize,
}

impl Connection {
    /// Goes on by one read or write. False as an error: it is at its end; true: it must wait.
    fn step(&mut self, answer: Answer) -> Result<(), bool> {
        if self.stage == Stage::IsAnswered {
            let rest = &self.bytes[self.written..];
            self.written += done(self.stream.write(rest))?;
            if self.written == self.bytes.len() {
                self.bytes.clear();
                self.stage = Stage::Ends;
                self.stream.shutdown(Shutdown::Write).map_err(|_| false)?;
            }
            return Ok(());
        }
        let mut chunk = [0; CHUNK];
        let got = done(self.stream.read(&mut chunk))?;
        if self.stage == Stage::Asks {
            self.bytes.extend_from_slice(&chunk[..got]);
            if let Some(response) = respond(&self.bytes, self.is_local, answer) {
                self.bytes = response.into_bytes();
                self.stage = Stage::IsAnswered;
            }
        }
        Ok(())
    }
}

/// How many bytes went; none is the end of it.
fn done(outcome: io::Result<usize>) -> Result<usize, bool> {
    match outcome {
        Ok(0) => Err(false),
        Ok(bytes) => Ok(bytes),
        Err(error) => Err(is_early(&error)),
    }
}

/// The answer to what has come so far, if that is a whole request or can become none.
fn respond(asked: &[u8], is_local: bool, answer: Answer) -> Option<String> {
    let end = asked.iter().position(|byte| *byte == b'\n');
    let (line, rest) = asked.split_at(end.map_or(asked.len(), |end| end + 1));
    let line = std::str::from_utf8(line).unwrap_or_default();
    let line = line.trim_ascii_end();
    let asked_for = line
        .strip_suffix(" HTTP/1.1")
        .or(line.strip_suffix(" HTTP/1.0"));
    let asked_for = asked_for.and_then(|words| words.split_once(' '));
    let (method, target) = asked_for.unwrap_or_default();
    let mut headers = [EMPTY_HEADER; HEADERS];
    let mut body = String::new();
    let head = match httparse::parse_headers(rest, &mut headers) {
        Ok(Status::Complete((_, headers))) if asked_for.is_some() => {
            let request = Request {
                method,
                target,
                headers,
                is_local,
            };
            answer(&request, &mut body)
        }
        Ok(Status::Partial) if asked.len() < HEAD_LIMIT => return None,
        Ok(Status::Partial) | Err(Error::TooManyHeaders) => {
            Head::text("431 Request Header Fields Too Large")
        }
        Ok(Status::Complete(_)) | Err(_) => Head::text("400 Bad Request"),
    };
    if body.is_empty() {
        body.push_str(head.status);
        body.push('\n');
    }
    let mut response = String::new();
    let labels = [head.status, head.kind];
    texts::fill(
        &texts::text(Name::Head),
        &labels,
        &[body.len() as u64],
        &mut response,
    );
    if method != "HEAD" {
        response.push_str(&body);
    }
    Some(response)
}

impl Head {
    pub fn text(status: &'static str) -> Self {
        Self {
            status,
            kind: "text/plain",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_answer_goes_to_who_reads_it_and_waits_five_seconds_for_who_does_not() {
        let mut endpoint = Endpoint::default();
        let at = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
        assert!(endpoint.listen(Some(at)).expect("a port"));
        let listener = endpoint.listener.as_ref().expect("a listener");
        let at = listener.local_addr().expect("an address");
        let mut clients = [0; 2].map(|_| TcpStream::connect(at).expect("a connection"));
        let mut now = Instant::now();
        let mut got = vec![0; 1 << 20];
        let mut left = 32 << 20;
        for client in &mut clients {
            client.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("sent");
        }
        while left > 0 {
            // Time goes by as the test says; both would take longer than they may otherwise.
            now += PAUSE / 50;
            endpoint.rests_until = None;
            endpoint.tend(now, &mut |_, body| {
                body.push_str(&"x".repeat(32 << 20));
                Head::text("200 OK")
            });
            left -= clients[1].read(&mut got).expect("an answer").min(left);
        }
        assert_eq!(endpoint.connections.len(), 2);
        endpoint.tend(now + PATIENCE, &mut |_, _| panic!("nobody asks"));
        assert!(endpoint.connections.is_empty());
    }
}

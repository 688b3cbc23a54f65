//! The listening socket and the clients of the moment. Answers one request a connection, and never waits.
//! Limits what a client can cost: connections, bytes, seconds, and the work of one turn.
#![expect(clippy::disallowed_methods, reason = "it listens")]

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use super::connection::{Connection, Stop, would_block};
use super::message::{self, Answer, Route};
use crate::os::fd::{Interest, READABLE, WRITABLE};

/// A further client replaces the oldest one. A client that asks and reads at once is never the oldest, so only slow ones
/// are dropped.
const CONNECTIONS: usize = 32;
/// The whole life of a connection.
const PATIENCE: Duration = Duration::from_secs(5);
/// The pause after a turn that had work. With it, a flood of requests wakes the daemon at most fifty times a second.
const PAUSE: Duration = Duration::from_millis(20);

#[derive(Default)]
pub struct Endpoint {
    at: Option<SocketAddr>,
    listener: Option<TcpListener>,
    /// Oldest first.
    connections: Vec<Connection>,
    pauses_until: Option<Instant>,
}

impl Endpoint {
    /// Listens at this address and at no other from now on. Returns whether it has just begun to. Clients that are already
    /// connected still get their answers.
    pub fn listen(&mut self, at: Option<SocketAddr>) -> io::Result<bool> {
        if !self.is_meant_for(at) {
            // Closed before the new one opens, because both may use the same port.
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

    /// Adds the descriptors that this endpoint waits for.
    pub fn add_awaited(&self, now: Instant, awaited: &mut Vec<Interest>) {
        if self.pauses(now) {
            return;
        }
        if let Some(listener) = &self.listener {
            awaited.push((listener.as_raw_fd(), READABLE));
        }
        for connection in &self.connections {
            let events = if connection.is_sending() {
                WRITABLE
            } else {
                READABLE
            };
            awaited.push((connection.stream.as_raw_fd(), events));
        }
    }

    /// Returns when `tend` is due at the latest.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        if self.pauses(now) {
            return self.pauses_until;
        }
        Some(self.connections.first()?.until)
    }

    fn pauses(&self, now: Instant) -> bool {
        self.pauses_until.is_some_and(|until| now < until)
    }

    /// Does what is possible without waiting: a few reads and writes of each client.
    pub fn tend(&mut self, now: Instant, answer: Answer) {
        if self.pauses(now) {
            return;
        }
        let mut has_worked = self.accept(now);
        self.connections.retain_mut(|connection| {
            let mut is_open = now < connection.until;
            // One step for the request, one for the response, one for the end.
            for _ in 0..3 {
                match connection.step(answer) {
                    Ok(()) => has_worked = true,
                    Err(stop) => {
                        is_open &= stop == Stop::Blocked;
                        break;
                    }
                }
            }
            is_open
        });
        self.pauses_until = has_worked.then(|| now + PAUSE);
    }

    /// Accepts waiting clients, `CONNECTIONS` at most. Returns whether there was work.
    fn accept(&mut self, now: Instant) -> bool {
        let (Some(listener), Some(at)) = (&self.listener, self.at) else {
            return false;
        };
        for accepted in 0..CONNECTIONS {
            let (stream, peer) = match listener.accept() {
                Ok(client) => client,
                // If no descriptor is free, the listener stays readable. This counts as work, so that the pause follows.
                Err(error) => return accepted > 0 || !would_block(&error),
            };
            if stream.set_nonblocking(true).is_err() {
                continue;
            }
            if self.connections.len() >= CONNECTIONS {
                self.connections.remove(0);
            }
            let route = Route {
                is_local: message::is_loopback(peer.ip()),
                listens_at: at.ip(),
            };
            let connection = Connection::new(stream, route, now + PATIENCE);
            self.connections.push(connection);
        }
        true
    }
}

/// On a host without IPv6, every address of IPv6 becomes every address of IPv4.
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;
    use crate::http::message::Head;

    #[test]
    fn a_client_that_reads_gets_a_long_answer_and_one_that_does_not_is_dropped_after_five_seconds()
    {
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
            // The test makes the time: in real time both clients would take too long.
            now += PAUSE / 50;
            endpoint.pauses_until = None;
            endpoint.tend(now, &mut |_, body| {
                body.push_str(&"x".repeat(32 << 20));
                Head::text("200 OK")
            });
            left -= clients[1].read(&mut got).expect("an answer").min(left);
        }
        assert_eq!(endpoint.connections.len(), 2);
        endpoint.tend(now + PATIENCE, &mut |_, _| panic!("there is no request"));
        assert!(endpoint.connections.is_empty());
    }
}

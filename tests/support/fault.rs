//! A server of network faults: every connection gets what the test's own code writes into the socket.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// No connection outlives this, whatever a test forgot.
const LONGEST: Duration = Duration::from_secs(150);

/// One request, and the socket to answer it on. Dropping it closes the connection.
pub struct Exchange {
    /// Counts from 0 over all requests of the server.
    pub count: usize,
    pub method: String,
    pub path: String,
    pub head: String,
    pub body: String,
    pub stream: TcpStream,
    /// The bytes that were sent, heads included.
    pub sent: usize,
    stop: Arc<AtomicBool>,
}

impl Exchange {
    /// The offset of `Range: bytes=N-`.
    pub fn range(&self) -> Option<usize> {
        let line = self
            .head
            .lines()
            .find(|line| line.to_ascii_lowercase().starts_with("range:"))?;
        line.split_once("bytes=")?
            .1
            .trim()
            .strip_suffix('-')?
            .parse()
            .ok()
    }

    /// A whole answer with a Content-Length.
    pub fn reply(&mut self, status: &str, headers: &[&str], body: &[u8]) {
        self.head(status, headers, Some(body.len()));
        self.send(body);
    }

    /// What a good server does: all of it, or the rest from where Range says.
    pub fn serve(&mut self, bytes: &[u8]) {
        let Some(from) = self.range() else {
            return self.reply("200 OK", &[], bytes);
        };
        if from >= bytes.len() {
            let range = format!("Content-Range: bytes */{}", bytes.len());
            return self.reply("416 Range Not Satisfiable", &[&range], b"");
        }
        let range = format!(
            "Content-Range: bytes {from}-{}/{}",
            bytes.len() - 1,
            bytes.len()
        );
        self.reply("206 Partial Content", &[&range], &bytes[from..]);
    }

    /// The head for all of it, and the beginning of the body. The connection closes when the exchange is dropped.
    pub fn begin(&mut self, bytes: &[u8], sent: usize) {
        self.head("200 OK", &[], Some(bytes.len()));
        self.send(&bytes[..sent]);
    }

    /// Status line and headers; without a length the body ends with the connection.
    pub fn head(&mut self, status: &str, headers: &[&str], length: Option<usize>) {
        let mut head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
        for header in headers {
            head = head + header + "\r\n";
        }
        if let Some(length) = length {
            head = format!("{head}Content-Length: {length}\r\n");
        }
        self.send((head + "\r\n").as_bytes());
    }

    /// Raw bytes; a peer that went away is no error.
    pub fn send(&mut self, bytes: &[u8]) {
        let done = self.stream.write_all(bytes);
        let _ = done.and_then(|()| self.stream.flush());
        self.sent += bytes.len();
    }

    /// Raw bytes at so many a second; false if the peer went away.
    pub fn send_slowly(&mut self, bytes: &[u8], per_second: usize) -> bool {
        let began = Instant::now();
        let mut sent = 0;
        for chunk in bytes.chunks((per_second / 50).max(1)) {
            if self.stopped() || self.stream.write_all(chunk).is_err() {
                return false;
            }
            sent += chunk.len();
            let due = Duration::from_millis((sent * 1000 / per_second) as u64);
            std::thread::sleep(due.saturating_sub(began.elapsed()));
        }
        true
    }

    /// Says nothing more until the peer gives up or the test ends.
    pub fn hold(&mut self) {
        let began = Instant::now();
        let _ = self
            .stream
            .set_read_timeout(Some(Duration::from_millis(50)));
        let mut byte = [0];
        while !self.stopped() && began.elapsed() < LONGEST {
            match self.stream.read(&mut byte) {
                Ok(0) => return,
                Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => return,
                _ => {}
            }
        }
    }

    /// Ends the connection by a reset once the peer's system has all that was sent, so that it is known what it got.
    pub fn reset(&mut self) {
        let began = Instant::now();
        while unsent(&self.stream) > 0 && !self.stopped() && began.elapsed() < LONGEST {
            std::thread::sleep(Duration::from_millis(1));
        }
        reset_when_dropped(&self.stream);
    }

    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// The bytes that the peer's system has not acknowledged.
#[expect(unsafe_code, reason = "std has no call for it")]
fn unsent(stream: &TcpStream) -> i32 {
    let mut bytes = 0;
    // SAFETY: this request fills one int.
    unsafe { libc::ioctl(stream.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    bytes
}

#[expect(unsafe_code, reason = "std's call for it is not stable")]
fn reset_when_dropped(stream: &TcpStream) {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    let size = u32::try_from(size_of_val(&linger)).expect("it is small");
    let (fd, value) = (stream.as_raw_fd(), (&raw const linger).cast());
    // SAFETY: the kernel reads the struct, which is as long as it is told.
    unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_LINGER, value, size) };
}

/// Listens on loopback and gives each request to `answer`, each on its own thread.
pub struct Faults {
    addr: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
}

impl Faults {
    pub fn serve(answer: impl Fn(Exchange) + Send + Sync + 'static) -> Self {
        Self::serve_at((Ipv4Addr::LOCALHOST, 0).into(), answer)
    }

    pub fn serve_at(addr: SocketAddr, answer: impl Fn(Exchange) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(addr).expect("a free port on loopback");
        let addr = listener
            .local_addr()
            .expect("a bound socket has an address");
        let faults = Self {
            addr,
            heads: Arc::default(),
            stop: Arc::default(),
        };
        let (heads, stop) = (faults.heads.clone(), faults.stop.clone());
        let (answer, count) = (Arc::new(answer), Arc::new(AtomicUsize::new(0)));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let (heads, stop, answer, count) =
                    (heads.clone(), stop.clone(), answer.clone(), count.clone());
                std::thread::spawn(move || {
                    if let Some(exchange) = receive(stream, &heads, stop, &count) {
                        answer(exchange);
                    }
                });
            }
        });
        faults
    }

    pub fn addr(&self) -> String {
        self.addr.to_string()
    }

    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    pub fn releases(&self) -> String {
        self.url("/releases")
    }

    /// The heads of all requests so far, in order.
    pub fn heads(&self) -> Vec<String> {
        self.heads
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for Faults {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.addr);
    }
}

/// Reads a request.
fn receive(
    stream: TcpStream,
    heads: &Mutex<Vec<String>>,
    stop: Arc<AtomicBool>,
    count: &AtomicUsize,
) -> Option<Exchange> {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
    let _ = stream.set_write_timeout(Some(LONGEST));
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let lower = head.to_ascii_lowercase();
    let length = lower.lines().find_map(|line| {
        line.strip_prefix("content-length:")?
            .trim()
            .parse::<u64>()
            .ok()
    });
    let mut body = String::new();
    let _ = reader.take(length.unwrap_or(0)).read_to_string(&mut body);
    let mut words = head.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    heads
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(head.clone());
    let count = count.fetch_add(1, Ordering::Relaxed);
    Some(Exchange {
        count,
        method,
        path,
        head,
        body,
        stream,
        sent: 0,
        stop,
    })
}

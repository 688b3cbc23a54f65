//! A server of network faults: the test's own code writes each answer into the socket.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The longest life of a connection, also if a test forgets to close it.
const LONGEST: Duration = Duration::from_secs(150);

/// One request, and the socket to answer it on. Dropping it closes the connection.
pub struct Exchange {
    /// The number of this request, counted from 0 over all requests of the server.
    pub count: usize,
    pub method: String,
    pub path: String,
    pub head: String,
    pub body: String,
    pub stream: TcpStream,
    /// The number of bytes sent so far, heads included.
    pub sent: usize,
    stop: Arc<AtomicBool>,
}

impl Exchange {
    /// Returns the offset in `Range: bytes=N-`.
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

    /// Sends a whole answer with a Content-Length.
    pub fn reply(&mut self, status: &str, headers: &[&str], body: &[u8]) {
        self.head(status, headers, Some(body.len()));
        self.send(body);
    }

    /// Answers as a good server does: with all bytes, or with those from the offset in Range.
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

    /// Sends the head for all bytes, but only the beginning of the body. Dropping the exchange closes the connection.
    pub fn begin(&mut self, bytes: &[u8], sent: usize) {
        self.head("200 OK", &[], Some(bytes.len()));
        self.send(&bytes[..sent]);
    }

    /// Sends the status line and headers. Without a length the body ends with the connection.
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

    /// Sends raw bytes. Ignores that the peer has closed the connection.
    pub fn send(&mut self, bytes: &[u8]) {
        let done = self.stream.write_all(bytes);
        let _ = done.and_then(|()| self.stream.flush());
        self.sent += bytes.len();
    }

    /// Sends raw bytes at so many a second. Returns false if the peer has closed the connection.
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

    /// Sends nothing more and waits until the peer gives up or the test ends.
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

    /// Resets the connection when the peer's kernel has all that was sent, so that the test knows how much arrived.
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

impl Faults {
    /// Starts a store of one tarball that stalls. The first request gets so many bytes and then nothing more. Later
    /// requests get everything that they ask for.
    pub fn stalling(bytes: Vec<u8>, sent: usize) -> Self {
        Self::serve(move |mut exchange| {
            if exchange.count > 0 {
                return exchange.serve(&bytes);
            }
            exchange.begin(&bytes, sent);
            exchange.hold();
        })
    }
}

/// Returns the number of bytes that the peer's kernel has not acknowledged.
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
    // SAFETY: the kernel reads the struct, and `size` is its length.
    unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_LINGER, value, size) };
}

/// A server on loopback that gives each request to `answer`, on a thread of its own.
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
        Self::serve_on(listener, answer)
    }

    pub fn serve_on(
        listener: TcpListener,
        answer: impl Fn(Exchange) + Send + Sync + 'static,
    ) -> Self {
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

    /// Returns the heads of all requests so far, in order.
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

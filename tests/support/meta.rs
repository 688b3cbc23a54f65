//! An ops-meta that answers as the stock server does, with a release store that supports Range.
//! It records every request. The answer is the last desired state, unless a test sets an exact answer.

use super::wire::{Answer, Desired, Seen, stock_answer};
use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tiny_http::{Header, Request, Response, Server};

#[derive(Default)]
struct State {
    desired: Vec<Desired>,
    answer: Option<Answer>,
    files: BTreeMap<String, Arc<Vec<u8>>>,
    seen: Vec<Seen>,
}

pub struct Meta {
    addr: SocketAddr,
    server: Arc<Server>,
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Meta {
    pub fn start() -> Self {
        Self::start_at("127.0.0.1:0", None)
    }

    /// Starts the server on this address. With a directory, a release that is not in memory is served from
    /// `{dir}/{arch}/…`, and `{dir}/desired.json`, if it exists, is the answer to every heartbeat.
    pub fn start_at(addr: &str, dir: Option<PathBuf>) -> Self {
        let server = Arc::new(Server::http(addr).expect("a free port on loopback"));
        let addr = server.server_addr().to_ip().expect("a TCP listener");
        let state = Arc::new(Mutex::new(State::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let (taken, shared, stopped) = (server.clone(), state.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let Ok(Some(request)) = taken.recv_timeout(Duration::from_millis(500)) else {
                    continue;
                };
                let (shared, dir) = (shared.clone(), dir.clone());
                std::thread::spawn(move || respond(request, &shared, dir.as_deref()));
            }
        });
        Self {
            addr,
            server,
            state,
            stop,
            thread: Some(thread),
        }
    }

    /// Returns the address as `host:port`, the form of cfg.json.
    pub fn addr(&self) -> String {
        self.addr.to_string()
    }

    /// Returns the URL of a path on this server.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    pub fn releases(&self) -> String {
        self.url("/releases")
    }

    pub fn desire(&self, agents: &[Desired]) {
        let mut state = lock(&self.state);
        state.desired = agents.to_vec();
        state.answer = None;
    }

    /// Answers every heartbeat with this from now on.
    pub fn answer(&self, answer: Answer) {
        lock(&self.state).answer = Some(answer);
    }

    /// Answers heartbeats with the desired state again.
    pub fn answer_normally(&self) {
        lock(&self.state).answer = None;
    }

    /// Serves these bytes at this path.
    pub fn put(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        lock(&self.state)
            .files
            .insert(path.to_owned(), Arc::new(bytes.into()));
    }

    pub fn remove(&self, path: &str) {
        lock(&self.state).files.remove(path);
    }

    /// Serves a tarball and its `.md5` at the paths of the contract.
    pub fn publish(&self, name: &str, version: &str, tarball: Vec<u8>) {
        let path = super::release_path(name, version);
        let line = format!("{}  {name}-{version}.tar.gz\n", super::md5_hex(&tarball));
        self.put(&format!("{path}.md5"), line);
        self.put(&path, tarball);
    }

    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.state).seen.clone()
    }

    /// Returns the requests since the last call and forgets them, for a server that runs for long.
    pub fn take_seen(&self) -> Vec<Seen> {
        std::mem::take(&mut lock(&self.state).seen)
    }

    /// Returns the heartbeats so far, oldest first.
    pub fn beats(&self) -> Vec<Seen> {
        let mut seen = self.seen();
        seen.retain(Seen::is_beat);
        seen
    }

    pub fn count_beats(&self) -> usize {
        let state = lock(&self.state);
        state.seen.iter().filter(|seen| seen.is_beat()).count()
    }

    pub fn last_beat(&self) -> Option<Seen> {
        let state = lock(&self.state);
        state.seen.iter().rfind(|seen| seen.is_beat()).cloned()
    }

    /// Returns the requests for releases and configurations so far.
    pub fn downloads(&self) -> Vec<Seen> {
        let mut seen = self.seen();
        seen.retain(|request| !request.is_beat());
        seen
    }
}

impl Drop for Meta {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.server.unblock();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Takes the lock, also after a thread panicked while it held it: the data is complete even then.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn respond(mut request: Request, state: &Mutex<State>, dir: Option<&Path>) {
    let mut body = Vec::new();
    let _ = request.as_reader().take(16 << 20).read_to_end(&mut body);
    let seen = Seen {
        at: Instant::now(),
        method: request.method().to_string(),
        path: request.url().to_owned(),
        headers: request
            .headers()
            .iter()
            .map(|h| (h.field.to_string(), h.value.to_string()))
            .collect(),
        body: String::from_utf8_lossy(&body).into_owned(),
        parsed: Arc::default(),
    };
    let range = seen.header("Range").map(str::to_owned);
    let (is_beat, path) = (seen.is_beat(), seen.path.clone());
    let mut state = lock(state);
    state.seen.push(seen);
    let answer = if is_beat {
        beat_answer(&state, dir)
    } else {
        file_answer(&state, dir, &path, range.as_deref())
    };
    drop(state);
    let mut response = Response::from_data(answer.body)
        .with_status_code(answer.status)
        .with_chunked_threshold(usize::MAX);
    for (name, value) in answer.headers {
        response
            .add_header(Header::from_bytes(name, value).expect("headers in tests are well-formed"));
    }
    let _ = request.respond(response);
}

fn beat_answer(state: &State, dir: Option<&Path>) -> Answer {
    if let Some(answer) = &state.answer {
        return answer.clone();
    }
    let file = dir.and_then(|dir| std::fs::read(dir.join("desired.json")).ok());
    let body = file.unwrap_or_else(|| stock_answer(&state.desired).into_bytes());
    Answer::new(200, body).header("Content-Type", "application/json; charset=UTF-8")
}

fn file_answer(state: &State, dir: Option<&Path>, path: &str, range: Option<&str>) -> Answer {
    let stored = state.files.get(path).cloned();
    let Some(bytes) = stored.or_else(|| file_in(dir?, path).map(Arc::new)) else {
        return Answer::new(404, "404 page not found\n").header("Content-Type", "text/plain");
    };
    let whole =
        || Answer::new(200, bytes.as_slice()).header("Content-Type", "application/octet-stream");
    let Some(from) = range.and_then(|range| {
        range
            .strip_prefix("bytes=")?
            .strip_suffix('-')?
            .parse::<usize>()
            .ok()
    }) else {
        return whole();
    };
    match bytes.get(from..) {
        None | Some([]) => {
            Answer::new(416, "").header("Content-Range", &format!("bytes */{}", bytes.len()))
        }
        Some(rest) => Answer::new(206, rest).header(
            "Content-Range",
            &format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len()),
        ),
    }
}

/// Reads a release below the directory. Returns `None` for a path that leads out of it.
fn file_in(dir: &Path, path: &str) -> Option<Vec<u8>> {
    let below = path.strip_prefix("/releases/")?;
    if below
        .split('/')
        .any(|part| part.is_empty() || part.starts_with('.'))
    {
        return None;
    }
    std::fs::read(dir.join(below)).ok()
}

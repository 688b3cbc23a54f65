//! Tests downloads over links that break repeatedly, and of files that are replaced during the download. The right
//! bytes arrive, and the wire carries little more than those.

use crate::support::agent::Agent;
use crate::support::archive;
use crate::support::fault::{Exchange, Faults};
use crate::support::host::Host;
use crate::support::md5_hex;
use crate::support::memory::InMemory;
use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const MB: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(170);

/// Sends the whole body or the requested rest, up to this many bytes. Then it resets the link, unless everything was
/// sent.
fn serve_up_to(exchange: &mut Exchange, bytes: &[u8], most: usize) {
    let from = exchange.range().unwrap_or(0);
    let rest = &bytes[from..];
    let (last, all) = (bytes.len() - 1, bytes.len());
    let range = format!("Content-Range: bytes {from}-{last}/{all}");
    if from == 0 {
        exchange.head("200 OK", &[], Some(rest.len()));
    } else {
        exchange.head("206 Partial Content", &[&range], Some(rest.len()));
    }
    exchange.send(&rest[..rest.len().min(most)]);
    if rest.len() > most {
        exchange.reset();
    }
}

#[test]
fn a_tarball_of_200_mb_over_a_link_that_resets_every_5_mb_costs_hardly_more_than_its_bytes() {
    let mut host = Host::new();
    let memory = InMemory::of(&host);
    host.work.clone_from(&memory.dir);
    let agent = Agent::new("demo", "1.0.0").archive(&host.dir);
    let bytes = agent.stored_with("data", &archive::noise(MB, 9), 200);
    let (digest, length) = (md5_hex(&bytes), bytes.len());
    let sent = Arc::new(AtomicU64::new(0));
    let count = sent.clone();
    let store = Faults::serve(move |mut exchange| {
        serve_up_to(&mut exchange, &bytes, 5 * MB);
        count.fetch_add(exchange.sent as u64, Ordering::Relaxed);
    });
    let entry = host.want("demo", "1.0.0").tarball(store.releases());
    host.desire(&[entry.md5(digest)]);
    let began = Instant::now();
    host.start();
    host.wait_within(PATIENCE, "demo to run", || host.running("demo").len() == 1);
    let (took, sent) = (began.elapsed(), sent.load(Ordering::Relaxed));
    let connections = store.heads().len();
    drop(host);
    eprintln!("{sent} bytes for {length}, {connections} connections, {took:?}");
    assert!(connections >= 40, "{connections} connections");
    assert!(
        sent <= length as u64 * 105 / 100,
        "{sent} bytes for {length}"
    );
}

/// A store's answer to the n-th request for a tarball, counted from 0. The slices are the old and the new bytes.
type Replace = fn(&mut Exchange, usize, &[u8], &[u8]);

struct Case {
    name: &'static str,
    /// The length of the new file minus that of the old file, in bytes.
    longer: isize,
    /// The first request from which the new digest is served.
    served_from: usize,
    replace: Replace,
    /// The most bytes that this download may cost.
    most: usize,
}

/// Sends half of the old file, then the new file.
fn within_an_attempt(x: &mut Exchange, n: usize, old: &[u8], new: &[u8]) {
    match n {
        0 => serve_up_to(x, old, old.len() / 2),
        _ => x.serve(new),
    }
}

/// Sends half of the old file, refuses connections until the attempt is given up, then sends the new file.
fn between_attempts(x: &mut Exchange, n: usize, old: &[u8], new: &[u8]) {
    match n {
        0 => serve_up_to(x, old, old.len() / 2),
        1..=3 => x.reset(),
        _ => x.serve(new),
    }
}

/// Sends the old and the new file in turn, each cut, as two mirrors under one name would. Finally it sends only the
/// new file.
fn to_and_fro(x: &mut Exchange, n: usize, old: &[u8], new: &[u8]) {
    match n {
        8.. => x.serve(new),
        _ if n.is_multiple_of(2) => serve_up_to(x, old, old.len() / 3),
        _ => serve_up_to(x, new, new.len() / 3),
    }
}

const fn within(name: &'static str, longer: isize) -> Case {
    Case {
        name,
        longer,
        served_from: 1,
        replace: within_an_attempt,
        most: 850_000,
    }
}

const fn between(name: &'static str, longer: isize) -> Case {
    Case {
        replace: between_attempts,
        ..within(name, longer)
    }
}

const fn mirrors(name: &'static str, longer: isize) -> Case {
    Case {
        served_from: 0,
        replace: to_and_fro,
        most: 1_100_000,
        ..within(name, longer)
    }
}

const CASES: &[Case] = &[
    within("same-length-within", 0),
    within("longer-within", 9000),
    within("shorter-within", -9000),
    within("much-shorter-within", -180_000),
    between("same-length-between", 0),
    between("longer-between", 9000),
    between("shorter-between", -9000),
    between("much-shorter-between", -180_000),
    mirrors("mirrors", 0),
    mirrors("mirrors-of-two-lengths", 9000),
];

impl Case {
    /// Returns the data of the two builds.
    fn data(&self) -> [Vec<u8>; 2] {
        let longer = 250_000_usize.checked_add_signed(self.longer);
        let length = longer.expect("it is not so much shorter");
        [archive::noise(250_000, 3), archive::noise(length, 5)]
    }

    /// Returns two builds of one version under one name.
    fn builds(&self, host: &Host) -> [Vec<u8>; 2] {
        self.data().map(|data| {
            let agent = Agent::new(self.name, "1.0.0").file("data", data);
            agent.archive(&host.dir).stored()
        })
    }
}

/// Counts the requests for the tarball of each case, and the bytes that were sent.
struct Counts(Mutex<BTreeMap<&'static str, (usize, usize)>>);

impl Counts {
    fn of(&self, case: &Case) -> (usize, usize) {
        let counts = self.0.lock().expect("counts");
        counts.get(case.name).copied().unwrap_or_default()
    }

    fn add(&self, case: &Case, requests: usize, bytes: usize) {
        let mut counts = self.0.lock().expect("counts");
        let count = counts.entry(case.name).or_default();
        *count = (count.0 + requests, count.1 + bytes);
    }
}

fn serve(host: &Host, counts: &Arc<Counts>) -> Faults {
    let counts = counts.clone();
    let builds: Vec<_> = CASES.iter().map(|case| case.builds(host)).collect();
    Faults::serve(move |mut x| {
        let name = x.path.split('/').nth(1).unwrap_or_default();
        let Some(at) = CASES.iter().position(|case| case.name == name) else {
            return;
        };
        let (case, [old, new]) = (&CASES[at], &builds[at]);
        let (n, _) = counts.of(case);
        if x.path.ends_with("md5") {
            let now = if n >= case.served_from { new } else { old };
            return x.serve(md5_hex(now).as_bytes());
        }
        counts.add(case, 1, 0);
        (case.replace)(&mut x, n, old, new);
        counts.add(case, 0, x.sent);
    })
}

#[test]
fn a_tarball_that_is_replaced_while_it_is_fetched_ends_as_the_new_one() {
    let mut host = Host::new();
    let counts = Arc::new(Counts(Mutex::default()));
    let store = serve(&host, &counts);
    let entries = CASES.iter().map(|case| {
        let entry = host.want(case.name, "1.0.0");
        entry.tarball(store.url(&format!("/{}", case.name)))
    });
    host.desire(&entries.collect::<Vec<_>>());
    host.start();
    for case in CASES {
        let file = host.agent_dir(case.name).join("1.0.0/data");
        let what = format!("{} to be installed", case.name);
        host.wait_within(PATIENCE, &what, || file.exists());
        let is_new = fs::read(file).expect("a file") == case.data()[1];
        assert!(is_new, "{} is not the new one", case.name);
        let (requests, sent) = counts.of(case);
        eprintln!(
            "{}: {requests} requests, {sent} bytes for 250000",
            case.name
        );
        assert!(sent <= case.most, "{}: {sent} bytes", case.name);
    }
}

//! Many runs side by side, each in a sandbox of its own: which went well, which did not, and how long it took.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many at once; they mostly wait.
const AT_ONCE: usize = 24;
/// One trial after the other: each fills the machine, on which other tests wait for processes, too.
static TURN: Mutex<()> = Mutex::new(());

/// What came of one run: how long until all was well, or none when what it is about did not happen in it.
pub type Outcome = Result<Option<Duration>, String>;

/// A sample in a run of all tests, which have a machine to share.
const SAMPLE: usize = 97;

/// Every so manieth moment: `OPS_TEST_MOMENTS=7` takes every seventh, `1` all of them.
pub fn share_of<T>(moments: Vec<T>) -> Vec<T> {
    let asked = std::env::var("OPS_TEST_MOMENTS").ok();
    let share = asked.and_then(|text| text.parse().ok()).unwrap_or(SAMPLE);
    moments.into_iter().skip(share / 2).step_by(share).collect()
}

/// Tries every moment, prints the figures, and fails with what went wrong. What happens when is not the same in every
/// run: of twenty moments one may not come.
pub fn survive<T: Sync>(what: &str, moments: &[T], run: impl Fn(&T) -> Outcome + Sync) {
    let (next, missed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let (longest, failed) = (Mutex::new(Duration::ZERO), Mutex::new(Vec::new()));
    let work = || {
        while let Some(moment) = moments.get(next.fetch_add(1, Ordering::Relaxed)) {
            match run(moment) {
                Ok(Some(time)) => {
                    let mut longest = longest.lock().expect("nobody panicked");
                    *longest = time.max(*longest);
                }
                Ok(None) => {
                    missed.fetch_add(1, Ordering::Relaxed);
                }
                Err(why) => failed.lock().expect("nobody panicked").push(why),
            }
        }
    };
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(work);
        }
    });
    drop(turn);
    let failed = failed.into_inner().expect("nobody panicked");
    let (count, missed) = (moments.len(), missed.into_inner());
    eprintln!(
        "{what}: {} of {count} survived, {missed} did not come, all was well within {:.1} s; {:.0} s in all",
        count - missed - failed.len(),
        longest.into_inner().expect("nobody panicked").as_secs_f32(),
        began.elapsed().as_secs_f32(),
    );
    assert!(
        failed.is_empty(),
        "{what}: {} of {count}:\n{}",
        failed.len(),
        failed.join("\n")
    );
    assert!(
        missed * 20 <= count,
        "{what}: {missed} of {count} moments did not come"
    );
}

/// Whether it comes to be so in time.
pub fn comes(patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    while !condition() {
        if began.elapsed() > patience {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

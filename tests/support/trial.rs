//! Makes many runs side by side, each in a sandbox of its own. Prints how many succeeded and how long the longest took.

use super::platform;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The number of runs at once. They mostly wait.
const AT_ONCE: usize = 24;
/// The number of rows of a table that run at once, each with a host of its own.
const ROWS_AT_ONCE: usize = 10;

/// The number of further runs that may start. All trials share it, because other tests need the machine too. The first
/// runs of a trial start while the last runs of another still go on.
static FREE: Mutex<usize> = Mutex::new(AT_ONCE);
static FREED: Condvar = Condvar::new();

/// The permission to make one run. Dropping it gives it back, also if the run panics.
struct Turn;

impl Turn {
    fn take() -> Self {
        let free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        let free = FREED.wait_while(free, |free| *free == 0);
        *free.unwrap_or_else(PoisonError::into_inner) -= 1;
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *FREE.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        FREED.notify_one();
    }
}

/// The result of one run: how long the recovery took, or `None` if the moment of the test did not come.
pub type Outcome = Result<Option<Duration>, String>;

/// The share of moments that a run of all tests takes: one in 97.
const SAMPLE: usize = 97;

/// The share that is asked for, if one is: `OPS_TEST_MOMENTS=7` takes one moment in seven, `1` takes all, `0` none.
pub fn asked_share() -> Option<usize> {
    std::env::var("OPS_TEST_MOMENTS").ok()?.parse().ok()
}

/// Returns false, and prints that the test is skipped, if another run takes the moments.
pub fn is_asked() -> bool {
    let is_left_out = asked_share() == Some(0);
    if is_left_out {
        platform::skipped("OPS_TEST_MOMENTS is 0");
    }
    !is_left_out
}

/// Returns the asked share of the moments.
pub fn share_of<T>(moments: Vec<T>) -> Vec<T> {
    let share = asked_share().unwrap_or(SAMPLE);
    moments.into_iter().skip(share / 2).step_by(share).collect()
}

/// Tries every moment, prints the figures, and fails with the errors. The order of events differs from run to run: a moment
/// that does not come is tried once more, and then one in twenty may be missed.
pub fn survive<T: Sync>(what: &str, moments: &[T], run: impl Fn(&T) -> Outcome + Sync) {
    let (next, missed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let (longest, failed) = (Mutex::new(Duration::ZERO), Mutex::new(Vec::new()));
    let work = || {
        while let Some(moment) = moments.get(next.fetch_add(1, Ordering::Relaxed)) {
            let turn = Turn::take();
            let outcome = match run(moment) {
                Ok(None) => run(moment),
                outcome => outcome,
            };
            drop(turn);
            match outcome {
                Ok(Some(time)) => {
                    let mut longest = longest.lock().expect("no run panicked");
                    *longest = time.max(*longest);
                }
                Ok(None) => {
                    missed.fetch_add(1, Ordering::Relaxed);
                }
                Err(why) => failed.lock().expect("no run panicked").push(why),
            }
        }
    };
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(moments.len()) {
            scope.spawn(work);
        }
    });
    let failed = failed.into_inner().expect("no run panicked");
    let (count, missed) = (moments.len(), missed.into_inner());
    eprintln!(
        "{what}: {} of {count} survived, {missed} did not come, all was well within {:.1} s; {:.0} s in all",
        count - missed - failed.len(),
        longest.into_inner().expect("no run panicked").as_secs_f32(),
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

/// Waits until the condition is true. Returns false if that takes longer than `patience`.
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

/// Runs all rows, some of them side by side. A failure names its row.
pub fn each<T: Copy + Sync + std::fmt::Debug>(rows: &[T], run: impl Fn(T) + Sync) {
    for batch in rows.chunks(ROWS_AT_ONCE) {
        std::thread::scope(|scope| {
            let run = &run;
            let begun = batch
                .iter()
                .map(|row| (row, scope.spawn(move || run(*row))));
            let begun: Vec<_> = begun.collect();
            for (row, thread) in begun {
                assert!(thread.join().is_ok(), "{row:?}");
            }
        });
    }
}

//! The steps of a run by name, so that another run can be stopped at the same one: who makes the call, what it would
//! change, and for which time. Times differ from run to run; names do not.

use super::calls::{self, Change};
use super::trace::{Call, Verdict, Watch};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A step that was made.
#[derive(Clone, Debug)]
pub struct Step {
    /// `act rename work/demo/.version.tmp work/demo/.version #1`.
    pub key: String,
    pub change: Change,
}

impl Step {
    /// Whether the process that makes it is one of an agent's scripts, or about to become one.
    pub fn is_of_a_script(&self) -> bool {
        let role = self.key.split(' ').next().unwrap_or_default();
        role.ends_with('\'')
    }

    /// For which time this was.
    pub fn count(&self) -> usize {
        let (_, count) = self.key.rsplit_once('#').expect("a key has it");
        count.parse().expect("a number")
    }
}

pub struct Naming {
    sandbox: PathBuf,
    counts: HashMap<String, usize>,
}

impl Naming {
    pub fn new(sandbox: PathBuf) -> Self {
        Self {
            sandbox,
            counts: HashMap::new(),
        }
    }

    /// The name of a call that changes something.
    pub fn name(&mut self, call: &Call) -> Option<Step> {
        let change = calls::change(call, &self.sandbox)?;
        let name = format!("{} {}", call.role, change.words(&self.sandbox));
        let count = self.counts.entry(name.clone()).or_default();
        *count += 1;
        let key = format!("{name} #{count}");
        Some(Step { key, change })
    }
}

/// Writes down every step that succeeds, in order.
pub struct Recorder {
    naming: Naming,
    begun: HashMap<i32, Step>,
    pub steps: Vec<Step>,
}

impl Recorder {
    pub fn new(sandbox: PathBuf) -> Self {
        Self {
            naming: Naming::new(sandbox),
            begun: HashMap::new(),
            steps: Vec::new(),
        }
    }
}

impl Watch for Recorder {
    fn enter(&mut self, call: &Call) -> Verdict {
        if let Some(step) = self.naming.name(call) {
            self.begun.insert(call.pid, step);
        }
        Verdict::Go
    }

    fn leave(&mut self, call: &Call, result: i64) -> Verdict {
        if let Some(step) = self.begun.remove(&call.pid)
            && result >= 0
        {
            self.steps.push(step);
        }
        Verdict::Go
    }
}

/// Gives its verdict at one step.
pub struct Killer {
    naming: Naming,
    key: String,
    is_after: bool,
    verdict: Verdict,
    inside: Option<i32>,
    /// The moment has come.
    pub hit: Arc<AtomicBool>,
}

impl Killer {
    pub fn new(sandbox: PathBuf, key: &str, is_after: bool, verdict: Verdict) -> Self {
        Self {
            naming: Naming::new(sandbox),
            key: key.to_owned(),
            is_after,
            verdict,
            inside: None,
            hit: Arc::default(),
        }
    }

    fn strike(&self) -> Verdict {
        self.hit.store(true, Ordering::Relaxed);
        self.verdict
    }
}

impl Watch for Killer {
    fn enter(&mut self, call: &Call) -> Verdict {
        let is_it = self
            .naming
            .name(call)
            .is_some_and(|step| step.key == self.key);
        if is_it && self.is_after {
            self.inside = Some(call.pid);
        }
        if is_it && !self.is_after {
            return self.strike();
        }
        Verdict::Go
    }

    fn leave(&mut self, call: &Call, _result: i64) -> Verdict {
        if self.inside == Some(call.pid) {
            self.inside = None;
            return self.strike();
        }
        Verdict::Go
    }
}

/// Lets calls fail from one step on: that one alone, or all of a kind until it is healed.
pub struct Breaker {
    naming: Naming,
    key: String,
    errno: i32,
    is_single: bool,
    prevents: Box<dyn Fn(&Change) -> bool + Send>,
    /// It has begun.
    pub hit: Arc<AtomicBool>,
    /// It is over.
    pub healed: Arc<AtomicBool>,
}

impl Breaker {
    pub fn new(
        sandbox: PathBuf,
        key: &str,
        errno: i32,
        is_single: bool,
        prevents: impl Fn(&Change) -> bool + Send + 'static,
    ) -> Self {
        Self {
            naming: Naming::new(sandbox),
            key: key.to_owned(),
            errno,
            is_single,
            prevents: Box::new(prevents),
            hit: Arc::default(),
            healed: Arc::default(),
        }
    }
}

impl Watch for Breaker {
    fn enter(&mut self, call: &Call) -> Verdict {
        let Some(step) = self.naming.name(call) else {
            return Verdict::Go;
        };
        let is_it = step.key == self.key;
        if is_it {
            self.hit.store(true, Ordering::Relaxed);
        }
        let is_on = self.hit.load(Ordering::Relaxed) && !self.healed.load(Ordering::Relaxed);
        // A full disk has room for a name that was new when the steps were recorded and is there now.
        let fails = if self.is_single {
            is_it
        } else {
            (self.prevents)(&step.change)
        };
        if is_on && fails {
            return Verdict::Fail(self.errno);
        }
        Verdict::Go
    }

    fn leave(&mut self, _call: &Call, _result: i64) -> Verdict {
        Verdict::Go
    }
}

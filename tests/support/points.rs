//! Names for the system calls of a run that change something, so that another run can be stopped at the same call. A name
//! has the process, the change and a count. Times differ from run to run; names do not.

use super::calls::{self, Change};
use super::trace::{Call, Verdict, Watch};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A call that changed something. Here it is called a step.
#[derive(Clone, Debug)]
pub struct Step {
    /// `act rename work/demo/.version.tmp work/demo/.version #1`.
    pub key: String,
    pub change: Change,
}

impl Step {
    /// Whether the process is a control script, or a fork that is about to become one.
    pub fn is_of_a_script(&self) -> bool {
        let role = self.key.split(' ').next().unwrap_or_default();
        role.ends_with('\'')
    }

    /// Returns the count in the name: 1 for the first such step of the run.
    pub fn count(&self) -> usize {
        let (_, count) = self
            .key
            .rsplit_once('#')
            .expect("a key ends with its count");
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

    /// Names a call. Returns `None` if it changes nothing.
    pub fn name(&mut self, call: &Call) -> Option<Step> {
        let change = calls::change(call, &self.sandbox)?;
        let name = format!("{} {}", call.role, change.words(&self.sandbox));
        let count = self.counts.entry(name.clone()).or_default();
        *count += 1;
        let key = format!("{name} #{count}");
        Some(Step { key, change })
    }
}

/// Records every step that succeeds, in order.
pub struct Recorder {
    naming: Naming,
    /// The kernel is one before 5.8, whose syncfs does not report failed writes.
    is_kernel_old: bool,
    begun: HashMap<i32, Step>,
    pub steps: Vec<Step>,
}

impl Recorder {
    pub fn new(sandbox: PathBuf) -> Self {
        Self {
            naming: Naming::new(sandbox),
            is_kernel_old: false,
            begun: HashMap::new(),
            steps: Vec::new(),
        }
    }

    pub fn of_old_kernel(sandbox: PathBuf) -> Self {
        Self {
            is_kernel_old: true,
            ..Self::new(sandbox)
        }
    }
}

impl Watch for Recorder {
    fn enter(&mut self, call: &Call) -> Verdict {
        if let Some(step) = self.naming.name(call) {
            self.begun.insert(call.pid, step);
        }
        if self.is_kernel_old && call.nr == libc::SYS_faccessat2 {
            return Verdict::Fail(libc::ENOSYS);
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

/// Returns its verdict at one step, and `Go` at all others.
pub struct Killer {
    naming: Naming,
    key: String,
    is_after: bool,
    verdict: Verdict,
    inside: Option<i32>,
    /// Set when the step was reached.
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

/// Makes calls fail from one step on: only that call, or all calls of a kind until it is healed.
pub struct Breaker {
    naming: Naming,
    key: String,
    errno: i32,
    is_single: bool,
    prevents: Box<dyn Fn(&Change) -> bool + Send>,
    /// Set when the first call failed.
    pub hit: Arc<AtomicBool>,
    /// Set by the test when calls shall succeed again.
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
        // The step itself need not fail on a full disk: a file that was made in the recorded run may exist in this run.
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

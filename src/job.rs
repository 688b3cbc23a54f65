//! What the daemon and its children say to each other: a job as JSON on stdin, one event a line on stdout.
//! Both ends are this binary; a job made by another version of it is refused.
#![expect(
    clippy::disallowed_methods,
    reason = "jobs and events travel over stdin and stdout"
)]

use std::io::{Seek, Write};

use crate::error::{At, Error, Result};
use crate::fields::{self, Field, fields, words};
use crate::model::{
    AgentName, Build, Fault, Place, Refusal, Release, Site, Spot, Step, Task, Version, WireAgent,
};
use crate::start;
use crate::sys;

pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// More than a job of 10,000 agents.
const JOB_LIMIT: u64 = 16 << 20;

/// What a beat is to do.
#[derive(Debug)]
pub struct BeatJob {
    pub made_by: String,
    /// Where to POST; none while the server is left in peace, and then the beat only looks.
    pub url: Option<String>,
    pub hostname: String,
    /// Empty: the address that this host uses toward the server.
    pub ip: String,
    pub run_user: String,
    /// Through which program other users' agents are looked at; empty: we are root.
    pub sudo: String,
    pub own_dir: String,
    pub log_level: String,
    /// The desired state itself, or the URL that it is fetched from, where there is no server to be asked.
    pub wish: Option<String>,
    /// Why the host is held; empty: it is not.
    pub hold: String,
    /// Entries that the last answer was refused for.
    pub errors: Vec<String>,
    pub agents: Vec<Reported>,
    /// The agents at which, when they were seen last, something was stuck.
    pub stuck: Vec<SeenAgent>,
}

fields!(BeatJob {
    made_by,
    url,
    hostname,
    ip,
    run_user,
    sudo,
    own_dir,
    log_level,
    wish,
    hold,
    errors,
    agents,
    stuck,
});

/// One agent of the accepted desired state, and what only the daemon knows of it.
#[derive(Debug)]
pub struct Reported {
    pub wire: WireAgent,
    /// Where it last ran well, when that is not where it should be.
    pub there: Option<Place>,
    /// Empty: it is not.
    pub pinned: String,
    pub phase: String,
    pub error: String,
}

fields!(Reported {
    wire,
    there,
    pinned,
    phase,
    error,
});

words! {
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Kind {
        Install,
        Switch,
        Start,
        Stop,
        Prune,
        Look,
    }
}

/// One step of one agent.
#[derive(Debug)]
pub struct ActJob {
    made_by: String,
    pub log_level: String,
    pub name: AgentName,
    pub place: Place,
    kind: Kind,
    release: Option<Release>,
    back: Option<Spot>,
    build: Option<Build>,
    keep: Vec<Version>,
    /// Where else the agent lives, for a step that moves it.
    pub there: Option<Place>,
    /// Where else it may run as the same user: it is stopped there before it is started here.
    pub strays: Vec<Place>,
    pub role: Role,
    /// The stop is the first half of a move: it must not be left at that.
    pub leaves: bool,
}

fields!(ActJob {
    made_by,
    log_level,
    name,
    place,
    kind,
    release,
    back,
    build,
    keep,
    there,
    strays,
    role,
    leaves,
});

/// As whom an act is carried out.
#[derive(Debug, Clone, Default)]
pub struct Role {
    /// Another user, whom root becomes; none: whoever we are.
    pub run_as: Option<String>,
    /// The agent lives with another user until now.
    pub moving: bool,
    /// The daemon is not root, and the child came through sudo.
    pub by_sudo: bool,
}

fields!(Role {
    run_as,
    moving,
    by_sudo,
});

impl Role {
    /// `own` is the daemon's user, `there` where else the agent lives.
    pub fn new(own: &str, place: &Place, there: Option<&Place>, by_sudo: bool) -> Self {
        let named = |place: &Place| match place.run_user.as_str() {
            "" => own.to_owned(),
            user => user.to_owned(),
        };
        let user = named(place);
        let moving = there.is_some_and(|there| named(there) != user);
        let run_as = (moving || user != own).then_some(user);
        Self {
            by_sudo: by_sudo && run_as.is_some(),
            run_as,
            moving,
        }
    }
}

impl ActJob {
    /// A look without a step.
    pub fn look(name: &AgentName, place: &Place, role: Role, log_level: &str) -> Self {
        Self {
            made_by: VERSION.to_owned(),
            log_level: log_level.to_owned(),
            name: name.clone(),
            place: place.clone(),
            kind: Kind::Look,
            release: None,
            back: None,
            build: None,
            keep: Vec::new(),
            there: None,
            strays: Vec::new(),
            role,
            leaves: false,
        }
    }

    pub fn new(
        name: &AgentName,
        task: &Task,
        strays: Vec<Place>,
        role: Role,
        log_level: &str,
    ) -> Self {
        let mut job = Self::look(name, &task.place, role, log_level);
        job.strays = strays;
        job.there = task.there().cloned();
        match task.step.clone() {
            Step::Install(release) => {
                job.kind = Kind::Install;
                job.release = Some(release);
            }
            Step::Switch { back, to } => {
                job.kind = Kind::Switch;
                job.back = back;
                job.build = Some(to);
            }
            Step::Start(build) => {
                job.kind = Kind::Start;
                job.build = Some(build);
            }
            Step::Stop(version) => {
                job.kind = Kind::Stop;
                let md5 = String::new();
                job.build = Some(Build { version, md5 });
            }
            Step::Prune(keep) => {
                job.kind = Kind::Prune;
                job.keep = keep;
            }
        }
        job
    }

    pub fn is_look(&self) -> bool {
        self.kind == Kind::Look
    }

    /// None for a look, and for a job that lacks what its step needs.
    pub fn step(&self) -> Option<Step> {
        Some(match self.kind {
            Kind::Look => return None,
            Kind::Install => Step::Install(self.release.clone()?),
            Kind::Switch => Step::Switch {
                back: self.back.clone(),
                to: self.build.clone()?,
            },
            Kind::Start => Step::Start(self.build.clone()?),
            Kind::Stop => Step::Stop(self.build.clone()?.version),
            Kind::Prune => Step::Prune(self.keep.clone()),
        })
    }
}

/// What a child reports. One flat record: miniserde has no enums with data.
#[derive(Debug, Default)]
pub struct Event {
    pub what: What,
    /// With `Phase`: what is being done, for heartbeat and status.
    pub phase: Option<String>,
    pub bytes: Option<u64>,
    pub total: Option<u64>,
    /// With `Done` and `Refused`: why it failed.
    pub error: Option<String>,
    pub fault: Option<Fault>,
    /// The agents as they were seen last: of a beat in the order of its job, of an act its own.
    pub seen: Option<Vec<SeenAgent>>,
    /// With `Answered`: the accepted entries, and why the others were not.
    pub agents: Option<Vec<WireAgent>>,
    pub refused: Option<Vec<Refusal>>,
    /// Seconds.
    pub retry_after: Option<u64>,
}

fields!(Event {
    what,
    phase,
    bytes,
    total,
    error,
    fault,
    seen,
    agents,
    refused,
    retry_after,
});

words! {
    #[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
    pub enum What {
        /// A sign of life, with what is being done.
        #[default]
        Phase,
        /// From here on the child must not be ended: its agent is between two versions.
        Critical,
        /// A beat has looked at its agents.
        Observed,
        /// A beat has a valid answer.
        Answered,
        /// A beat has none.
        Refused,
        /// An act has ended.
        Done,
    }
}

#[derive(Debug, Clone)]
pub struct SeenAgent {
    pub name: AgentName,
    pub here: Site,
    pub there: Option<Site>,
}

fields!(SeenAgent { name, here, there });

impl SeenAgent {
    /// The trace of a process there that not even KILL ends.
    pub fn stuck(&self) -> Option<&str> {
        let traces = self.there.iter().chain([&self.here]);
        traces
            .map(|site| site.stuck.as_str())
            .find(|trace| !trace.is_empty())
    }
}

impl Event {
    /// Prints the event as one line. Fails when the daemon is gone: that is how an orphan finds out.
    pub fn send(mut self) -> Result<()> {
        let line = fields::write(&mut self) + "\n";
        start::write_stdout(&line).at("report to", "the daemon")
    }

    /// Says what is being done.
    pub fn phase(name: &str, bytes: Option<u64>, total: Option<u64>) -> Result<()> {
        let event = Self {
            phase: Some(name.to_owned()),
            bytes,
            total,
            ..Default::default()
        };
        event.send()
    }

    pub fn parse(line: &str) -> Option<Self> {
        line.starts_with('{').then(|| fields::read(line))?
    }
}

/// A job as a file that can be a child's stdin: unlike a pipe it never makes the daemon wait.
pub fn to_stdin(job: &mut dyn Field) -> std::io::Result<std::fs::File> {
    let mut file = sys::nameless_file()?;
    file.write_all(fields::write(job).as_bytes())?;
    file.rewind()?;
    Ok(file)
}

pub fn beat_from_stdin() -> Result<BeatJob> {
    let mut job = BeatJob::blank();
    fill_from_stdin(&mut job)?;
    same_version(&job.made_by)?;
    Ok(job)
}

pub fn act_from_stdin() -> Result<ActJob> {
    let mut job = ActJob::blank();
    fill_from_stdin(&mut job)?;
    same_version(&job.made_by)?;
    Ok(job)
}

fn fill_from_stdin(blank: &mut dyn Field) -> Result<()> {
    let subject = "the job on stdin";
    let text = sys::read_rest(&start::stdin(), JOB_LIMIT).at("read", subject)?;
    if fields::read_into(&text, blank) {
        return Ok(());
    }
    let cause = "it is none of ours; this command is for the daemon's own use";
    Err(Error::new("read", subject, cause))
}

fn same_version(made_by: &str) -> Result<()> {
    if made_by == VERSION {
        return Ok(());
    }
    let cause = format!("it is from version {made_by} and this is {VERSION}; restart the updater");
    Err(Error::new("take", "the job on stdin", cause))
}

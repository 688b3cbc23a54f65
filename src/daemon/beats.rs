//! The daemon's half of a heartbeat: starts the child that beats, and takes in what it saw and what the server answered.
#![expect(
    clippy::disallowed_methods,
    reason = "looks are dated, posts are paced"
)]

use std::time::{Duration, Instant};

use nanorand::Rng;

use super::{Daemon, Errand};
use crate::children::{Child, Patience};
use crate::job::{BeatJob, Event, SeenAgent, VERSION, What};
use crate::log;
use crate::model::{AgentName, Place, Step};
use crate::schedule;
use crate::sys;

const BEAT_PATIENCE: Patience = Patience {
    whole: Duration::from_secs(60),
    silent: None,
    // Of 10,000 agents.
    longest_event: 8 << 20,
};

pub(super) struct Beat {
    pub(super) child: Child,
    posts: bool,
    /// The answer came, or the reason why there is none.
    pub(super) is_settled: bool,
}

impl Daemon {
    pub(super) fn start_beat(&mut self) {
        self.heed_operator();
        self.listen();
        let now = Instant::now();
        self.next_beat = now + schedule::next_beat(self.config.interval, self.random.generate());
        let wish = self.wish();
        let is_time = std::mem::take(&mut self.is_wanted) || now >= self.next_post;
        // Whoever applies a wish of their own has nobody to report to.
        let posts = is_time && (wish.is_some() || !self.config.url.is_empty());
        self.is_report_due = false;
        if posts {
            self.heartbeat.last = self.clock.now();
        }
        let lives = |seen: &SeenAgent| seen.stuck().is_some_and(sys::lives);
        self.stuck.retain(lives);
        let acts = &self.acts;
        let phase = |name: &AgentName| acts.get(name).map(|act| act.phase.clone());
        let mut job = BeatJob {
            made_by: VERSION.to_owned(),
            url: posts
                .then(|| self.config.url.clone())
                .filter(|url| !url.is_empty()),
            wish,
            hold: self.roster.hold().to_owned(),
            hostname: self.hostname(),
            ip: self.config.ip.clone(),
            run_user: self.run_user.clone(),
            sudo: self.sudo().unwrap_or_default().to_owned(),
            own_dir: self.source.own_dir.to_string_lossy().into_owned(),
            log_level: self.config.log_level.name().to_owned(),
            errors: self.roster.refusals(),
            agents: self.roster.reports(|name| phase(name).unwrap_or_default()),
            stuck: self.stuck.clone(),
        };
        let command = self.program.command("beat", None);
        match command.and_then(|command| Child::spawn(&command, &mut job, BEAT_PATIENCE, false)) {
            Ok(child) => {
                self.beat = Some(Box::new(Beat {
                    child,
                    posts,
                    is_settled: false,
                }));
            }
            Err(error) => self.beat_failed(&error.to_string(), None),
        }
    }

    /// As heartbeats report it.
    pub(super) fn hostname(&self) -> String {
        match self.config.hostname.as_str() {
            "" => sys::hostname().unwrap_or_default(),
            name => name.to_owned(),
        }
    }

    /// Told to the first beat alone.
    fn wish(&self) -> Option<String> {
        match &self.errand {
            Errand::Once(wish) if !self.has_asked => wish.clone(),
            Errand::Once(_) | Errand::Serve | Errand::Plan => None,
        }
    }

    pub(super) fn tend_beat(&mut self) {
        let Some(mut beat) = self.beat.take() else {
            return;
        };
        let (events, ended) = beat.child.tend(Instant::now());
        for event in events {
            self.beat_event(&mut beat, event);
        }
        match ended {
            None => self.beat = Some(beat),
            Some(why) if beat.posts && !beat.is_settled => {
                let url = &self.config.url;
                self.beat_failed(&format!("cannot beat to {url}: {why}"), None);
            }
            Some(_) => {}
        }
    }

    fn beat_event(&mut self, beat: &mut Beat, event: Event) {
        let what = event.what;
        if what == What::Answered {
            let agents = event.agents.unwrap_or_default();
            self.roster
                .accept(agents, event.refused.unwrap_or_default());
            self.forget_unnamed();
        }
        for seen in event.seen.unwrap_or_default() {
            let is_fresh = self
                .acted
                .get(&seen.name)
                .is_none_or(|at| *at < beat.child.started);
            self.tell_blindness(&seen);
            self.note_stuck(&seen);
            // An install touches nothing that runs, so a look beside it counts.
            let act = self.acts.get(&seen.name).map(|act| &act.attempt.task.step);
            if is_fresh && matches!(act, None | Some(Step::Install(_))) {
                self.roster.observe(seen, self.clock.now());
            }
        }
        self.withdraw_acts();
        match what {
            What::Answered => {
                beat.is_settled = true;
                self.has_asked = true;
                self.beat_answered();
            }
            What::Refused => {
                beat.is_settled = true;
                let error = event.error.unwrap_or_default();
                self.beat_failed(&error, event.retry_after);
            }
            What::Phase | What::Critical | What::Observed | What::Done => {}
        }
    }

    /// An agent that may run where nobody can look is left alone until somebody can; the log says why nothing happens.
    fn tell_blindness(&mut self, seen: &SeenAgent) {
        let subject = format!("{} sight", seen.name);
        match seen.there.as_ref().filter(|there| there.is_unseen()) {
            Some(there) => {
                let Place { work_dir, run_user } = &there.place;
                let blindness = format!(
                    "{}: cannot look at it in {work_dir} as {run_user}, so it is not moved: {}",
                    seen.name, there.status
                );
                if self.said.is_news(&subject, &blindness) {
                    log::warn(format_args!("{blindness}"));
                }
            }
            None => {
                self.said.forget(&subject);
            }
        }
    }

    pub(super) fn is_stuck(&self, name: &AgentName) -> bool {
        self.stuck.iter().any(|seen| seen.name == *name)
    }

    pub(super) fn note_stuck(&mut self, seen: &SeenAgent) {
        if let Some(trace) = seen.stuck()
            && !self.is_stuck(&seen.name)
        {
            log::warn(format_args!(
                "{}: a process that cannot be killed, on a disk that hangs? Nothing is begun until it is gone: {trace}",
                seen.name
            ));
            self.stuck.push(seen.clone());
        }
    }

    fn beat_answered(&mut self) {
        self.failed_posts = 0;
        self.counts.heartbeats += 1;
        self.heartbeat.answered = self.clock.now();
        self.heartbeat.error.clear();
        self.next_post = Instant::now();
        if self.said.forget("heartbeat") {
            log::info(format_args!("the server answers again"));
        }
    }

    fn beat_failed(&mut self, error: &str, retry_after: Option<u64>) {
        self.has_asked = true;
        self.failed_posts = self.failed_posts.saturating_add(1);
        self.counts.heartbeat_failures += 1;
        error.clone_into(&mut self.heartbeat.error);
        let random = self.random.generate();
        let mut pause = schedule::beat_backoff(self.config.interval, self.failed_posts, random);
        if let Some(seconds) = retry_after {
            let asked = Duration::from_secs(seconds).min(schedule::LONGEST_RETRY_AFTER);
            pause = pause.max(asked);
        }
        self.next_post = Instant::now() + pause;
        if self.said.is_news("heartbeat", error) {
            log::warn(format_args!(
                "{error}; the last desired state stays in force, asking again in {} s or more",
                pause.as_secs()
            ));
        }
    }

    fn forget_unnamed(&mut self) {
        let is_named = |name: &AgentName| self.roster.desired(name).is_some();
        self.acted.retain(|name, _| is_named(name));
        self.stuck.retain(|seen| is_named(&seen.name));
        self.said.retain(|subject| match subject.split_once(' ') {
            Some((name, _)) => AgentName::parse(name).is_some_and(|name| is_named(&name)),
            None => true,
        });
    }
}

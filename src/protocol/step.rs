//! The JSON of a step in the job of a child: an object with one member, whose key names the step. miniserde derives this
//! for structs and for plain enums, but not for enums with data.

use std::borrow::Cow;
use std::mem;

use miniserde::de::{self, Visitor};
use miniserde::ser::{self, Fragment};
use miniserde::{Deserialize, Error, Result, Serialize, make_place};

use crate::model::{Build, Deployment, Release, Step, Version};

#[derive(Serialize, Deserialize)]
struct Switch {
    back: Option<Deployment>,
    to: Build,
}

impl Serialize for Step {
    fn begin(&self) -> Fragment<'_> {
        let (name, value): (_, Box<dyn Serialize + '_>) = match self {
            Self::Install(release) => ("Install", Box::new(release)),
            Self::Switch { back, to } => {
                let (back, to) = (back.clone(), to.clone());
                ("Switch", Box::new(Switch { back, to }))
            }
            Self::Start(build) => ("Start", Box::new(build)),
            Self::Stop(version) => ("Stop", Box::new(version)),
            Self::Prune(keep) => ("Prune", Box::new(keep)),
        };
        Fragment::Map(Box::new(Member {
            name,
            value,
            is_written: false,
        }))
    }
}

/// Writes the one member of the object.
struct Member<'a> {
    name: &'static str,
    value: Box<dyn Serialize + 'a>,
    is_written: bool,
}

impl ser::Map for Member<'_> {
    fn next(&mut self) -> Option<(Cow<'_, str>, &dyn Serialize)> {
        let is_written = mem::replace(&mut self.is_written, true);
        (!is_written).then(|| (self.name.into(), &*self.value))
    }
}

make_place!(Place);

impl Deserialize for Step {
    fn begin(out: &mut Option<Self>) -> &mut dyn Visitor {
        Place::new(out)
    }
}

impl Visitor for Place<Step> {
    fn map(&mut self) -> Result<Box<dyn de::Map + '_>> {
        Ok(Box::new(Reader {
            out: &mut self.out,
            has_key: false,
            install: None,
            switch: None,
            start: None,
            stop: None,
            prune: None,
        }))
    }
}

/// Reads an object with exactly one member.
struct Reader<'a> {
    out: &'a mut Option<Step>,
    has_key: bool,
    install: Option<Release>,
    switch: Option<Switch>,
    start: Option<Build>,
    stop: Option<Version>,
    prune: Option<Vec<Version>>,
}

impl de::Map for Reader<'_> {
    fn key(&mut self, name: &str) -> Result<&mut dyn Visitor> {
        if mem::replace(&mut self.has_key, true) {
            return Err(Error);
        }
        Ok(match name {
            "Install" => Deserialize::begin(&mut self.install),
            "Switch" => Deserialize::begin(&mut self.switch),
            "Start" => Deserialize::begin(&mut self.start),
            "Stop" => Deserialize::begin(&mut self.stop),
            "Prune" => Deserialize::begin(&mut self.prune),
            _ => return Err(Error),
        })
    }

    fn finish(&mut self) -> Result<()> {
        *self.out = Some(if let Some(release) = self.install.take() {
            Step::Install(release)
        } else if let Some(Switch { back, to }) = self.switch.take() {
            Step::Switch { back, to }
        } else if let Some(build) = self.start.take() {
            Step::Start(build)
        } else if let Some(version) = self.stop.take() {
            Step::Stop(version)
        } else {
            Step::Prune(self.prune.take().ok_or(Error)?)
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;
    use crate::model::Location;

    fn build() -> Build {
        Build {
            version: Version::parse("1").expect("valid"),
            md5: "490ac172dabecc867289079d48e84a66".to_owned(),
        }
    }

    #[test]
    fn every_step_is_read_as_it_was_written() {
        let release = Release {
            version: build().version,
            tarball: "http://x".to_owned(),
            md5: String::new(),
            config_file_name: "a/b".to_owned(),
            config_remote_url: "http://y".to_owned(),
        };
        let location = Location {
            work_dir: "/work".to_owned(),
            run_user: "falcon".to_owned(),
        };
        let back = Some(Deployment {
            location,
            build: build(),
        });
        for step in [
            Step::Install(release),
            Step::Switch { back, to: build() },
            Step::Switch {
                back: None,
                to: build(),
            },
            Step::Start(build()),
            Step::Stop(build().version),
            Step::Prune(Vec::new()),
            Step::Prune(vec![build().version, build().version]),
        ] {
            let written = json::to_string(&step);
            assert_eq!(json::read(&written), Some(step), "{written}");
        }
        let stop = Step::Stop(build().version);
        assert_eq!(json::to_string(&stop), r#"{"Stop":"1"}"#);
    }

    #[test]
    fn anything_but_exactly_one_step_is_refused() {
        for text in [
            "{}",
            "[]",
            r#""Stop""#,
            r#"{"Stop":1}"#,
            r#"{"Stop":"../1"}"#,
            r#"{"Stop":null}"#,
            r#"{"Stop":"1","Prune":[]}"#,
            r#"{"Stop":"1","Halt":"1"}"#,
            r#"{"Start":{"version":"1"}}"#,
            r#"{"Switch":{"back":null}}"#,
        ] {
            assert_eq!(json::read::<Step>(text), None, "{text}");
        }
    }
}

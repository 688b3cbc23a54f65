//! Names that are checked once, where they enter, and are then safe in a path and in an argument list.

use std::borrow::Cow;
use std::fmt;

use miniserde::de::Visitor;
use miniserde::ser::Fragment;
use miniserde::{Deserialize, Serialize, make_place};

/// The longest name and version in bytes. A directory entry holds 255 bytes, and suffixes are appended to both.
pub(super) const NAME_LIMIT: usize = 64;

macro_rules! checked_name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub struct $name(String);

        impl $name {
            pub fn parse(text: &str) -> Option<Self> {
                is_plain_name(text).then(|| Self(text.to_owned()))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn begin(&self) -> Fragment<'_> {
                Fragment::Str(Cow::Borrowed(&self.0))
            }
        }

        impl Deserialize for $name {
            fn begin(out: &mut Option<Self>) -> &mut dyn Visitor {
                make_place!(Place);

                impl Visitor for Place<$name> {
                    fn string(&mut self, text: &str) -> miniserde::Result<()> {
                        self.out = Some($name::parse(text).ok_or(miniserde::Error)?);
                        Ok(())
                    }
                }

                Place::new(out)
            }
        }
    };
}

checked_name!(
    /// `[A-Za-z0-9][A-Za-z0-9._+-]{0,63}`: the directory of an agent below `workDir`.
    AgentName
);
checked_name!(
    /// `[A-Za-z0-9][A-Za-z0-9._+-]{0,63}`: a directory below the agent's, and the content of `.version`.
    Version
);

fn is_plain_name(text: &str) -> bool {
    text.len() <= NAME_LIMIT
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._+-".contains(&b))
}

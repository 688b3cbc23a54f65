//! The one error type: `cannot <what> <subject>: <cause>`.
//! `.at("rename", path)` makes it at the failing call, and `Display` prints it.

use std::ffi::OsStr;
use std::{fmt, io};

pub type Result<T> = std::result::Result<T, Error>;

/// One failed action, in words for an operator. It is boxed, so that a `Result` holds only a pointer.
#[derive(Debug)]
pub struct Error(Box<Parts>);

#[derive(Debug)]
struct Parts {
    what: &'static str,
    subject: String,
    cause: Cause,
    kind: Kind,
}

/// The kinds of failures that code distinguishes. All others are only printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A complete download has another digest than the expected one.
    WrongDigest,
    /// A complete download is not what its signature was made for.
    WrongSignature,
    /// Somebody who is not trusted could replace a file or directory.
    NotTrusted,
    /// It can be done only by curl, which must not be run here.
    NeedsCurl,
    Other,
}

/// Why it failed: a text, and errno if the system gave one.
#[derive(Debug)]
pub struct Cause {
    text: String,
    errno: Option<i32>,
}

impl Error {
    pub fn new(what: &'static str, subject: impl AsRef<OsStr>, cause: impl Into<Cause>) -> Self {
        Self::of(what, subject.as_ref(), cause.into())
    }

    fn of(what: &'static str, subject: &OsStr, cause: Cause) -> Self {
        Self(Box::new(Parts {
            what,
            subject: subject.to_string_lossy().into_owned(),
            cause,
            kind: Kind::Other,
        }))
    }

    pub fn with_kind(mut self, kind: Kind) -> Self {
        self.0.kind = kind;
        self
    }

    /// Adds what the operator can do, in parentheses.
    pub fn with_hint(mut self, hint: &str) -> Self {
        self.0.cause.text = format!("{} ({hint})", self.0.cause.text);
        self
    }

    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Returns whether the disk, or the user's quota, is full.
    pub fn is_disk_full(&self) -> bool {
        matches!(self.0.cause.errno, Some(libc::ENOSPC | libc::EDQUOT))
    }

    /// Returns whether the host lacked a resource or its disk failed, so that the version of an agent is not to blame.
    pub fn is_host_fault(&self) -> bool {
        self.is_disk_full()
            || matches!(
                self.0.cause.errno,
                Some(
                    libc::EAGAIN
                        | libc::EIO
                        | libc::EMFILE
                        | libc::ENFILE
                        | libc::ENOMEM
                        | libc::EROFS
                        | libc::ETXTBSY
                )
            )
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Parts {
            what,
            subject,
            cause,
            ..
        } = &*self.0;
        write!(f, "cannot {what} {subject}: {}", cause.text)
    }
}

impl Cause {
    /// Names the failing call if an action consists of several.
    pub fn of_call(call: &str, error: io::Error) -> Self {
        let Self { text, errno } = error.into();
        Self {
            text: format!("{call}: {text}"),
            errno,
        }
    }
}

impl From<io::Error> for Cause {
    fn from(error: io::Error) -> Self {
        let errno = error.raw_os_error();
        let whole = error.to_string();
        // std adds the number, which an operator does not need.
        let number = errno.map(|errno| format!(" (os error {errno})"));
        let text = number.and_then(|number| whole.strip_suffix(&number).map(str::to_owned));
        Self {
            text: text.unwrap_or(whole),
            errno,
        }
    }
}

impl From<Error> for Cause {
    fn from(error: Error) -> Self {
        Self {
            text: error.to_string(),
            errno: error.0.cause.errno,
        }
    }
}

impl From<String> for Cause {
    fn from(text: String) -> Self {
        Self { text, errno: None }
    }
}

impl From<&str> for Cause {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

/// Adds the action and its subject to an error: `fs::rename(a, b).at("rename", a)?`.
pub trait At<T> {
    fn at(self, what: &'static str, subject: impl AsRef<OsStr>) -> Result<T>;
}

impl<T, E: Into<Cause>> At<T> for std::result::Result<T, E> {
    fn at(self, what: &'static str, subject: impl AsRef<OsStr>) -> Result<T> {
        self.map_err(|cause| Error::new(what, subject, cause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_of_the_host_differ_from_faults_of_a_version() {
        let error = |errno| Error::new("run", "x", io::Error::from_raw_os_error(errno));
        for errno in [libc::ENOSPC, libc::EDQUOT] {
            assert!(error(errno).is_disk_full() && error(errno).is_host_fault());
        }
        assert!(error(libc::EAGAIN).is_host_fault() && !error(libc::EAGAIN).is_disk_full());
        for errno in [libc::ENOENT, libc::ENOEXEC, libc::EACCES, libc::EPERM] {
            assert!(!error(errno).is_host_fault(), "{errno}");
        }
    }

    #[test]
    fn an_error_number_in_a_text_from_outside_is_not_an_errno() {
        let error = Error::new("fetch", "x", "500 it is full (os error 28)");
        assert!(!error.is_disk_full());
        assert_eq!(
            error.to_string(),
            "cannot fetch x: 500 it is full (os error 28)"
        );
    }

    #[test]
    fn the_errno_stays_with_an_error_that_is_the_cause_of_another() {
        let full = || io::Error::from_raw_os_error(libc::ENOSPC);
        let inner = Error::new("write", "/x", full());
        let outer = Error::new("unpack", "y", inner).with_hint("hint");
        assert!(outer.is_disk_full());
        assert_eq!(
            outer.to_string(),
            "cannot unpack y: cannot write /x: No space left on device (hint)"
        );
        assert!(Error::new("become", "z", Cause::of_call("setuid", full())).is_disk_full());
    }

    #[test]
    fn an_error_reads_as_a_sentence_without_errno() {
        let missing: io::Result<()> = Err(io::Error::from_raw_os_error(libc::ENOENT));
        let error = missing.at("read", "/x/y").expect_err("it was an error");
        assert_eq!(
            error.to_string(),
            "cannot read /x/y: No such file or directory"
        );
    }
}

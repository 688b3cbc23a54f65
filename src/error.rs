//! The one error type: `cannot <what> <subject>: <cause>`.
//! It is made where the failing call is, with `.at("rename", path)`, and printed with `Display`.

use std::ffi::OsStr;
use std::fmt;

use crate::log;

pub type Result<T> = std::result::Result<T, Error>;

/// One failed action, in the words of an operator. One pointer wide: every `Result` that is handed up carries it.
#[derive(Debug)]
pub struct Error(Box<Parts>);

#[derive(Debug)]
struct Parts {
    what: &'static str,
    subject: String,
    cause: String,
}

impl Error {
    pub fn new(what: &'static str, subject: impl AsRef<OsStr>, cause: impl fmt::Display) -> Self {
        Self::written(what, subject.as_ref(), cause)
    }

    /// One copy for all subjects, which takes the cause so that no caller has to drop it.
    #[cold]
    #[inline(never)]
    #[allow(clippy::needless_pass_by_value, reason = "it is dropped here")]
    fn written(what: &'static str, subject: &OsStr, cause: impl fmt::Display) -> Self {
        Self(Box::new(Parts {
            what,
            subject: subject.to_string_lossy().into_owned(),
            cause: cause.to_string(),
        }))
    }

    pub fn is_about(&self, what: &str) -> bool {
        self.0.what == what
    }

    /// Whether the disk, or the user's share of it, is full.
    pub fn is_about_space(&self) -> bool {
        self.is_any_of(&[libc::ENOSPC, libc::EDQUOT])
    }

    /// Whether the host was short of something, or its disk failed: whoever asked had no part in it.
    pub fn is_of_the_host(&self) -> bool {
        self.is_about_space()
            || self.is_any_of(&[
                libc::EAGAIN,
                libc::EIO,
                libc::EMFILE,
                libc::ENFILE,
                libc::ENOMEM,
                libc::EROFS,
                libc::ETXTBSY,
            ])
    }

    /// The system's own words end in " (os error 28)".
    fn is_any_of(&self, errnos: &[i32]) -> bool {
        let mut errnos = errnos.iter();
        errnos.any(|errno| log::holds(&self.0.cause, &format!("(os error {errno})")))
    }

    pub fn with_hint(mut self, hint: &str) -> Self {
        self.0.cause = format!("{} ({hint})", self.0.cause);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Parts {
            what,
            subject,
            cause,
        } = &*self.0;
        // The system's own words end in " (os error 2)", which tells an operator nothing more.
        let cause = match log::find_last(cause, " (os error ") {
            Some(end) => &cause[..end],
            None => cause,
        };
        write!(f, "cannot {what} {subject}: {cause}")
    }
}

/// Names the action and its subject on the way out: `fs::rename(a, b).at("rename", a)?`.
pub trait At<T> {
    fn at(self, what: &'static str, subject: impl AsRef<OsStr>) -> Result<T>;
}

impl<T, E: fmt::Display> At<T> for std::result::Result<T, E> {
    fn at(self, what: &'static str, subject: impl AsRef<OsStr>) -> Result<T> {
        match self {
            Ok(done) => Ok(done),
            Err(cause) => Err(Error::new(what, subject, cause)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_host_lacks_is_told_from_what_a_version_lacks() {
        let error = |errno| Error::new("run", "x", std::io::Error::from_raw_os_error(errno));
        for errno in [libc::ENOSPC, libc::EDQUOT] {
            assert!(error(errno).is_about_space() && error(errno).is_of_the_host());
        }
        assert!(error(libc::EAGAIN).is_of_the_host() && !error(libc::EAGAIN).is_about_space());
        for errno in [libc::ENOENT, libc::ENOEXEC, libc::EACCES, libc::EPERM] {
            assert!(!error(errno).is_of_the_host(), "{errno}");
        }
    }

    #[test]
    fn an_error_reads_as_a_sentence_without_errno() {
        let missing: std::io::Result<()> = Err(std::io::Error::from_raw_os_error(libc::ENOENT));
        let error = missing.at("read", "/x/y").expect_err("it was an error");
        assert_eq!(
            error.to_string(),
            "cannot read /x/y: No such file or directory"
        );
    }
}

//! One request, before it is known what sends it. Pure.

use crate::build_info::VERSION;

/// A GET, or a POST if it has a body.
pub(super) struct Request<'a> {
    /// What is done with the URL, for an error.
    pub(super) what: &'static str,
    /// The URL as an error shows it.
    pub(super) shown: &'a str,
    pub(super) url: &'a str,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Option<String>,
}

impl<'a> Request<'a> {
    pub(super) fn new(what: &'static str, url: &'a str, shown: &'a str) -> Self {
        let headers = vec![
            ("Connection", "close".to_owned()),
            ("User-Agent", format!("ops-updater/{VERSION}")),
            ("Accept-Encoding", "identity".to_owned()),
        ];
        Self {
            what,
            shown,
            url,
            headers,
            body: None,
        }
    }

    pub(super) fn with(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }
}

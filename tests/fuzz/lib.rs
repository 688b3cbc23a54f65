//! Shared by the fuzz targets: directories, and generators of archives and gzip members.
#![allow(
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    clippy::new_without_default,
    reason = "the fuzz targets alone use this library"
)]

pub mod bench;
pub mod members;
pub mod tarball;

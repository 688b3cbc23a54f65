//! cfg.json: from its text to checked settings. To add a setting, add a row to `SETTINGS` and a field to `Config`.
//! An error is one line with the file, the key and what is wanted. An unknown key is a warning: it may be a typo.

/// The settings that are addresses: `server` and `http.listen`.
mod address;
/// The settings for `check` and for `/config/reload`.
mod in_force;
/// The settings about how servers are reached.
mod network_settings;
/// `Config`, and the table of its settings.
mod settings;
/// The file, its directory, and how it is read.
mod source;
/// One value, of the kind that its setting wants.
mod value;

pub use in_force::{InForce, Line};
pub use network_settings::proxy_variable;
pub use settings::{Config, PUBLIC_KEYS_WANTED};
pub use source::Source;

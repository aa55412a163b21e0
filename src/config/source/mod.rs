//! From TOML text and environment variables to configuration types.

mod decode;
mod document;
mod environment;
mod fault;
mod key_path;
mod renamed;
pub(super) mod report;

pub use self::fault::{Fault, Origin};
pub use self::key_path::KeyPath;
pub use self::report::Setting;

pub(super) use self::decode::decode;
pub(super) use self::environment::{overlay, proxy_variable, variables};
pub(super) use self::renamed::{RENAMED, rename_keys};
pub(super) use self::report::Report;

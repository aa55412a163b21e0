//! From TOML text and environment variables to configuration types.

pub(super) mod decode;
pub(super) mod document;
pub(super) mod environment;
pub(super) mod key_path;
pub(super) mod report;
